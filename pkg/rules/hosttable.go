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
	owner  *virtualService // the first that brought routes

	// also is another virtual host with the same name: a short name means
	// another service in every namespace. Where the request arrived decides.
	also *virtualHost

	// choices are what the host may be depending on the listener of a
	// Gateway or the service that a request was addressed to.
	choices []*virtualHost
}

// serves reports whether requests of one of the routes arrive at dst.
func (h *virtualHost) serves(dst netip.AddrPort) bool {
	return slices.ContainsFunc(h.routes, func(rt *Route) bool { return rt.action.captures(dst) })
}

// hostTable finds the virtual host of a request as Envoy does
// (RouteMatcher::findVirtualHost): by the exact name, else by the longest
// wildcard, else by "*". Its cost does not depend on the number of hosts.
type hostTable struct {
	exact     map[string]*virtualHost
	wildcards map[string]*virtualHost // by what follows the "*"
	lengths   []int                   // of the keys of wildcards, the longest first
	any       *virtualHost            // "*"
}

// maxHost is more than any host of a rule is long.
const maxHost = 256

// lookup is the virtual host for an authority, nil if there is none.
func (t *hostTable) lookup(authority []byte, dst netip.AddrPort) *virtualHost {
	var buf [maxHost]byte
	name := withoutPort(authority)
	if len(name) == 0 {
		return t.any
	}
	// The end of an overlong name may still fit a wildcard.
	host := buf[:min(len(name), maxHost)]
	for i, c := range name[len(name)-len(host):] {
		if c >= 'A' && c <= 'Z' {
			c |= 0x20
		}
		host[i] = c
	}
	if h := t.exact[string(host)]; h != nil && len(host) == len(name) {
		return h.pick(dst)
	}
	for _, n := range t.lengths {
		if n < len(host) { // a wildcard takes at least one character
			if h := t.wildcards[string(host[len(host)-n:])]; h != nil {
				return h
			}
		}
	}
	return t.any
}

// pick is the virtual host among those of the same name that serves dst, the
// first if none does.
func (h *virtualHost) pick(dst netip.AddrPort) *virtualHost {
	if h.also == nil || !dst.IsValid() {
		return h
	}
	for v := h; v != nil; v = v.also {
		if v.serves(dst) {
			return v
		}
	}
	return h
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

// all calls f for every virtual host that requests can reach.
func (t *hostTable) all(f func(*virtualHost)) {
	for _, h := range t.exact {
		for ; h != nil; h = h.also {
			f(h)
		}
	}
	for _, h := range t.wildcards {
		f(h)
	}
	if t.any != nil {
		f(t.any)
	}
}
