package rules

import (
	"slices"
	"strings"
	"time"

	gateway "sigs.k8s.io/gateway-api/apis/v1"
)

// compileHTTPRoute compiles an HTTPRoute.
func (c *compiler) compileHTTPRoute(src *HTTPRoute) *gatewayRoute {
	gr := c.newGatewayRoute(&src.Meta, src.Spec.CommonRouteSpec, src.Spec.Hostnames)
	for i := range src.Spec.Rules {
		in := &src.Spec.Rules[i]
		at := (*field)(nil).dot("spec").dot("rules").at(i)
		c.withoutEffect(gr.meta, at, map[string]bool{
			"retry":              in.Retry != nil,
			"sessionPersistence": in.SessionPersistence != nil,
		})
		rule := &gatewayRule{filters: in.Filters, backends: in.BackendRefs, timeout: c.gatewayTimeout(gr.meta, in, at)}
		if in.Name != nil {
			rule.name = string(*in.Name)
		}
		for j := range in.Matches {
			rule.matches = append(rule.matches, c.httpRouteMatch(gr.meta, &in.Matches[j], at.dot("matches").at(j)))
		}
		if len(in.Matches) == 0 {
			rule.matches = append(rule.matches, c.httpRouteMatch(gr.meta, &gateway.HTTPRouteMatch{}, at.dot("matches")))
		}
		c.add(gr, i, rule)
	}
	c.strayExtras(gr.meta, c.annotated)
	return gr
}

// gatewayTimeout is the bound of a copy, which is that of the request (Istio:
// convertHTTPRoute). Without retries the one try may be bound to less.
func (c *compiler) gatewayTimeout(meta *Meta, in *gateway.HTTPRouteRule, at *field) (timeout time.Duration) {
	if in.Timeouts == nil {
		return 0
	}
	read := func(text *gateway.Duration, f *field) {
		if text == nil {
			return
		}
		d, err := time.ParseDuration(string(*text))
		if err != nil {
			c.errorf(meta, f, string(*text), "expected a duration as 1s or 500ms")
		}
		if d > 0 { // 0s is none
			timeout = d
		}
	}
	at = at.dot("timeouts")
	read(in.Timeouts.Request, at.dot("request"))
	if in.Retry == nil {
		read(in.Timeouts.BackendRequest, at.dot("backendRequest"))
	}
	return timeout
}

// withoutEffect warns of fields that are set and say nothing about mirroring.
func (c *compiler) withoutEffect(meta *Meta, at *field, set map[string]bool) {
	for name, isSet := range set {
		if isSet {
			c.warnf(meta, at.dot(name), "", "has no effect on mirroring")
		}
	}
}

func (c *compiler) httpRouteMatch(meta *Meta, in *gateway.HTTPRouteMatch, at *field) gatewayMatch {
	var m gatewayMatch
	c.pathMatch(meta, in.Path, at.dot("path"), &m)
	if in.Method != nil {
		m.match.method = text{kind: exact, value: string(*in.Method)}
		m.precedence.method = 1
	}
	for i, h := range in.Headers {
		regular := h.Type != nil && *h.Type == gateway.HeaderMatchRegularExpression
		c.headerMatch(meta, string(h.Name), h.Value, regular, at.dot("headers").at(i), &m)
	}
	for i, q := range in.QueryParams {
		c.queryMatch(meta, &q, at.dot("queryParams").at(i), &m)
	}
	return m
}

// queryMatch appends a condition on a query parameter, whose name is compared
// as it is. Of several for one name only the first counts.
func (c *compiler) queryMatch(meta *Meta, in *gateway.HTTPQueryParamMatch, at *field, m *gatewayMatch) {
	ft := fieldText{name: string(in.Name), text: text{kind: exact, value: in.Value}}
	if slices.ContainsFunc(m.match.query, func(o fieldText) bool { return o.name == ft.name }) {
		c.warnf(meta, at.dot("name"), ft.name, "has no effect: only the first match of a query parameter counts")
		return
	}
	if in.Type != nil && *in.Type == gateway.QueryParamMatchRegularExpression {
		ft.text = c.regex(meta, in.Value, at.dot("value"))
	}
	m.match.query = append(m.match.query, ft)
	m.precedence.query++
}

// urlRewrite compiles a URLRewrite filter into a.
func (c *compiler) urlRewrite(meta *Meta, in *gateway.HTTPURLRewriteFilter, at *field, a *action, change *headerChange) rewriteKind {
	if in.Hostname != nil {
		change.host = string(*in.Hostname)
	}
	if in.Path == nil {
		return keepPath
	}
	f := at.dot("path")
	var to string
	var kind rewriteKind
	switch in.Path.Type {
	case gateway.FullPathHTTPPathModifier:
		f, kind = f.dot("replaceFullPath"), replacePath
		if in.Path.ReplaceFullPath != nil {
			to = *in.Path.ReplaceFullPath
		}
	case gateway.PrefixMatchHTTPPathModifier:
		f, kind = f.dot("replacePrefixMatch"), replacePrefix
		if in.Path.ReplacePrefixMatch != nil {
			to = *in.Path.ReplacePrefixMatch
		}
	default:
		c.errorf(meta, f.dot("type"), string(in.Path.Type), "expected ReplaceFullPath or ReplacePrefixMatch")
		return keepPath
	}
	switch {
	case strings.ContainsFunc(to, func(r rune) bool { return r <= ' ' || r == 0x7f || r == '#' }):
		c.errorf(meta, f, to, `expected a path without spaces, control characters and "#"`)
	case to != "" && to[0] != '/':
		c.warnf(meta, f, to, `does not begin with "/": the copies may not be valid requests`)
	case to == "" && kind == replacePath:
		c.warnf(meta, f, to, `is empty and counts as "/"`)
	}
	a.path = to
	if kind == replacePrefix {
		// What follows the prefix begins with a slash or is empty.
		a.path = strings.TrimSuffix(to, "/")
	}
	return kind
}
