package demo

import (
	"context"
	"sync"
)

// mailbox collects what arrives under an id and lets others wait for it. It is
// safe for concurrent use.
type mailbox[T any] struct {
	mu    sync.Mutex
	got   map[string][]T
	n     int
	fresh chan struct{} // closed and replaced whenever something arrives
}

func newMailbox[T any]() *mailbox[T] {
	return &mailbox[T]{got: make(map[string][]T), fresh: make(chan struct{})}
}

func (m *mailbox[T]) put(id string, v T) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.got[id] = append(m.got[id], v)
	m.n++
	close(m.fresh)
	m.fresh = make(chan struct{})
}

// wait returns the first thing that arrived under id, or the cause of ctx's
// end.
func (m *mailbox[T]) wait(ctx context.Context, id string) (T, error) {
	for {
		m.mu.Lock()
		got, fresh := m.got[id], m.fresh
		m.mu.Unlock()
		if len(got) > 0 {
			return got[0], nil
		}
		select {
		case <-fresh:
		case <-ctx.Done():
			var none T
			return none, context.Cause(ctx)
		}
	}
}

// get returns everything that arrived under id.
func (m *mailbox[T]) get(id string) []T {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.got[id]
}

// len is how many things arrived, under whatever id.
func (m *mailbox[T]) len() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.n
}

func (m *mailbox[T]) clear() {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.got)
	m.n = 0
}
