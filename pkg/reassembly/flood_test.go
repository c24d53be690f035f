package reassembly

import (
	"strings"
	"testing"
)

// TestFloodDoesNotOpenGraves: half-open connections fill the table, and a
// segment that comes again after the end of its connection is still known to
// be old.
func TestFloodDoesNotOpenGraves(t *testing.T) {
	const flows = 64
	streams := map[Flow]*quiet{}
	opened := map[Flow]int{}
	a := New(Config{MaxFlows: flows, NewStream: func(f Flow, _ bool, _ int64) Stream {
		opened[f]++
		streams[f] = &quiet{}
		return streams[f]
	}})
	f := Flow{SrcPort: 1, DstPort: 80}
	request := Segment{Seq: 101, Flags: FlagACK, Payload: []byte("a request")}
	a.Segment(f, &Segment{Seq: 100, Flags: FlagSYN})
	a.Segment(f, &request)
	a.Segment(f, &Segment{Seq: 110, Flags: FlagACK | FlagFIN})
	if streams[f].closed != 1 {
		t.Fatal("FIN did not close the stream")
	}
	for i := range 10 * flows {
		a.Segment(Flow{SrcPort: uint16(1000 + i), DstPort: 80}, &Segment{Seq: 1, Flags: FlagSYN})
	}
	a.Segment(f, &request)
	if opened[f] != 1 || streams[f].bytes != len(request.Payload) {
		t.Errorf("opened %d times, %d bytes delivered by the last stream, want 1 and %d", opened[f], streams[f].bytes, len(request.Payload))
	}
}

// TestFloodBetweenSYNAndRequest: the table turns over between a SYN and what
// follows it, which is delivered from its first byte all the same, as that of a
// connection whose beginning is known. Bytes of a connection that nothing is
// known of are not.
func TestFloodBetweenSYNAndRequest(t *testing.T) {
	const flows = 1 << 14 // so many that two of them hardly ever share a slot
	h := newHarness(t, Config{MaxFlows: flows})
	a, b, c := port(1), port(2), port(3)
	h.a.Segment(a, &Segment{Seq: 1<<32 - 3, Flags: FlagSYN})
	h.a.Segment(b, &Segment{Seq: 99, Flags: FlagSYN})
	for i := range uint16(flows) { // which evicts the two, and no other
		h.a.Segment(port(1000+i), &Segment{Seq: 1, Flags: FlagSYN})
	}
	h.log = nil
	h.a.Segment(a, &Segment{Seq: 1<<32 - 2, Ack: 1, Flags: FlagACK, Payload: []byte("abc")})
	h.a.Segment(b, &Segment{Seq: 102, Ack: 1, Flags: FlagACK, Payload: []byte("cd")}) // overtook the first
	h.a.Segment(b, &Segment{Seq: 100, Ack: 1, Flags: FlagACK, Payload: []byte("ab")})
	h.a.Segment(c, &Segment{Seq: 100, Ack: 1, Flags: FlagACK, Payload: []byte("ab")})
	var got []string
	for _, e := range h.log {
		if e[:2] == "1:" || e[:2] == "2:" || e[:2] == "3:" {
			got = append(got, e)
		}
	}
	want := "1: open, 1: start abc, 2: open, 2: start ab, 2: data cd, 3: open midstream, 3: data ab"
	if s := strings.Join(got, ", "); s != want {
		t.Errorf("got  %s\nwant %s", s, want)
	}
}
