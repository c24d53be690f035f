package reassembly

import "testing"

// TestLateRetransmissionFromLongAgo repeats the first bytes of a connection
// that has ended, from as far back as it was long.
func TestLateRetransmissionFromLongAgo(t *testing.T) {
	for name, size := range map[string]int{"short": 1000, "20 MB": 20 << 20, "1 GiB": 1 << 30} {
		for _, isn := range []uint32{0, 1<<32 - 1000} {
			streams, ended := 0, 0
			a := New(Config{NewStream: func(Flow, bool, int64) Stream {
				streams++
				return &ending{n: &ended}
			}})
			a.Segment(Flow{}, &Segment{Seq: isn, Flags: FlagSYN})
			first := []byte("GET / HTTP/1.1\r\n")
			a.Segment(Flow{}, &Segment{Seq: isn + 1, Ack: 1, Flags: FlagACK, Payload: first})
			bulk := make([]byte, 1<<20)
			at := len(first)
			for at < size {
				n := min(len(bulk), size-at)
				a.Segment(Flow{}, &Segment{Seq: isn + 1 + uint32(at), Ack: 1, Flags: FlagACK, Payload: bulk[:n]})
				at += n
			}
			a.Segment(Flow{}, &Segment{Seq: isn + 1 + uint32(at), Ack: 1, Flags: FlagACK | FlagRST})
			a.Segment(Flow{}, &Segment{Seq: isn + 1, Ack: 1, Flags: FlagACK, Payload: first})
			if streams != 1 || ended != 1 {
				t.Errorf("%s from %d: %d streams of which %d ended, want 1: the first bytes came again and passed for a connection", name, isn, streams, ended)
			}
		}
	}
}

// ending counts how often it is closed.
type ending struct{ n *int }

func (*ending) Data([]byte, bool, int64) {}
func (*ending) Gap(int64, int64)         {}
func (e *ending) Closed(CloseReason, int64) {
	*e.n++
}
