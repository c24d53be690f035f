package rules

import (
	"cmp"
	"maps"
	"slices"
	"strings"
)

// Needs says which objects of Kubernetes a Program depends on besides the
// rules themselves and the Services. Without a mirror in any of these it is
// empty.
type Needs struct {
	// Services are those whose endpoints, with their labels, requests of
	// routes with a mirror or copies go to, known or not, in order.
	Services []ServiceName
	// Clients select the Pods that rules tell from other clients.
	Clients []PodSelector
	// Namespaces is whether a Gateway takes routes by the labels of their
	// namespaces.
	Namespaces bool
}

// ServiceName names a Service.
type ServiceName struct{ Namespace, Name string }

// PodSelector selects Pods by namespace, all if it is empty, and by labels,
// of which a Pod must have all.
type PodSelector struct {
	Namespace string
	Labels    map[string]string
}

// Needs are the objects that the answers of p depend on. What is missing of
// them is not an error: it is a service without endpoints, or a client that is
// not known.
func (p *Program) Needs() Needs { return p.needs }

// need notes that the endpoints of host decide what is captured or mirrored.
func (c *compiler) need(host string) {
	if c.needed == nil {
		c.needed = map[string]bool{}
	}
	c.needed[host] = true
}

// needs gathers what the rules were found to depend on.
func (c *compiler) needs(p *Program, s *Snapshot) (n Needs) {
	// Also for a mirror of a route that no Gateway takes: it may be for that.
	n.Namespaces = c.asksNamespaces && (len(p.mirrors) > 0 || slices.ContainsFunc(c.gateways.routes, (*gatewayRoute).mirrored))
	if len(p.mirrors) == 0 {
		return n
	}
	for host := range c.needed {
		if ns := serviceNamespace(host); ns != "" {
			name, _, _ := strings.Cut(host, ".")
			n.Services = append(n.Services, ServiceName{ns, name})
		}
	}
	slices.SortFunc(n.Services, func(a, b ServiceName) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
	})
	for i := range s.ServiceEntries {
		se := &s.ServiceEntries[i]
		needed := slices.ContainsFunc(se.Spec.Hosts, func(h string) bool { return c.needed[fullName(h, se.Namespace)] })
		if labels := se.Spec.WorkloadSelector.GetLabels(); needed && len(labels) > 0 {
			n.Clients = append(n.Clients, PodSelector{se.Namespace, labels})
		}
	}
	for i := range s.IstioGateways {
		if labels := s.IstioGateways[i].Spec.Selector; c.asksClient && len(labels) > 0 {
			n.Clients = append(n.Clients, PodSelector{"", labels})
		}
	}
	for _, m := range c.asked {
		if len(m.labels) > 0 || m.namespace != "" {
			n.Clients = append(n.Clients, PodSelector{m.namespace, m.labels})
		}
	}
	slices.SortFunc(n.Clients, PodSelector.compare)
	n.Clients = slices.CompactFunc(n.Clients, PodSelector.equal)
	return n
}

func (s PodSelector) compare(o PodSelector) int {
	return cmp.Or(strings.Compare(s.Namespace, o.Namespace), strings.Compare(labelList(s.Labels), labelList(o.Labels)))
}

func (s PodSelector) equal(o PodSelector) bool {
	return s.Namespace == o.Namespace && maps.Equal(s.Labels, o.Labels)
}

// Equal reports whether n and o are the same.
func (n Needs) Equal(o Needs) bool {
	return n.Namespaces == o.Namespaces && slices.Equal(n.Services, o.Services) && slices.EqualFunc(n.Clients, o.Clients, PodSelector.equal)
}
