package rules

import (
	"net/netip"
	"slices"
)

// clashes finds virtual hosts of different listeners between which nothing
// decides: they are for the same host, their routes differ and lead to the
// same endpoint.
type clashes struct {
	c      *compiler
	arrive map[*virtualHost]map[netip.AddrPort]*rankedRoute // the first route that leads there
	seen   map[[2]*virtualHost]bool
}

// leaf notes where the routes of h lead.
func (x *clashes) leaf(h *virtualHost, routes []rankedRoute) {
	at := map[netip.AddrPort]*rankedRoute{}
	for i := range routes {
		for addr := range routes[i].action.captured {
			if at[addr] == nil {
				at[addr] = &routes[i]
			}
		}
	}
	x.arrive[h] = at
}

// check warns of each pair among the choices for a host that clashes. The
// earlier one is taken.
func (x *clashes) check(host string, choices []*virtualHost) {
	for i, b := range choices {
		for _, a := range choices[:i] {
			if pair := [2]*virtualHost{a, b}; !x.seen[pair] {
				x.seen[pair] = true
				x.pair(host, a, b)
			}
		}
	}
}

func (x *clashes) pair(host string, a, b *virtualHost) {
	if slices.Equal(a.routes, b.routes) {
		return
	}
	var clash netip.AddrPort
	for addr, rb := range x.arrive[b] {
		ra := x.arrive[a][addr]
		if ra != nil && len(ra.action.mirrors)+len(rb.action.mirrors) > 0 && (!clash.IsValid() || addr.Compare(clash) < 0) {
			clash = addr
		}
	}
	if !clash.IsValid() {
		return
	}
	ra, rb := x.arrive[a][clash], x.arrive[b][clash]
	if ra.action == rb.action {
		return
	}
	x.c.warnf(rb.rank.meta, (*field)(nil).dot("spec").dot("parentRefs"), "",
		"requests for host %s that come by different listeners arrive at %s and cannot be told apart there: those that %s takes are taken to be for it",
		host, clash, ra.Rule())
}
