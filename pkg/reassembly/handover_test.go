package reassembly

import (
	"errors"
	"fmt"
	"slices"
	"testing"
)

// heard is a Stream that keeps what it was told, piece by piece.
type heard struct {
	said []string
	end  CloseReason
}

func (h *heard) say(s string) {
	// How bytes are cut is not part of the contract.
	if n := len(h.said); n > 0 && s[0] == '+' && h.said[n-1][0] == '+' {
		h.said[n-1] += s[1:]
		return
	}
	h.said = append(h.said, s)
}

func (h *heard) Data(p []byte, _ bool, _ int64) { h.say(fmt.Sprintf("+%x", p)) }
func (h *heard) Gap(n int64, _ int64)           { h.say(fmt.Sprint("gap ", n)) }
func (h *heard) Closed(why CloseReason, _ int64) {
	if h.end = why; why != CloseHandedOver {
		h.say(why.String())
	}
}

func listening(streams *[]*heard) *Assembler {
	return New(Config{NewStream: func(Flow, bool, int64) Stream {
		h := &heard{}
		*streams = append(*streams, h)
		return h
	}})
}

// FuzzHandover hands a flow over in the middle of any series of segments, some
// of which the successor gets again, and compares what is delivered with what
// one Assembler alone delivers.
func FuzzHandover(f *testing.F) {
	f.Add([]byte{0, 10, 1, 10, 3, 10, 2, 10, 4, 10}, uint8(3), uint8(2))
	f.Add([]byte{0, 40, 0x81, 5, 4, 30, 0x42, 3, 6, 10, 2, 9}, uint8(4), uint8(4))
	f.Add([]byte{5, 1, 0x80, 0, 1, 8, 0xc0, 0, 0, 7}, uint8(2), uint8(0))
	f.Fuzz(func(t *testing.T, script []byte, cut, again uint8) {
		const now, end = int64(1e18), 0x3f*7 + 2 + 0xff
		stream := make([]byte, end)
		for i := range stream {
			stream[i] = byte(i * i >> 7)
		}
		var segments []Segment
		for ; len(script) >= 2 && len(segments) < 200; script = script[2:] {
			at, n := int(script[0]&0x3f)*7, 2+int(script[1]) // one byte may be a probe
			flags := FlagACK
			switch script[0] >> 6 {
			case 1: // a sender ends in one place
				flags |= FlagFIN
				at = end - n
			case 2:
				if len(segments) > 0 {
					continue
				}
				flags, at, n = FlagSYN, -1, 0
			case 3:
				flags |= FlagRST
				at, n = end, 0
			}
			s := Segment{Seq: 1000 + 1 + uint32(at), Ack: uint32(script[1] >> 6), Flags: flags, Time: now}
			if n > 0 {
				s.Payload = stream[at : at+n]
			}
			segments = append(segments, s)
		}
		if len(segments) == 0 {
			return
		}
		var alone []*heard
		one := listening(&alone)
		for i := range segments {
			one.Segment(Flow{}, &segments[i])
		}
		one.Close()

		k := int(cut) % (len(segments) + 1)
		var first, second []*heard
		before, after := listening(&first), listening(&second)
		// Nothing comes again from before the last stream began: that of
		// another connection has other sequence numbers (RFC 6528).
		from := max(0, k-int(again))
		for i := range segments[:k] {
			streams := len(first)
			before.Segment(Flow{}, &segments[i])
			if len(first) > streams || before.Stats().FlowsTracked == 0 {
				from = max(from, i)
			}
		}
		adopted := false
		if err := before.Export(func(s FlowState, stream Stream) error {
			if h, ok := after.Adopt(s, now).(*heard); ok != (stream != nil) {
				t.Fatalf("adopted %+v: a stream: %v", s, ok)
			} else if ok {
				h.said, adopted = slices.Clone(stream.(*heard).said), true
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		before.Relinquish()
		if s := before.Stats(); s.FlowsTracked+s.BytesBuffered+s.Memory != 0 {
			t.Fatalf("the assembler that gave up its flows is not empty: %+v", s)
		}
		for i := from; i < len(segments); i++ {
			after.Segment(Flow{}, &segments[i])
		}
		after.Close()
		if adopted {
			if h := first[len(first)-1]; h.end != CloseHandedOver {
				t.Fatalf("the stream that was handed over was closed with %v", h.end)
			}
			first = first[:len(first)-1]
		}
		all := append(first, second...)
		if len(all) != len(alone) {
			t.Fatalf("%d streams, %d without a handover: %+v cut at %d, again from %d", len(all), len(alone), segments, k, from)
		}
		for i := range all {
			if !slices.Equal(all[i].said, alone[i].said) {
				t.Fatalf("stream %d, cut at %d, %d again:\ngot  %q\nwant %q", i, k, again, all[i].said, alone[i].said)
			}
		}
	})
}

func TestExportStopsAtAnError(t *testing.T) {
	t.Parallel()
	var streams []*heard
	a := listening(&streams)
	for port := range uint16(3) {
		a.Segment(Flow{SrcPort: port}, &Segment{Flags: FlagSYN, Time: 1})
	}
	stop, n := errors.New("stop"), 0
	if err := a.Export(func(FlowState, Stream) error { n++; return stop }); !errors.Is(err, stop) || n != 1 {
		t.Errorf("%d flows, error %v", n, err)
	}
}

// TestAdoptedIgnoredFlowStaysIgnored: it is not picked up in the middle.
func TestAdoptedIgnoredFlowStaysIgnored(t *testing.T) {
	t.Parallel()
	var first, second []*heard
	before, after := listening(&first), listening(&second)
	before.Segment(Flow{}, &Segment{Seq: 1, Flags: FlagSYN, Time: 1})
	before.Ignore(Flow{})
	if err := before.Export(func(s FlowState, _ Stream) error { after.Adopt(s, 1); return nil }); err != nil {
		t.Fatal(err)
	}
	after.Segment(Flow{}, &Segment{Seq: 2, Flags: FlagACK, Time: 1, Payload: []byte("secret")})
	if len(second) != 0 || after.Stats().BytesIgnored != 6 {
		t.Errorf("%d streams, %+v", len(second), after.Stats())
	}
}
