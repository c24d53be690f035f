package rules

import (
	"slices"
	"strings"
)

// hosts builds the host table. Of VirtualServices that compete for a host in
// the mesh the oldest keeps it. On gateways their routes are merged, the
// oldest first and those that take everything last.
func (c *compiler) hosts() hostTable {
	t := hostTable{exact: map[string]*virtualHost{}, wildcards: map[string]*virtualHost{}}
	for _, vs := range c.virtualServices {
		for i, name := range vs.hosts {
			prev := t.get(name)
			if prev == nil {
				t.set(name, &virtualHost{routes: vs.routes, owner: vs})
				continue
			}
			at := (*field)(nil).dot("spec").dot("hosts").at(i)
			switch {
			case !slices.Equal(prev.owner.gateways, vs.gateways) || vs.mesh() && len(vs.gateways) > 1:
				c.errorf(&vs.src.Meta, at, name, "is also a host of %s, with other gateways or with both gateways and the mesh: "+
					"telling by which a request came is not supported yet", prev.owner.src.object())
			case vs.mesh():
				c.warnf(&vs.src.Meta, at, name, "has no effect: the host belongs to %s, which is older or has the first name",
					prev.owner.src.object())
			default:
				routes := slices.Concat(prev.routes, vs.routes)
				slices.SortStableFunc(routes, func(a, b *Route) int { return compareCatchAll(&a.match, &b.match) })
				t.set(name, &virtualHost{routes: routes, owner: prev.owner})
			}
		}
	}
	c.alternates(&t)
	return t
}

func compareCatchAll(a, b *match) int {
	switch aa, ba := a.always(), b.always(); {
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
		alias := &virtualHost{routes: h.routes, owner: h.owner}
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
			h := t.exact[name]
			if h == nil || h.owner != vs || strings.HasPrefix(name, "*") {
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
