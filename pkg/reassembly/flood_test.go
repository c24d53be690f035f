package reassembly

import "testing"

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
