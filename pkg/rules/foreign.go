package rules

import (
	"net/netip"
	"slices"
)

// Whoever may write a ServiceEntry, or a Service without a selector and its
// EndpointSlice, may give it any address as an endpoint, that of somebody else's
// Pod included. To a proxy this says where its own clients' requests are to go,
// which harms nobody. Here it would say whose requests are captured: so what
// arrives at a Pod is only for services of the Pod's namespace, and a Pod as a
// client is only what its namespace says it is.

// foreign reports whether addr is that of Pods, none of which is of namespace.
func (c *compiler) foreign(addr netip.Addr, namespace string) bool {
	if !addr.IsValid() {
		return false
	}
	owners := c.owners[addr]
	if c.options.PodsAt != nil {
		owners = slices.Concat(owners, c.options.PodsAt(addr))
	}
	return len(owners) > 0 && !slices.Contains(owners, namespace)
}

// own notes the addresses that are a Pod's own.
func (c *compiler) own(p *Pod) {
	for _, addr := range p.addresses() {
		if !slices.Contains(c.owners[addr], p.Namespace) {
			c.owners[addr] = append(c.owners[addr], p.Namespace)
		}
	}
}

// markForeign marks the endpoints of services at which nothing is captured for
// them.
func (c *compiler) markForeign() {
	for _, list := range c.services {
		for _, s := range list {
			for i := range s.endpoints {
				s.endpoints[i].foreign = c.foreign(s.endpoints[i].addr, s.namespace)
			}
		}
	}
}

// warnForeign says of an endpoint that it is foreign.
func (c *compiler) warnForeign(meta *Meta, at *field, s *service, e *endpoint) {
	c.warnf(meta, at, e.host, "is the address of a Pod of another namespace than that of %s (%s): what arrives there is not mirrored for it", s.host, s.namespace)
}

// checkNamespace reports a rule that mirrors requests to a service of another
// namespace, if that is not permitted: what others may be mirrored where is not
// for anybody with a rule to say then.
func (c *compiler) checkNamespace(meta *Meta, at *field, s *service) {
	if !c.options.OwnNamespace {
		return
	}
	if meta.Namespace == s.namespace {
		meta, at = meta.blamed(at)
	}
	if meta.Namespace != s.namespace {
		c.errorf(meta, at, s.host, "is a service of namespace %s: with --own-namespace a rule mirrors only requests to those of its own", s.namespace)
	}
}

// claims are the namespaces of the services that have an endpoint at an address
// of a target.
func (c *compiler) claims(p *Program) map[netip.Addr][]string {
	out := map[netip.Addr][]string{}
	for _, t := range p.targets {
		out[t.Addr()] = nil
	}
	for _, list := range c.services {
		for _, s := range list {
			for i := range s.endpoints {
				e := &s.endpoints[i]
				if by, target := out[e.addr]; target && !e.foreign && !slices.Contains(by, s.namespace) {
					out[e.addr] = append(by, s.namespace)
				}
			}
		}
	}
	return out
}

// MayCapture reports whether what arrives at a target's address may be captured
// if Pods of these namespaces, perhaps newer than p, have it: Options.PodsAt.
func (p *Program) MayCapture(addr netip.Addr, namespaces []string) bool {
	by := p.claims[addr]
	return len(by) == 0 || len(namespaces) == 0 || slices.ContainsFunc(by, func(ns string) bool { return slices.Contains(namespaces, ns) })
}
