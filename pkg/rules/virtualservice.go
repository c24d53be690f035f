package rules

import (
	"fmt"
	"slices"
	"strings"

	networking "istio.io/api/networking/v1alpha3"
)

// meshGateway is the reserved name for all sidecars.
const meshGateway = "mesh"

// virtualService is a compiled VirtualService.
type virtualService struct {
	src      *VirtualService
	hosts    []string // full names
	gateways []string // full names, sorted, without repetitions
	routes   []*Route // up to the first that takes everything
}

// mesh reports whether the routes apply to clients in the mesh.
func (vs *virtualService) mesh() bool { return slices.Contains(vs.gateways, meshGateway) }

func (c *compiler) virtualService(src *VirtualService) *virtualService {
	vs := &virtualService{src: src}
	spec, at := src.Spec, (*field)(nil).dot("spec")
	c.checkSupported(&src.Meta, spec.ProtoReflect(), at)
	c.exportTo(&src.Meta, spec.ExportTo, at)
	if len(spec.Hosts) == 0 {
		c.errorf(&src.Meta, at.dot("hosts"), "", "expected at least one host: a VirtualService to delegate to is not supported yet")
	}
	for i, host := range spec.Hosts {
		f := at.dot("hosts").at(i)
		if wrong := checkHost(host, true); wrong != "" {
			c.errorf(&src.Meta, f, host, "%s", wrong)
			continue
		}
		name := hostPattern(fullName(host, src.Namespace))
		if slices.Contains(vs.hosts, name) {
			c.errorf(&src.Meta, f, host, "is given twice")
			continue
		}
		vs.hosts = append(vs.hosts, name)
	}
	for _, g := range spec.Gateways {
		if g != meshGateway && !strings.Contains(g, "/") {
			g = src.Namespace + "/" + g
		}
		vs.gateways = append(vs.gateways, g)
	}
	if len(vs.gateways) == 0 {
		vs.gateways = []string{meshGateway}
	}
	slices.Sort(vs.gateways)
	vs.gateways = slices.Compact(vs.gateways)
	if len(spec.Http) == 0 {
		c.errorf(&src.Meta, at.dot("http"), "", "expected at least one route")
	}
	c.httpRoutes(vs, at.dot("http"))
	return vs
}

// httpRoutes compiles the routes in order. As in Istio
// (BuildHTTPRoutesForVirtualService) every match entry becomes a route of its
// own, and generation ends with the first that takes everything.
func (c *compiler) httpRoutes(vs *virtualService, at *field) {
	var last *Rule // the route that takes everything
	for i, in := range vs.src.Spec.Http {
		f := at.at(i)
		if last != nil {
			c.warnf(&vs.src.Meta, f, in.Name, "is never reached: spec.http[%d] takes every request", last.Index)
		}
		act := c.action(vs.src, in, f)
		matches := in.Match
		if len(matches) == 0 {
			matches = []*networking.HTTPMatchRequest{nil}
		}
		for j, m := range matches {
			rt := c.route(vs.src, in, i, m, f.dot("match").at(j), act)
			if last == nil {
				vs.routes = append(vs.routes, rt)
			} else if last.Index == i {
				c.warnf(&vs.src.Meta, f.dot("match").at(j), "", "is never reached: an entry before it takes every request")
			}
			if last == nil && rt.match.always() {
				last = &rt.rule
			}
		}
	}
}

// route compiles one match entry, nil if the route has none.
func (c *compiler) route(src *VirtualService, in *networking.HTTPRoute, i int, m *networking.HTTPMatchRequest, at *field, act *action) *Route {
	rt := &Route{
		rule:   Rule{Kind: src.Kind, Namespace: src.Namespace, Name: src.Name, Route: in.Name, Index: i},
		action: act,
		form:   c.form,
	}
	if m != nil {
		rt.match = c.match(&src.Meta, m, at)
		if m.Name != "" {
			rt.rule.Route += "." + m.Name
		}
	}
	if act.path == "" {
		return rt
	}
	switch uri := rt.match.uri; uri.kind {
	case prefix:
		rt.rewrite, rt.strip = replacePrefix, len(uri.value)
	case exact, regex:
		rt.rewrite = replacePath
	default: // for Envoy the route has the prefix "/"
		rt.rewrite, rt.strip = replacePrefix, 1
	}
	return rt
}

// action compiles what a route does.
func (c *compiler) action(src *VirtualService, in *networking.HTTPRoute, at *field) *action {
	a := &action{}
	answers := 0
	for _, set := range []bool{len(in.Route) > 0, in.Redirect != nil, in.DirectResponse != nil, in.Delegate != nil} {
		if set {
			answers++
		}
	}
	if answers != 1 {
		c.errorf(&src.Meta, at, in.Name, "expected exactly one of route, redirect and directResponse")
	}
	if in.Rewrite != nil {
		c.rewrite(src, in, at.dot("rewrite"), a)
	}
	mirrored := c.mirrors(src, in, at, a)
	if in.Redirect != nil || in.DirectResponse != nil {
		if mirrored {
			c.warnf(&src.Meta, at, in.Name, "mirrors nothing: it is answered before a request is sent anywhere")
		}
		a.mirrors = nil
		return a
	}
	total := 0
	for i, rd := range in.Route {
		if rd.Weight < 0 {
			c.errorf(&src.Meta, at.dot("route").at(i).dot("weight"), fmt.Sprint(rd.Weight), "expected 0 or more")
		}
		total += int(rd.Weight)
	}
	if len(in.Route) > 1 && total == 0 {
		c.errorf(&src.Meta, at.dot("route"), "", "expected a weight above 0 among several destinations")
	}
	a.captured = c.captured(src, in, at, mirrored)
	return a
}

func (c *compiler) rewrite(src *VirtualService, in *networking.HTTPRoute, at *field, a *action) {
	uri := in.Rewrite.Uri
	switch {
	case in.Redirect != nil:
		c.errorf(&src.Meta, at, "", "cannot be given together with redirect")
	case uri == "" && in.Rewrite.Authority == "" && in.Rewrite.UriRegexRewrite == nil:
		c.errorf(&src.Meta, at, "", "expected a uri")
	case strings.ContainsFunc(uri, func(r rune) bool { return r <= ' ' || r == 0x7f }):
		c.errorf(&src.Meta, at.dot("uri"), uri, "expected a path without spaces and control characters")
	case uri != "" && uri[0] != '/':
		c.warnf(&src.Meta, at.dot("uri"), uri, `does not begin with "/": the copies may not be valid requests`)
	}
	a.path = uri
}
