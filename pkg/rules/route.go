package rules

import (
	"net/netip"
	"slices"
	"time"

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
	replaceRegex              // every match of an expression
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

	// Set by bind.
	shapes  []shape // by variant of the action
	mirrors []RouteMirror
}

// action is what all match entries of a route share.
type action struct {
	mirrors  []RouteMirror
	captured map[netip.AddrPort]struct{} // where its requests arrive
	path     string                      // to rewrite to
	regex    *regexRewrite
	edit     *edit
	variants *variants     // of edit, nil if there are none
	timeout  time.Duration // of a copy, 0: the mirror's own
}

// Rule identifies the route.
func (rt *Route) Rule() Rule { return rt.rule }

// Mirrors are the mirrors of the route. They must not be changed.
func (rt *Route) Mirrors() []RouteMirror { return rt.mirrors }

// captures reports whether requests of the route arrive at dst.
func (a *action) captures(dst netip.AddrPort) bool {
	dst = unmapped(dst)
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
	return rt.appendHead(dst, r, rt.shapes)
}

func (rt *Route) appendHead(dst []byte, r *httpstream.Request, shapes []shape) []byte {
	s := &shapes[rt.action.variant(r)]
	behind := s.changes && behindProxy(r)
	h := &s.header
	if behind {
		h = &s.behind
	}
	dst = append(append(dst, r.Method()...), ' ')
	dst = rt.appendTarget(dst, r.Target(), h, behind)
	dst = append(append(append(dst, ' '), r.Version()...), "\r\n"...)
	return h.append(dst, r)
}

// shape is how a copy differs from the request.
type shape struct {
	header headerEdit
	behind headerEdit // of a request that a proxy has shaped as the rule says
	// changes is whether a proxy in the path would have changed anything.
	changes bool
	growth  growth // of header or behind; of a mirror's alone
}

// bind completes the route, whose action may be shared with others, with
// mirrors and shapes of its own.
func (rt *Route) bind() {
	a := rt.action
	rt.shapes = []shape{rt.newShape(a.edit)}
	if a.variants != nil {
		for _, e := range a.variants.edits {
			rt.shapes = append(rt.shapes, rt.newShape(e))
		}
	}
	rt.mirrors = slices.Clone(a.mirrors)
	for i := range rt.mirrors {
		m := &rt.mirrors[i]
		m.route, m.shapes = rt, slices.Clone(rt.shapes)
		own := m.extra.edits()
		if m.envoy {
			own = envoyEdit(rt).then(own)
		}
		for j := range m.shapes {
			for _, h := range []*headerEdit{&m.shapes[j].header, &m.shapes[j].behind} {
				h.edit, h.suffix, h.path = h.edit.then(own), m.suffix, m.extra.paths()
				if own != nil && own.host != "" {
					h.host, h.suffix = own.host, false // Envoy: host_rewrite_literal implies no suffix
				}
			}
			m.shapes[j].growth = m.shapes[j].header.growth() // that of behind is less
		}
	}
}

// newShape is what the route makes of a request whose header e changes.
func (rt *Route) newShape(e *edit) shape {
	s := shape{header: headerEdit{edit: e}, changes: rt.rewrite != keepPath || e != nil}
	if e != nil {
		s.header.host = e.host
	}
	return s
}

// appendTarget appends the request-target of the copy. It keeps the form it
// had: a rewrite replaces the path of an absolute-form target. If the path is
// as a proxy left it, nothing is rewritten again.
//
// A rule may rewrite to a path that does not begin with "/". Envoy, which sends
// origin-form alone, sends that as it is. Behind an authority it would become
// part of it ("http://host" and "v2" make "http://hostv2", which names another
// host), so there it gets the "/".
func (rt *Route) appendTarget(dst, target []byte, h *headerEdit, behind bool) []byte {
	_, authority, rest, absolute := httpstream.SplitAbsolute(target)
	if rt.form == verbatim || !absolute && (len(rest) == 0 || rest[0] != '/') {
		return append(dst, target...)
	}
	lead := target[:len(target)-len(rest)]
	if absolute && h.rehosts() {
		dst = append(dst, lead[:len(lead)-len(authority)]...)
		dst = h.appendHost(dst, authority)
	} else {
		dst = append(dst, lead...)
	}
	at := len(dst)
	path, query := splitPath(rest)
	switch {
	case behind:
		dst = append(dst, path...)
	default:
		var whole bool
		if dst, whole = rt.appendPath(dst, path, len(path)+len(query) == len(rest)); whole {
			query = rest[len(path):]
		} else if len(dst) == at { // a prefix was replaced by nothing
			dst = append(dst, '/')
		}
	}
	if h.path != nil {
		dst = h.path.apply(dst, at)
	}
	if absolute && len(dst) > at && dst[at] != '/' {
		dst = slices.Insert(dst, at, '/')
	}
	return append(dst, query...)
}

// appendPath appends what the route makes of a path. whole is whether what
// follows the path stays as it is, the fragment included.
func (rt *Route) appendPath(dst, path []byte, plain bool) (_ []byte, whole bool) {
	normal := rt.form == NormalizeNone || rt.form.isNormal(path)
	if rt.rewrite == keepPath && normal && (rt.form == NormalizeNone || plain) {
		return append(dst, path...), true
	}
	root := [1]byte{'/'}
	if len(path) == 0 {
		path = root[:]
	}
	start := len(dst)
	switch rt.rewrite {
	case replacePrefix, replacePath:
		dst = append(dst, rt.action.path...)
	}
	switch {
	case rt.rewrite == replacePath:
		return dst, false
	case normal && rt.rewrite != replaceRegex:
		return append(dst, path[min(rt.strip, len(path)):]...), false
	}
	// What is stripped was matched in the normalised path.
	at := len(dst)
	if normal {
		dst = append(dst, path...)
	} else {
		var ok bool
		if dst, ok = rt.form.appendNormalized(dst, path); !ok {
			return append(dst[:start], path...), true
		}
	}
	if rt.rewrite == replaceRegex {
		return rt.action.regex.apply(dst, at), false
	}
	return append(dst[:at], dst[at+min(rt.strip, len(dst)-at):]...), false
}
