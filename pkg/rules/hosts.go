package rules

import (
	"slices"
	"strings"
)

// hosts builds the host table. Of VirtualServices that compete for a host in
// the mesh the oldest keeps it. On a gateway their routes are merged, the
// oldest first and those that take everything last. A host that rules bind to
// several gateways, or export to different namespaces, has a virtual host for
// each: the client decides between them. So it does in the mesh where every
// route of the older one is for some clients alone.
func (c *compiler) hosts() hostTable {
	t := hostTable{exact: map[string]*virtualHost{}, wildcards: map[string]*virtualHost{}}
	for _, vs := range c.virtualServices {
		for i, name := range vs.hosts {
			at := (*field)(nil).dot("spec").dot("hosts").at(i)
			c.bind(&t, name, vs, at)
		}
	}
	c.alternates(&t)
	return t
}

// bind makes the routes of vs those of one of its hosts, at each gateway.
func (c *compiler) bind(t *hostTable, name string, vs *virtualService, at *field) {
	told := false
	for _, gateway := range vs.gateways {
		h := &virtualHost{routes: vs.routes, owner: vs, gateway: gateway}
		head := t.get(name)
		rival := head.find(func(o *virtualHost) bool {
			return o.gateway == gateway && slices.Equal(o.owner.src.Spec.ExportTo, vs.src.Spec.ExportTo) &&
				(o.owner.src.Namespace == vs.src.Namespace || !slices.Contains(vs.src.Spec.ExportTo, ".")) &&
				!(gateway == meshGateway && selective(o.routes))
		})
		switch {
		case rival == nil && head != nil:
			if !told && head.owner != vs {
				told = true
				c.warnf(&vs.src.Meta, at, name, "is also a host of %s, for other clients: without a Pod or WorkloadEntry "+
					"that tells what a client is, the first that leads to where a request arrived decides", head.owner.src.object())
			}
			t.append(name, h)
		case rival == nil:
			t.set(name, h)
		case gateway == meshGateway:
			c.warnf(&vs.src.Meta, at, name, "has no effect: the host belongs to %s, which is older or has the first name",
				rival.owner.src.object())
		default:
			rival.routes = slices.Concat(rival.routes, vs.routes)
			slices.SortStableFunc(rival.routes, func(a, b *Route) int { return compareCatchAll(&a.match, &b.match) })
		}
	}
}

// selective reports whether every one of the routes is for some clients alone.
func selective(routes []*Route) bool {
	return len(routes) > 0 && !slices.ContainsFunc(routes, func(rt *Route) bool { return rt.match.client == nil })
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
// dot at the end, and the virtual addresses. They never displace a host that a
// rule names.
func (c *compiler) alternates(t *hostTable) {
	added := map[string]*virtualHost{} // the last of each name
	add := func(name string, h *virtualHost) {
		alias := &virtualHost{routes: h.routes, owner: h.owner, gateway: h.gateway, alias: true}
		if last := added[name]; last != nil {
			last.also = alias
		} else if t.exact[name] != nil {
			return
		} else {
			t.exact[name] = alias
		}
		added[name] = alias
	}
	for _, vs := range c.virtualServices {
		if !vs.mesh() {
			continue
		}
		for _, name := range vs.hosts {
			if strings.HasPrefix(name, "*") {
				continue
			}
			h := t.exact[name].find(func(h *virtualHost) bool { return h.owner == vs && h.gateway == meshGateway && !h.alias })
			if h == nil {
				continue
			}
			s := c.services[name]
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
