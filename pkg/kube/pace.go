package kube

import "time"

// pace decides when changes are delivered. A change after a time without any is
// delivered almost at once: it may be a Pod that is about to get its first
// request. Others come in bursts, so they settle first; a burst that does not
// end is delivered all the same. Whatever
// a delivery costs, deliveries take no more than a share of the time: under
// churn of a large cluster the rules are a little older, and production keeps
// its processor.
type pace struct {
	quick, settle, maxSettle time.Duration
	rest                     int // times as long as a delivery took until the next

	first, last time.Time // changes that wait; zero if none does
	lone        bool      // the first came long after the last delivery
	free        time.Time // no delivery before
	ended       time.Time // the last delivery
}

// change notes one at the time now.
func (p *pace) change(now time.Time) {
	if p.first.IsZero() {
		p.first, p.lone = now, now.Sub(p.ended) > p.maxSettle
	}
	p.last = now
}

// due is when what waits is to be delivered; ok is false if nothing waits.
func (p *pace) due() (at time.Time, ok bool) {
	if p.first.IsZero() {
		return at, false
	}
	at = p.last.Add(p.settle)
	if latest := p.first.Add(p.maxSettle); latest.Before(at) {
		at = latest
	}
	if soon := p.first.Add(p.quick); p.lone && soon.Before(at) {
		at = soon
	}
	if at.Before(p.free) {
		at = p.free
	}
	return at, true
}

// begin says that what waits is being delivered.
func (p *pace) begin() { p.first, p.last = time.Time{}, time.Time{} }

// end says how long that took.
func (p *pace) end(now time.Time, took time.Duration) {
	p.ended, p.free = now, now.Add(took*time.Duration(p.rest))
}
