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
// is taken, a VirtualService first.
func (p *Program) pick(r *httpstream.Request, v *view) (*virtualHost, *Route) {
	found := p.named(v, r.Destination)
	if found.host == nil && p.form != verbatim {
		// A proxy that is not Envoy says no more than this.
		if sent := sentHost(r); len(sent) > 0 {
			was := v.authority
			v.authority = sent
			if found = p.named(v, r.Destination); found.host == nil {
				v.authority = was
			}
		}
	}
	if p.gateways != nil && !found.leads {
		found.consider(p.gateways.arrivals[unmapped(r.Destination)], v, r.Destination)
	}
	return found.host, found.route
}

// named is what a request that arrived at dst is for, by its authority.
func (p *Program) named(v *view, dst netip.AddrPort) (c choice) {
	c.host = p.hosts.lookup(v.authority, v.client, dst)
	if c.host != nil && v.elsewhere(c.host) {
		c.host = p.hosts.lookupOn(v.port, v.authority, v.client, dst)
	}
	if c.host != nil {
		// The port of a gateway leaves no trace at the endpoint.
		if c.host.gateway == meshGateway && v.port == 0 && p.asksPort {
			v.port = c.host.listener(v.authority, dst)
		}
		c.route = c.host.first(v)
	}
	if p.gateways == nil {
		return c
	}
	if c.leads = c.route.leads(dst); !c.leads {
		c.consider(p.gateways.hosts.lookup(v.authority, v.client, netip.AddrPort{}), v, dst)
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

// consider makes one of what head may be the choice if it is better. head may
// be nil.
func (c *choice) consider(head *virtualHost, v *view, dst netip.AddrPort) {
	if head == nil {
		return
	}
	for _, h := range head.choices {
		if !v.client.mayServe(h.gateway) {
			continue
		}
		rt := h.first(v)
		if rt.leads(dst) {
			*c = choice{h, rt, true}
			return
		}
		if c.host == nil || c.route == nil && rt != nil {
			c.host, c.route = h, rt
		}
	}
}

// leads reports whether requests of the route arrive at dst, or anywhere if
// dst is not valid. The route may be nil.
func (rt *Route) leads(dst netip.AddrPort) bool {
	if rt == nil || !dst.IsValid() {
		return rt != nil && len(rt.action.captured) > 0
	}
	return rt.action.captures(dst)
}

// unmapped is addr with an IPv4 address in the form of IPv4.
func unmapped(addr netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())
}
