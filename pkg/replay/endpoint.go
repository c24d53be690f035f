package replay

import (
	"crypto/tls"
	"errors"
	"math/rand/v2"
	"net"
	"slices"
	"time"
)

// Endpoint is one address of a shadow destination.
type Endpoint struct {
	// Address is host:port. The host may be a name, which is then resolved
	// for every new connection.
	Address string
	// TLS says whether to speak HTTPS.
	TLS bool
	// ServerName is the name the certificate is verified for and that is
	// sent as SNI. Default: the host of Address.
	ServerName string
	// Near endpoints are preferred to others as long as one can be used:
	// traffic between zones costs time and money.
	Near bool
}

// endpoint is the state of an Endpoint, guarded by Mirror.mu.
type endpoint struct {
	Endpoint
	tls *tls.Config // nil: plain

	active int     // exchanges, the connecting included
	idle   []*conn // in the order they became idle, taken from the end
	gone   bool    // no longer an endpoint of the mirror

	circuit circuit
	record  record
}

func newEndpoint(e Endpoint, base *tls.Config) *endpoint {
	ep := &endpoint{Endpoint: e}
	if !e.TLS {
		return ep
	}
	ep.tls = &tls.Config{}
	if base != nil {
		ep.tls = base.Clone()
	}
	if e.ServerName != "" {
		ep.tls.ServerName = e.ServerName
	} else if ep.tls.ServerName == "" {
		ep.tls.ServerName = e.Address
		if host, _, err := net.SplitHostPort(e.Address); err == nil {
			ep.tls.ServerName = host
		}
	}
	ep.tls.NextProtos = []string{"http/1.1"}
	if ep.tls.ClientSessionCache == nil {
		ep.tls.ClientSessionCache = tls.NewLRUClientSessionCache(4)
	}
	return ep
}

// take returns the connection that became idle last, or nil: it is the least
// likely to have been closed, and those not needed grow old together.
func (ep *endpoint) take() *conn {
	n := len(ep.idle)
	if n == 0 {
		return nil
	}
	c := ep.idle[n-1]
	ep.idle[n-1] = nil
	ep.idle = ep.idle[:n-1]
	return c
}

// usable reports whether an exchange could begin.
func (ep *endpoint) usable(now time.Time) bool {
	return !ep.record.ejected(now) && (len(ep.idle) > 0 || ep.circuit.permits(now))
}

var errNoEndpoints = errors.New("no endpoints left")

// pick chooses an endpoint for a copy: one of those that are near, unless none
// of them can be used. There must be an endpoint.
func (m *Mirror) pick(now time.Time) *endpoint {
	if m.near > 0 && m.near < len(m.endpoints) {
		if e := leastLoaded(m.endpoints[:m.near], now); e.usable(now) {
			return e
		}
	}
	return leastLoaded(m.endpoints, now)
}

// leastLoaded chooses between two random endpoints the one with fewer exchanges
// under way, as Envoy's LEAST_REQUEST does, which is Istio's default. One
// that is not usable is chosen only if none is. There must be an endpoint.
func leastLoaded(endpoints []*endpoint, now time.Time) *endpoint {
	n := len(endpoints)
	if n == 1 {
		return endpoints[0]
	}
	i, j := rand.IntN(n), rand.IntN(n-1)
	if j >= i {
		j++
	}
	a, b := endpoints[i], endpoints[j]
	switch aUsable, bUsable := a.usable(now), b.usable(now); {
	case !aUsable && !bUsable:
		for k := range n {
			if e := endpoints[(i+k)%n]; e.usable(now) {
				return e
			}
		}
		return a
	case !aUsable, bUsable && b.active < a.active:
		return b
	}
	return a
}

// SetEndpoints replaces the endpoints. Those that stay keep their connections;
// connections of the others are closed, busy ones after their exchange.
func (m *Mirror) SetEndpoints(list []Endpoint) {
	fresh := make([]*endpoint, 0, len(list))
	seen := make(map[Endpoint]bool, len(list))
	for _, e := range list {
		if !seen[e] {
			seen[e] = true
			fresh = append(fresh, newEndpoint(e, m.cfg.TLS))
		}
	}
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return
	}
	known := make(map[Endpoint]*endpoint, len(m.endpoints))
	for _, ep := range m.endpoints {
		known[ep.Endpoint] = ep
	}
	for i, ep := range fresh {
		if old := known[ep.Endpoint]; old != nil {
			fresh[i] = old
			delete(known, ep.Endpoint)
		}
	}
	// Those that are near come first.
	slices.SortStableFunc(fresh, func(a, b *endpoint) int {
		switch {
		case a.Near == b.Near:
			return 0
		case a.Near:
			return -1
		}
		return 1
	})
	m.endpoints = fresh
	if m.near = slices.IndexFunc(fresh, func(e *endpoint) bool { return !e.Near }); m.near < 0 {
		m.near = len(fresh)
	}
	var idle []*conn
	for _, ep := range known {
		ep.gone = true
		idle = append(idle, m.disconnect(ep)...)
	}
	m.mu.Unlock()
	closeAll(idle)
}
