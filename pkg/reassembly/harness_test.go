package reassembly

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// harness drives an Assembler and writes down what its streams are told.
type harness struct {
	t   testing.TB
	a   *Assembler
	now int64
	log []string

	onNew   func(f Flow) bool // false: no stream
	onEvent func(f Flow, event string)
	budget  int // what Reserve handed out
}

func newHarness(t testing.TB, cfg Config) *harness {
	h := &harness{t: t, now: 1e18}
	cfg.NewStream = func(f Flow, midstream bool, now int64) Stream {
		if midstream {
			h.event(f, "open midstream")
		} else {
			h.event(f, "open")
		}
		if h.onNew != nil && !h.onNew(f) {
			return nil
		}
		return &logStream{h, f}
	}
	if cfg.Reserve == nil {
		cfg.Reserve = func(_ uint32, _, n int) bool { h.budget += n; return true }
		cfg.Release = func(_ uint32, n int) { h.budget -= n }
	}
	h.a = New(cfg)
	return h
}

func (h *harness) event(f Flow, what string) {
	if f.SrcPort != 0 {
		h.log = append(h.log, fmt.Sprintf("%d: %s", f.SrcPort, what))
	} else {
		h.log = append(h.log, what)
	}
	if h.onEvent != nil {
		h.onEvent(f, what)
	}
}

type logStream struct {
	h *harness
	f Flow
}

func (s *logStream) Data(p []byte, start bool, _ int64) {
	if start {
		s.h.event(s.f, "start "+string(p))
	} else {
		s.h.event(s.f, "data "+string(p))
	}
}

func (s *logStream) Gap(n int64, _ int64) {
	if n < 0 {
		s.h.event(s.f, "gap ?")
	} else {
		s.h.event(s.f, fmt.Sprint("gap ", n))
	}
}

func (s *logStream) Closed(why CloseReason, _ int64) { s.h.event(s.f, "closed "+why.String()) }

func (h *harness) send(f Flow, s Segment) {
	s.Time = h.now
	p := slices.Clone(s.Payload)
	s.Payload = p
	h.a.Segment(f, &s)
	for i := range p {
		p[i] = '#' // nothing may keep it
	}
}

func (h *harness) pass(d time.Duration) {
	h.now += int64(d)
	h.a.Advance(h.now)
}

// check compares the log, and the books.
func (h *harness) check(want ...string) {
	h.t.Helper()
	if !slices.Equal(h.log, want) {
		h.t.Errorf("got  %q\nwant %q", h.log, want)
	}
	h.checkBooks()
}

func (h *harness) checkBooks() {
	h.t.Helper()
	s := h.a.Stats()
	if sum := s.BytesDelivered + s.BytesRetransmitted + s.BytesDiscarded + s.BytesIgnored +
		uint64(s.BytesBuffered); sum != s.BytesReceived {
		h.t.Errorf("bytes do not add up to %d: %+v", s.BytesReceived, s)
	}
	if s.Memory != h.budget {
		h.t.Errorf("%d bytes in use, %d reserved", s.Memory, h.budget)
	}
	if (s.BytesBuffered == 0) != (s.Memory == 0) || s.Memory > h.a.cfg.MaxBufferedTotal {
		h.t.Errorf("%d bytes take %d of %d", s.BytesBuffered, s.Memory, h.a.cfg.MaxBufferedTotal)
	}
	if s.FlowsTracked > h.a.cfg.MaxFlows || s.FlowsOpen > s.FlowsTracked {
		h.t.Errorf("too many flows: %+v", s)
	}
	n := 0
	for i := range h.a.flows.sources {
		n += h.a.flows.sources[i].len()
	}
	if all := h.a.flows.all.len(); all != n {
		h.t.Errorf("%d flows in all lists, %d in those of the sources", all, n)
	}
	if n != s.FlowsTracked {
		h.t.Errorf("%d flows in lists, %d in the table", n, s.FlowsTracked)
	}
}

// step is one thing that happens in a table test.
type step func(*harness)

// All sequence numbers of the table tests count from base, which makes every
// test one of the wrap as well.
var bases = []uint32{0, 1000, 1<<31 - 8, 1<<32 - 1, 1<<32 - 4, 1<<32 - 10, 1<<32 - 40}

type opt func(*Segment)

func ack(n uint32) opt { return func(s *Segment) { s.Ack = n } }
func lost(s *Segment)  { s.Flags |= FlagLost }
func fin(s *Segment)   { s.Flags |= FlagFIN }
func urg(s *Segment)   { s.Flags |= FlagURG }
func noAck(s *Segment) { s.Flags &^= FlagACK }
func cont(s *Segment)  { s.Continues = true }

// segment sends from offset seq; a SYN at offset -1 makes offset 0 the first byte.
func segment(flags Flags, seq int, payload string, opts []opt) func(uint32) step {
	return func(base uint32) step {
		s := Segment{Seq: base + uint32(seq), Ack: 1, Flags: flags, Payload: []byte(payload)}
		for _, o := range opts {
			o(&s)
		}
		return func(h *harness) { h.send(Flow{}, s) }
	}
}

type relStep = func(base uint32) step

func syn(seq int, payload string, opts ...opt) relStep {
	return segment(FlagSYN, seq, payload, opts)
}
func data(seq int, payload string, opts ...opt) relStep {
	return segment(FlagACK|FlagPSH, seq, payload, opts)
}
func rst(seq int, opts ...opt) relStep { return segment(FlagRST, seq, "", opts) }

func pass(d time.Duration) relStep {
	return func(uint32) step { return func(h *harness) { h.pass(d) } }
}
func ignore() relStep {
	return func(uint32) step { return func(h *harness) { h.a.Ignore(Flow{}) } }
}
func end() relStep {
	return func(uint32) step { return func(h *harness) { h.a.Close() } }
}
func stat(name string, get func(Stats) uint64, want uint64) relStep {
	return func(uint32) step {
		return func(h *harness) {
			h.t.Helper()
			if got := get(h.a.Stats()); got != want {
				h.t.Errorf("%s = %d, want %d", name, got, want)
			}
		}
	}
}
func rejected(n uint64) relStep {
	return stat("rejected", func(s Stats) uint64 { return s.Rejected }, n)
}
func conflicts(n uint64) relStep {
	return stat("conflicts", func(s Stats) uint64 { return s.Conflicts }, n)
}
func retransmitted(n uint64) relStep {
	return stat("retransmitted", func(s Stats) uint64 { return s.BytesRetransmitted }, n)
}
func gapBytes(n uint64) relStep {
	return stat("gap bytes", func(s Stats) uint64 { return s.GapBytes }, n)
}
