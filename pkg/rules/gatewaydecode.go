package rules

import (
	"encoding/json"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
	gateway "sigs.k8s.io/gateway-api/apis/v1"
)

// gatewayGroup is the API group of the Gateway API.
const gatewayGroup = "gateway.networking.k8s.io"

// HTTPRoute is one HTTPRoute object.
type HTTPRoute struct {
	Meta
	Spec *gateway.HTTPRouteSpec
}

// GRPCRoute is one GRPCRoute object.
type GRPCRoute struct {
	Meta
	Spec *gateway.GRPCRouteSpec
}

// Gateway is one Gateway object. Routes may name a Gateway that is not in the
// Snapshot; it is then taken to admit them.
type Gateway struct {
	Meta
	Spec *gateway.GatewaySpec
}

// ReferenceGrant is one ReferenceGrant object.
type ReferenceGrant struct {
	Meta
	Spec *gateway.ReferenceGrantSpec
}

// addGateway appends the objects of the Gateway API in o.
func (s *Snapshot) addGateway(o *Snapshot) {
	s.HTTPRoutes = append(s.HTTPRoutes, o.HTTPRoutes...)
	s.GRPCRoutes = append(s.GRPCRoutes, o.GRPCRoutes...)
	s.Gateways = append(s.Gateways, o.Gateways...)
	s.ReferenceGrants = append(s.ReferenceGrants, o.ReferenceGrants...)
}

// gatewayMetas calls f for every object of the Gateway API.
func (s *Snapshot) gatewayMetas(f func(*Meta)) {
	for i := range s.HTTPRoutes {
		f(&s.HTTPRoutes[i].Meta)
	}
	for i := range s.GRPCRoutes {
		f(&s.GRPCRoutes[i].Meta)
	}
	for i := range s.Gateways {
		f(&s.Gateways[i].Meta)
	}
	for i := range s.ReferenceGrants {
		f(&s.ReferenceGrants[i].Meta)
	}
}

// gatewayVersions are the served versions of each kind. The versions of a kind
// have the same shape.
func gatewayVersions(kind string) []string {
	switch kind {
	case "HTTPRoute", "Gateway", "ReferenceGrant":
		return []string{"v1", "v1beta1"}
	case "GRPCRoute":
		return []string{"v1"}
	}
	return nil
}

// gatewayObject decodes an object of the Gateway API. It reports whether it is
// of a kind that rules are made of.
func (d *decoder) gatewayObject(n *yaml.Node, apiVersion, kind string) bool {
	group, version, _ := strings.Cut(apiVersion, "/")
	if group != gatewayGroup || !slices.Contains(gatewayVersions(kind), version) {
		return false
	}
	d.envelope(n)
	switch kind {
	case "HTTPRoute":
		spec := &gateway.HTTPRouteSpec{}
		d.gatewaySpec(n, kind, spec)
		d.out.HTTPRoutes = append(d.out.HTTPRoutes, HTTPRoute{*d.meta, spec})
	case "GRPCRoute":
		spec := &gateway.GRPCRouteSpec{}
		d.gatewaySpec(n, kind, spec)
		d.out.GRPCRoutes = append(d.out.GRPCRoutes, GRPCRoute{*d.meta, spec})
	case "Gateway":
		spec := &gateway.GatewaySpec{}
		d.gatewaySpec(n, kind, spec)
		d.out.Gateways = append(d.out.Gateways, Gateway{*d.meta, spec})
	case "ReferenceGrant":
		spec := &gateway.ReferenceGrantSpec{}
		d.gatewaySpec(n, kind, spec)
		d.out.ReferenceGrants = append(d.out.ReferenceGrants, ReferenceGrant{*d.meta, spec})
	}
	return true
}

// gatewaySpec decodes the spec of an object into a pointer to its Go type.
func (d *decoder) gatewaySpec(object *yaml.Node, kind string, spec any) {
	at := (*field)(nil).dot("spec")
	n := child(object, "spec")
	if n == nil || isNull(n) {
		d.report(object, at, "", "is required")
		return
	}
	d.structuralInto(n, gatewaySchemas()[kind], at, spec)
}

// structuralInto decodes n into what out points to. What does not fit the
// schema is reported and left out.
func (d *decoder) structuralInto(n *yaml.Node, s *schema, at *field, out any) {
	v, ok := d.structural(n, s, at, 0)
	if !ok {
		return
	}
	text, err := json.Marshal(v)
	if err == nil {
		err = json.Unmarshal(text, out)
	}
	if err != nil {
		d.report(n, at, "", "%v", err)
	}
}
