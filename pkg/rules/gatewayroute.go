package rules

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	gateway "sigs.k8s.io/gateway-api/apis/v1"
)

// gatewayState is what a compiler knows of the Gateway API.
type gatewayState struct {
	routes   []*gatewayRoute     // the oldest first
	gateways map[string]*Gateway // by "namespace/name"
	grants   []ReferenceGrant

	listeners []*listener            // that routes attach to, in the order they were met
	groups    map[string][]*listener // those of one Gateway, by its "namespace/name"
	mesh      []*meshService         // that routes attach to
}

// gatewayRoute is a compiled HTTPRoute or GRPCRoute.
type gatewayRoute struct {
	meta      *Meta
	hostnames []string
	parents   []gateway.ParentReference
	routes    []*Route     // one for every match of every rule, in their order
	ranks     []precedence // of routes
	hosts     []string     // that requests must have, for explanations
	gateways  []string     // that take it, or "mesh", for explanations
	consumers string       // the namespace of its clients in the mesh, empty for all

	unresolved []unresolved // references to backends
}

// unresolved is a reference to a backend that requests cannot be sent to. It is
// a problem only where a rule mirrors, and one of the route's status anywhere.
type unresolved struct {
	reason         gateway.RouteConditionReason
	field, message string
}

// unresolvedf notes a reference at f, and reports it.
func (gr *gatewayRoute) unresolvedf(reason gateway.RouteConditionReason, report reportf, f *field, value, format string, args ...any) {
	gr.unresolved = append(gr.unresolved, unresolved{reason, f.String(), fmt.Sprintf(format, args...)})
	report(gr.meta, f, value, format, args...)
}

// reportf reports a problem, or does not.
type reportf func(meta *Meta, f *field, value, format string, args ...any)

// gatewayRule is a rule of an HTTPRoute or GRPCRoute in the form both have in
// common.
type gatewayRule struct {
	name     string
	matches  []gatewayMatch
	filters  []gateway.HTTPRouteFilter
	backends []gateway.HTTPBackendRef
	timeout  time.Duration // 0: none
}

// gatewayMatch is a compiled match of a rule.
type gatewayMatch struct {
	match
	precedence
	// strip is the length of the path prefix that a rewrite replaces, -1 if
	// the match is not by a prefix.
	strip int
}

// precedence orders matches: the greater goes first (HTTPRouteRule.matches,
// GRPCRouteRule.matches). The text of the API leaves the place of regular
// expressions open; as in Istio (sortHTTPRoutes) they come last, even behind
// the prefix "/".
type precedence struct {
	path           int // 3 exact, 2 prefix, 1 regular expression
	length, second int // of the path, or of the service and the method
	method         int // 1 if there is a condition on the method of HTTP
	headers, query int // conditions
	// Where all of that is equal the older object goes first, then the one
	// whose "namespace/name" is first, then the rule that is first.
	meta        *Meta
	rule, entry int
}

// compare orders p and o: it is negative if p goes first.
func (p *precedence) compare(o *precedence) int {
	if c := cmp.Or(
		o.path-p.path, o.length-p.length, o.second-p.second,
		o.method-p.method, o.headers-p.headers, o.query-p.query,
	); c != 0 || p.meta == o.meta {
		return cmp.Or(c, p.rule-o.rule, p.entry-o.entry)
	}
	return cmp.Or(
		p.meta.CreationTimestamp.Compare(o.meta.CreationTimestamp),
		strings.Compare(p.meta.Namespace+"/"+p.meta.Name, o.meta.Namespace+"/"+o.meta.Name),
	)
}

// gatewayRoutes compiles all routes of the Gateway API and attaches them to
// their parents.
func (c *compiler) gatewayRoutes(s *Snapshot) {
	g := &c.gateways
	g.gateways, g.groups, g.grants = map[string]*Gateway{}, map[string][]*listener{}, s.ReferenceGrants
	for i := range s.Gateways {
		gw := &s.Gateways[i]
		if g.gateways[gw.Namespace+"/"+gw.Name] == nil {
			g.gateways[gw.Namespace+"/"+gw.Name] = gw
		}
	}
	for i := range s.HTTPRoutes {
		g.routes = append(g.routes, c.compileHTTPRoute(&s.HTTPRoutes[i]))
	}
	for i := range s.GRPCRoutes {
		g.routes = append(g.routes, c.compileGRPCRoute(&s.GRPCRoutes[i]))
	}
	slices.SortStableFunc(g.routes, func(a, b *gatewayRoute) int { return compareAge(a.meta, b.meta) })
	c.openGateways()
	for _, gr := range g.routes {
		c.attach(gr)
	}
}

// newGatewayRoute compiles what HTTPRoute and GRPCRoute have in common.
func (c *compiler) newGatewayRoute(meta *Meta, common gateway.CommonRouteSpec, hostnames []gateway.Hostname) *gatewayRoute {
	gr := &gatewayRoute{meta: meta, parents: common.ParentRefs}
	c.annotated = c.extras(meta)
	for i, h := range hostnames {
		f := (*field)(nil).dot("spec").dot("hostnames").at(i)
		name := strings.ToLower(string(h))
		if _, err := netip.ParseAddr(name); err == nil {
			c.errorf(meta, f, string(h), "expected a DNS name, not an IP address")
			continue
		}
		if slices.Contains(gr.hostnames, name) {
			c.warnf(meta, f, string(h), "is given twice")
			continue
		}
		gr.hostnames = append(gr.hostnames, name)
	}
	if len(gr.parents) == 0 {
		c.warnf(meta, (*field)(nil).dot("spec").dot("parentRefs"), "", "is missing: without a parent no request takes the route")
	}
	return gr
}

// add compiles a rule and appends its routes.
func (c *compiler) add(gr *gatewayRoute, i int, in *gatewayRule) {
	at := (*field)(nil).dot("spec").dot("rules").at(i)
	a, rewrite := c.gatewayAction(gr, in, at)
	for j := range in.matches {
		m := &in.matches[j]
		rt := &Route{
			rule:  Rule{Kind: gr.meta.Kind, Namespace: gr.meta.Namespace, Name: gr.meta.Name, Route: in.name, Index: i},
			match: m.match, action: a, form: c.form, rewrite: rewrite,
		}
		if rewrite == replacePrefix {
			if m.strip < 0 {
				c.errorf(gr.meta, at.dot("filters"), "", "replacePrefixMatch needs a match by PathPrefix")
				continue
			}
			rt.strip = m.strip
		}
		m.meta, m.rule, m.entry = gr.meta, i, j
		gr.routes, gr.ranks = append(gr.routes, rt), append(gr.ranks, m.precedence)
	}
}

// pathMatch compiles a path match; it is of every path if in is nil.
func (c *compiler) pathMatch(meta *Meta, in *gateway.HTTPPathMatch, at *field, m *gatewayMatch) {
	kind, value := gateway.PathMatchPathPrefix, "/"
	if in != nil && in.Type != nil {
		kind = *in.Type
	}
	if in != nil && in.Value != nil {
		value = *in.Value
	}
	f := at.dot("value")
	m.strip = -1
	switch kind {
	case gateway.PathMatchExact:
		m.uri = text{kind: exact, value: value}
		m.path, m.length = 3, len(value)
		c.checkURI(meta, &m.uri, f)
	case gateway.PathMatchPathPrefix:
		// The slash at the end has no meaning: "/abc/" is "/abc".
		trimmed := strings.TrimSuffix(value, "/")
		m.uri = text{kind: segments, value: trimmed}
		if trimmed == "" {
			m.uri = text{kind: prefix, value: "/"}
		}
		m.path, m.length, m.strip = 2, len(m.uri.value), len(trimmed)
		c.checkURI(meta, &text{kind: exact, value: m.uri.value}, f)
	case gateway.PathMatchRegularExpression:
		m.uri = c.regex(meta, value, f)
		m.path, m.length = 1, len(value)
	default:
		c.errorf(meta, at.dot("type"), string(kind), "expected Exact, PathPrefix or RegularExpression")
	}
}

// headerMatch appends a condition on a header field. Of several for one name
// only the first counts.
func (c *compiler) headerMatch(meta *Meta, name, value string, regular bool, at *field, m *gatewayMatch) {
	ft := fieldText{name: strings.ToLower(name), text: text{kind: exact, value: value}}
	if slices.ContainsFunc(m.match.headers, func(o fieldText) bool { return o.name == ft.name }) {
		c.warnf(meta, at.dot("name"), name, "has no effect: only the first match of a header counts")
		return
	}
	if regular {
		ft.text = c.regex(meta, value, at.dot("value"))
	}
	m.match.headers = append(m.match.headers, ft)
	m.precedence.headers++
}
