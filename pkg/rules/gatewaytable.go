package rules

import (
	"cmp"
	"iter"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// gatewayTable finds the routes of the Gateway API that may take a request.
//
// By which listener of which Gateway a request came cannot be seen where it
// arrives. But every listener would have sent it somewhere, and only those
// whose route leads to the endpoint it arrived at can be the one. So each name
// of a host has the virtual hosts of all listeners that are for it, and the
// first whose route leads there is taken.
type gatewayTable struct {
	hosts hostTable
	all   []*virtualHost // that are choices
	// arrivals are the choices for requests that arrive at an endpoint of a
	// Service with routes of its own, whatever host they name (GAMMA).
	arrivals map[netip.AddrPort]*virtualHost
}

// virtualHosts calls f for every virtual host that has routes.
func (p *Program) virtualHosts(f func(*virtualHost)) {
	p.hosts.all(f)
	if p.gateways != nil {
		for _, h := range p.gateways.all {
			f(h)
		}
	}
}

// gatewayTable builds the table of the routes that are attached to anything,
// nil if there are none.
func (c *compiler) gatewayTable() *gatewayTable {
	g := &c.gateways
	if len(g.listeners)+len(g.mesh) == 0 {
		return nil
	}
	t := &gatewayTable{
		hosts:    hostTable{exact: map[string]*virtualHost{}, wildcards: map[string]*virtualHost{}},
		arrivals: map[netip.AddrPort]*virtualHost{},
	}
	// Services go first: that a host names one says more than that a listener
	// is for it.
	c.meshHosts(t)
	clash := clashes{c, map[*virtualHost]map[netip.AddrPort]*rankedRoute{}, map[[2]*virtualHost]bool{}}
	shadowed := map[*Route]bool{}
	leaves := map[*listener]map[string]*virtualHost{}
	listeners := map[string][]*listener{} // by hostname
	var names []string
	for _, l := range g.listeners {
		listeners[l.hostname] = append(listeners[l.hostname], l)
		names = append(names, l.hostname)
		leaves[l] = map[string]*virtualHost{}
		for _, host := range slices.Sorted(maps.Keys(l.routes)) {
			routes := l.routes[host]
			names = append(names, host)
			h := t.leaf(l.gateway, routes)
			leaves[l][host] = h
			clash.leaf(h, routes)
			c.hidden(host, routes, shadowed)
		}
	}
	for name := range t.hosts.exact {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		head := t.head(name)
		services := len(head.choices)
		for _, l := range takers(listeners, name) {
			for pattern := range patterns(name) {
				if h := leaves[l][pattern]; h != nil {
					head.choices = append(head.choices, h)
					break
				}
			}
		}
		clash.check(name, head.choices[services:])
	}
	return t
}

// head is the virtual host for a name, whose choices are the real ones.
func (t *gatewayTable) head(name string) *virtualHost {
	h := t.hosts.get(name)
	if h == nil {
		h = &virtualHost{}
		t.hosts.set(name, h)
	}
	return h
}

// leaf is a virtual host of a gateway with routes in the order of their ranks.
func (t *gatewayTable) leaf(gateway string, routes []rankedRoute) *virtualHost {
	slices.SortStableFunc(routes, func(a, b rankedRoute) int { return a.rank.compare(b.rank) })
	h := &virtualHost{gateway: gateway}
	seen := make(map[*Route]bool, len(routes))
	for _, rt := range routes {
		if !seen[rt.Route] { // it may be attached by two references
			seen[rt.Route] = true
			h.routes = append(h.routes, rt.Route)
		}
	}
	t.all = append(t.all, h)
	return h
}

// takers are the listeners, which are given by hostname, that take requests
// for a host. Of those on one port of a Gateway it is only the one with the
// most specific hostname (Gateway.spec.listeners: listener isolation).
func takers(listeners map[string][]*listener, host string) (out []*listener) {
	type place struct {
		gateway string
		port    int32
	}
	taken := map[place]string{} // by which hostname
	for pattern := range patterns(host) {
		for _, l := range listeners[pattern] {
			at := place{l.gateway, int32(l.port)}
			if by := taken[at]; l.spec != nil && by != "" && by != pattern {
				continue
			}
			taken[at] = pattern
			out = append(out, l)
		}
	}
	return out
}

// patterns are the hostnames that match host, which may be a wildcard itself:
// host, the wildcards for it, the longest first, and "*".
func patterns(host string) iter.Seq[string] {
	return func(yield func(string) bool) {
		if !yield(host) {
			return
		}
		rest := strings.TrimPrefix(host, "*.")
		for {
			_, after, more := strings.Cut(rest, ".")
			if !more {
				break
			}
			if rest = after; !yield("*." + rest) {
				return
			}
		}
		if host != "*" {
			yield("*")
		}
	}
}

// meshHosts adds the names of the Services that routes are attached to, as
// generateVirtualHostDomains has them, and where their requests arrive.
func (c *compiler) meshHosts(t *gatewayTable) {
	mesh := c.gateways.mesh
	// The routes for one port go first: those for all of them may be meant
	// for the others.
	slices.SortStableFunc(mesh, func(a, b *meshService) int {
		return cmp.Or(strings.Compare(a.service.host, b.service.host), strings.Compare(a.service.namespace, b.service.namespace), cmp.Compare(b.port, a.port))
	})
	warned := map[*Route]bool{}
	for i, m := range mesh {
		if i > 0 && mesh[i-1].service == m.service && mesh[i-1].port == m.port {
			continue // those of other clients
		}
		t.addMesh(m, c.meshHost(t, m, warned))
	}
}

// meshHost is the virtual host of a Service, or of a port of it.
func (c *compiler) meshHost(t *gatewayTable, m *meshService, warned map[*Route]bool) *virtualHost {
	routes := map[string][]rankedRoute{"": nil} // by consumers
	for _, o := range c.gateways.mesh {
		if o.service == m.service && (o.port == m.port || o.port == 0) {
			routes[o.consumers] = append(routes[o.consumers], o.routes...)
		}
	}
	var all *virtualHost
	for _, consumers := range slices.Sorted(maps.Keys(routes)) { // "" is the first
		h := t.leaf(meshGateway, routes[consumers])
		if len(routes[consumers]) > 0 {
			h.oldest = slices.MinFunc(routes[consumers], func(a, b rankedRoute) int { return compareAge(a.rank.meta, b.rank.meta) }).rank.meta
		}
		c.hidden(m.service.host, routes[consumers], warned)
		if consumers == "" {
			all = h
			continue
		}
		if all.consumers == nil {
			all.consumers = map[string]*virtualHost{}
		}
		all.consumers[consumers] = h
	}
	return all
}

// addMesh adds the virtual host of a Service by its names, and by where its
// requests arrive.
func (t *gatewayTable) addMesh(m *meshService, h *virtualHost) {
	s := m.service
	short := strings.TrimSuffix(s.host, clusterDomain)
	names := append([]string{s.host, s.host + ".", short + ".svc", short,
		strings.TrimSuffix(short, "."+s.namespace)}, s.addresses...)
	for _, name := range names {
		head := t.head(name)
		head.choices = append(head.choices, h)
	}
	for i := range s.ports {
		if m.port != 0 && s.ports[i].number != uint32(m.port) {
			continue
		}
		for j := range s.endpoints {
			at, ok := s.endpoints[j].at(&s.ports[i])
			if !ok {
				continue
			}
			if t.arrivals[at] == nil {
				t.arrivals[at] = &virtualHost{}
			}
			t.arrivals[at].choices = append(t.arrivals[at].choices, h)
		}
	}
}
