package rules

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	networking "istio.io/api/networking/v1alpha3"
)

// meshGateway is the reserved name for all sidecars.
const meshGateway = "mesh"

// Bounds of one VirtualService, which has a table of routes for each of its
// hosts at each of its gateways.
const (
	maxHosts    = 1 << 15 // by gateways
	maxGateways = 256
)

// virtualService is a compiled VirtualService.
type virtualService struct {
	src      *VirtualService
	hosts    []string // full names
	names    []string // of hosts that it has at its gateways
	gateways []string // full names, sorted, without repetitions
	routes   []*Route // up to the first that takes everything
	places   []place  // where each is written
	ends     []*Route // of routes, those that take everything from some clients
	services []string // full names of those under its wildcards that are its own in the mesh
	arrivals arrivals
	served   []uint32 // the ports on which clients in the mesh reach the hosts
}

// place is somewhere in an object.
type place struct {
	meta *Meta
	at   *field
}

// mesh reports whether the routes apply to clients in the mesh.
func (vs *virtualService) mesh() bool { return slices.Contains(vs.gateways, meshGateway) }

// clients describes those that the routes apply to.
func (vs *virtualService) clients() string {
	s := strings.Join(vs.gateways, " or ")
	if to := vs.src.Spec.ExportTo; len(to) > 0 {
		s += ", exported to " + strings.Join(to, " and ")
	}
	return s
}

// inMesh reports whether the routes apply to clients in the mesh.
func (vs *VirtualService) inMesh() bool {
	return len(vs.Spec.Gateways) == 0 || slices.Contains(vs.Spec.Gateways, meshGateway)
}

// virtualService compiles a VirtualService, nil if it is one that others
// delegate to.
func (c *compiler) virtualService(src *VirtualService) *virtualService {
	vs := &virtualService{src: src}
	spec, at := src.Spec, (*field)(nil).dot("spec")
	c.checkSupported(&src.Meta, spec.ProtoReflect(), at)
	c.exportTo(&src.Meta, spec.ExportTo, at)
	if c.delegates[src.Namespace+"/"+src.Name] != nil {
		if len(spec.Gateways) > 0 {
			c.errorf(&src.Meta, at.dot("gateways"), "", "cannot be given without hosts: a delegate has those of what delegates to it")
		}
		if len(spec.Http) == 0 {
			c.errorf(&src.Meta, at.dot("http"), "", "expected at least one route")
		}
		return nil
	}
	if len(spec.ExportTo) > 0 && !slices.Contains(spec.ExportTo, "*") {
		c.asksClient = true
	}
	if pairs := len(spec.Hosts) * max(1, len(spec.Gateways)); pairs > maxHosts || len(spec.Gateways) > maxGateways {
		c.errorf(&src.Meta, at.dot("hosts"), "", "%d hosts at %d gateways are too many: at most %d gateways, and %d hosts by gateways",
			len(spec.Hosts), len(spec.Gateways), maxGateways, maxHosts)
		return nil
	}
	given := make(map[string]bool, len(spec.Hosts))
	for i, host := range spec.Hosts {
		f := at.dot("hosts").at(i)
		if wrong := checkHost(host, true); wrong != "" {
			c.errorf(&src.Meta, f, host, "%s", wrong)
			continue
		}
		name := hostPattern(fullName(host, src.Namespace))
		if given[name] {
			c.errorf(&src.Meta, f, host, "is given twice")
			continue
		}
		given[name] = true
		vs.hosts = append(vs.hosts, name)
	}
	for i, g := range spec.Gateways {
		if g == "" {
			c.errorf(&src.Meta, at.dot("gateways").at(i), "", "is required")
		}
		vs.gateways = append(vs.gateways, gatewayName(g, src.Namespace))
	}
	if len(vs.gateways) > 0 {
		c.asksClient = c.asksClient || !slices.Equal(vs.gateways, []string{meshGateway})
	}
	if len(vs.gateways) == 0 {
		vs.gateways = []string{meshGateway}
	}
	slices.Sort(vs.gateways)
	vs.gateways = slices.Compact(vs.gateways)
	if len(spec.Http) == 0 {
		if len(spec.Tcp)+len(spec.Tls) == 0 {
			c.errorf(&src.Meta, at.dot("http"), "", "expected at least one route")
		}
		return vs
	}
	c.annotated, c.arrivals = c.extras(&src.Meta), &vs.arrivals
	c.httpRoutes(vs, at.dot("http"))
	c.strayExtras(&src.Meta, c.annotated)
	return vs
}

// httpRoutes compiles the routes in order. As in Istio
// (BuildHTTPRoutesForVirtualService) every match entry becomes a route of its
// own, and generation ends with the first that takes everything. For Istio one
// that does so for some clients ends it for them: on a gateway it is still so
// when the route stands behind those of all rules for the host (compareCatchAll).
func (c *compiler) httpRoutes(vs *virtualService, at *field) {
	var last *Rule // the route that takes everything
	for i, in := range vs.src.Spec.Http {
		f := at.at(i)
		if last != nil {
			c.warnf(&vs.src.Meta, f, in.Name, "is never reached: spec.http[%d] takes every request", last.Index)
		}
		rule := Rule{Kind: vs.src.Kind, Namespace: vs.src.Namespace, Name: vs.src.Name, Index: i}
		if in.Delegate == nil {
			last = c.httpRoute(vs, vs.src, in, f, rule, last)
			continue
		}
		c.costs.payer = &vs.src.Meta
		for _, d := range c.delegatedRoutes(vs, in, f) {
			last = c.httpRoute(vs, d.src, d.route, d.at, rule, last)
		}
		c.costs.payer = nil
	}
	c.shadowed(vs)
}

// httpRoute compiles a route that is written in src, which may be a delegate.
// last is the route before that takes everything, and so is the result.
func (c *compiler) httpRoute(vs *virtualService, src *VirtualService, in *networking.HTTPRoute, f *field, rule Rule, last *Rule) *Rule {
	act := c.action(src, in, f)
	matches := in.Match
	if len(matches) == 0 {
		matches = []*networking.HTTPMatchRequest{nil}
	}
	own := false // the route that takes everything is this one
	for j, m := range matches {
		at := f.dot("match").at(j)
		rt := c.route(vs, src, in, rule, m, at, act)
		if last == nil {
			rt.match.behind = slices.Clip(vs.ends)
			vs.routes = append(vs.routes, rt)
			vs.places = append(vs.places, place{&src.Meta, at})
			if rt.match.everything() {
				vs.ends = append(vs.ends, rt)
			}
		} else if own {
			c.warnf(&src.Meta, at, "", "is never reached: an entry before it takes every request")
		}
		if last == nil && rt.match.always() {
			last, own = &rt.rule, true
		}
	}
	return last
}

// route compiles one match entry, nil if the route has none.
func (c *compiler) route(vs *virtualService, src *VirtualService, in *networking.HTTPRoute, rule Rule, m *networking.HTTPMatchRequest, at *field, act *action) *Route {
	rule.Route = in.Name
	rt := &Route{rule: rule, action: act, form: c.form}
	if m != nil {
		rt.match = c.match(vs, &src.Meta, m, at)
		if m.Name != "" {
			rt.rule.Route += "." + m.Name
		}
	}
	if act.regex != nil {
		rt.rewrite = replaceRegex
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
		c.errorf(&src.Meta, at, in.Name, "expected exactly one of route, redirect, directResponse and delegate")
	}
	if in.Rewrite != nil {
		c.rewrite(src, in, at.dot("rewrite"), a)
	}
	var own []*edit
	a.edit, own = c.edits(src, in, at)
	a.timeout = c.timeout(&src.Meta, in.Timeout, at.dot("timeout"))
	mirrored := c.mirrors(src, in, at, a)
	if c.aborts(&src.Meta, in.Fault, at.dot("fault")) {
		mirrored, a.mirrors = false, nil
	}
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
	arrive := c.captured(src, in, at, mirrored)
	a.captured = c.union(&src.Meta, arrive)
	if own != nil && mirrored {
		c.byDestination(&src.Meta, a, own, arrive, func(i int) *field {
			return at.dot("route").at(i).dot("headers").dot("request")
		})
	}
	c.chargeAction(&src.Meta, a, max(len(in.Match), 1))
	return a
}

func (c *compiler) rewrite(src *VirtualService, in *networking.HTTPRoute, at *field, a *action) {
	uri, regex := in.Rewrite.Uri, in.Rewrite.UriRegexRewrite
	switch {
	case in.Redirect != nil:
		c.errorf(&src.Meta, at, "", "cannot be given together with redirect")
	case in.DirectResponse != nil:
		c.errorf(&src.Meta, at, "", "cannot be given together with directResponse")
	case uri == "" && in.Rewrite.Authority == "" && regex == nil:
		c.errorf(&src.Meta, at, "", "expected a uri, uriRegexRewrite or authority")
	case uri != "" && regex != nil:
		c.errorf(&src.Meta, at.dot("uri"), uri, "cannot be given together with uriRegexRewrite")
	case badPath(uri):
		c.errorf(&src.Meta, at.dot("uri"), uri, "expected a path without spaces and control characters")
	case uri != "" && uri[0] != '/':
		c.warnf(&src.Meta, at.dot("uri"), uri, `does not begin with "/": the copies may not be valid requests`)
	}
	if regex != nil {
		a.regex = c.regexRewrite(&src.Meta, regex, at.dot("uriRegexRewrite"))
	}
	a.path = uri
}

// timeout is the bound of a copy: Envoy gives it the timeout of the route.
func (c *compiler) timeout(meta *Meta, d *durationpb.Duration, at *field) time.Duration {
	switch t := d.AsDuration(); {
	case d == nil:
	case t < time.Millisecond, t%time.Millisecond != 0:
		c.errorf(meta, at, t.String(), "expected a whole number of milliseconds, at least one")
	default:
		return t
	}
	return 0
}

// aborts reports whether a fault answers every request before it is sent
// anywhere, so that there is nothing to mirror. Requests of which a proxy
// aborts a share never arrive at an endpoint.
func (c *compiler) aborts(meta *Meta, in *networking.HTTPFaultInjection, at *field) bool {
	if in == nil {
		return false
	}
	// Without a percentage nothing is aborted (translateFault).
	p := in.GetAbort().GetPercentage().GetValue()
	if p != 0 && !(p >= .0001 && p <= 100) { // NaN too
		c.errorf(meta, at.dot("abort").dot("percentage").dot("value"), fmt.Sprint(p), "expected 0 or a percentage from 0.0001 to 100")
	}
	if p >= 100 {
		c.warnf(meta, at.dot("abort"), "", "mirrors nothing: every request is answered before it is sent anywhere")
		return true
	}
	c.warnf(meta, at, "", noEffect)
	return false
}
