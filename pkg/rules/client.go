package rules

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	networking "istio.io/api/networking/v1alpha3"
)

// Client is the workload that sent a request. In a mesh it is the client's
// proxy that routes, so rules may ask for the client's namespace and labels,
// and for the gateway a request came by. At an endpoint only its address is
// seen: it is known if a Pod or WorkloadEntry among the rules has it.
//
// Of a client that is not known nothing is assumed: it may have come by any
// gateway and from any namespace that a rule is exported to, but no
// sourceLabels and no sourceNamespace is its own.
type Client struct {
	// Namespace and Labels are those of the workload. An empty namespace is
	// one that is not known.
	Namespace string
	Labels    map[string]string
	// Gateways are the gateways it serves, as NAMESPACE/NAME, in order; a
	// workload that serves none is a client in the mesh.
	Gateways []string

	// perhaps are the gateways it may serve besides: those that no Gateway
	// defines among the rules.
	perhaps []string
	// observed is whether it is known by its address alone.
	observed bool
}

// through reports whether c routes what is bound to gateway, as NAMESPACE/NAME
// or "mesh".
func (c *Client) through(gateway string) bool {
	if len(c.Gateways) == 0 && gateway == meshGateway {
		return true
	}
	return slices.Contains(c.Gateways, gateway) || slices.Contains(c.perhaps, gateway)
}

// mayServe reports whether c may be a gateway of the Gateway API, as
// NAMESPACE/NAME, or in its mesh, as "mesh". Which of them a workload serves is
// not known; who explains may say it.
func (c *Client) mayServe(gateway string) bool {
	return c == nil || c.observed || len(c.Gateways) == 0 || slices.Contains(c.Gateways, gateway)
}

// describe is the client for people.
func (c *Client) describe() string {
	if c == nil {
		return "not known"
	}
	s := "in the mesh"
	if len(c.Gateways) > 0 {
		s = "of gateway " + strings.Join(c.Gateways, ", ")
	}
	if c.Namespace != "" {
		s += ", namespace " + c.Namespace
	}
	if len(c.Labels) > 0 {
		s += ", " + labelList(c.Labels)
	}
	return s
}

// labelList is labels as people write them, in order.
func labelList(labels map[string]string) string {
	pairs := make([]string, 0, len(labels))
	for k, v := range labels {
		pairs = append(pairs, k+"="+v)
	}
	slices.Sort(pairs)
	return strings.Join(pairs, ", ")
}

// clientMatch is a condition on the client (Istio: sourceMatchHTTP). Labels
// and namespace are not consulted if there are gateways.
type clientMatch struct {
	gateways  []string // full names
	labels    map[string]string
	namespace string
}

// holds reports whether c, nil if not known, fulfils the condition.
func (m *clientMatch) holds(c *Client) bool {
	switch {
	case len(m.gateways) > 0:
		return c == nil || slices.ContainsFunc(m.gateways, c.through)
	case c == nil:
		return false
	}
	return hasLabels(c.Labels, m.labels) && (m.namespace == "" || m.namespace == c.Namespace)
}

func (m *clientMatch) describe() string {
	if len(m.gateways) > 0 {
		return "gateway " + strings.Join(m.gateways, " or ")
	}
	var parts []string
	if m.namespace != "" {
		parts = append(parts, "namespace "+m.namespace)
	}
	if len(m.labels) > 0 {
		parts = append(parts, labelList(m.labels))
	}
	return strings.Join(parts, ", ")
}

// hasLabels reports whether labels holds all that want holds.
func hasLabels(labels, want map[string]string) bool {
	for k, v := range want {
		if got, ok := labels[k]; !ok || got != v {
			return false
		}
	}
	return true
}

// clientMatch compiles the selectors of a match entry, nil if it has none.
func (c *compiler) clientMatch(vs *virtualService, meta *Meta, in *networking.HTTPMatchRequest, at *field) *clientMatch {
	m := &clientMatch{labels: in.SourceLabels, namespace: in.SourceNamespace}
	for i, g := range in.Gateways {
		if g == "" {
			c.errorf(meta, at.dot("gateways").at(i), "", "is required")
			continue
		}
		name := gatewayName(g, meta.Namespace)
		if !slices.Contains(vs.gateways, name) {
			c.warnf(meta, at.dot("gateways").at(i), g, "never holds: the VirtualService applies to %s",
				strings.Join(vs.gateways, ", "))
		}
		m.gateways = append(m.gateways, name)
	}
	if len(m.gateways) > 0 && (len(m.labels) > 0 || m.namespace != "") {
		c.warnf(meta, at, "", "sourceLabels and sourceNamespace are not consulted where gateways are given")
		m.labels, m.namespace = nil, ""
	}
	if len(m.gateways) == 0 && len(m.labels) == 0 && m.namespace == "" {
		return nil
	}
	return m
}

// gatewayName is the full name of a gateway that an object in namespace names.
func gatewayName(name, namespace string) string {
	if name == meshGateway || strings.Contains(name, "/") {
		return name
	}
	return namespace + "/" + name
}

// visible reports whether an object that is exported as exportTo says is seen
// from a namespace; one that is not known sees everything.
func visible(exportTo []string, own, from string) bool {
	return len(exportTo) == 0 || from == "" || slices.ContainsFunc(exportTo, func(to string) bool {
		return to == "*" || to == from || to == "." && own == from
	})
}

// exportTo checks a list of namespaces.
func (c *compiler) exportTo(meta *Meta, to []string, at *field) {
	at = at.dot("exportTo")
	for i, ns := range to {
		switch {
		case ns == "*" && len(to) > 1:
			c.errorf(meta, at.at(i), ns, "means all namespaces, expected no other entry")
		case ns == "~" && (meta.Kind != "ServiceEntry" || len(to) > 1):
			c.errorf(meta, at.at(i), ns, "means no namespace, expected only as the one entry of a ServiceEntry")
		case ns != "*" && ns != "." && ns != "~" && !isLabel(ns):
			c.errorf(meta, at.at(i), ns, `expected a namespace, "." or "*"`)
		case slices.Contains(to[:i], ns), ns == "." && slices.Contains(to, meta.Namespace):
			c.errorf(meta, at.at(i), ns, "is given twice")
		}
	}
}

// clients learns which workload has which address: from the Pods, from the
// WorkloadEntries, and from endpoints of ServiceEntries that carry labels.
// Which gateways a workload serves the selectors of Gateways say.
func (c *compiler) clients(s *Snapshot) map[netip.Addr]*Client {
	out := map[netip.Addr]*Client{}
	perhaps := c.undefinedGateways(s)
	add := func(address, namespace string, labels map[string]string) {
		addr, err := netip.ParseAddr(address)
		if err != nil || out[addr.Unmap()] != nil || c.foreign(addr.Unmap(), namespace) {
			return
		}
		client := &Client{Namespace: namespace, Labels: labels, perhaps: perhaps, observed: true}
		for i := range s.IstioGateways {
			g := &s.IstioGateways[i]
			// Istio takes pods of all namespaces (PILOT_SCOPE_GATEWAY_TO_NAMESPACE
			// is off by default).
			if len(g.Spec.Selector) > 0 && hasLabels(labels, g.Spec.Selector) {
				client.Gateways = append(client.Gateways, g.Namespace+"/"+g.Name)
			}
		}
		slices.Sort(client.Gateways)
		out[addr.Unmap()] = client
	}
	for i := range s.Pods {
		p := &s.Pods[i]
		if p.HostNetwork {
			continue // the address is the node's, which others share
		}
		for _, ip := range p.IPs {
			add(ip, p.Namespace, p.Labels)
		}
	}
	for i := range s.WorkloadEntries {
		w := &s.WorkloadEntries[i]
		add(w.Spec.Address, w.Namespace, w.workloadLabels())
	}
	for i := range s.ServiceEntries {
		se := &s.ServiceEntries[i]
		for _, e := range se.Spec.Endpoints {
			if len(e.GetLabels()) > 0 {
				add(e.Address, se.Namespace, e.Labels)
			}
		}
	}
	return out
}

// undefinedGateways are the gateways that rules are bound to and no Gateway
// defines: which workload serves them cannot be known.
func (c *compiler) undefinedGateways(s *Snapshot) (names []string) {
	defined := map[string]bool{meshGateway: true}
	for i := range s.IstioGateways {
		defined[s.IstioGateways[i].Namespace+"/"+s.IstioGateways[i].Name] = true
	}
	for _, vs := range c.virtualServices {
		for _, g := range vs.gateways {
			if !defined[g] {
				defined[g] = true
				names = append(names, g)
			}
		}
	}
	return names
}

// ParseClient reads a client as "explain --source" takes it:
// NAMESPACE[,label=value...], or the IP address of a workload that the rules
// know.
func (p *Program) ParseClient(s string) (*Client, error) {
	if addr, err := netip.ParseAddr(s); err == nil {
		known := p.clients[addr.Unmap()]
		if known == nil {
			return nil, fmt.Errorf("no Pod or WorkloadEntry has the address %s", addr)
		}
		return &Client{Namespace: known.Namespace, Labels: maps.Clone(known.Labels), Gateways: slices.Clone(known.Gateways)}, nil
	}
	namespace, rest, labelled := strings.Cut(s, ",")
	if !isLabel(namespace) {
		return nil, fmt.Errorf("%q: expected NAMESPACE[,label=value...] or an IP address", s)
	}
	c := &Client{Namespace: namespace, Labels: map[string]string{}}
	if !labelled {
		return c, nil
	}
	for pair := range strings.SplitSeq(rest, ",") {
		name, value, ok := strings.Cut(pair, "=")
		if !ok || name == "" {
			return nil, fmt.Errorf("%q: expected label=value", pair)
		}
		c.Labels[name] = value
	}
	return c, nil
}
