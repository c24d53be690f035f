package rules

import (
	"sync/atomic"
	"time"
)

// rateLimit bounds how many requests a mirror takes in a second (the generic
// cell rate algorithm, ITU-T I.371). Its clock is that of the requests, so
// that a capture file is sampled as the traffic in it was.
type rateLimit struct {
	interval int64        // nanoseconds between requests
	burst    int64        // how far ahead of the clock next may be
	next     atomic.Int64 // when the next request is due
}

// newRateLimit allows rate requests per second, and as many at once as fall in
// a tenth of a second, one at least.
func newRateLimit(rate float64) *rateLimit {
	interval := max(int64(float64(time.Second)/rate), 1)
	return &rateLimit{interval: interval, burst: max(int64(time.Second/10), interval) - interval}
}

// take reports whether a request at time now, in nanoseconds, is within the
// limit, and counts it if so.
func (l *rateLimit) take(now int64) bool {
	if l == nil {
		return true
	}
	for {
		next := l.next.Load()
		if next > now+l.burst {
			return false
		}
		if l.next.CompareAndSwap(next, max(next, now)+l.interval) {
			return true
		}
	}
}
