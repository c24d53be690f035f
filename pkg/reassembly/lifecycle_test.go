package reassembly

import (
	"encoding/binary"
	"slices"
	"strings"
	"testing"
	"time"
)

// port is a Flow that the log shows by its number.
func port(n uint16) Flow { return Flow{SrcPort: n} }

func (h *harness) open(f Flow) {
	h.send(f, Segment{Seq: 0, Flags: FlagSYN})
}

func (h *harness) data(f Flow, offset uint32, p string) {
	h.send(f, Segment{Seq: 1 + offset, Ack: 1, Flags: FlagACK, Payload: []byte(p)})
}

func TestEvictionPrefersClosedThenProbationThenOldest(t *testing.T) {
	h := newHarness(t, Config{MaxFlows: 8})
	for i := range uint16(6) { // 1..6 established
		h.open(port(i + 1))
		h.data(port(i+1), 0, "a")
	}
	h.pass(2 * time.Second)
	h.data(port(1), 1, "b") // 2 is the oldest now
	h.open(port(7))
	h.send(port(7), Segment{Seq: 1, Ack: 1, Flags: FlagACK | FlagFIN})
	h.open(port(8))
	h.log = nil

	h.open(port(9)) // in place of 7, which is closed
	h.check("9: open")
	h.open(port(10)) // two on probation are within their quarter: the oldest goes
	h.check("9: open", "2: closed evicted", "10: open")
	h.open(port(11)) // three are not
	h.check("9: open", "2: closed evicted", "10: open", "8: closed evicted", "11: open")
	if s := h.a.Stats(); s.FlowsEvicted != 2 || s.FlowsOpen != 8 {
		t.Errorf("%+v", s)
	}
}

func TestEvictedFlowDeliversWhatWaits(t *testing.T) {
	h := newHarness(t, Config{MaxFlows: 1})
	h.open(port(1))
	h.data(port(1), 2, "c")
	h.open(port(2))
	h.check("1: open", "1: gap 2", "1: data c", "1: closed evicted", "2: open")
}

func TestSYNFlood(t *testing.T) {
	h := newHarness(t, Config{MaxFlows: 1024})
	const good = 500
	for i := range uint16(good) {
		h.open(port(i + 1))
		h.data(port(i+1), 0, "a")
	}
	h.log = nil
	var f Flow
	f.DstPort = 80
	for i := range uint32(100_000) {
		binary.BigEndian.PutUint32(f.SrcIP[12:], i)
		h.open(f)
	}
	h.checkBooks()
	h.log = nil
	for i := range uint16(good) {
		h.data(port(i+1), 1, "b")
	}
	if len(h.log) != good || strings.Contains(strings.Join(h.log, ""), "evicted") {
		t.Errorf("the flood touched established flows: %q", h.log[:min(len(h.log), 5)])
	}
}

func TestGravesAreBounded(t *testing.T) {
	h := newHarness(t, Config{MaxFlows: 16})
	for i := range uint16(100) {
		h.open(port(i + 1))
		h.send(port(i+1), Segment{Seq: 1, Ack: 1, Flags: FlagACK | FlagFIN, Payload: []byte("a")})
	}
	if s := h.a.Stats(); s.FlowsTracked != 4 || s.FlowsOpen != 0 {
		t.Errorf("%+v", s)
	}
	h.pass(time.Minute)
	if s := h.a.Stats(); s.FlowsTracked != 0 {
		t.Errorf("%+v", s)
	}
	h.checkBooks()
}

func TestAdvanceIsBounded(t *testing.T) {
	h := newHarness(t, Config{})
	for i := range uint16(maxWork + 10) {
		h.open(port(i + 1))
	}
	h.log = nil
	h.pass(time.Hour)
	if n := len(h.log); n != maxWork {
		t.Errorf("%d flows closed by one Advance", n)
	}
	h.pass(0)
	if n := h.a.Stats().FlowsTracked; n != 0 {
		t.Errorf("%d flows left", n)
	}
	for i := range uint16(maxWork + 10) {
		h.open(port(i + 1))
		h.data(port(i+1), 1, "b")
	}
	h.pass(6 * time.Second)
	if n := h.a.Stats().Gaps; n != maxWork {
		t.Errorf("%d holes given up by one Advance", n)
	}
	h.pass(0)
	if s := h.a.Stats(); s.Gaps != maxWork+10 || s.BytesBuffered != 0 {
		t.Errorf("%+v", s)
	}
}

func TestTimeMayJitter(t *testing.T) {
	h := newHarness(t, Config{})
	h.open(port(1))
	h.now -= int64(time.Hour)
	h.data(port(1), 2, "c")
	h.pass(4 * time.Second)
	h.data(port(1), 0, "ab")
	h.check("1: open", "1: start ab", "1: data c")
}

func TestIgnoreFromCallbacks(t *testing.T) {
	// Everything that can call back, with the queue in every state.
	script := func(h *harness) {
		f := port(1)
		h.open(f)
		h.data(f, 0, "a")
		h.data(f, 3, "d")
		h.data(f, 6, "g")
		h.data(f, 6, "X") // condemned
		h.data(f, 9, "j")
		h.data(f, 1, "bc")
		h.data(f, 4, "ef")
		h.pass(6 * time.Second)
		h.data(f, 20, "x")
		h.send(f, Segment{Seq: 31, Ack: 1, Flags: FlagACK | FlagLost, Payload: []byte("y")})
		h.send(f, Segment{Seq: 1 << 31, Ack: 1, Flags: FlagACK | FlagLost, Payload: []byte("z")})
		h.send(f, Segment{Seq: 1<<31 + 5, Ack: 1, Flags: FlagACK, Payload: []byte("z")})
		h.send(f, Segment{Seq: 1<<31 + 1, Flags: FlagRST})
	}
	all := newHarness(t, Config{})
	script(all)
	want := []string{
		"1: open", "1: start a", "1: data bc", "1: data d", "1: data ef", "1: gap 1", "1: gap 2", "1: data j",
		"1: gap 10", "1: data x", "1: gap 9", "1: data y", "1: gap ?", "1: data z", "1: gap 5", "1: closed rst",
	}
	all.check(want...)
	for n := range want {
		h := newHarness(t, Config{})
		h.onEvent = func(f Flow, _ string) {
			if len(h.log) == n+1 {
				h.a.Ignore(f)
				h.a.Ignore(f)
			}
		}
		script(h)
		h.check(want[:n+1]...)
		if s := h.a.Stats(); s.FlowsOpen != 0 || s.Memory != 0 {
			t.Errorf("ignored at %q: %+v", want[n], s)
		}
		h.a.Close()
		h.check(want[:n+1]...)
		if s := h.a.Stats(); s.FlowsTracked != 0 {
			t.Errorf("ignored at %q: %+v", want[n], s)
		}
	}
}

func TestIgnoreOtherFlowFromCallback(t *testing.T) {
	h := newHarness(t, Config{})
	h.onEvent = func(f Flow, what string) {
		if f.SrcPort == 1 && what != "open" {
			h.a.Ignore(port(2))
		}
	}
	for _, f := range []Flow{port(1), port(2), port(3)} {
		h.open(f)
		h.data(f, 2, "c")
	}
	h.pass(6 * time.Second)
	h.a.Close()
	h.check("1: open", "2: open", "3: open", "1: gap 2", "1: data c", "3: gap 2", "3: data c",
		"1: closed shutdown", "3: closed shutdown")
}

func TestNoStream(t *testing.T) {
	h := newHarness(t, Config{})
	h.onNew = func(f Flow) bool { return f.SrcPort != 1 }
	h.open(port(1))
	h.data(port(1), 0, "abc")
	h.data(port(1), 9, "abc")
	h.send(port(1), Segment{Seq: 100, Flags: FlagSYN, Payload: []byte("x")})
	h.data(port(2), 0, "abc")
	h.pass(time.Hour)
	h.check("1: open", "1: open", "2: open midstream", "2: start abc", "2: closed idle")
	if s := h.a.Stats(); s.BytesIgnored != 7 || s.FlowsTracked != 0 {
		t.Errorf("%+v", s)
	}
}

func TestCloseAndUseAgain(t *testing.T) {
	h := newHarness(t, Config{})
	for range 2 {
		h.open(port(1))
		h.data(port(1), 3, "d")
		h.a.Close()
		h.check("1: open", "1: gap 3", "1: data d", "1: closed shutdown")
		h.log = nil
	}
}

func TestExpel(t *testing.T) {
	h := newHarness(t, Config{})
	for n := range uint16(3) {
		h.open(port(n + 1))
	}
	h.data(port(1), 3, "d") // waits
	h.data(port(2), 0, "x")
	h.a.Ignore(port(3))
	h.a.Expel(func(f Flow) bool { return f.SrcPort != 2 })
	h.data(port(1), 4, "ef")
	h.data(port(2), 1, "y")
	h.check("1: open", "2: open", "3: open", "2: start x",
		"1: gap 3", "1: data d", "1: closed gone", "1: open midstream", "1: start ef", "2: data y")
	if s := h.a.Stats(); s.FlowsTracked != 2 || s.FlowsOpen != 2 {
		t.Errorf("%+v", s)
	}
}

func TestCloseReasonString(t *testing.T) {
	var got []string
	for r := range CloseHandedOver + 2 {
		got = append(got, r.String())
	}
	want := []string{"unknown", "fin", "rst", "reused", "idle", "evicted", "shutdown", "gone", "handed_over", "unknown"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}

// TestStreamOf: whoever gives a flow up for something else than its bytes finds
// its stream, or one that is asked for, until it is ignored; but a SYN that is not
// the same begins another connection.
func TestStreamOf(t *testing.T) {
	h := newHarness(t, Config{})
	syn, data := Segment{Seq: 0, Flags: FlagSYN}, Segment{Seq: 1, Ack: 1, Flags: FlagACK, Payload: []byte("a")}
	again := Segment{Seq: 1 << 20, Flags: FlagSYN}
	h.open(port(1))
	for n, tt := range []struct {
		f      Flow
		s      Segment
		stream bool
	}{
		{port(1), data, true}, {port(1), data, false}, {port(1), syn, false}, {port(1), again, true}, {port(1), again, false},
		{port(2), data, true}, {port(2), data, false},
		{port(3), syn, true}, {port(3), data, false},
	} {
		stream := h.a.StreamOf(tt.f, &tt.s)
		if (stream != nil) != tt.stream {
			t.Errorf("%d: stream %v, want one: %v", n, stream, tt.stream)
		}
		h.a.Ignore(tt.f)
	}
	h.check("1: open", "1: open", "2: open midstream", "3: open")
	if s := h.a.Stats(); s.FlowsOpen != 0 || s.FlowsTotal != 4 {
		t.Errorf("%+v", s)
	}
}
