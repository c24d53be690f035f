package rules

import (
	"net/netip"

	"github.com/shadowtap/shadowtap/pkg/httpstream"
)

// pick finds the virtual host of r, which is loaded in v, and the route that
// takes it there. Both may be nil.
//
// VirtualServices and routes of the Gateway API have tables of their own. Where
// both are for a host, the one whose route leads to where the request arrived
// is taken. Where both do, it is the VirtualService, unless the routes are for
// the same clients in the mesh and are older, or are those of the client's
// namespace (Istio: selectVirtualServices).
func (p *Program) pick(r *httpstream.Request, v *view) (*virtualHost, *Route) {
	dst := arrival(r)
	found := p.named(v, dst)
	if found.host == nil && p.form != verbatim {
		// A proxy that is not Envoy says no more than this.
		if sent := sentHost(r); len(sent) > 0 {
			was := v.authority
			v.authority = sent
			if found = p.named(v, dst); found.host == nil {
				v.authority = was
			}
		}
	}
	if p.gateways != nil && !found.leads {
		found.consider(p.gateways.arrivals[unmapped(dst)], v, dst, nil)
	}
	return found.host, found.route
}

// named is what a request that arrived at dst is for, by its authority.
func (p *Program) named(v *view, dst netip.AddrPort) (c choice) {
	var head *virtualHost
	if p.gateways != nil {
		head = p.gateways.hosts.lookup(v.authority, v.client, netip.AddrPort{})
	}
	host := p.hosts.lookup(v.authority, v.client, dst)
	if host != nil && v.elsewhere(host) {
		host = p.hosts.lookupOn(v.port, v.authority, v.client, dst)
	}
	if host == nil {
		c.consider(head, v, dst, nil)
		return c
	}
	// The port of a gateway leaves no trace at the endpoint.
	if host.gateway == meshGateway && v.port == 0 && p.asksPort {
		v.port = host.listener(v.authority, dst)
	}
	if host.gateway == meshGateway && host.owner != nil && c.consider(head, v, dst, &host.owner.src.Meta) {
		return c
	}
	if !c.take(host, v, dst) {
		c.consider(head, v, dst, nil)
	}
	return c
}

// choice is the virtual host that is taken, with the route that matches. The
// first whose route leads to where the request arrived is better than the
// first that has a route, and that better than the first.
type choice struct {
	host  *virtualHost
	route *Route
	leads bool
}

// take makes h the choice if it is better. It reports whether the choice leads
// to where the request arrived: none is better then.
func (c *choice) take(h *virtualHost, v *view, dst netip.AddrPort) bool {
	rt := h.first(v)
	switch {
	case rt.leads(dst):
		*c = choice{h, rt, true}
	case c.host == nil || c.route == nil && rt != nil:
		c.host, c.route = h, rt
	}
	return c.leads
}

// consider makes one of what head may be the choice if it is better, and
// reports what take does. If there is a rival, it looks only at what goes
// before that in the mesh. head may be nil.
func (c *choice) consider(head *virtualHost, v *view, dst netip.AddrPort, rival *Meta) bool {
	if head == nil {
		return false
	}
	for _, h := range head.choices {
		if !v.client.mayServe(h.gateway) {
			continue
		}
		own := false
		if h.consumers != nil {
			h, own = h.of(v.client)
		}
		if h.gateway == meshGateway && len(h.routes) == 0 || rival != nil && !own && !h.older(rival) {
			continue
		}
		if c.take(h, v, dst) {
			return true
		}
	}
	return false
}

// of is h for a client: its namespace may have routes of its own. A client
// that is not known has none.
func (h *virtualHost) of(c *Client) (_ *virtualHost, own bool) {
	if c != nil {
		if o := h.consumers[c.Namespace]; o != nil {
			return o, true
		}
	}
	return h, false
}

// older reports whether h is of the mesh and has routes that are older than an
// object.
func (h *virtualHost) older(o *Meta) bool { return h.oldest != nil && compareAge(h.oldest, o) < 0 }

// leads reports whether requests of the route arrive at dst, or anywhere if
// dst is not valid. The route may be nil.
func (rt *Route) leads(dst netip.AddrPort) bool {
	if rt == nil || !dst.IsValid() {
		return rt != nil && len(rt.action.captured) > 0
	}
	return rt.action.captures(dst)
}

// arrival is the endpoint that r arrived at, as rules know it.
func arrival(r *httpstream.Request) netip.AddrPort {
	if r.Endpoint.IsValid() {
		return r.Endpoint
	}
	return r.Destination
}

// unmapped is addr with an IPv4 address in the form of IPv4.
func unmapped(addr netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())
}
