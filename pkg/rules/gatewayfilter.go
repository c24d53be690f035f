package rules

import (
	"fmt"
	"net/netip"
	"slices"

	gateway "sigs.k8s.io/gateway-api/apis/v1"
)

// gatewayAction compiles what a rule does, with how it rewrites the path.
func (c *compiler) gatewayAction(gr *gatewayRoute, in *gatewayRule, at *field) (*action, rewriteKind) {
	a, change, rewrite := &action{timeout: in.timeout}, &headerChange{}, keepPath
	wanted, answered := false, false
	for i := range in.filters {
		share, _ := gatewayShare(in.filters[i].RequestMirror)
		wanted = wanted || share > 0
	}
	for i := range in.filters {
		f, filter := at.dot("filters").at(i), &in.filters[i]
		switch {
		case filter.Type == gateway.HTTPRouteFilterRequestMirror && filter.RequestMirror != nil:
			c.gatewayMirror(gr, in.name, filter.RequestMirror, f.dot("requestMirror"), a)
		case filter.Type == gateway.HTTPRouteFilterRequestRedirect:
			answered = true
		case filter.Type == gateway.HTTPRouteFilterURLRewrite && filter.URLRewrite != nil:
			rewrite = c.urlRewrite(gr.meta, filter.URLRewrite, f.dot("urlRewrite"), a, change)
		default:
			c.gatewayFilter(gr.meta, filter, f, wanted, change)
		}
	}
	backends := at.dot("backendRefs")
	arrive := c.gatewayCaptured(gr, in.backends, backends, wanted && !answered)
	a.captured = c.union(gr.meta, arrive)
	own := c.backendFilters(gr.meta, in.backends, backends, wanted, change)
	a.edit = change.edit()
	if wanted {
		c.byDestination(gr.meta, a, own, arrive, func(i int) *field { return backends.at(i).dot("filters") })
	}
	switch {
	case wanted && answered:
		c.warnf(gr.meta, at, in.name, "mirrors nothing: it is answered before a request is sent anywhere")
		a.mirrors = nil
	case wanted && !slices.ContainsFunc(in.backends, func(b gateway.HTTPBackendRef) bool { return weight(&b) > 0 }):
		c.warnf(gr.meta, at, in.name, "mirrors nothing: without a backend it is answered with 500")
		a.mirrors = nil
	}
	return a, rewrite
}

// gatewayFilter compiles a filter that may stand both in a rule and in a
// backend. What cannot be done is an error only in a rule that mirrors.
func (c *compiler) gatewayFilter(meta *Meta, filter *gateway.HTTPRouteFilter, at *field, wanted bool, change *headerChange) {
	report := c.errorf
	if !wanted {
		report = c.warnf
	}
	switch filter.Type {
	case gateway.HTTPRouteFilterRequestHeaderModifier:
		if filter.RequestHeaderModifier != nil {
			c.headerModifier(meta, filter.RequestHeaderModifier, at.dot("requestHeaderModifier"), change)
		}
	case gateway.HTTPRouteFilterResponseHeaderModifier:
		c.warnf(meta, at.dot("responseHeaderModifier"), "", "has no effect on mirroring")
	case gateway.HTTPRouteFilterCORS:
		c.warnf(meta, at.dot("cors"), "", "has no effect on mirroring")
	case gateway.HTTPRouteFilterExternalAuth:
		c.warnf(meta, at.dot("externalAuth"), "", "has no effect on mirroring: a request that is denied does not arrive")
	case gateway.HTTPRouteFilterExtensionRef:
		report(meta, at.dot("extensionRef"), "", "is not supported: what it does to a request is not known")
	default:
		report(meta, at.dot("type"), string(filter.Type), "is not supported here")
	}
}

// backendFilters compiles the filters of backends. Those of a single backend
// join change, which is that of the rule; of several, own is what each does
// besides (Istio: convertHTTPRoute leaves out backends of weight 0 first).
func (c *compiler) backendFilters(meta *Meta, backends []gateway.HTTPBackendRef, at *field, wanted bool, change *headerChange) (own []*edit) {
	several := 0
	for i := range backends {
		several += min(1, int(weight(&backends[i])))
	}
	own = make([]*edit, len(backends))
	for i := range backends {
		if weight(&backends[i]) == 0 {
			continue
		}
		into := change
		if several > 1 {
			into = &headerChange{}
		}
		for j := range backends[i].Filters {
			c.gatewayFilter(meta, &backends[i].Filters[j], at.at(i).dot("filters").at(j), wanted, into)
		}
		if several > 1 {
			own[i] = into.edit()
		}
	}
	return own
}

// weight is the share of a backend in proportion to the others.
func weight(b *gateway.HTTPBackendRef) int32 {
	if b.Weight == nil {
		return 1
	}
	return *b.Weight
}

// gatewayShare is the share of the requests that a RequestMirror takes, none if
// it is nil. As in Istio a fraction goes before a percentage and becomes one,
// which is truncated to four decimals.
func gatewayShare(in *gateway.HTTPRequestMirrorFilter) (numerator, denominator uint32) {
	var share RouteMirror
	switch {
	case in == nil:
	case in.Fraction != nil:
		denominator := 100.0
		if in.Fraction.Denominator != nil {
			denominator = float64(*in.Fraction.Denominator)
		}
		if p := 100 * float64(in.Fraction.Numerator) / denominator; p >= 0 && p <= 100 {
			share.setPercentage(p)
		}
	case in.Percent != nil:
		if *in.Percent >= 0 && *in.Percent <= 100 {
			share.setPercentage(float64(*in.Percent))
		}
	default:
		return 100, 100
	}
	return share.Numerator, share.Denominator
}

// gatewayMirror compiles a RequestMirror filter of the rule called route.
func (c *compiler) gatewayMirror(gr *gatewayRoute, route string, in *gateway.HTTPRequestMirrorFilter, at *field, a *action) {
	share := c.all()
	share.Numerator, share.Denominator = gatewayShare(in)
	if share.Numerator == 0 {
		switch {
		case in.Fraction != nil && in.Fraction.Numerator > 0:
			c.warnf(gr.meta, at.dot("fraction"), "", "mirrors nothing: less than 0.0001 percent counts as 0")
		case in.Percent != nil && (*in.Percent < 0 || *in.Percent > 100):
			c.errorf(gr.meta, at.dot("percent"), fmt.Sprint(*in.Percent), "expected a percentage from 0 to 100")
		}
	}
	at = at.dot("backendRef")
	t, ok := c.backendRef(gr, &in.BackendRef, at, c.errorf)
	if !ok {
		return
	}
	p := &t.ports[0]
	if !p.http() {
		gr.unresolvedf(gateway.RouteReasonUnsupportedProtocol, c.errorf, at, "", "port %d of %s speaks %s: mirroring to anything but HTTP is not supported yet",
			p.number, t.service.host, p.protocol)
		return
	}
	c.need(t.service.host)
	c.warnEmpty(gr.meta, t, at)
	m := c.mirror(gr.meta, t, p, at)
	if share.Numerator > 0 {
		share.to(m)
		share.extra = give(c.annotated, route, m, gr.meta.Namespace)
		a.mirrors = append(a.mirrors, share)
		c.uses = append(c.uses, mirrorUse{gr.meta, at, a, m})
	}
}

// backendRef resolves a reference to a backend and reports why that is not
// possible. As in Istio a reference to another namespace needs a ReferenceGrant
// on a Gateway, not in the mesh.
func (c *compiler) backendRef(gr *gatewayRoute, ref *gateway.BackendObjectReference, at *field, report reportf) (t *target, ok bool) {
	group, kind, namespace, name := "", "Service", gr.meta.Namespace, string(ref.Name)
	if ref.Group != nil {
		group = string(*ref.Group)
	}
	if ref.Kind != nil {
		kind = string(*ref.Kind)
	}
	if ref.Namespace != nil {
		namespace = string(*ref.Namespace)
	}
	hostname := group == apiGroup && kind == "Hostname" // an extension of Istio: the host of a ServiceEntry
	switch {
	case group+"/"+kind != "/Service" && !hostname:
		gr.unresolvedf(gateway.RouteReasonInvalidKind, report, at.dot("kind"), kind, "a backend of group %q is not supported, expected a Service", group)
		return nil, false
	case ref.Port == nil:
		gr.unresolvedf(gateway.RouteReasonBackendNotFound, report, at.dot("port"), "", "is required")
		return nil, false
	case !hostname && namespace != gr.meta.Namespace && gr.onGateway() && !c.granted(gr.meta, namespace, name):
		gr.unresolvedf(gateway.RouteReasonRefNotPermitted, report, at.dot("namespace"), namespace,
			"no ReferenceGrant in namespace %s lets a %s of namespace %s refer to Service %s", namespace, gr.meta.Kind, gr.meta.Namespace, name)
		return nil, false
	}
	var missing string
	if port := uint32(*ref.Port); hostname {
		t, missing = c.lookupHost(fullName(name, namespace), gr.meta.Namespace, port)
	} else {
		t, missing = c.lookupBackend(namespace, name, gr.meta.Namespace, port)
	}
	if missing != "" {
		gr.unresolvedf(gateway.RouteReasonBackendNotFound, report, at, name, "%s", missing)
	}
	return t, missing == ""
}

// gatewayCaptured is where the requests of a rule arrive: the endpoints of each
// of its backends, nil for one that requests are not sent to. It is found out
// for rules without a mirror too, as it tells by which listener a request came;
// what is missing there is not reported.
func (c *compiler) gatewayCaptured(gr *gatewayRoute, backends []gateway.HTTPBackendRef, at *field, mirrored bool) []map[netip.AddrPort]struct{} {
	out := make([]map[netip.AddrPort]struct{}, len(backends))
	var report reportf = c.errorf
	if !mirrored {
		report = func(*Meta, *field, string, string, ...any) {}
	}
	for i := range backends {
		if weight(&backends[i]) == 0 {
			continue
		}
		f := at.at(i)
		t, ok := c.backendRef(gr, &backends[i].BackendObjectReference, f, report)
		if !ok {
			continue
		}
		p := &t.ports[0]
		if !p.http() {
			gr.unresolvedf(gateway.RouteReasonUnsupportedProtocol, report, f, "", "port %d of %s speaks %s: capturing anything but HTTP is not supported yet",
				p.number, t.service.host, p.protocol)
			continue
		}
		if mirrored {
			c.checkNamespace(gr.meta, f, t.service)
			c.need(t.service.host)
			c.warnEmpty(gr.meta, t, f)
		}
		found := map[netip.AddrPort]struct{}{}
		for _, e := range t.endpoints {
			if !e.addr.IsValid() {
				report(gr.meta, f, e.host, "cannot be captured by name: the addresses of the endpoints are needed")
				break
			}
			if at, ok := e.at(p); ok {
				found[at] = struct{}{}
			} else if mirrored && e.foreign {
				c.warnForeign(gr.meta, f, t.service, e)
			}
		}
		out[i] = c.capturedAt(gr.meta, t, found)
	}
	return out
}

// granted reports whether a ReferenceGrant in namespace lets objects like meta
// refer to the Service called name there.
func (c *compiler) granted(meta *Meta, namespace, name string) bool {
	return slices.ContainsFunc(c.gateways.grants, func(g ReferenceGrant) bool {
		return g.Namespace == namespace &&
			slices.ContainsFunc(g.Spec.From, func(f gateway.ReferenceGrantFrom) bool {
				return f.Group == gatewayGroup && string(f.Kind) == meta.Kind && string(f.Namespace) == meta.Namespace
			}) &&
			slices.ContainsFunc(g.Spec.To, func(t gateway.ReferenceGrantTo) bool {
				return t.Group == "" && t.Kind == "Service" && (t.Name == nil || string(*t.Name) == name)
			})
	})
}
