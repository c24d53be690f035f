package reassembly

import (
	"testing"
	"time"
)

// lifeStream counts how often a stream ends.
type lifeStream struct {
	f    Flow
	open map[Flow]*lifeStream
	t    *testing.T
}

func (s *lifeStream) Data([]byte, bool, int64) { s.check() }
func (s *lifeStream) Gap(int64, int64)         { s.check() }

func (s *lifeStream) check() {
	if s.open[s.f] != s {
		s.t.Fatal("called after its end")
	}
}

func (s *lifeStream) Closed(CloseReason, int64) {
	s.check()
	delete(s.open, s.f)
}

// FuzzFlows opens, feeds, ignores, resets and ends flows of a few sources in a
// table that is too small for them. Whatever happens the lists agree with the
// table, each stream ends once, and nobody has more than his share and what
// was free when he got it.
func FuzzFlows(f *testing.F) {
	f.Add([]byte("\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10\x11\x12\x13\x14\x15\x16\x17"))
	f.Add([]byte("\x01\x00\x01\x01\x01\x02\x01\x03\x01\x04\x01\x05\x02\x06\x02\x07\x03\x06\x03\x07\x04\x06\x05\x07\x06\x08\x07\x09"))
	f.Fuzz(func(t *testing.T, ops []byte) {
		const maxFlows = 12
		open := map[Flow]*lifeStream{}
		a := New(Config{
			MaxFlows: maxFlows,
			Source:   bySource,
			NewStream: func(f Flow, _ bool, _ int64) Stream {
				if open[f] != nil {
					t.Fatal("a second stream of one flow")
				}
				open[f] = &lifeStream{f, open, t}
				return open[f]
			},
		})
		now := int64(0)
		for ; len(ops) >= 2; ops = ops[2:] {
			flow := from(ops[0]>>6, uint16(ops[0]&31))
			s := Segment{Seq: 1 + uint32(ops[1]>>4), Ack: 1, Flags: FlagACK, Time: now, Payload: []byte("abcd")}
			switch ops[1] & 7 {
			case 0, 1:
				s.Seq, s.Flags, s.Payload = 0, FlagSYN, nil
			case 2:
				s.Seq, s.Flags, s.Payload = 1<<20*uint32(ops[1]), FlagSYN, nil
			case 3:
				s.Flags |= FlagFIN
			case 4:
				s.Flags = FlagRST
			case 5:
				a.Ignore(flow)
				delete(open, flow)
			case 6:
				now += int64(time.Duration(ops[1]) * time.Second / 4)
				a.Advance(now)
			}
			before := len(a.flows.records)
			held := a.flows.of(uint32(flow.SrcIP[15])).len()
			a.Segment(flow, &s)

			counted, tracked := 0, a.Stats().FlowsTracked
			for i := range a.flows.sources {
				counted += a.flows.sources[i].len()
			}
			if tracked > maxFlows || counted != tracked || a.flows.all.len() != tracked || a.Stats().FlowsOpen != len(open) {
				t.Fatalf("%d flows, %d in lists of sources, %d streams: %+v", tracked, counted, len(open), a.Stats())
			}
			if now := a.flows.of(uint32(flow.SrcIP[15])).len(); now > held && held > max(maxFlows-before, 1) {
				t.Fatalf("a source with %d flows got another one with %d of %d in use", held, before, maxFlows)
			}
		}
		a.Close()
		if len(open) != 0 || a.Stats().FlowsTracked > maxFlows {
			t.Fatalf("%d streams never ended: %+v", len(open), a.Stats())
		}
	})
}
