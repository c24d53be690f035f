package rules

import (
	"bytes"
	"regexp"
	"strings"
)

// textKind is how a text is compared.
type textKind uint8

const (
	anyText textKind = iota // no condition
	present                 // there must be a value
	exact
	prefix
	regex
	segments // whole segments at the start of a path (PathPrefix of the Gateway API)
)

// text is a compiled StringMatch.
type text struct {
	kind  textKind
	fold  bool // exact and prefix: compare ASCII letters without case
	value string
	re    *regexp.Regexp // of value, anchored at both ends
	must  string         // regex: what every match begins with
}

// lead is what every value that matches begins with, as far as that is known.
func (t *text) lead() string {
	switch {
	case t.fold && t.kind != regex:
		return ""
	case t.kind == regex:
		return t.must
	}
	return t.value
}

// match reports whether b, a value that is present, satisfies the condition.
func (t *text) match(b []byte) bool {
	switch t.kind {
	case exact:
		return len(b) == len(t.value) && t.begins(b)
	case prefix:
		return len(b) >= len(t.value) && t.begins(b[:len(t.value)])
	case regex:
		return t.re.Match(b)
	case segments:
		n := len(t.value)
		return len(b) >= n && string(b[:n]) == t.value && (len(b) == n || b[n] == '/')
	}
	return true
}

// begins compares b with the value, which is of the same length.
func (t *text) begins(b []byte) bool {
	if t.fold {
		return equalFold(b, t.value)
	}
	return string(b) == t.value
}

// describe is the condition for people.
func (t *text) describe() string {
	switch t.kind {
	case exact:
		return "exact " + quote(t.value)
	case prefix:
		return "prefix " + quote(t.value)
	case regex:
		return "regex " + quote(t.value)
	case segments:
		return "path prefix " + quote(t.value)
	}
	return "presence"
}

// fieldText is a condition on a header field or a query parameter.
type fieldText struct {
	name string // lower-case for header fields
	text
}

// match is a compiled HTTPMatchRequest: all conditions must hold.
type match struct {
	uri, scheme, method, authority text
	headers, without               []fieldText
	query                          []fieldText

	// Selectors: for Istio, where they do not hold there is no such route.
	port   uint32       // 0: any
	client *clientMatch // nil: any
	// behind are the routes for everything from some clients that come before
	// in the same object: for those clients there is no such route either.
	behind []*Route
}

// always reports whether every request is taken, so that no route behind is
// reached.
func (m *match) always() bool { return m.everything() && m.port == 0 && m.client == nil }

// everything reports whether Istio takes the match for a catch-all, behind
// which it generates no more routes (IsCatchAllRoute).
func (m *match) everything() bool {
	everyPath := m.uri.kind == anyText || m.uri.kind == prefix && m.uri.value == "/" ||
		m.uri.kind == regex && m.uri.value == ".*"
	return everyPath && m.scheme.kind == anyText && m.method.kind == anyText && m.authority.kind == anyText &&
		len(m.headers)+len(m.without)+len(m.query) == 0
}

// selects reports whether there is such a route for the client and the port of
// v, whatever the request is.
func (m *match) selects(v *view) bool {
	return (m.port == 0 || v.port == 0 || m.port == v.port) && (m.client == nil || m.client.holds(v.client))
}

// part names a condition of a match.
type part uint8

const (
	matched part = iota
	partURI
	partPort
	partClient
	partBehind
	partScheme
	partMethod
	partAuthority
	partHeader
	partWithout
	partQuery
)

// check returns the first condition that does not hold, matched if all do. i
// is its index among the conditions of its part.
func (m *match) check(v *view) (failed part, i int) {
	if !m.uri.match(v.path) {
		return partURI, 0
	}
	if m.port != 0 && v.port != 0 && m.port != v.port {
		return partPort, 0
	}
	if m.client != nil && !m.client.holds(v.client) {
		return partClient, 0
	}
	for i, rt := range m.behind {
		if rt.match.selects(v) {
			return partBehind, i
		}
	}
	if m.scheme.kind != anyText && !m.scheme.match(v.scheme()) {
		return partScheme, 0
	}
	if !m.method.match(v.r.Method()) {
		return partMethod, 0
	}
	if !m.authority.match(v.authority) {
		return partAuthority, 0
	}
	for i := range m.headers {
		if b, ok := v.header(m.headers[i].name); !ok || !m.headers[i].match(b) {
			return partHeader, i
		}
	}
	for i := range m.without {
		w := &m.without[i]
		// A header that is missing counts as an empty one here, except
		// for a test of presence (Envoy: treat_missing_header_as_empty).
		if b, ok := v.header(w.name); (ok || w.kind != present) && w.match(b) {
			return partWithout, i
		}
	}
	for i := range m.query {
		if b, ok := v.param(m.query[i].name); !ok || !m.query[i].match(b) {
			return partQuery, i
		}
	}
	return matched, 0
}

// regexText is the condition that expr matches the whole value
// (RE2::FullMatch).
func regexText(expr string) (text, error) {
	t := text{kind: regex, value: expr}
	// First by itself: "a)|(b" is valid in parentheses only.
	re, err := regexp.Compile(expr)
	if err != nil {
		return t, err
	}
	t.must, _ = re.LiteralPrefix()
	t.re, err = regexp.Compile(`\A(?:` + expr + `)\z`)
	return t, err
}

// equalFold compares ASCII letters without case. s must be of b's length.
func equalFold(b []byte, s string) bool {
	for i, c := range b {
		if d := s[i]; c != d && (c|0x20 != d|0x20 || c|0x20 < 'a' || c|0x20 > 'z') {
			return false
		}
	}
	return true
}

// param finds the value of the first parameter of a query called name, without
// any decoding (Envoy: parseQueryString). query begins with "?" or is empty.
func param(query []byte, name string) ([]byte, bool) {
	for len(query) > 0 {
		query = query[1:] // "?" or "&"
		p := query
		if i := bytes.IndexByte(query, '&'); i >= 0 {
			p = query[:i]
		}
		query = query[len(p):]
		key, value, _ := bytes.Cut(p, []byte("="))
		if len(p) > 0 && string(key) == name {
			return value, true
		}
	}
	return nil, false
}

func quote(s string) string { return `"` + strings.ReplaceAll(s, `"`, `\"`) + `"` }
