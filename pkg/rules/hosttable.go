package rules

import (
	"net/netip"
	"slices"
	"strings"
)

// virtualHost is the routes of one host, in the order they are tried.
type virtualHost struct {
	routes []*Route
	index  *routeIndex     // of routes, nil if they are few
	owner  *virtualService // the first that brought routes; nil if none did

	gateway string // whose clients it is for, "mesh" for those in the mesh
	alias   bool   // the name is another one of a service
	covered bool   // the name is of a service under a wildcard
	any     bool   // the name is "*"
	selects bool   // is what selective says, once all routes are there

	// In the mesh: the ports of the service that has the name, none if it is no
	// service's; and those on which there is the virtual host.
	ports, served []uint32

	// also is another virtual host with the same name: for other clients, or
	// because a short name means another service in every namespace.
	also *virtualHost

	// choices are what the host may be depending on the listener of a
	// Gateway or the service that a request was addressed to.
	choices []*virtualHost
}

// find is the first of the virtual hosts of one name that ok accepts.
func (h *virtualHost) find(ok func(*virtualHost) bool) *virtualHost {
	for ; h != nil; h = h.also {
		if ok(h) {
			return h
		}
	}
	return nil
}

// rivals reports whether only one of h and o, which is younger, can have a name
// at their gateway: clients that see o see h as well.
func (h *virtualHost) rivals(o *virtualHost) bool {
	own, other := h.owner.src, o.owner.src
	return h.gateway == o.gateway && slices.Equal(own.Spec.ExportTo, other.Spec.ExportTo) &&
		(own.Namespace == other.Namespace || !slices.Contains(other.Spec.ExportTo, "."))
}

// leads reports whether requests of one of the routes arrive at dst.
func (h *virtualHost) leads(dst netip.AddrPort) bool {
	return slices.ContainsFunc(h.routes, func(rt *Route) bool { return rt.action.captures(dst) })
}

// serves reports whether requests of c are routed by h. That is so only if a
// route may be for c: for Istio there is no virtual host without a route.
// Where excluded is set it need not be. port is 0 if it is not known.
func (h *virtualHost) serves(c *Client, port uint32, excluded bool) bool {
	if h.owner == nil {
		return true
	}
	if port != 0 && h.served != nil && !slices.Contains(h.served, port) {
		return false
	}
	if c != nil && (!c.through(h.gateway) || !visible(h.owner.src.Spec.ExportTo, h.owner.src.Namespace, c.Namespace)) {
		return false
	}
	return excluded || !h.selects || slices.ContainsFunc(h.routes, func(rt *Route) bool { return rt.match.client.holds(c) })
}

// selective reports whether every route is for some clients alone.
func (h *virtualHost) selective() bool {
	return !slices.ContainsFunc(h.routes, func(rt *Route) bool { return rt.match.client == nil })
}

// hostTable finds the virtual host of a request as Envoy does
// (RouteMatcher::findVirtualHost): by the exact name, else by the longest
// wildcard, else by "*". Its cost does not depend on the number of hosts.
type hostTable struct {
	exact     map[string]*virtualHost
	wildcards map[string]*virtualHost // by what follows the "*"
	lengths   []int                   // of the keys of wildcards, the longest first
	any       *virtualHost            // "*"
	selects   bool                    // some virtual host does
}

// maxHost is more than any host of a rule is long.
const maxHost = 256

// lookup is the virtual host for an authority and a client, nil if there is
// none. If all that there are have no route for the client, it is one of them,
// which tells why.
func (t *hostTable) lookup(authority []byte, c *Client, dst netip.AddrPort) *virtualHost {
	return t.lookupOn(0, authority, c, dst)
}

// lookupOn is lookup for a port of the mesh, 0 for any.
func (t *hostTable) lookupOn(port uint32, authority []byte, c *Client, dst netip.AddrPort) *virtualHost {
	h := t.search(authority, c, port, dst, false)
	if h == nil && t.selects {
		h = t.search(authority, c, port, dst, true)
	}
	return h
}

func (t *hostTable) search(authority []byte, c *Client, port uint32, dst netip.AddrPort, excluded bool) *virtualHost {
	var buf [maxHost]byte
	name := withoutPort(authority)
	if len(name) == 0 {
		return t.any.pick(c, port, dst, excluded)
	}
	// The end of an overlong name may still fit a wildcard.
	host := buf[:min(len(name), maxHost)]
	for i, c := range name[len(name)-len(host):] {
		if c >= 'A' && c <= 'Z' {
			c |= 0x20
		}
		host[i] = c
	}
	if len(host) == len(name) {
		if h := t.exact[string(host)].pick(c, port, dst, excluded); h != nil {
			return h
		}
	}
	for _, n := range t.lengths {
		if n < len(host) { // a wildcard takes at least one character
			if h := t.wildcards[string(host[len(host)-n:])].pick(c, port, dst, excluded); h != nil {
				return h
			}
		}
	}
	return t.any.pick(c, port, dst, excluded)
}

// pick is the virtual host among those of the same name that serves c, nil if
// there is none. Where c leaves a choice it is one that leads to dst, if there
// is one: short names mean different services, and a client that is not known
// may be any.
func (h *virtualHost) pick(c *Client, port uint32, dst netip.AddrPort, excluded bool) *virtualHost {
	var first *virtualHost
	for v := h; v != nil; v = v.also {
		if !v.serves(c, port, excluded) {
			continue
		}
		if first == nil {
			if first = v; v.also == nil || !dst.IsValid() || c != nil && !v.alias {
				return v
			}
		}
		if v.leads(dst) {
			return v
		}
	}
	return first
}

// withoutPort cuts the port off an authority (Envoy:
// HeaderUtility::getPortStart).
func withoutPort(authority []byte) []byte {
	for i := len(authority) - 1; i >= 0; i-- {
		switch authority[i] {
		case ':':
			return authority[:i]
		case ']':
			return authority
		}
	}
	return authority
}

// portOf is the port of an authority, 0 if it has none.
func portOf(authority []byte) (port uint32) {
	name := withoutPort(authority)
	if len(name) == len(authority) || len(authority)-len(name) > len(":65535") {
		return 0
	}
	for _, c := range authority[len(name)+1:] {
		if c < '0' || c > '9' {
			return 0
		}
		port = port*10 + uint32(c-'0')
	}
	return port
}

// get is the virtual host of a host of a rule, nil if there is none yet.
func (t *hostTable) get(host string) *virtualHost {
	suffix, wildcard := strings.CutPrefix(host, "*")
	switch {
	case !wildcard:
		return t.exact[host]
	case suffix == "":
		return t.any
	}
	return t.wildcards[suffix]
}

// set makes h the virtual host of a host of a rule.
func (t *hostTable) set(host string, h *virtualHost) {
	suffix, wildcard := strings.CutPrefix(host, "*")
	switch {
	case !wildcard:
		t.exact[host] = h
	case suffix == "":
		t.any = h
	default:
		t.wildcards[suffix] = h
		if !slices.Contains(t.lengths, len(suffix)) {
			t.lengths = append(t.lengths, len(suffix))
			slices.SortFunc(t.lengths, func(a, b int) int { return b - a })
		}
	}
}

// append makes h another virtual host of a host of a rule, which may have none
// yet.
func (t *hostTable) append(host string, h *virtualHost) {
	last := t.get(host)
	if last == nil {
		t.set(host, h)
		return
	}
	for last.also != nil {
		last = last.also
	}
	last.also = h
	if h.gateway == meshGateway { // the mesh goes first: nothing else is known of most clients
		t.meshFirst(host)
	}
}

// remove takes a virtual host from those of an exact name.
func (t *hostTable) remove(name string, h *virtualHost) {
	if head := t.exact[name]; head == h {
		t.exact[name] = h.also
		return
	}
	for o := t.exact[name]; o != nil; o = o.also {
		if o.also == h {
			o.also = h.also
			return
		}
	}
}

// meshFirst moves the virtual hosts for the mesh to the front, in their order.
func (t *hostTable) meshFirst(host string) {
	var list []*virtualHost
	for h := t.get(host); h != nil; h = h.also {
		list = append(list, h)
	}
	slices.SortStableFunc(list, func(a, b *virtualHost) int {
		switch am, bm := a.gateway == meshGateway, b.gateway == meshGateway; {
		case am == bm:
			return 0
		case am:
			return -1
		}
		return 1
	})
	for i, h := range list {
		h.also = nil
		if i > 0 {
			list[i-1].also = h
		}
	}
	t.set(host, list[0])
}

// all calls f for every virtual host that requests can reach.
func (t *hostTable) all(f func(*virtualHost)) {
	for _, h := range t.exact {
		for ; h != nil; h = h.also {
			f(h)
		}
	}
	for _, h := range t.wildcards {
		for ; h != nil; h = h.also {
			f(h)
		}
	}
	for h := t.any; h != nil; h = h.also {
		f(h)
	}
}
