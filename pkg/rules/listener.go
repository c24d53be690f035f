package rules

import (
	"net/netip"
	"slices"
)

// httpPort is the port of a URL with the scheme http that names none.
const httpPort = 80

// In the mesh a client's proxy has a listener for each port, and rules may ask
// for it: by match.port, and by a destination or a mirror without a port, which
// is sent to the same port of its service.

// arrivals are the ports of services by the endpoints where requests of a
// VirtualService arrive.
type arrivals struct {
	all map[netip.AddrPort][]uint32
	// same are those that the requests were addressed to as well: of
	// destinations without a port, of services with several.
	same map[netip.AddrPort][]uint32
	// named are where a destination with a port leads as well.
	named map[netip.AddrPort]bool
}

// arrive notes that requests that are sent to a port of t arrive at addr.
func (a *arrivals) arrive(t *target, port uint32, addr netip.AddrPort) {
	add := func(to *map[netip.AddrPort][]uint32) {
		if *to == nil {
			*to = map[netip.AddrPort][]uint32{}
		}
		if !slices.Contains((*to)[addr], port) {
			(*to)[addr] = append((*to)[addr], port)
		}
	}
	add(&a.all)
	switch {
	case t.named:
		if a.named == nil {
			a.named = map[netip.AddrPort]bool{}
		}
		a.named[addr] = true
	case len(t.ports) > 1:
		add(&a.same)
	}
}

// listener is the port that a request for h, a virtual host of the mesh, was
// addressed to, 0 if nothing tells. What tells is, in this order: where it
// arrived, if that is a destination without a port; the ports there can be for
// the host; and, where there are several, the authority.
func (h *virtualHost) listener(authority []byte, dst netip.AddrPort) uint32 {
	dst = unmapped(dst)
	a := &h.owner.arrivals
	ports := a.same[dst]
	switch {
	case h.served == nil:
		ports = a.all[dst]
	case a.named[dst]:
		ports = nil
	}
	said := portOf(authority)
	if len(ports) > 0 {
		if slices.Contains(ports, said) {
			return said
		}
		return ports[0] // several lead to one port of the endpoint
	}
	if ports = h.ports; len(ports) == 0 {
		ports = h.served
	}
	if len(ports) == 1 {
		return ports[0]
	}
	for _, port := range [...]uint32{said, httpPort} {
		if slices.Contains(ports, port) {
			return port
		}
	}
	return 0
}

// httpPorts are the numbers of the ports that http routes apply to.
func (s *service) httpPorts() (ports []uint32) {
	for i := range s.ports {
		if p := &s.ports[i]; p.http() {
			ports = append(ports, p.number)
		}
	}
	return ports
}

// serve notes on which ports clients in the mesh reach each virtual host. Istio
// generates a rule for the ports of the services that it is for, and for port
// 80, in any case for all of its hosts (buildSidecarVirtualHostsForVirtualService);
// the other names of a service are for its own ports. "*" is no host of Istio's
// mesh, but that of machines without one.
func (c *compiler) serve(t *hostTable) {
	for _, vs := range c.virtualServices {
		if !vs.mesh() {
			continue
		}
		served := []uint32{httpPort}
		for _, name := range slices.Concat(vs.hosts, vs.services) {
			if s := c.services.of(name, vs.src.Namespace); s != nil {
				served = append(served, s.httpPorts()...)
			}
		}
		slices.Sort(served)
		vs.served = slices.Compact(served)
		c.unreached(vs)
	}
	t.all(func(h *virtualHost) {
		switch {
		case h.gateway != meshGateway || h.any:
		case h.alias || h.covered:
			h.served = h.ports
		default:
			h.served = h.owner.served
		}
	})
}

// unreached warns of mirrors without a port whose services have none of those
// that requests for the hosts are addressed to.
func (c *compiler) unreached(vs *virtualService) {
	if slices.Contains(vs.hosts, "*") {
		return // any port
	}
	ports := slices.Clone(vs.served)
	for _, same := range vs.arrivals.same {
		ports = append(ports, same...)
	}
	for _, rt := range vs.routes {
		for j := 0; j < len(rt.action.mirrors); {
			m := &rt.action.mirrors[j]
			if j++; m.listener == 0 {
				continue
			}
			reached := slices.Contains(ports, m.listener)
			for j < len(rt.action.mirrors) && rt.action.mirrors[j].listener != 0 && !rt.action.mirrors[j].first {
				reached = reached || slices.Contains(ports, rt.action.mirrors[j].listener)
				j++
			}
			if !reached {
				i := slices.IndexFunc(c.uses, func(u mirrorUse) bool { return u.action == rt.action && u.mirror == m.Mirror })
				c.warnf(c.uses[i].meta, c.uses[i].at.dot("port"), "",
					"is not given, so copies go to the port of %s that requests are addressed to, and it has none of those (%s): nothing is mirrored",
					m.Mirror.Host, numberList(vs.served))
			}
		}
	}
}

// elsewhere reports whether a request that is known to be from a workload in
// the mesh is for a port on which there is no h. Where requests are seen to
// arrive the port they were addressed to is known by the route alone, which
// has this host then.
func (v *view) elsewhere(h *virtualHost) bool {
	return v.port != 0 && h.served != nil && !slices.Contains(h.served, v.port) &&
		v.client != nil && v.client.Namespace != "" && len(v.client.Gateways) == 0
}
