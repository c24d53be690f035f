package agent

import (
	"runtime/debug"

	"github.com/shadowtap/shadowtap/pkg/capture"
	"github.com/shadowtap/shadowtap/pkg/compare"
	"github.com/shadowtap/shadowtap/pkg/httpstream"
	"github.com/shadowtap/shadowtap/pkg/reassembly"
	"github.com/shadowtap/shadowtap/pkg/rules"
)

// conn is one direction of one connection: the parser between the assembler
// and the rules. It is the assembler's Stream and the parser's Handler.
type conn struct {
	shard  *shard
	flow   reassembly.Flow
	source uint32 // see budget
	parser httpstream.RequestParser
	open   bool                // a request was seen and is not accounted for yet
	held   *httpstream.Request // being decided on

	dialogue *dialogue // nil if answers are not compared
	asked    *asked    // the request that is open
	// comparison is of the request that is being mirrored: copies of it may
	// have been taken even if that ends in a panic.
	comparison *comparison
}

var (
	_ reassembly.Stream  = (*conn)(nil)
	_ httpstream.Handler = (*conn)(nil)
)

func (c *conn) Data(p []byte, start bool, now int64) {
	defer c.contain()
	c.parser.Feed(p, start, now)
}

func (c *conn) Gap(n int64, now int64) {
	defer c.contain()
	c.parser.Gap(n, now)
	if c.dialogue != nil {
		c.dialogue.missed()
	}
}

func (c *conn) Closed(why reassembly.CloseReason, _ int64) {
	defer c.contain()
	switch why {
	case reassembly.CloseHandedOver:
		c.hangUp(compare.HandedOver)
		c.parser.Abandon()
		if c.open {
			c.account(&c.shard.tally.dropped[dropHandedOver])
		}
		c.shard.recycle(c)
		return
	}
	reason := closeReason(why)
	c.parser.Close(reason)
	c.hangUp(reasonFor(reason))
	c.shard.recycle(c)
}

// closeReason is why a message that was under way is not there.
func closeReason(why reassembly.CloseReason) httpstream.Reason {
	switch why {
	case reassembly.CloseIdle, reassembly.CloseEvicted, reassembly.CloseGone:
		return httpstream.Expired
	case reassembly.CloseShutdown:
		return httpstream.Interrupted
	}
	return httpstream.Incomplete
}

// resume goes on where another agent's conn stopped.
func (c *conn) resume(from httpstream.Continuation) {
	defer c.contain()
	c.parser.Resume(from)
}

// contain keeps a panic, which is a defect of ours that some client's bytes
// have found, to the connection it happened on: that is given up, the request
// under way is counted, and everything else goes on.
func (c *conn) contain() {
	fault := recover()
	if fault == nil {
		return
	}
	s := c.shard
	if c.held != nil {
		c.held.Release()
		c.held = nil
	}
	c.parser.Abandon()
	if c.open {
		c.account(&s.tally.dropped[dropPanic])
	}
	c.silence(compare.Panic)
	s.tally.panics++
	s.asm.Ignore(c.flow)
	s.agent.source.Ignore(capture.Flow(c.flow))
	// c is not used again: nobody knows what state it is in.
	s.agent.panicLog.Do(func() {
		s.agent.log.Error("panic contained, its connection is given up; please report this", "panic", fault,
			"source", capture.Flow(c.flow).Source(), "stack", string(debug.Stack()))
	})
}

func (c *conn) Seen() {
	c.open = true
	if c.dialogue != nil {
		c.asked = c.dialogue.ask()
	}
	c.shard.tally.seen++
	c.shard.tally.pending++
}

// account ends the request that is open with one of the outcomes.
func (c *conn) account(outcome *uint64) {
	c.open = false
	c.decided()
	c.shard.tally.pending--
	*outcome++
}

func (c *conn) Dropped(reason httpstream.Reason, detail error) {
	if c.shard.faulty {
		c.account(&c.shard.tally.dropped[dropPanic])
		return
	}
	c.account(&c.shard.tally.dropped[reason])
	if c.dialogue != nil {
		// It may have been HEAD, whose response looks longer than it is.
		switch reason {
		case httpstream.Gap, httpstream.NoMemory:
			c.dialogue.desync(reasonFor(reason))
		case httpstream.Invalid, httpstream.HeadTooLarge, httpstream.BodyTooLarge:
			c.dialogue.desync(compare.Incomplete)
		}
	}
	if detail != nil {
		c.shard.agent.logInvalid(capture.Flow(c.flow), detail)
	}
}

func (c *conn) Skipped(n int64) {
	c.shard.tally.skippedBytes += uint64(n)
	if c.dialogue != nil {
		c.dialogue.missed()
	}
}

// refuse gives the connection up for what the parser cannot see. Bytes of the
// request under way may be missing.
func (c *conn) refuse(p httpstream.Protocol) {
	defer c.contain()
	c.parser.Close(httpstream.Gap)
	c.Ignore(p)
}

// Ignore tells everyone before the parser that this flow needs no more work.
func (c *conn) Ignore(p httpstream.Protocol) {
	s := c.shard
	s.tally.ignored[p]++
	c.silence(compare.Incomplete)
	s.asm.Ignore(c.flow)
	s.agent.source.Ignore(capture.Flow(c.flow))
	s.recycle(c)
}

// Request decides what becomes of a complete request.
func (c *conn) Request(r *httpstream.Request) {
	c.held = r
	if c.asked != nil {
		// Whatever becomes of it, its response is framed by that.
		c.asked.toHEAD = string(r.Method()) == "HEAD"
	}
	flow := capture.Flow(c.flow)
	r.Source, r.Destination = flow.Source(), c.shard.agent.source.Endpoint(flow)
	c.account(c.decide(r))
	c.held = nil
	r.Release()
}

// decide queues the copies of r, if any, and returns where r is counted.
func (c *conn) decide(r *httpstream.Request) (outcome *uint64) {
	s := c.shard
	t := &s.tally
	if _, looped := r.Get(GuardHeader); looped {
		return &t.looped
	}
	g := s.agent.current.Load()
	r.Endpoint = g.endpoint(r.Destination)
	g.program.Decide(r, s.random.Uint64(), &s.decision)
	switch s.decision.Verdict {
	case rules.SampledOut:
		return &t.sampledOut
	case rules.Mirrored:
		c.comparison = c.compare(r)
		refused, ok := g.mirror(r, &s.decision, c.comparison)
		c.decided()
		if !ok {
			return &t.dropped[refused]
		}
		return &t.mirrored
	}
	t.filteredBy[s.decision.Why]++
	return &t.filtered
}
