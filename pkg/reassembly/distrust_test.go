package reassembly

import "testing"

// A flow met in the middle is believed from its first segment on, until flows
// had to be evicted: it may be one whose eviction somebody provoked, in the
// middle of a body that looks like a request.
func TestFirstSegmentIsNotBelievedAfterEvictions(t *testing.T) {
	h := newHarness(t, Config{MaxFlows: 4})
	h.data(port(1), 0, "ab")
	h.check("1: open midstream", "1: start ab")
	for i := range uint16(8) {
		h.open(port(i + 10))
	}
	if h.a.Stats().FlowsEvicted == 0 {
		t.Fatal("nothing was evicted")
	}
	h.log = nil
	h.send(port(2), Segment{Seq: 1, Ack: 100, Flags: FlagACK, Payload: []byte("GET / HTTP/1.1")})
	h.send(port(2), Segment{Seq: 15, Ack: 200, Flags: FlagACK, Payload: []byte("GET / HTTP/1.1")})
	h.open(port(3))
	h.data(port(3), 0, "ab")
	if h.log[len(h.log)-1] != "3: start ab" {
		t.Errorf("a flow whose SYN was seen is not believed: %q", h.log)
	}
	var got []string
	for _, event := range h.log {
		if event[0] == '2' {
			got = append(got, event)
		}
	}
	want := []string{"2: open midstream", "2: data GET / HTTP/1.1", "2: start GET / HTTP/1.1"}
	if len(got) < 3 || got[0] != want[0] || got[1] != want[1] || got[2] != want[2] {
		t.Errorf("got %q, want %q", got, want)
	}
}

// What is forgotten for want of room need not have a stream any more: a late
// retransmission of a flow that has ended looks like one that was open before.
// An Assembler that goes on with the flows of another must know of it.
func TestClosedFlowsThatAreForgottenAreEvictions(t *testing.T) {
	for name, cfg := range map[string]Config{
		"too many closed": {MaxFlows: 8},
		"table full":      {MaxFlows: 3},
	} {
		h := newHarness(t, cfg)
		if h.a.Evicted() {
			t.Fatalf("%s: from the start", name)
		}
		for i := range uint16(4) {
			h.open(port(i + 10))
			h.data(port(i+10), 0, "ab")
			h.send(port(i+10), Segment{Seq: 3, Ack: 1, Flags: FlagACK | FlagFIN})
		}
		if st := h.a.Stats(); st.FlowsEvicted != 0 || st.FlowsOpen != 0 {
			t.Fatalf("%s: %+v", name, st)
		}
		if !h.a.Evicted() {
			t.Errorf("%s: ended flows were forgotten, and nobody knows", name)
		}
	}

	h := newHarness(t, Config{})
	h.a.NoteEvicted()
	h.data(port(1), 0, "ab")
	h.check("1: open midstream", "1: data ab")
}
