package rules

import (
	"net/netip"

	"github.com/shadowtap/shadowtap/pkg/httpstream"
)

// Rule identifies a route in the output of all commands.
type Rule struct {
	Kind      string `json:"kind"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	// Route is the name of the route, with that of the match entry behind a
	// dot if it has one; Index the route's place in the object, from 0.
	Route string `json:"route"`
	Index int    `json:"index"`
}

// rewriteKind is what happens to the path of a copy.
type rewriteKind uint8

const (
	keepPath      rewriteKind = iota
	replacePrefix             // the matched prefix
	replacePath               // all of the path, the query stays
)

// Route is one compiled route: a match entry of an http route with what the
// route does. It is immutable.
type Route struct {
	rule   Rule
	match  match
	action *action
	form   Normalization
	// strip is how many bytes of the path a rewrite of the prefix replaces.
	strip   int
	rewrite rewriteKind
}

// action is what all match entries of a route share.
type action struct {
	mirrors  []RouteMirror
	captured map[netip.AddrPort]struct{} // where its requests arrive
	path     string                      // to rewrite to
	ops      *headerOps                  // nil if the header stays as it is
}

// Rule identifies the route.
func (rt *Route) Rule() Rule { return rt.rule }

// Mirrors are the mirrors of the route. They must not be changed.
func (rt *Route) Mirrors() []RouteMirror { return rt.action.mirrors }

// captures reports whether requests of the route arrive at dst.
func (a *action) captures(dst netip.AddrPort) bool {
	dst = netip.AddrPortFrom(dst.Addr().Unmap(), dst.Port())
	if _, ok := a.captured[dst]; ok {
		return true
	}
	_, ok := a.captured[anyAddress(dst.Port())]
	return ok
}

// anyAddress stands for every address with a port.
func anyAddress(port uint16) netip.AddrPort {
	return netip.AddrPortFrom(netip.IPv4Unspecified(), port)
}

// AppendHead appends the head of the copy of r that the route makes: request
// line and header field lines, each with its CRLF, without the empty line that
// ends the head. What the route does not change is byte for byte as sent. r
// must be a request that the route matched.
func (rt *Route) AppendHead(dst []byte, r *httpstream.Request) []byte {
	dst = append(append(dst, r.Method()...), ' ')
	start, ops := len(dst), rt.action.ops
	dst = rt.appendTarget(dst, r.Target())
	if ops != nil {
		dst = ops.rehost(dst, start, r.Target())
	}
	dst = append(append(append(dst, ' '), r.Version()...), "\r\n"...)
	if ops != nil {
		return ops.appendFields(dst, r)
	}
	return append(dst, r.HeaderBlock()...)
}

// appendTarget appends the request-target of the copy. It keeps the form it
// had: a rewrite replaces the path of an absolute-form target.
func (rt *Route) appendTarget(dst, target []byte) []byte {
	_, _, rest, absolute := httpstream.SplitAbsolute(target)
	start := len(dst)
	if rt.form == verbatim || !absolute && (len(rest) == 0 || rest[0] != '/') {
		return append(dst, target...)
	}
	path, query := splitPath(rest)
	normal := rt.form == NormalizeNone || isNormal(path)
	if rt.rewrite == keepPath && normal && (rt.form == NormalizeNone || len(path)+len(query) == len(rest)) {
		return append(dst, target...)
	}
	root := [1]byte{'/'}
	if len(path) == 0 {
		path = root[:]
	}
	dst = append(dst, target[:len(target)-len(rest)]...)
	from := len(dst)
	if rt.rewrite != keepPath {
		dst = append(dst, rt.action.path...)
	}
	switch {
	case rt.rewrite == replacePath:
	case normal:
		dst = append(dst, path[min(rt.strip, len(path)):]...)
	default:
		// What is stripped was matched in the normalised path.
		at := len(dst)
		var ok bool
		if dst, ok = appendNormalized(dst, path); !ok {
			return append(dst[:start], target...)
		}
		dst = append(dst[:at], dst[at+min(rt.strip, len(dst)-at):]...)
	}
	if len(dst) == from { // a prefix was replaced by nothing
		dst = append(dst, '/')
	}
	return append(dst, query...)
}
