package agent

import (
	"context"
	"sync/atomic"
	"testing"
)

func TestThrottle(t *testing.T) {
	full := func() bool { return false }
	ended, cancel := context.WithCancel(t.Context())
	cancel()

	var none *throttle
	none.begin()
	none.end()
	none.wait(t.Context(), full) // live traffic does not wait

	th := newThrottle()
	th.wait(t.Context(), full) // nor does what nobody would make room for
	th.begin()
	th.wait(ended, full)

	// It waits for room, not for the first that is done.
	const n = 3
	for range n - 1 {
		th.begin()
	}
	var done atomic.Int64
	waited := make(chan int64)
	go func() {
		th.wait(t.Context(), func() bool { return done.Load() == n-1 })
		waited <- done.Load()
	}()
	for range n - 1 {
		done.Add(1)
		th.end()
	}
	if got := <-waited; got != n-1 {
		t.Errorf("it waited for %d, want %d", got, n-1)
	}
}
