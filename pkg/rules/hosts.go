package rules

import (
	"slices"
	"strings"
)

// hosts builds the host table. Of VirtualServices that compete for a host in
// the mesh the oldest keeps it. On a gateway their routes are merged, the
// oldest first and those that take everything last. A host that rules bind to
// several gateways, or export to different namespaces, has a virtual host for
// each: the client decides between them.
func (c *compiler) hosts() hostTable {
	t := hostTable{exact: map[string]*virtualHost{}, wildcards: map[string]*virtualHost{}}
	for _, vs := range c.virtualServices {
		for i, name := range vs.hosts {
			at := (*field)(nil).dot("spec").dot("hosts").at(i)
			c.bind(&t, name, vs, at)
		}
	}
	c.bindCovered(&t)
	c.alternates(&t)
	c.serve(&t)
	return t
}

// bind makes the routes of vs those of one of its hosts, at each gateway.
func (c *compiler) bind(t *hostTable, host string, vs *virtualService, at *field) {
	told := false
	for _, gateway := range vs.gateways {
		if gateway == meshGateway {
			if covered := c.covered(host); len(covered) > 0 {
				if c.charge(&vs.src.Meta, len(covered)*nameCost) {
					vs.names = append(vs.names, covered...)
				}
				continue // it stands for those services, and is no host of its own
			}
		}
		names := []string{host}
		if gateway != meshGateway {
			names = c.admitted(host, gateway, vs, at)
		}
		for _, name := range names {
			vs.names = append(vs.names, name)
			c.bindAt(t, name, gateway, vs, at, &told)
		}
	}
}

// bindAt makes the routes of vs those of a host at a gateway. told is whether
// it has been said that the host is another rule's for other clients.
func (c *compiler) bindAt(t *hostTable, name, gateway string, vs *virtualService, at *field, told *bool) {
	if !c.charge(&vs.src.Meta, hostCost) {
		return
	}
	h := &virtualHost{routes: vs.routes, owner: vs, gateway: gateway, any: name == "*"}
	if s := c.services.of(name, vs.src.Namespace); s != nil {
		h.ports = s.httpPorts()
	}
	head := t.get(name)
	rival := head.find(func(o *virtualHost) bool {
		return o.rivals(h) && (gateway != meshGateway || !o.selective())
	})
	switch {
	case rival == nil && head != nil:
		if !*told && head.owner != vs {
			*told = true
			c.warnf(&vs.src.Meta, at, name, "is also a host of %s, for other clients: without a Pod or WorkloadEntry "+
				"that tells what a client is, the first that leads to where a request arrived decides", head.owner.src.object())
		}
		t.append(name, h)
	case rival == nil:
		t.set(name, h)
	case gateway == meshGateway:
		c.warnf(&vs.src.Meta, at, name, "has no effect: the host belongs to %s, which is older or has the first name",
			rival.owner.src.object())
	case rival.owner == vs:
		// Two servers of the gateway come to the same host.
	case !c.charge(&vs.src.Meta, (len(rival.routes)+len(vs.routes))*bindCost):
	default:
		rival.routes = slices.Concat(rival.routes, vs.routes)
		slices.SortStableFunc(rival.routes, func(a, b *Route) int { return compareCatchAll(&a.match, &b.match) })
	}
}

// covered are the services that a wildcard stands for in the mesh, in order of
// their names. "*" stands for every host: Istio does not admit it there.
func (c *compiler) covered(host string) (names []string) {
	if !strings.HasPrefix(host, "*") || host == "*" {
		return nil
	}
	for name := range c.services {
		if covers(host, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// bindCovered gives the services under wildcards in the mesh the routes of the
// longest, and of equal ones the oldest, where no rule has their name (Istio:
// separateVSHostsAndServices, computeWildcardHostVirtualServiceIndex).
func (c *compiler) bindCovered(t *hostTable) {
	type wildcard struct {
		host string
		vs   *virtualService
	}
	var wildcards []wildcard
	for _, vs := range c.virtualServices {
		if !vs.mesh() {
			continue
		}
		for _, host := range vs.hosts {
			if strings.HasPrefix(host, "*") {
				wildcards = append(wildcards, wildcard{host, vs})
			}
		}
	}
	slices.SortStableFunc(wildcards, func(a, b wildcard) int { return len(b.host) - len(a.host) })
	for _, w := range wildcards {
		for _, name := range c.covered(w.host) {
			h := &virtualHost{
				routes: w.vs.routes, owner: w.vs, gateway: meshGateway,
				covered: true, ports: c.services.of(name, w.vs.src.Namespace).httpPorts(),
			}
			if t.get(name).find(func(o *virtualHost) bool { return o.rivals(h) }) == nil && c.charge(&w.vs.src.Meta, hostCost) {
				t.append(name, h)
				w.vs.services = append(w.vs.services, name)
			}
		}
	}
}

func compareCatchAll(a, b *match) int {
	switch aa, ba := a.everything(), b.everything(); {
	case aa == ba:
		return 0
	case ba:
		return -1
	}
	return 1
}

// alternates adds the other names by which clients in the mesh reach a
// service (generateVirtualHostDomains): its shorter names, the full one with a
// dot at the end, and the virtual addresses. A name that a rule has as its host
// is the older rule's, and that of a service is the service's (dedupeDomains).
func (c *compiler) alternates(t *hostTable) {
	added := map[string]*virtualHost{} // the last of each name
	older := make(map[*virtualService]bool, len(c.virtualServices))
	add := func(name string, h *virtualHost) {
		if !c.charge(&h.owner.src.Meta, hostCost) {
			return
		}
		alias := &virtualHost{routes: h.routes, owner: h.owner, gateway: h.gateway, alias: true, ports: h.ports}
		rival := t.exact[name].find(func(o *virtualHost) bool { return !o.alias && o.rivals(alias) && !o.selective() })
		if len(c.services[name]) > 0 || rival != nil && older[rival.owner] {
			return
		}
		if rival != nil {
			t.remove(name, rival)
			at := (*field)(nil).dot("spec").dot("hosts").at(slices.Index(rival.owner.hosts, name))
			c.warnf(&rival.owner.src.Meta, at, name, "has no effect: it is another name of a host of %s, which is older",
				h.owner.src.object())
		}
		last := added[name]
		for o := t.exact[name]; added[name] == nil && o != nil && o.gateway == meshGateway && older[o.owner]; o = o.also {
			last = o // of an older rule, for other clients
		}
		if last != nil {
			alias.also, last.also = last.also, alias
		} else {
			alias.also, t.exact[name] = t.exact[name], alias
		}
		added[name] = alias
	}
	for _, vs := range c.virtualServices {
		older[vs] = true
		if !vs.mesh() {
			continue
		}
		for _, name := range slices.Concat(vs.hosts, vs.services) {
			if strings.HasPrefix(name, "*") {
				continue
			}
			h := t.exact[name].find(func(h *virtualHost) bool { return h.owner == vs && h.gateway == meshGateway && !h.alias })
			if h == nil {
				continue
			}
			s := c.services.of(name, vs.src.Namespace)
			namespace := serviceNamespace(name)
			if namespace != "" {
				short := strings.TrimSuffix(name, clusterDomain)
				add(short+".svc", h)
				add(short, h)
				add(strings.TrimSuffix(short, "."+namespace), h)
			}
			if s != nil || namespace != "" {
				add(name+".", h)
			}
			if s != nil {
				for _, a := range s.addresses {
					add(a, h)
				}
			}
		}
	}
}
