package agent

import (
	"context"
	"sync/atomic"
)

// throttle holds back the reader of a capture file while what waits to be
// compared takes its part of the memory. Requests come from a file as fast as
// they are read, and with them what production answered; but a shadow answers
// when it does. Live traffic waits for nothing: then there is no throttle, and a
// nil one does nothing.
type throttle struct {
	// busy counts the copies that are with a mirror, and the pairs that wait to
	// be compared: what gives memory back without another packet being read. A
	// copy whose request production has not answered yet is neither, or the
	// reader would wait for itself.
	busy  atomic.Int64
	eased chan struct{} // holds one: busy has become less
}

func newThrottle() *throttle { return &throttle{eased: make(chan struct{}, 1)} }

// begin notes that there is one more.
func (t *throttle) begin() {
	if t != nil {
		t.busy.Add(1)
	}
}

// end notes that one is done.
func (t *throttle) end() {
	if t == nil {
		return
	}
	t.busy.Add(-1)
	select {
	case t.eased <- struct{}{}:
	default:
	}
}

// wait waits until there is room, or nothing is under way that could make some,
// or ctx ends. It is for one goroutine.
func (t *throttle) wait(ctx context.Context, room func() bool) {
	if t == nil {
		return
	}
	for !room() && t.busy.Load() > 0 {
		select {
		case <-t.eased:
		case <-ctx.Done():
			return
		}
	}
}
