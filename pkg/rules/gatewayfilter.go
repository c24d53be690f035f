package rules

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	gateway "sigs.k8s.io/gateway-api/apis/v1"
)

// gatewayAction compiles what a rule does, with how it rewrites the path.
func (c *compiler) gatewayAction(gr *gatewayRoute, in *gatewayRule, at *field) (*action, rewriteKind) {
	a, change, rewrite := &action{}, &headerChange{}, keepPath
	wanted, answered := false, false
	for i := range in.filters {
		wanted = wanted || gatewayShare(in.filters[i].RequestMirror).Numerator > 0
	}
	for i := range in.filters {
		f, filter := at.dot("filters").at(i), &in.filters[i]
		switch {
		case filter.Type == gateway.HTTPRouteFilterRequestMirror && filter.RequestMirror != nil:
			c.gatewayMirror(gr, filter.RequestMirror, f.dot("requestMirror"), a)
		case filter.Type == gateway.HTTPRouteFilterRequestRedirect:
			answered = true
		case filter.Type == gateway.HTTPRouteFilterURLRewrite && filter.URLRewrite != nil:
			rewrite = c.urlRewrite(gr.meta, filter.URLRewrite, f.dot("urlRewrite"), a, change)
		default:
			c.gatewayFilter(gr.meta, filter, f, wanted, change)
		}
	}
	a.captured = c.gatewayCaptured(gr, in.backends, at.dot("backendRefs"), wanted && !answered)
	c.backendFilters(gr.meta, in.backends, at.dot("backendRefs"), wanted, change)
	a.ops = change.compile()
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

// backendFilters compiles the filters of backends. With a single backend they
// are as those of the rule; with several only what they have in common can be
// done to a copy, which goes to none of them.
func (c *compiler) backendFilters(meta *Meta, backends []gateway.HTTPBackendRef, at *field, wanted bool, change *headerChange) {
	var first *headerChange
	for i := range backends {
		if weight(&backends[i]) == 0 {
			continue
		}
		own := &headerChange{}
		for j := range backends[i].Filters {
			c.gatewayFilter(meta, &backends[i].Filters[j], at.at(i).dot("filters").at(j), wanted, own)
		}
		if first == nil {
			first = own
			continue
		}
		if wanted && !own.equal(first) {
			c.errorf(meta, at.at(i).dot("filters"), "", "changes headers in another way than the backend before it: "+
				"telling by which of them a request was answered is not supported yet")
		}
	}
	if first != nil {
		change.remove = append(change.remove, first.remove...)
		change.set = append(change.set, first.set...)
		change.add = append(change.add, first.add...)
		if first.hostSet != "" {
			change.hostSet = first.hostSet
		}
		if first.hostAdd != "" {
			change.hostAdd = first.hostAdd
		}
	}
}

func (h *headerChange) equal(o *headerChange) bool {
	return slices.Equal(h.remove, o.remove) && slices.Equal(h.set, o.set) && slices.Equal(h.add, o.add) &&
		h.hostSet == o.hostSet && h.hostAdd == o.hostAdd
}

// headerModifier adds what a RequestHeaderModifier does to change. The values
// are literal text, as the API has it: a "%" means itself.
func (c *compiler) headerModifier(meta *Meta, in *gateway.HTTPHeaderFilter, at *field, change *headerChange) {
	for i, name := range in.Remove {
		if c.modifiedHeader(meta, name, at.dot("remove").at(i)) && !strings.EqualFold(name, "host") {
			change.remove = append(change.remove, name)
		}
	}
	fields := func(list []gateway.HTTPHeader, at *field, host *string, out *[]headerField) {
		seen := map[string]bool{}
		for i, h := range list {
			f, name := at.at(i), string(h.Name)
			switch lower := strings.ToLower(name); {
			case !c.modifiedHeader(meta, name, f.dot("name")):
			case strings.ContainsFunc(h.Value, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }):
				c.errorf(meta, f.dot("value"), h.Value, "expected a value without control characters")
			case seen[lower]:
				c.warnf(meta, f.dot("name"), name, "has no effect: only the first value for a header counts")
			case lower == "host":
				seen[lower], *host = true, h.Value
			default:
				seen[lower] = true
				*out = append(*out, headerField{name, h.Value})
			}
		}
	}
	fields(in.Set, at.dot("set"), &change.hostSet, &change.set)
	fields(in.Add, at.dot("add"), &change.hostAdd, &change.add)
}

// modifiedHeader checks the name of a header that is changed. Those that say where
// a message ends or how a connection goes on belong to the connection, not to
// the request: with another value the copy would be another message.
func (c *compiler) modifiedHeader(meta *Meta, name string, at *field) bool {
	switch lower := strings.ToLower(name); lower {
	case "content-length", "transfer-encoding", "connection", "upgrade", "expect", "trailer", "te":
		c.errorf(meta, at, name, "is not supported: it is about the connection or the framing of the body")
		return false
	default:
		if lower == "" || strings.ContainsAny(name, ": \t\r\n") {
			c.errorf(meta, at, name, "expected the name of a header")
			return false
		}
	}
	return true
}

// weight is the share of a backend in proportion to the others.
func weight(b *gateway.HTTPBackendRef) int32 {
	if b.Weight == nil {
		return 1
	}
	return *b.Weight
}

// gatewayShare is the share of requests that a RequestMirror takes, with
// Numerator 0 if it takes none or is nil. As in Istio a fraction goes before a
// percentage and becomes one, which is truncated to four decimals.
func gatewayShare(in *gateway.HTTPRequestMirrorFilter) RouteMirror {
	share := RouteMirror{Numerator: 0, Denominator: million}
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
		share.setPercentage(100)
	}
	return share
}

// gatewayMirror compiles a RequestMirror filter.
func (c *compiler) gatewayMirror(gr *gatewayRoute, in *gateway.HTTPRequestMirrorFilter, at *field, a *action) {
	share := gatewayShare(in)
	if share.Numerator == 0 {
		switch {
		case in.Fraction != nil && in.Fraction.Numerator > 0:
			c.warnf(gr.meta, at.dot("fraction"), "", "mirrors nothing: less than 0.0001 percent counts as 0")
		case in.Percent != nil && (*in.Percent < 0 || *in.Percent > 100):
			c.errorf(gr.meta, at.dot("percent"), fmt.Sprint(*in.Percent), "expected a percentage from 0 to 100")
		}
	}
	at = at.dot("backendRef")
	b, ok := c.backendRef(gr, &in.BackendRef, at, c.errorf)
	if !ok {
		return
	}
	if !b.port.http() {
		c.errorf(gr.meta, at, "", "port %d of %s speaks %s: mirroring to anything but HTTP is not supported yet",
			b.port.number, b.service.host, b.port.protocol)
		return
	}
	m := &Mirror{Host: b.service.host, Port: b.port.number, id: -1}
	if known := c.known[m.Key()]; known != nil {
		m = known
	} else {
		for i := range b.endpoints {
			m.Endpoints = append(m.Endpoints, Endpoint{Address: b.endpoints[i].address(b.port)})
		}
		c.known[m.Key()] = m
	}
	if share.Mirror = m; share.Numerator > 0 {
		a.mirrors = append(a.mirrors, share)
		c.uses = append(c.uses, mirrorUse{gr.meta, at, a, m})
	}
}

// backendRef resolves a reference to a backend and reports why that is not
// possible. As in Istio a reference to another namespace needs a ReferenceGrant
// on a Gateway, not in the mesh.
func (c *compiler) backendRef(gr *gatewayRoute, ref *gateway.BackendObjectReference, at *field,
	report func(meta *Meta, f *field, value, format string, args ...any)) (b backend, ok bool) {
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
		report(gr.meta, at.dot("kind"), kind, "a backend of group %q is not supported, expected a Service", group)
		return b, false
	case ref.Port == nil:
		report(gr.meta, at.dot("port"), "", "is required")
		return b, false
	case !hostname && namespace != gr.meta.Namespace && gr.onGateway() && !c.granted(gr.meta, namespace, name):
		report(gr.meta, at.dot("namespace"), namespace,
			"no ReferenceGrant in namespace %s lets a %s of namespace %s refer to Service %s", namespace, gr.meta.Kind, gr.meta.Namespace, name)
		return b, false
	}
	var missing string
	if port := uint32(*ref.Port); hostname {
		b, missing = c.lookupHost(fullName(name, namespace), port)
	} else {
		b, missing = c.lookupBackend(namespace, name, port)
	}
	if missing != "" {
		report(gr.meta, at, name, "%s", missing)
	}
	return b, missing == ""
}

// gatewayCaptured is where the requests of a rule arrive: the endpoints of its
// backends. It is found out for rules without a mirror too, as it tells by
// which listener a request came; what is missing there is not reported.
func (c *compiler) gatewayCaptured(gr *gatewayRoute, backends []gateway.HTTPBackendRef, at *field, mirrored bool) map[netip.AddrPort]struct{} {
	out := map[netip.AddrPort]struct{}{}
	report := c.errorf
	if !mirrored {
		report = func(*Meta, *field, string, string, ...any) {}
	}
	for i := range backends {
		if weight(&backends[i]) == 0 {
			continue
		}
		f := at.at(i)
		b, ok := c.backendRef(gr, &backends[i].BackendObjectReference, f, report)
		switch {
		case !ok:
			continue
		case !b.port.http():
			report(gr.meta, f, "", "port %d of %s speaks %s: capturing anything but HTTP is not supported yet",
				b.port.number, b.service.host, b.port.protocol)
			continue
		}
		maps.Copy(out, c.addresses(gr.meta, &b, f, report))
	}
	return out
}

// addresses are those at which b is reached.
func (c *compiler) addresses(meta *Meta, b *backend, at *field,
	report func(meta *Meta, f *field, value, format string, args ...any)) map[netip.AddrPort]struct{} {
	out := map[netip.AddrPort]struct{}{}
	for i := range b.endpoints {
		e := &b.endpoints[i]
		if !e.addr.IsValid() {
			report(meta, at, e.host, "cannot be captured by name: the addresses of the endpoints are needed")
			break
		}
		out[netip.AddrPortFrom(e.addr, uint16(e.port(b.port)))] = struct{}{}
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
