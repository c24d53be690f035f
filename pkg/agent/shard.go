package agent

import (
	"math/rand/v2"
	"sync"

	"github.com/shadowtap/shadowtap/pkg/capture"
	"github.com/shadowtap/shadowtap/pkg/httpstream"
	"github.com/shadowtap/shadowtap/pkg/reassembly"
	"github.com/shadowtap/shadowtap/pkg/rules"
)

// GuardHeader marks every copy, so that one that comes by a captured endpoint
// again is recognised and not mirrored a second time.
const GuardHeader = "x-shadowtap"

// shard takes the segments of its flows from the ring to the replay queue in
// one goroutine, without handing over: capture.Sink.
//
// Its mutex is held for a batch, not for a packet, and contended only by
// whoever reads the account; readers hold it for a copy of a few words.
type shard struct {
	agent *Agent
	http  *httpstream.Config

	mu       sync.Mutex
	now      int64 // of the batch, in nanoseconds since the Unix epoch
	asm      *reassembly.Assembler
	tally    tally
	decision rules.Decision
	random   *rand.PCG
	segment  reassembly.Segment
	free     []*conn
}

var _ capture.Sink = (*shard)(nil)

func (a *Agent) newShard() *shard {
	s := &shard{
		agent:  a,
		http:   a.http,
		random: rand.NewPCG(rand.Uint64(), rand.Uint64()),
	}
	s.asm = reassembly.New(reassembly.Config{
		NewStream: s.newStream,
		Reserve:   a.memory.reserve,
		Release:   a.memory.release,
	})
	return s
}

func (s *shard) Begin(now int64) {
	s.mu.Lock()
	s.now = now
}

func (s *shard) Segment(seg *capture.Segment) {
	s.segment = reassembly.Segment{
		Seq: seg.Seq, Ack: seg.Ack, Flags: reassembly.Flags(seg.Flags),
		Continues: seg.Continues, Time: seg.Time, Payload: seg.Payload,
	}
	s.asm.Segment(reassembly.Flow(seg.Flow), &s.segment)
}

// End does the timed work behind the batch, not before it: a segment that fills
// a hole may be in it.
func (s *shard) End() {
	s.asm.Advance(s.now)
	s.mu.Unlock()
}

// close ends every flow; what is pending is dropped.
func (s *shard) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asm.Close()
}

// barrier returns once no batch that began before it is running.
func (s *shard) barrier() {
	s.mu.Lock()
	defer s.mu.Unlock()
}

func (s *shard) newStream(f reassembly.Flow, midstream bool, _ int64) reassembly.Stream {
	var c *conn
	if n := len(s.free); n > 0 {
		c, s.free = s.free[n-1], s.free[:n-1]
	} else {
		c = &conn{shard: s}
	}
	c.flow = f
	c.parser.Reset(s.http, c, !midstream)
	return c
}

// maxFreeConns bounds the list of connections kept for reuse.
const maxFreeConns = 1024

func (s *shard) recycle(c *conn) {
	if len(s.free) < maxFreeConns {
		s.free = append(s.free, c)
	}
}

// conn is one direction of one connection: the parser between the assembler
// and the rules. It is the assembler's Stream and the parser's Handler.
type conn struct {
	shard  *shard
	flow   reassembly.Flow
	parser httpstream.RequestParser
}

var (
	_ reassembly.Stream  = (*conn)(nil)
	_ httpstream.Handler = (*conn)(nil)
)

func (c *conn) Data(p []byte, start bool, now int64) { c.parser.Feed(p, start, now) }

func (c *conn) Gap(n int64, now int64) { c.parser.Gap(n, now) }

func (c *conn) Closed(why reassembly.CloseReason, _ int64) {
	reason := httpstream.Incomplete
	switch why {
	case reassembly.CloseIdle, reassembly.CloseEvicted:
		reason = httpstream.Expired
	case reassembly.CloseShutdown:
		reason = httpstream.Interrupted
	}
	c.parser.Close(reason)
	c.shard.recycle(c)
}

func (c *conn) Seen() {
	c.shard.tally.seen++
	c.shard.tally.pending++
}

func (c *conn) Dropped(reason httpstream.Reason, detail error) {
	t := &c.shard.tally
	t.pending--
	t.dropped[reason]++
	if detail != nil {
		c.shard.agent.logInvalid(capture.Flow(c.flow), detail)
	}
}

func (c *conn) Skipped(n int64) { c.shard.tally.skippedBytes += uint64(n) }

// Ignore tells everyone before the parser that this flow needs no more work.
func (c *conn) Ignore(p httpstream.Protocol) {
	s := c.shard
	s.tally.ignored[p]++
	s.asm.Ignore(c.flow)
	s.agent.source.Ignore(capture.Flow(c.flow))
	s.recycle(c)
}

// Request decides what becomes of a complete request.
func (c *conn) Request(r *httpstream.Request) {
	s := c.shard
	t := &s.tally
	t.pending--
	flow := capture.Flow(c.flow)
	r.Source, r.Destination = flow.Source(), flow.Destination()
	if _, looped := r.Get(GuardHeader); looped {
		t.looped++
		r.Release()
		return
	}
	g := s.agent.current.Load()
	g.program.Decide(r, s.random.Uint64(), &s.decision)
	switch s.decision.Verdict {
	case rules.Filtered:
		t.filtered++
		t.filteredBy[s.decision.Why]++
	case rules.SampledOut:
		t.sampledOut++
	case rules.Mirrored:
		if refused, ok := g.mirror(r, &s.decision); ok {
			t.mirrored++
		} else {
			t.dropped[refused]++
		}
	}
	r.Release()
}
