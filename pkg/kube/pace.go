package kube

import "time"

// pace decides when changes are delivered. A change after a time without any is
// delivered almost at once: it may be a Pod that is about to get its first
// request. Others come in bursts, which are waited out; a burst that does not
// end is delivered all the same. Whatever a delivery costs, deliveries take no
// more than a share of the time: under the churn of a large cluster the rules
// are a little older, and production keeps its processor.
type pace struct {
	quick             time.Duration // from a lone change to its delivery
	settle, maxSettle time.Duration // from the last, and the first, change of a burst
	restFactor        int           // a delivery is followed by a pause this many times as long

	first, last time.Time // changes that wait; zero if none does
	lone        bool      // the first came long after the last delivery
	notBefore   time.Time // until when deliveries pause
	lastEnd     time.Time // when the last delivery was done
}

// change notes that something changed at the time now.
func (p *pace) change(now time.Time) {
	if p.first.IsZero() {
		p.first, p.lone = now, now.Sub(p.lastEnd) > p.maxSettle
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
	if at.Before(p.notBefore) {
		at = p.notBefore
	}
	return at, true
}

// begin says that what waits is being delivered.
func (p *pace) begin() { p.first, p.last = time.Time{}, time.Time{} }

// end says how long that took.
func (p *pace) end(now time.Time, took time.Duration) {
	p.lastEnd, p.notBefore = now, now.Add(took*time.Duration(p.restFactor))
}
