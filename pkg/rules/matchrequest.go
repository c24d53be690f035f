package rules

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	networking "istio.io/api/networking/v1alpha3"
)

// maxRegex is the longest expression Istio admits.
const maxRegex = 1024

// match compiles an HTTPMatchRequest.
func (c *compiler) match(vs *virtualService, meta *Meta, in *networking.HTTPMatchRequest, at *field) match {
	m := match{port: in.Port}
	if in.Port > 65535 {
		c.portNumber(meta, at.dot("port"), in.Port)
	}
	c.asksPort = c.asksPort || m.port != 0
	m.client = c.clientMatch(vs, meta, in, at)
	if m.client != nil {
		c.asksClient = true
		c.asked = append(c.asked, m.client)
	}
	if in.Scheme != nil {
		m.scheme = c.text(meta, in.Scheme, at.dot("scheme"))
	}
	if in.Uri != nil {
		m.uri = c.path(meta, in.Uri, at.dot("uri"))
		m.uri.fold = in.IgnoreUriCase
		if m.uri.kind == present {
			m.uri.kind = anyText // every request has a path
		}
		c.checkURI(meta, &m.uri, at.dot("uri"))
	}
	if in.Method != nil {
		m.method = c.text(meta, in.Method, at.dot("method"))
	}
	if in.Authority != nil {
		m.authority = c.text(meta, in.Authority, at.dot("authority"))
	}
	m.headers = c.fields(meta, in.Headers, at.dot("headers"), true, false)
	m.without = c.fields(meta, in.WithoutHeaders, at.dot("withoutHeaders"), true, true)
	m.query = c.fields(meta, in.QueryParams, at.dot("queryParams"), false, false)
	return m
}

// fields compiles conditions on header fields or query parameters, in the
// order of their names.
func (c *compiler) fields(meta *Meta, in map[string]*networking.StringMatch, at *field, header, star bool) []fieldText {
	var out []fieldText
	for _, name := range slices.Sorted(maps.Keys(in)) {
		f, ft := at.entry(name), fieldText{name: name}
		switch {
		case !header:
		case strings.HasPrefix(name, "@request.auth.claims"):
			c.errorf(meta, f, name, "matching on JWT claims is not supported yet")
			continue
		case !isToken(name):
			c.errorf(meta, f, name, "expected the name of a header")
			continue
		default:
			ft.name = strings.ToLower(name)
		}
		if star && in[name].GetRegex() == "*" {
			ft.kind = present // Istio: canBeConvertedToPresentMatch
		} else {
			ft.text = c.text(meta, in[name], f)
		}
		out = append(out, ft)
	}
	return out
}

// text compiles a StringMatch that is not about the path: there Envoy refuses
// an empty prefix (Istio: validateStringMatch).
func (c *compiler) text(meta *Meta, in *networking.StringMatch, at *field) text {
	if m, ok := in.GetMatchType().(*networking.StringMatch_Prefix); ok && m.Prefix == "" {
		c.errorf(meta, at.dot("prefix"), "", "expected a text: every value begins with an empty one, leave all of it out to ask for presence")
	}
	return c.path(meta, in, at)
}

// path compiles a StringMatch; without a value it asks for presence.
func (c *compiler) path(meta *Meta, in *networking.StringMatch, at *field) text {
	switch m := in.GetMatchType().(type) {
	case *networking.StringMatch_Exact:
		return text{kind: exact, value: m.Exact}
	case *networking.StringMatch_Prefix:
		return text{kind: prefix, value: m.Prefix}
	case *networking.StringMatch_Regex:
		f := at.dot("regex")
		if m.Regex == "" || len(m.Regex) > maxRegex {
			c.errorf(meta, f, m.Regex, "expected an expression of 1 to %d bytes", maxRegex)
			return text{kind: regex, value: m.Regex}
		}
		return c.regex(meta, m.Regex, f)
	}
	return text{kind: present}
}

// checkURI warns of a condition on the path that no request can meet.
func (c *compiler) checkURI(meta *Meta, t *text, at *field) {
	if t.kind != exact && (t.kind != prefix || t.value == "") {
		return
	}
	var why string
	normal, ok := c.form.appendNormalized(nil, []byte(t.value))
	switch {
	case !strings.HasPrefix(t.value, "/"):
		why = `every path begins with "/"`
	case strings.ContainsAny(t.value, "?#"):
		why = "query and fragment are no part of the path"
	case t.kind == exact && (!ok || string(normal) != t.value):
		why = fmt.Sprintf("paths are normalised before, this one to %s", normal)
	default:
		return
	}
	c.warnf(meta, at, t.value, "never matches: %s", why)
}
