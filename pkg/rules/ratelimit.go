package rules

import (
	"maps"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"
)

// rateLimit bounds how many requests a mirror takes in a second (the generic
// cell rate algorithm, ITU-T I.371). Its clock is that of the requests, so
// that a capture file is sampled as the traffic in it was.
type rateLimit struct {
	key      limitKey
	where    map[netip.AddrPort]struct{} // where the requests arrive
	interval atomic.Int64                // nanoseconds between requests, here
	next     *atomic.Int64               // when the next request is due; see Inherit
}

// limitKey says which limit it is: that of an entry of an object's annotation,
// of which no two are for the same mirrors.
type limitKey struct {
	object  named
	mirrors string  // that the entry is for
	rate    float64 // requests per second, everywhere
}

// newRateLimit allows key.rate requests per second, and as many at once as fall in
// a tenth of a second, one at least.
func newRateLimit(key limitKey) *rateLimit {
	l := &rateLimit{key: key, where: map[netip.AddrPort]struct{}{}, next: new(atomic.Int64)}
	l.share(1)
	return l
}

// longest is an interval that does not end, and may be added to any time.
const longest = 1 << 61

// share makes the limit this part of all, above 0 and up to 1.
func (l *rateLimit) share(part float64) {
	l.interval.Store(int64(max(1, min(float64(time.Second)/(l.key.rate*part), longest))))
}

// take reports whether a request at time now, in nanoseconds, is within the
// limit, and counts it if so.
func (l *rateLimit) take(now int64) bool {
	if l == nil {
		return true
	}
	interval := l.interval.Load()
	burst := max(int64(time.Second/10), interval) - interval
	for {
		next := l.next.Load()
		if next > now+burst {
			return false
		}
		if l.next.CompareAndSwap(next, max(next, now)+interval) {
			return true
		}
	}
}

// addLimits notes where the requests of an action arrive whose mirrors have a
// limit.
func (p *Program) addLimits(a *action) {
	for i := range a.mirrors {
		if x := a.mirrors[i].extra; x != nil && x.limit != nil {
			maps.Copy(x.limit.where, a.captured)
			if !slices.Contains(p.limits, x.limit) {
				p.limits = append(p.limits, x.limit)
			}
		}
	}
}

// Share makes the limits of requests per second, which are for all agents of a
// cluster together, what this one may take: as large a part as of the endpoints
// where the requests arrive are here. The agents need not talk to each other
// for that; whose endpoints are less busy than others take less than they may.
// It may be called while Decide is.
func (p *Program) Share(here func(netip.Addr) bool) {
	for _, l := range p.limits {
		n := 0
		for at := range l.where {
			if here(at.Addr()) {
				n++
			}
		}
		if n > 0 { // else there are no requests either
			l.share(float64(n) / float64(len(l.where)))
		}
	}
}

// Inherit goes on where the limits of requests per second of old stand, of which
// p takes the place: a limit that is in both counts the requests of both. A
// limit of another rate, or for other mirrors, is another one. It is to be
// called before Decide; old may be in use then, and later.
func (p *Program) Inherit(old *Program) {
	before := make(map[limitKey]*rateLimit, len(old.limits))
	for _, l := range old.limits {
		before[l.key] = l
	}
	for _, l := range p.limits {
		if b := before[l.key]; b != nil {
			l.next = b.next
		}
	}
}
