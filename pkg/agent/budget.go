package agent

import "sync/atomic"

// budget bounds the bytes of traffic that the agent holds: messages being
// collected, waiting or in flight, and segments out of order. Its methods are
// safe for concurrent use.
type budget struct {
	limit int64
	used  atomic.Int64
}

// reserve takes n bytes, or none and reports false.
func (b *budget) reserve(n int) bool {
	if b.used.Add(int64(n)) > b.limit {
		b.used.Add(int64(-n))
		return false
	}
	return true
}

func (b *budget) release(n int) { b.used.Add(int64(-n)) }
