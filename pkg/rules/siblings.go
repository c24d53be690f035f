package rules

import (
	"maps"
	"net/netip"
	"slices"
	"strconv"
)

// kinds tells which Pods are endpoints of the same services and subsets as
// another one is, by looking at nothing but the Pods. A Pod that has just got
// its address is no endpoint yet: a controller has to notice, and all that it
// writes has to be compiled. Meanwhile requests may arrive.
type kinds struct {
	// keys are the names of the labels that decide where a Pod belongs: those
	// that services with a selector and subsets ask for.
	keys []string
	// known are the addresses of one captured Pod of each kind.
	known map[string][]netip.Addr
}

// kinds gathers the Pods that are captured for no other reason than their
// labels.
func (c *compiler) kinds(p *Program, s *Snapshot) *kinds {
	out := &kinds{known: map[string][]netip.Addr{}}
	selectors := map[string][]*Service{} // by namespace
	keys, otherwise := map[string]bool{}, map[netip.Addr]bool{}
	for i := range s.Services {
		svc := &s.Services[i]
		if len(svc.Selector) > 0 && c.needed[serviceHost(svc.Namespace, svc.Name)] {
			selectors[svc.Namespace] = append(selectors[svc.Namespace], svc)
			for key := range svc.Selector {
				keys[key] = true
			}
		}
	}
	for host := range c.needed {
		for _, svc := range c.services[host] {
			if slices.ContainsFunc(selectors[svc.namespace], func(o *Service) bool { return svc.source == &o.Meta }) {
				continue
			}
			for i := range svc.endpoints {
				otherwise[svc.endpoints[i].addr] = true
			}
		}
	}
	for _, ofHost := range c.subsets {
		for _, list := range ofHost {
			for _, rules := range list {
				for _, subset := range rules.subsets {
					for key := range subset.Labels {
						keys[key] = true
					}
				}
			}
		}
	}
	out.keys = slices.Sorted(maps.Keys(keys))
	captured := map[netip.Addr]bool{}
	for _, t := range p.targets {
		captured[t.Addr()] = true
	}
	for i := range s.Pods {
		pod := &s.Pods[i]
		addresses := pod.addresses()
		if slices.ContainsFunc(addresses, func(a netip.Addr) bool { return captured[a] }) &&
			!slices.ContainsFunc(addresses, func(a netip.Addr) bool { return otherwise[a] }) &&
			slices.ContainsFunc(selectors[pod.Namespace], func(svc *Service) bool { return hasLabels(pod.Labels, svc.Selector) }) {
			out.known[out.kind(pod)] = addresses
		}
	}
	return out
}

// addresses are those that are the Pod's own.
func (p *Pod) addresses() (own []netip.Addr) {
	for _, ip := range p.IPs {
		if a, err := netip.ParseAddr(ip); err == nil && !p.HostNetwork {
			own = append(own, a.Unmap())
		}
	}
	return own
}

// kind is the same for Pods that no service with a selector, no subset and no
// port tells apart.
func (k *kinds) kind(p *Pod) string {
	b := strconv.AppendQuote(nil, p.Namespace)
	for _, key := range k.keys {
		if value, ok := p.Labels[key]; ok {
			b = strconv.AppendQuote(append(strconv.AppendQuote(b, key), '='), value)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(p.Ports)) {
		b = strconv.AppendUint(append(strconv.AppendQuote(b, name), ':'), uint64(p.Ports[name]), 10)
	}
	return string(b)
}

// Siblings returns, for each address of pods that p does not know as that of an
// endpoint, the address of one at which requests of a route with a mirror
// arrive, if the two Pods are equal in all that decides it: the namespace, the
// labels that Services and subsets ask for, and the ports. What arrives at the
// one is to be captured, and decided as if it had arrived at the other
// (httpstream.Request.Endpoint), until there are rules that know it.
//
// Pods that use their node's network have none: their address is not theirs.
func (p *Program) Siblings(pods []Pod) map[netip.Addr]netip.Addr {
	var out map[netip.Addr]netip.Addr
	if p.kinds == nil || len(p.kinds.known) == 0 {
		return nil
	}
	for i := range pods {
		known := p.kinds.known[p.kinds.kind(&pods[i])]
		for _, addr := range pods[i].addresses() {
			if p.captures(addr) {
				continue
			}
			if at := slices.IndexFunc(known, func(o netip.Addr) bool { return o.Is4() == addr.Is4() }); at >= 0 {
				if out == nil {
					out = map[netip.Addr]netip.Addr{}
				}
				out[addr] = known[at]
			}
		}
	}
	return out
}

// captures reports whether a target has the address.
func (p *Program) captures(addr netip.Addr) bool {
	at, _ := slices.BinarySearchFunc(p.targets, addr, func(t netip.AddrPort, a netip.Addr) int { return t.Addr().Compare(a) })
	return at < len(p.targets) && p.targets[at].Addr() == addr
}
