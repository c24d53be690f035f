package reassembly

import (
	"math"
	"time"
)

const (
	// maxGrain bounds how much longer than IdleTimeout a flow may live, in
	// return for moving a record within its list only once per that time.
	maxGrain = time.Second
	// graveTime is how long a closed flow swallows retransmissions: longer
	// than a packet lives in practice, about half of Linux's TIME-WAIT.
	graveTime = 30 * time.Second
	// maxWork bounds the flows that one Advance deals with.
	maxWork = 1024
	// maxFreeQueues bounds the queues kept for reuse, and maxFreeEntries how
	// many fragments they have room for. Those of flows that had more to wait
	// for are not kept.
	maxFreeQueues  = 1024
	maxFreeEntries = 16
	// minShare is the part of the table, one in so many, that a source may
	// fill even if nothing is free.
	minShare = 64
)

// start opens a stream whose first byte follows isn, ending the one that may
// be there. The record has no stream if the caller does not want one.
func (a *Assembler) start(f Flow, isn uint32, syn bool, now int64) *record {
	if r := a.flows.find(f); r != nil && r.stream != nil {
		a.end(r, CloseReused, now)
	}
	if r := a.flows.find(f); r != nil {
		a.flows.remove(r)
	}
	source := a.makeWay(f, now)
	r := a.flows.create(f, source, a.clock)
	r.isn, r.expect, r.syn = isn, isn+1, syn
	// A flow that was evicted comes back like one that was open before the
	// tap. Whoever can fill the table could have the middle of a body taken
	// for a request, so its first segment is not believed any more.
	r.begun = !syn && a.clock < a.distrusted
	a.stats.FlowsTotal++
	if !syn {
		a.stats.FlowsMidstream++
	}
	s := a.cfg.NewStream(f, !syn, now)
	switch {
	case r.state == ignored: // by NewStream itself
	case s == nil:
		a.flows.set(r, ignored, a.clock)
	default:
		r.stream = s
		a.open++
	}
	return r
}

// touch notes that a flow is alive.
func (a *Assembler) touch(r *record) {
	if a.clock-r.touched < a.grain || r.state == closed {
		return
	}
	a.flows.set(r, r.state, a.clock)
}

// Ignore forgets a flow's stream, without calling Closed, and the bytes that
// wait for it. What follows of the flow is counted but goes nowhere until a
// new SYN, or until the flow has been idle for Config.IdleTimeout. It does
// nothing for a flow without a stream. It may be called from inside the
// methods of any Stream.
func (a *Assembler) Ignore(f Flow) {
	r := a.flows.find(f)
	if r == nil || r.state == ignored || r.state == closed {
		return
	}
	a.detach(r)
	a.stats.BytesIgnored += uint64(a.dropQueue(r))
	a.flows.set(r, ignored, a.clock)
}

// Advance does the timed work: holes older than Config.GapTimeout are given
// up, flows without a segment for Config.IdleTimeout are closed. now is in
// nanoseconds since the Unix epoch. Call it every few milliseconds to half a
// second, when the segments seen before now have been handed over: holes
// would else be given up whose bytes are still on their way to Segment. It
// costs next to nothing when there is nothing to do, and deals with at most
// 1024 flows per call.
func (a *Assembler) Advance(now int64) {
	a.clock = max(a.clock, now)
	work := maxWork
	deadline := a.clock - int64(a.cfg.GapTimeout)
	for q := a.waiting.first; q != nil && q.since <= deadline && work > 0; q = a.waiting.first {
		a.giveUp(q, deadline)
		work--
	}
	for s := range numLists {
		age := a.cfg.IdleTimeout
		if s == closed {
			age = graveTime
		}
		deadline := a.clock - int64(age)
		l := &a.flows.all[s]
		for r := l.first; r != nil && r.touched <= deadline && work > 0; r = l.first {
			a.retire(r, CloseIdle, a.clock)
			work--
		}
	}
}

// giveUp skips the hole a queue waits at, and those behind it that are as old.
func (a *Assembler) giveUp(q *queue, deadline int64) {
	r := q.owner
	a.skip(r, a.clock)
	for r.stream != nil && r.queue != nil {
		if _, at := r.queue.front(); at > deadline {
			return
		}
		a.skip(r, a.clock)
	}
}

// makeWay makes room for one more flow, f, and returns its source.
func (a *Assembler) makeWay(f Flow, now int64) (source uint32) {
	if a.cfg.Source != nil {
		source = a.cfg.Source(f)
		g := a.flows.of(source)
		for g.len() >= max(a.cfg.MaxFlows-len(a.flows.records), a.cfg.MaxFlows/minShare, 1) {
			a.evict(g.victim(g.len()/4), now)
		}
	}
	for len(a.flows.records) >= a.cfg.MaxFlows {
		a.evict(a.flows.all.victim(a.cfg.MaxFlows/4), now)
	}
	return source
}

// evict gives up a flow for another one. Its record may stay, see retire.
func (a *Assembler) evict(r *record, now int64) {
	if r.state == closed {
		a.forget(r)
		return
	}
	if r.stream != nil {
		a.stats.FlowsEvicted++
		if r.syn && r.state == probation && r.queue == nil {
			a.halfOpen.note(r.key, r.isn, a.cfg.MaxFlows)
		}
	}
	a.distrust(math.MaxInt64) // an ignored one, too: it is not again what it was
	a.retire(r, CloseEvicted, now)
}

// forget gives up the record of a closed flow before its time. For as long as
// it would have lived, what it would have swallowed is not believed.
func (a *Assembler) forget(r *record) {
	a.distrust(r.touched + int64(graveTime))
	a.flows.remove(r)
}

// distrust says that flows met in the middle until then, in nanoseconds since the
// Unix epoch, may be ones that somebody had given up, on purpose perhaps: unlike
// those that were open before the tap, their first segment does not start a
// message (Stream.Data).
func (a *Assembler) distrust(until int64) { a.distrusted = max(a.distrusted, until) }

// Close gives up every hole, delivers what waits behind it and closes every
// stream: with CloseFIN if that was what it had waited for, with CloseRST if
// only bytes that wait were in front of it, else with CloseShutdown. The
// Assembler is empty then and can be used again.
func (a *Assembler) Close() {
	for _, s := range []state{established, probation, closed} {
		for l := &a.flows.all[s]; l.first != nil; {
			a.retire(l.first, CloseShutdown, a.clock)
		}
	}
}

// Expel closes the streams of all flows that match, as Close does but with
// CloseGone, and forgets the flows. It is for networks that no longer exist,
// and looks at every flow there is.
func (a *Assembler) Expel(match func(Flow) bool) {
	for f, r := range a.flows.records {
		if !match(f) {
			continue
		}
		a.retire(r, CloseGone, a.clock)
		if a.flows.records[f] == r {
			a.flows.remove(r)
		}
	}
}

// Streams yields every stream that is open. Nothing may be called meanwhile
// that changes which are, but it may be done from inside Config.Reserve.
func (a *Assembler) Streams(yield func(Stream) bool) {
	for _, s := range []state{probation, established} {
		for r := a.flows.all[s].first; r != nil; r = r.in[inTable].next {
			if r.stream != nil && !yield(r.stream) {
				return
			}
		}
	}
}

// retire ends a flow's stream, if it has one, and forgets the flow, unless
// the stream reached its own end on the way or was ignored: then its record
// stays and is the most recent of another kind.
func (a *Assembler) retire(r *record, why CloseReason, now int64) {
	if r.stream == nil {
		a.flows.remove(r)
		return
	}
	a.end(r, why, now)
}

// end closes a stream after delivering what waits across its holes.
func (a *Assembler) end(r *record, why CloseReason, now int64) {
	a.flush(r, now)
	if r.stream != nil {
		a.finish(r, why, now)
	}
}

// finish closes a stream where it stands.
func (a *Assembler) finish(r *record, why CloseReason, now int64) {
	if q := r.queue; q != nil && len(q.frags) > 0 && why == CloseRST {
		// The receiver throws away what it could not deliver yet, and so
		// must the mirror.
		a.gap(r, distance(r.expect, q.frags[len(q.frags)-1].end()), now)
		if r.stream == nil {
			return
		}
	}
	s := a.detach(r)
	a.discard(a.dropQueue(r)) // with CloseFIN: data after FIN
	switch why {
	case CloseFIN, CloseRST:
		a.bury(r)
		r.doubted = why == CloseRST
	default:
		a.flows.remove(r)
	}
	s.Closed(why, now)
}

// bury keeps the record of a flow that ended, for a while.
func (a *Assembler) bury(r *record) {
	a.flows.set(r, closed, a.clock)
	if l := &a.flows.all[closed]; l.n > a.cfg.MaxFlows/4 {
		a.forget(l.first)
	}
}

// detach takes the stream from a record.
func (a *Assembler) detach(r *record) Stream {
	s := r.stream
	if s != nil {
		r.stream = nil
		a.open--
	}
	return s
}

// wait returns the queue of a flow that has something to wait for.
func (a *Assembler) wait(r *record) *queue {
	if r.queue != nil {
		return r.queue
	}
	var q *queue
	if n := len(a.queues); n > 0 {
		q, a.queues = a.queues[n-1], a.queues[:n-1]
	} else {
		q = newQueue()
	}
	q.owner, q.since = r, a.clock
	a.waiting.add(q)
	r.queue = q
	return q
}

// dropQueue takes the queue from a record and returns the payload bytes that
// were waiting in it.
func (a *Assembler) dropQueue(r *record) int {
	q := r.queue
	if q == nil {
		return 0
	}
	r.queue = nil
	a.waiting.remove(q)
	n := q.clear(&a.pool)
	a.stats.BytesBuffered -= n
	if len(a.queues) < maxFreeQueues && cap(q.array) <= maxFreeEntries {
		a.queues = append(a.queues, q)
	}
	return n
}
