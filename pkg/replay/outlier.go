package replay

import (
	"errors"
	"time"
)

// Outlier says when an endpoint that answers badly is left out for a while
// (Envoy: outlier detection). A count of 0 means that such errors do not
// count.
type Outlier struct {
	// Errors and GatewayErrors are after how many errors in a row an endpoint
	// is ejected. Errors are answers of status 500 and above and exchanges
	// without an answer; of the answers 502, 503 and 504 are gateway errors.
	Errors, GatewayErrors int
	// Ejection is how long, times how often it was ejected lately.
	Ejection time.Duration
	// MaxPercent is how many of the endpoints may be ejected before another
	// one is.
	MaxPercent int
}

var errEjected = errors.New("left out after errors in a row")

// maxEjections bounds how far an ejection grows (Envoy: max_ejection_time is
// ten times the base by default).
const maxEjections = 10

// record is what an endpoint's answers were lately, guarded by Mirror.mu.
type record struct {
	errors, gatewayErrors int // in a row
	ejections             int
	ejectedUntil          time.Time
}

func (r *record) ejected(now time.Time) bool { return now.Before(r.ejectedUntil) }

// eject notes how an exchange with ep ended, and ejects ep if it was the last
// straw. It is called with Mirror.mu held.
func (m *Mirror) eject(ep *endpoint, outcome Outcome, status int, now time.Time) {
	o := m.cfg.Outlier
	if o == nil {
		return
	}
	r := &ep.record
	if r.ejected(now) {
		return
	}
	switch {
	case outcome.Answered() && status < 500:
		r.errors, r.gatewayErrors = 0, 0
		return
	case outcome.Answered() && (status < 502 || status > 504):
		r.errors++
		r.gatewayErrors = 0
	default:
		r.errors++
		r.gatewayErrors++
	}
	reached := func(n, limit int) bool { return limit > 0 && n >= limit }
	if !reached(r.errors, o.Errors) && !reached(r.gatewayErrors, o.GatewayErrors) {
		return
	}
	ejected := 0
	for _, other := range m.endpoints {
		if other.record.ejected(now) {
			ejected++
		}
	}
	if ejected*100 >= o.MaxPercent*len(m.endpoints) {
		return
	}
	if now.Sub(r.ejectedUntil) > o.Ejection {
		r.ejections = 0 // it did well since
	}
	r.ejections = min(r.ejections+1, maxEjections)
	r.ejectedUntil = now.Add(o.Ejection * time.Duration(r.ejections))
	r.errors, r.gatewayErrors = 0, 0
}
