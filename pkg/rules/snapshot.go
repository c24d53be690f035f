package rules

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
	networking "istio.io/api/networking/v1alpha3"
)

// DefaultNamespace is the namespace of an object that names none.
const DefaultNamespace = "default"

// Snapshot is a set of rules, whatever they come from. The three API versions
// of networking.istio.io share their Go types.
type Snapshot struct {
	VirtualServices  []VirtualService
	DestinationRules []DestinationRule
	ServiceEntries   []ServiceEntry
	WorkloadEntries  []WorkloadEntry
	IstioGateways    []IstioGateway

	// Of the Gateway API, whose versions share their Go types too.
	HTTPRoutes      []HTTPRoute
	GRPCRoutes      []GRPCRoute
	Gateways        []Gateway
	ReferenceGrants []ReferenceGrant

	// What the hosts and backends of all of these are, and who their clients.
	Services       []Service
	EndpointSlices []EndpointSlice
	Pods           []Pod
	Namespaces     []Namespace
}

// Add appends the objects of o.
func (s *Snapshot) Add(o *Snapshot) {
	s.VirtualServices = append(s.VirtualServices, o.VirtualServices...)
	s.DestinationRules = append(s.DestinationRules, o.DestinationRules...)
	s.ServiceEntries = append(s.ServiceEntries, o.ServiceEntries...)
	s.WorkloadEntries = append(s.WorkloadEntries, o.WorkloadEntries...)
	s.IstioGateways = append(s.IstioGateways, o.IstioGateways...)
	s.Services = append(s.Services, o.Services...)
	s.EndpointSlices = append(s.EndpointSlices, o.EndpointSlices...)
	s.Pods = append(s.Pods, o.Pods...)
	s.Namespaces = append(s.Namespaces, o.Namespaces...)
	s.addGateway(o)
}

// VirtualService is one VirtualService object.
type VirtualService struct {
	Meta
	Spec *networking.VirtualService

	delegated bool // in place of an object that delegates to it
}

// DestinationRule is one DestinationRule object.
type DestinationRule struct {
	Meta
	Spec *networking.DestinationRule
}

// ServiceEntry is one ServiceEntry object.
type ServiceEntry struct {
	Meta
	Spec *networking.ServiceEntry
}

// Meta is what all objects have in common.
type Meta struct {
	// Group, Kind, Namespace and Name identify the object. Group is empty for
	// the kinds of the core of Kubernetes, Namespace for a Namespace.
	Group, Kind, Namespace, Name string
	// Position is where the object begins.
	Position
	// CreationTimestamp is zero where it is not known. Between objects that
	// compete the older one wins.
	CreationTimestamp time.Time
	// Generation counts the versions of the spec; 0 where it is not known.
	Generation int64

	// Extras is the value of Annotation, empty if the object has none.
	Extras string

	heir *heir      // nil unless in place of an object that delegates to it
	node *yaml.Node // for the lines of fields; nil if not from a file
	bad  []string   // the fields that Decode reported; Spec is not complete then
}

// object names the object in problems. Only with the group it identifies it.
func (m *Meta) object() string {
	if m.Namespace == "" {
		return m.Kind + " " + m.Name
	}
	return m.Kind + " " + m.Namespace + "/" + m.Name
}

// position is where field f is written.
func (m *Meta) position(f *field) Position {
	if line, _ := f.find(m.node); line > 0 {
		return Position{File: m.File, Line: line}
	}
	return m.Position
}

// decoded reports whether what is at f, in it and around it was decoded as it
// is written.
func (m *Meta) decoded(f string) bool {
	return !slices.ContainsFunc(m.bad, func(bad string) bool {
		return strings.HasPrefix(bad, f) || strings.HasPrefix(f, bad)
	})
}

// compareAge orders objects as Istio does (sortConfigByCreationTime): the
// oldest first, those of equal age by name and namespace.
func compareAge(a, b *Meta) int {
	return cmp.Or(
		a.CreationTimestamp.Compare(b.CreationTimestamp),
		strings.Compare(a.Name, b.Name),
		strings.Compare(a.Namespace, b.Namespace),
	)
}
