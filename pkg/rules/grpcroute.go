package rules

import (
	"fmt"

	gateway "sigs.k8s.io/gateway-api/apis/v1"
)

// compileGRPCRoute compiles a GRPCRoute. A call of gRPC is a request for the path
// /service/method.
func (c *compiler) compileGRPCRoute(src *GRPCRoute) *gatewayRoute {
	gr := c.newGatewayRoute(&src.Meta, src.Spec.CommonRouteSpec, src.Spec.Hostnames)
	for i := range src.Spec.Rules {
		in := &src.Spec.Rules[i]
		at := (*field)(nil).dot("spec").dot("rules").at(i)
		c.withoutEffect(gr.meta, at, map[string]bool{"sessionPersistence": in.SessionPersistence != nil})
		rule := &gatewayRule{filters: httpFilters(in.Filters)}
		if in.Name != nil {
			rule.name = string(*in.Name)
		}
		for _, b := range in.BackendRefs {
			rule.backends = append(rule.backends, gateway.HTTPBackendRef{BackendRef: b.BackendRef, Filters: httpFilters(b.Filters)})
		}
		for j := range in.Matches {
			rule.matches = append(rule.matches, c.grpcRouteMatch(gr.meta, &in.Matches[j], at.dot("matches").at(j)))
		}
		if len(in.Matches) == 0 {
			rule.matches = append(rule.matches, c.grpcRouteMatch(gr.meta, &gateway.GRPCRouteMatch{}, at.dot("matches")))
		}
		c.add(gr, i, rule)
	}
	c.strayExtras(gr.meta, c.annotated)
	return gr
}

// httpFilters are the filters of a GRPCRoute as those of an HTTPRoute, of
// which they are a part.
func httpFilters(in []gateway.GRPCRouteFilter) []gateway.HTTPRouteFilter {
	out := make([]gateway.HTTPRouteFilter, len(in))
	for i, f := range in {
		out[i] = gateway.HTTPRouteFilter{
			Type:                   gateway.HTTPRouteFilterType(f.Type),
			RequestHeaderModifier:  f.RequestHeaderModifier,
			ResponseHeaderModifier: f.ResponseHeaderModifier,
			RequestMirror:          f.RequestMirror,
			ExtensionRef:           f.ExtensionRef,
		}
	}
	return out
}

func (c *compiler) grpcRouteMatch(meta *Meta, in *gateway.GRPCRouteMatch, at *field) gatewayMatch {
	var m gatewayMatch
	c.grpcMethod(meta, in.Method, at.dot("method"), &m)
	for i, h := range in.Headers {
		regular := h.Type != nil && *h.Type == gateway.GRPCHeaderMatchRegularExpression
		c.headerMatch(meta, string(h.Name), h.Value, regular, at.dot("headers").at(i), &m)
	}
	return m
}

// grpcMethod compiles a match of service and method to one of the path (Istio:
// createGRPCURIMatch). Of two calls the longer service goes first, then the
// longer method; among matches of an HTTPRoute for the same host it is the
// length of the path. An expression that stands for the service or the method is
// taken as one: "a|b" is one of two services, where Istio, which joins the
// texts, would match neither.
func (c *compiler) grpcMethod(meta *Meta, in *gateway.GRPCMethodMatch, at *field, m *gatewayMatch) {
	m.strip = -1
	if in == nil || in.Service == nil && in.Method == nil {
		m.uri = text{kind: prefix, value: "/"}
		m.path = 2
		return
	}
	var service, method string
	if in.Service != nil {
		service = *in.Service
	}
	if in.Method != nil {
		method = *in.Method
	}
	m.length, m.second = len(service), len(method)
	regular := in.Type != nil && *in.Type == gateway.GRPCMethodMatchRegularExpression
	switch {
	case !regular && in.Method == nil:
		m.path, m.uri = 2, text{kind: prefix, value: "/" + service + "/"}
		m.length, m.second = len(m.uri.value), 0
	case !regular && in.Service == nil:
		m.path, m.uri = 1, c.regex(meta, "/[^/]+/"+method, at.dot("method")) // letters, digits and "_"
	case !regular:
		m.path, m.uri = 3, text{kind: exact, value: "/" + service + "/" + method}
		m.length, m.second = len(m.uri.value), 0
	default:
		// Each by itself, so that a wrong one is found at its place and
		// parentheses cannot pair up across the two.
		if service == "" {
			service = "[^/]+"
		} else {
			c.regex(meta, service, at.dot("service"))
		}
		if method == "" {
			method = "[^/]+"
		} else {
			c.regex(meta, method, at.dot("method"))
		}
		if t, err := regexText(fmt.Sprintf("/(?:%s)/(?:%s)", service, method)); err == nil {
			m.uri = t
		}
		m.path = 1
	}
}
