package reassembly

import (
	"strings"
	"testing"
	"time"
)

// from is a flow of client n on a port.
func from(n byte, p uint16) Flow {
	f := Flow{SrcPort: p}
	f.SrcIP[15] = n
	return f
}

func bySource(f Flow) uint32 { return uint32(f.SrcIP[15]) }

// TestFloodFromOneSourceTakesItsOwn: whatever one client opens, half-open or
// with bytes and then idle, it pushes out only what is its own once it has as
// many flows as are free.
func TestFloodFromOneSourceTakesItsOwn(t *testing.T) {
	for _, kind := range []string{"half-open", "idle"} {
		t.Run(kind, func(t *testing.T) {
			h := newHarness(t, Config{MaxFlows: 1024, Source: bySource})
			for i := range uint16(200) {
				h.open(from(1, i+1))
				h.data(from(1, i+1), 0, "a")
			}
			h.pass(2 * time.Second) // the honest flows are the oldest there are
			h.log = nil
			for i := range uint16(20_000) {
				h.open(from(2, i+1))
				if kind == "idle" {
					h.data(from(2, i+1), 0, "a")
				}
			}
			h.checkBooks()
			if n := h.a.flows.of(2).len(); n > 1024/2 {
				t.Errorf("one source holds %d flows of 1024", n)
			}
			h.log = nil
			for i := range uint16(200) {
				h.data(from(1, i+1), 1, "b")
			}
			if len(h.log) != 200 || strings.Contains(strings.Join(h.log, " "), "open") {
				t.Errorf("the flood touched flows of another source: %q", h.log[:min(len(h.log), 5)])
			}
		})
	}
}

// A source that alone fills its part keeps its busy flows and loses the one
// that has been quiet for longest.
func TestSourceOverItsShareLosesItsOldest(t *testing.T) {
	h := newHarness(t, Config{MaxFlows: 8, Source: bySource})
	for i := range uint16(4) {
		h.open(from(1, i+1))
		h.data(from(1, i+1), 0, "a")
	}
	h.pass(2 * time.Second)
	h.data(from(1, 1), 1, "b")
	h.log = nil
	h.open(from(1, 5))
	h.check("2: closed evicted", "5: open")
	if s := h.a.Stats(); s.FlowsEvicted != 1 || s.FlowsOpen != 4 {
		t.Errorf("%+v", s)
	}
}

// Many sources can fill the table, and then the rules for all of it decide.
func TestManySourcesFillTheTable(t *testing.T) {
	h := newHarness(t, Config{MaxFlows: 128, Source: bySource})
	for n := range byte(255) {
		h.open(from(n, uint16(n)+1))
		h.data(from(n, uint16(n)+1), 0, "a")
	}
	if s := h.a.Stats(); s.FlowsTracked != 128 || s.FlowsEvicted != 127 {
		t.Errorf("%+v", s)
	}
	h.checkBooks()
}
