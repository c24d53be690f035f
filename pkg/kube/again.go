package kube

import (
	"context"
	"sync"
)

// again has a reflector list what it watches once more.
type again struct {
	mu     sync.Mutex
	wanted bool
	end    context.CancelFunc // of the watch that there is
}

// list ends the watch, and lets the next one fail as one does that is too far
// behind.
func (a *again) list() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.wanted = true
	if a.end != nil {
		a.end()
	}
}

// watch is for a watch that begins: it returns its context, or an error if
// everything is to be listed instead.
func (a *again) watch(ctx context.Context) (context.Context, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.wanted {
		a.wanted = false
		return nil, errListAgain()
	}
	if a.end != nil {
		a.end()
	}
	ctx, a.end = context.WithCancel(ctx)
	return ctx, nil
}
