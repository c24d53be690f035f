package rules

import (
	"regexp"
	"slices"

	networking "istio.io/api/networking/v1alpha3"
	gateway "sigs.k8s.io/gateway-api/apis/v1"
)

// CompileEach compiles what can be compiled of s, for a source where nobody
// holds back all objects until the last is right. An object with an error does
// nothing, and errors of it are among the Problems. So are those of objects
// that depend on it.
//
// A route with an error mirrors nothing, but it still takes the requests that
// it would take, as far as that can be told: in the proxies it does, and the
// next best rule must not get them here.
//
// The Program is nil only if a problem is none of an object's, or stays without
// the object.
func CompileEach(s *Snapshot, o Options) (*Program, Problems) {
	var found Problems
	hollow := hollows{}
	var needs *Needs
	for view := s; ; view = hollow.apply(s) {
		p, problems := compileOnce(view, o)
		if needs == nil {
			// Of the broken rules too: what is wrong with them may depend on
			// the endpoints that they lead to.
			needs = &p.needs
		}
		if problems.Err() == nil {
			p.needs = *needs
			for _, w := range problems {
				if hollow[w.named()] == 0 { // what is left of one says nothing
					found = append(found, w)
				}
			}
			found.sort()
			return p, slices.Compact(found)
		}
		progress := false
		for _, e := range problems {
			if e.Warning {
				continue
			}
			if hollow[e.named()] == 0 {
				found = append(found, e)
			}
			progress = progress || e.Object != "" && hollow[e.named()] < nothing
		}
		if !progress {
			return nil, problems
		}
		hollow.deepen(problems)
	}
}

// hollows says how much of objects with errors is left.
type hollows map[named]hollowness

// named identifies an object as problems name it.
type named struct{ group, object string }

func (p *Problem) named() named { return named{p.Group, p.Object} }
func (m *Meta) named() named    { return named{m.Group, m.object()} }

// hollowness is how much of a route is left. Of a Gateway nothing is with any,
// but that it is there; an object of another kind is left out.
type hollowness int

const (
	matchesOnly hollowness = iota + 1
	hostsOnly
	nothing
)

// deepen leaves less of the objects that still have errors.
func (h hollows) deepen(problems Problems) {
	seen := map[named]bool{}
	for _, p := range problems {
		if name := p.named(); !p.Warning && p.Object != "" && !seen[name] {
			seen[name] = true
			h[name]++
		}
	}
}

// apply is s with what is left of its objects.
func (h hollows) apply(s *Snapshot) *Snapshot {
	out := &Snapshot{}
	for _, vs := range s.VirtualServices {
		if vs, ok := h.virtualService(vs); ok {
			out.VirtualServices = append(out.VirtualServices, vs)
		}
	}
	for _, r := range s.HTTPRoutes {
		if r, ok := h.httpRoute(r); ok {
			out.HTTPRoutes = append(out.HTTPRoutes, r)
		}
	}
	for _, r := range s.GRPCRoutes {
		if r, ok := h.grpcRoute(r); ok {
			out.GRPCRoutes = append(out.GRPCRoutes, r)
		}
	}
	out.DestinationRules = without(h, s.DestinationRules, func(o *DestinationRule) *Meta { return &o.Meta })
	out.ServiceEntries = without(h, s.ServiceEntries, func(o *ServiceEntry) *Meta { return &o.Meta })
	out.WorkloadEntries = without(h, s.WorkloadEntries, func(o *WorkloadEntry) *Meta { return &o.Meta })
	for _, g := range s.IstioGateways {
		if g, ok := h.istioGateway(g); ok {
			out.IstioGateways = append(out.IstioGateways, g)
		}
	}
	for _, g := range s.Gateways {
		if g, ok := h.gateway(g); ok {
			out.Gateways = append(out.Gateways, g)
		}
	}
	out.ReferenceGrants = without(h, s.ReferenceGrants, func(o *ReferenceGrant) *Meta { return &o.Meta })
	out.Services = without(h, s.Services, func(o *Service) *Meta { return &o.Meta })
	out.EndpointSlices = without(h, s.EndpointSlices, func(o *EndpointSlice) *Meta { return &o.Meta })
	out.Pods = without(h, s.Pods, func(o *Pod) *Meta { return &o.Meta })
	out.Namespaces = without(h, s.Namespaces, func(o *Namespace) *Meta { return &o.Meta })
	return out
}

// without is the objects that have no error.
func without[T any](h hollows, objects []T, meta func(*T) *Meta) []T {
	broken := func(o *T) bool { return h[meta(o).named()] > 0 }
	if !slices.ContainsFunc(objects, func(o T) bool { return broken(&o) }) {
		return objects
	}
	return slices.DeleteFunc(slices.Clone(objects), func(o T) bool { return broken(&o) })
}

// Fields without which it cannot be told what a route matches, or for which
// hosts it is.
var (
	matchFields = regexp.MustCompile(`^spec\.(http|rules)(\[\d+\](\.match(es)?\b.*)?)?$`)
	hostFields  = regexp.MustCompile(`^(spec(\.(hosts|gateways|exportTo|hostnames|parentRefs)\b.*)?)?$`)
)

// left is how much is left of a route, considering what was not decoded.
func (h hollows) left(m *Meta) hollowness {
	level := h[m.named()]
	if level == matchesOnly && slices.ContainsFunc(m.bad, matchFields.MatchString) {
		level = hostsOnly
	}
	if level > 0 && slices.ContainsFunc(m.bad, hostFields.MatchString) {
		level = nothing
	}
	return level
}

func (h hollows) virtualService(vs VirtualService) (VirtualService, bool) {
	level := h.left(&vs.Meta)
	if level == 0 {
		return vs, true
	}
	if level >= nothing || len(vs.Spec.Http) == 0 {
		return vs, false
	}
	spec := &networking.VirtualService{Hosts: vs.Spec.Hosts, Gateways: vs.Spec.Gateways, ExportTo: vs.Spec.ExportTo}
	answered := &networking.HTTPDirectResponse{Status: 503}
	if level == hostsOnly {
		spec.Http = []*networking.HTTPRoute{{DirectResponse: answered}}
	} else {
		for _, r := range vs.Spec.Http {
			spec.Http = append(spec.Http, &networking.HTTPRoute{Name: r.Name, Match: r.Match, DirectResponse: answered})
		}
	}
	vs.Spec, vs.bad, vs.Extras = spec, nil, ""
	return vs, true
}

func (h hollows) httpRoute(r HTTPRoute) (HTTPRoute, bool) {
	switch h.left(&r.Meta) {
	case 0:
		return r, true
	case matchesOnly:
	default:
		return r, false
	}
	spec := &gateway.HTTPRouteSpec{CommonRouteSpec: r.Spec.CommonRouteSpec, Hostnames: r.Spec.Hostnames}
	for _, rule := range r.Spec.Rules {
		spec.Rules = append(spec.Rules, gateway.HTTPRouteRule{Name: rule.Name, Matches: rule.Matches})
	}
	r.Spec, r.bad, r.Extras = spec, nil, ""
	return r, true
}

func (h hollows) grpcRoute(r GRPCRoute) (GRPCRoute, bool) {
	switch h.left(&r.Meta) {
	case 0:
		return r, true
	case matchesOnly:
	default:
		return r, false
	}
	spec := &gateway.GRPCRouteSpec{CommonRouteSpec: r.Spec.CommonRouteSpec, Hostnames: r.Spec.Hostnames}
	for _, rule := range r.Spec.Rules {
		spec.Rules = append(spec.Rules, gateway.GRPCRouteRule{Name: rule.Name, Matches: rule.Matches})
	}
	r.Spec, r.bad, r.Extras = spec, nil, ""
	return r, true
}

// istioGateway is what is left of a Gateway: one that is not there would admit
// every host, at every client.
func (h hollows) istioGateway(g IstioGateway) (IstioGateway, bool) {
	level := h[g.named()]
	if level == 0 {
		return g, true
	}
	g.Spec, g.bad = &networking.Gateway{}, nil
	return g, level < nothing
}

// gateway is what is left of a Gateway: one that is not there would admit every
// route.
func (h hollows) gateway(g Gateway) (Gateway, bool) {
	level := h[g.named()]
	if level == 0 {
		return g, true
	}
	g.Spec, g.bad = &gateway.GatewaySpec{GatewayClassName: g.Spec.GatewayClassName}, nil
	return g, level < nothing
}
