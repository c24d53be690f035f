package agent

import (
	"testing"

	"github.com/shadowtap/shadowtap/pkg/capture"
	"github.com/shadowtap/shadowtap/pkg/reassembly"
)

// TestPanicStaysOnItsConnection lets the rules panic in the middle of a burst
// on one connection. The requests decided before stay counted, the one under
// way is accounted for, the memory comes back, and another connection, and
// the same addresses used again, are mirrored as ever.
func TestPanicStaysOnItsConnection(t *testing.T) {
	a := idleAgent(t, shadowRules("127.0.0.1:9"))
	s := a.shards[0]
	good := a.current.Load()
	send := func(port uint16, seq uint32, flags capture.Flags, payload string) {
		s.Begin(1)
		s.Segment(&capture.Segment{
			Flow: capture.Flow{SrcIP: [16]byte{10: 0xff, 11: 0xff, 12: 10, 15: 1}, DstIP: [16]byte{10: 0xff, 11: 0xff, 12: 10, 13: 99, 15: 2}, SrcPort: port, DstPort: 80},
			Seq:  seq, Ack: 1, Flags: flags, Payload: []byte(payload),
		})
		s.End()
	}
	const get = "GET /httpbin HTTP/1.1\r\n" + host + "\r\n"
	send(1, 0, capture.FlagSYN, "")
	send(1, 1, capture.FlagACK, get)
	a.current.Store(&generation{agent: a}) // without a program to ask
	send(1, 1+uint32(len(get)), capture.FlagACK, get+get)
	a.current.Store(good)
	send(1, 1+3*uint32(len(get)), capture.FlagACK, get) // given up
	send(2, 0, capture.FlagSYN, "")
	send(2, 1, capture.FlagACK, get)
	send(1, 5000, capture.FlagSYN, "")
	send(1, 5001, capture.FlagACK, get)

	account, err := a.Account()
	if err != nil {
		t.Fatal(err)
	}
	r := account.Requests
	if !r.Balanced() || r.Pending != 0 || r.Seen != 4 || r.Mirrored != 3 || r.Dropped["panic"] != 1 || account.Flows.Panics != 1 {
		t.Errorf("%+v, %+v", r, account.Flows)
	}
	a.mirrors.drain(t.Context())
	if n := a.memory.used.Load(); n != 0 {
		t.Errorf("%d bytes of traffic are still held", n)
	}
}

// TestPanicInAssembler: nobody knows what state it is in, so it is replaced.
// What it had under way is accounted for, its memory comes back, what it had
// counted stays, and connections are followed again.
func TestPanicInAssembler(t *testing.T) {
	a := idleAgent(t, shadowRules("127.0.0.1:9"))
	s := a.shards[0]
	send := func(port uint16, seq uint32, flags capture.Flags, payload string) {
		s.Begin(1)
		s.Segment(&capture.Segment{
			Flow: capture.Flow{SrcIP: [16]byte{10: 0xff, 11: 0xff, 12: 10, 15: 1}, DstIP: [16]byte{10: 0xff, 11: 0xff, 12: 10, 13: 99, 15: 2}, SrcPort: port, DstPort: 80},
			Seq:  seq, Ack: 1, Flags: flags, Payload: []byte(payload),
		})
		s.End()
	}
	const get = "GET /httpbin HTTP/1.1\r\n" + host + "\r\n"
	for _, where := range []string{"Segment", "Advance", "Segment and Close"} {
		before, err := a.Account()
		if err != nil {
			t.Fatal(err)
		}
		s.asm = reassembly.New(reassembly.Config{
			NewStream: func(f reassembly.Flow, midstream bool, now int64) reassembly.Stream {
				if f.SrcPort == 3 {
					panic("new stream")
				}
				stream := s.newStream(f, midstream, now)
				if f.SrcPort == 2 && where != "Segment" {
					return faultyStream{stream}
				}
				return stream
			},
			Reserve: a.memory.reserve, Release: a.memory.release, GapTimeout: 1,
		})
		send(1, 0, capture.FlagSYN, "")
		send(1, 1, capture.FlagACK, get+get[:10])
		send(2, 0, capture.FlagSYN, "")
		send(2, 1, capture.FlagACK, get[:10])
		if where == "Advance" {
			send(2, 100, capture.FlagACK, "behind a hole")
			s.Begin(10)
			s.End()
		} else {
			send(3, 0, capture.FlagSYN, "")
		}
		send(4, 0, capture.FlagSYN, "")
		send(4, 1, capture.FlagACK, get)
		// It may be the rest of a request that was given up.
		send(5, 1, capture.FlagACK, get)
		now, err := a.Account()
		if err != nil {
			t.Fatal(err)
		}
		r, b := now.Requests, before.Requests
		if !r.Balanced() || r.Pending != 0 || r.Seen-b.Seen != 4 || r.Mirrored-b.Mirrored != 2 || r.Dropped["panic"]-b.Dropped["panic"] != 2 || sum(r.Dropped) != r.Dropped["panic"] {
			t.Errorf("%s: %+v", where, r)
		}
		if now.Flows.Panics-before.Flows.Panics != 1 || now.Flows.Open != 2 {
			t.Errorf("%s: %+v", where, now.Flows)
		}
	}
	a.mirrors.drain(t.Context())
}

// faultyStream panics in the assembler's hands.
type faultyStream struct{ reassembly.Stream }

func (faultyStream) Gap(int64, int64)                     { panic("gap") }
func (faultyStream) Closed(reassembly.CloseReason, int64) { panic("closed") }
