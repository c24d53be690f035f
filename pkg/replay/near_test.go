package replay

import (
	"errors"
	"testing"
	"time"
)

// TestNear: endpoints that are near take all copies as long as one of them can
// be used, whatever the order they are given in.
func TestNear(t *testing.T) {
	clk := newClock()
	m := New(Config{Now: clk.Now, Endpoints: []Endpoint{
		{Address: "10.0.0.1:80"}, {Address: "10.0.0.2:80", Near: true}, {Address: "10.0.0.3:80"}, {Address: "10.0.0.4:80", Near: true},
	}})
	defer m.Drain(t.Context())
	picked := func() map[string]int {
		m.mu.Lock()
		defer m.mu.Unlock()
		got := map[string]int{}
		for range 200 {
			got[m.pick(clk.Now()).Address]++
		}
		return got
	}
	fail := func(address string) {
		m.mu.Lock()
		defer m.mu.Unlock()
		for _, e := range m.endpoints {
			if e.Address == address {
				e.circuit.failed(false, 1, time.Second, errors.New("down"), clk.Now())
			}
		}
	}
	if got := picked(); len(got) != 2 || got["10.0.0.2:80"] == 0 || got["10.0.0.4:80"] == 0 {
		t.Errorf("all usable: %v", got)
	}
	fail("10.0.0.2:80")
	if got := picked(); got["10.0.0.4:80"] != 200 {
		t.Errorf("one near is left: %v", got)
	}
	fail("10.0.0.4:80")
	if got := picked(); len(got) != 2 || got["10.0.0.1:80"] == 0 || got["10.0.0.3:80"] == 0 {
		t.Errorf("none near is left: %v", got)
	}
	clk.advance(time.Second)
	if got := picked(); got["10.0.0.1:80"]+got["10.0.0.3:80"] != 0 {
		t.Errorf("after the back-off: %v", got)
	}
	m.SetEndpoints([]Endpoint{{Address: "10.0.0.1:80"}, {Address: "10.0.0.3:80"}})
	if got := picked(); len(got) != 2 {
		t.Errorf("none is near: %v", got)
	}
}
