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
	past     reassembly.Stats // of assemblers before, see contain
	faulty   bool             // connections are given up because of a defect
	tally    tally
	decision rules.Decision
	random   *rand.PCG
	segment  reassembly.Segment
	frozen   bool // no time passes: the flows are being handed over
	free     []*conn
	pressure pressure

	// Nil if answers are not compared.
	answers   *reassembly.Assembler
	dialogues map[reassembly.Flow]*dialogue
}

var _ capture.Sink = (*shard)(nil)

func (a *Agent) newShard() *shard {
	s := &shard{
		agent:  a,
		random: rand.NewPCG(rand.Uint64(), rand.Uint64()),
	}
	s.http = httpstream.NewConfig(httpstream.Config{
		MaxHead: a.cfg.MaxHead,
		MaxBody: a.cfg.MaxBody,
		Pool:    httpstream.NewFairPool(s.reserve, a.memory.release),
	})
	s.asm = s.newAssembler(s.newStream)
	if a.comparing != nil {
		s.answers, s.dialogues = s.newAssembler(s.listen), map[reassembly.Flow]*dialogue{}
	}
	return s
}

type newStream func(f reassembly.Flow, midstream bool, now int64) reassembly.Stream

func (s *shard) newAssembler(stream newStream) *reassembly.Assembler {
	a := s.agent
	directions := 1
	if a.comparing != nil {
		directions = 2
	}
	return reassembly.New(reassembly.Config{
		NewStream: stream,
		MaxFlows:  maxFlows(a.cfg.MemoryLimit, a.source.Shards()*directions),
		Source:    a.memory.source,
		Reserve:   s.reserveDisorder,
		Release:   s.releaseDisorder,

		MaxBufferedTotal: int(a.disorder.limit), // Reserve knows what is left of it
	})
}

// flowCost is the memory limit that there must be for each flow remembered, in
// bytes. A flow takes about 500 of them, parser included, so all of them take
// up to an eighth of the limit.
const flowCost = 4 << 10

// maxFlows is how many flows each of so many shards may remember.
func maxFlows(memoryLimit int64, shards int) int {
	return max(1024, int(min(memoryLimit/flowCost, 1<<20))/shards)
}

func (s *shard) Begin(now int64) {
	s.mu.Lock()
	s.now = now
}

func (s *shard) Segment(seg *capture.Segment) {
	defer s.contain()
	s.segment = reassembly.Segment{
		Seq: seg.Seq, Ack: seg.Ack, Flags: reassembly.Flags(seg.Flags),
		Continues: seg.Continues, Time: seg.Time, Payload: seg.Payload,
	}
	if seg.Flags&capture.FlagResponse != 0 {
		s.answer(reassembly.Flow(seg.Flow))
		return
	}
	if seg.Flags&capture.FlagSubflow != 0 {
		s.refuse(reassembly.Flow(seg.Flow))
		return
	}
	s.asm.Segment(reassembly.Flow(seg.Flow), &s.segment)
}

// refuse gives up the connection of a segment that is a subflow of Multipath
// TCP. Nobody who sees one of them knows which bytes went by another.
func (s *shard) refuse(f reassembly.Flow) {
	c, ok := s.asm.StreamOf(f, &s.segment).(*conn)
	if !ok { // given up already, and still on its way from the kernel
		s.agent.source.Ignore(capture.Flow(f))
		return
	}
	c.refuse(httpstream.Subflow)
}

// answer takes a segment from a captured endpoint.
func (s *shard) answer(f reassembly.Flow) {
	if s.answers == nil {
		return
	}
	s.segment.Flags &= reassembly.Flags(^capture.FlagResponse)
	if d := s.dialogues[f]; d != nil && d.awaiting && len(s.segment.Payload) > 0 {
		next, known := s.answers.Next(f)
		d.begins(s.segment.Seq, next, known)
	}
	s.answers.Segment(f, &s.segment)
}

// End does the timed work behind the batch, not before it: a segment that fills
// a hole may be in it.
func (s *shard) End() {
	defer s.mu.Unlock()
	defer s.contain()
	if !s.frozen {
		s.asm.Advance(s.now)
		if s.answers != nil {
			s.answers.Advance(s.now)
		}
		s.heed()
	}
}

// close ends every flow; what is pending is dropped.
func (s *shard) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.contain()
	s.asm.Close()
	if s.answers != nil {
		s.answers.Close()
	}
}

// relinquish ends every flow for another agent to go on with.
func (s *shard) relinquish() {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.contain()
	s.asm.Relinquish()
	if s.answers != nil {
		s.answers.Relinquish()
	}
}

// expel ends the flows of instances.
func (s *shard) expel(instances map[uint32]bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.frozen {
		return // they are another agent's soon, or will expire here
	}
	defer s.contain()
	gone := func(f reassembly.Flow) bool { return instances[f.Instance] }
	s.asm.Expel(gone)
	if s.answers != nil {
		s.answers.Expel(gone)
	}
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
	c.source = s.agent.memory.source(f)
	c.parser.Charge(c.source)
	if s.answers != nil {
		c.dialogue = s.converse(f, !midstream)
	}
	return c
}

// maxFreeConns bounds the list of connections kept for reuse.
const maxFreeConns = 1024

func (s *shard) recycle(c *conn) {
	if len(s.free) < maxFreeConns {
		s.free = append(s.free, c)
	}
}
