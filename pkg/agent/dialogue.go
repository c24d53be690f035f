package agent

import (
	"runtime/debug"

	"github.com/shadowtap/shadowtap/pkg/compare"
	"github.com/shadowtap/shadowtap/pkg/httpstream"
	"github.com/shadowtap/shadowtap/pkg/reassembly"
)

// maxAsked bounds how many requests of one connection may wait for their
// responses. Hardly any client sends a second one before the first is answered.
const maxAsked = 32

// dialogue joins the two directions of a connection: it knows which request
// the next response answers. It belongs to the goroutine of its shard.
//
// Responses answer requests in their order (RFC 9112 section 9.3.2), so nothing
// else is needed as long as everything of both is seen. What is lost is known to
// be lost, and then the place is found again by TCP's own numbers: a client
// that waits for each answer acknowledges, with the first byte of a request,
// everything it got, so the response begins at exactly the byte that the
// request acknowledges next. That does not hold for one that does not wait, of
// which nothing more is compared once a part is lost.
type dialogue struct {
	shard   *shard
	flow    reassembly.Flow
	answers httpstream.ResponseParser
	asked   []*asked // without an answer, the oldest first
	// answering is what the response that has begun answers.
	answering *asked
	requests  bool   // a stream of requests is there
	whole     bool   // from its first byte
	responses bool   // a stream of responses is there
	begun     bool   // a request was seen
	pipelined bool   // the client does not wait for answers
	holed     bool   // requests may be lost, but not their answers
	await     uint32 // what the client acknowledged with its last request
	known     bool   // await is
	awaiting  bool   // the answer to that begins there, wherever responses are
}

var (
	_ reassembly.Stream          = (*dialogue)(nil)
	_ httpstream.ResponseHandler = (*dialogue)(nil)
)

// asked is a request on its way through a dialogue. Both the conn and the
// dialogue may hold it, until the one has decided on it and the other has its
// answer.
type asked struct {
	decided    bool // the request is complete, and what becomes of it known
	toHEAD     bool // known when it is complete
	answered   bool
	comparison *comparison          // nil if it is not mirrored
	response   *httpstream.Response // answered before it was decided
	why        compare.Reason       // if answered without a response
}

// converse returns the dialogue of a connection of which the requests begin;
// whole is whether its first byte was seen.
func (s *shard) converse(f reassembly.Flow, whole bool) *dialogue {
	d := s.dialogues[f]
	if d != nil && whole && d.responses {
		// Those are the responses of another connection, whose end was missed.
		d.silence(compare.Incomplete)
		d = nil
	}
	if d == nil {
		d = s.newDialogue(f)
	}
	d.requests, d.whole = true, whole
	return d
}

// listen returns the stream of the responses of a connection.
func (s *shard) listen(f reassembly.Flow, midstream bool, _ int64) reassembly.Stream {
	d := s.dialogues[f]
	if d == nil {
		d = s.newDialogue(f)
	}
	d.responses = true
	if !midstream && d.whole {
		d.answers.Sync()
	}
	return d
}

func (s *shard) newDialogue(f reassembly.Flow) *dialogue {
	d := &dialogue{shard: s, flow: f}
	d.answers.Reset(s.agent.comparing.kept, s.agent.memory.source(f), d, false)
	s.dialogues[f] = d
	return d
}

// ask notes that a request begins. What is lost before it is known by then.
func (d *dialogue) ask() *asked {
	q := &asked{}
	// Not that of the last segment: the request may have waited for it.
	ack, known := d.shard.asm.Acknowledged()
	switch {
	case known && d.known && d.await == ack:
		// The client has no answer to the one before, which may be given up
		// already, but is to come.
		d.pipelined = true
		if d.holed {
			d.desync(compare.Gap)
		}
	case !d.answers.Synced():
		d.giveUp(d.unknown())
		d.awaiting = known && (d.known || !d.begun)
	}
	d.await, d.known, d.begun = ack, known, true
	if len(d.asked) == maxAsked {
		d.desync(compare.Gap)
		q.answer(nil, compare.Gap)
		return q
	}
	d.asked = append(d.asked, q)
	return q
}

// missed says that bytes of the requests are lost or not understood. Where the client does not
// wait, a request may be among them whose answer comes all the same, and would
// be taken for the next one's.
func (d *dialogue) missed() {
	d.holed = true
	if d.pipelined {
		d.desync(compare.Gap)
	}
}

// unknown is why the answer to a request was not found.
func (d *dialogue) unknown() compare.Reason {
	if !d.responses {
		return compare.NoProductionAnswer
	}
	return compare.Gap
}

// begins looks at a segment from the endpoint before it goes to its stream: it
// may be where the answer begins that is waited for.
func (d *dialogue) begins(seq uint32, next uint32, known bool) {
	if !d.awaiting || d.pipelined || d.answers.Synced() || seq != d.await || known && next != seq {
		return
	}
	d.awaiting = false
	d.answers.Sync()
}

// desync says that responses and requests cannot be matched any more.
func (d *dialogue) desync(why compare.Reason) {
	d.answers.Lose()
	d.giveUp(why)
	d.awaiting = false
}

// giveUp ends all that waits for an answer.
func (d *dialogue) giveUp(why compare.Reason) {
	if q := d.answering; q != nil {
		d.answering = nil
		q.answer(nil, why)
	}
	for i, q := range d.asked {
		q.answer(nil, why)
		d.asked[i] = nil
	}
	d.asked = d.asked[:0]
}

// decide says what became of the request: c is nil if there is nothing to
// compare its answer with.
func (q *asked) decide(c *comparison) {
	q.decided, q.comparison = true, c
	if q.answered {
		q.deliver()
	}
}

// answer says what the answer is, or why it is not known.
func (q *asked) answer(r *httpstream.Response, why compare.Reason) {
	q.answered, q.response, q.why = true, r, why
	if q.decided {
		q.deliver()
	}
}

func (q *asked) deliver() {
	// Only once, also if what follows panics and all is given up.
	r, m := q.response, q.comparison
	q.response, q.comparison = nil, nil
	switch {
	case m != nil:
		m.production(r, q.why)
	case r != nil:
		r.Release()
	}
}

// Begin, End and Lost are called by the parser of the responses.

func (d *dialogue) Begin() (toHEAD bool, keep *httpstream.Response, ok bool) {
	if len(d.asked) == 0 {
		return false, nil, false
	}
	q := d.asked[0]
	d.asked = d.asked[:copy(d.asked, d.asked[1:])]
	d.answering = q
	if !q.decided || q.comparison != nil {
		// An answer that comes before its request has ended may have to be
		// compared, too.
		keep = d.shard.agent.comparing.kept.Get(d.shard.agent.memory.source(d.flow))
		if keep == nil {
			q.why = compare.Memory
		}
	}
	return q.toHEAD, keep, true
}

func (d *dialogue) End(kept *httpstream.Response, whole bool) {
	q := d.answering
	d.answering = nil
	switch {
	case kept == nil:
		q.answer(nil, q.why)
	case !whole:
		kept.Release()
		q.answer(nil, compare.Gap)
	case !kept.Whole():
		kept.Release()
		q.answer(nil, compare.Memory)
	default:
		q.answer(kept, compare.Compared)
	}
}

func (d *dialogue) Lost(why httpstream.Reason) {
	d.giveUp(reasonFor(why))
	d.awaiting = false
}

// Data, Gap and Closed are called by the assembler of the responses.

func (d *dialogue) Data(p []byte, _ bool, now int64) {
	defer d.contain()
	d.answers.Feed(p, now)
}

func (d *dialogue) Gap(n int64, now int64) {
	defer d.contain()
	d.answers.Gap(n, now)
}

func (d *dialogue) Closed(why reassembly.CloseReason, now int64) {
	defer d.contain()
	d.responses = false
	if why == reassembly.CloseHandedOver {
		d.giveUp(compare.HandedOver)
	}
	reason := closeReason(why)
	d.answers.Close(reason, why == reassembly.CloseFIN, now)
	// What is left waits for a place to be found again.
	if reason == httpstream.Incomplete {
		reason = httpstream.Gap
	}
	d.giveUp(reasonFor(reason))
	d.forget()
}

// forget removes a dialogue of which neither direction is left.
func (d *dialogue) forget() {
	if !d.requests && !d.responses && d.shard.dialogues[d.flow] == d {
		delete(d.shard.dialogues, d.flow)
	}
}

// silence ends a dialogue that nothing more is to be known of.
func (d *dialogue) silence(why compare.Reason) {
	d.requests, d.responses = false, false
	d.answers.Abandon()
	d.giveUp(why)
	d.forget()
}

// contain keeps a panic to the responses of the connection it happened on.
func (d *dialogue) contain() {
	fault := recover()
	if fault == nil {
		return
	}
	s := d.shard
	s.answers.Ignore(d.flow)
	s.tally.panics++
	s.agent.panicLog.Do(func() {
		s.agent.log.Error("panic contained, the answers on its connection are not compared; please report this", "panic", fault, "stack", string(debug.Stack()))
	})
	d.responses = false
	d.answers.Abandon()
	d.giveUp(compare.Panic)
	d.forget()
}

// reasonFor is why there is nothing to compare if the answers of a connection
// ended for the reason given.
func reasonFor(why httpstream.Reason) compare.Reason {
	switch why {
	case httpstream.Gap:
		return compare.Gap
	case httpstream.NoMemory:
		return compare.Memory
	case httpstream.Interrupted:
		return compare.Shutdown
	case httpstream.Invalid:
		return compare.NoProductionAnswer
	}
	return compare.Incomplete
}
