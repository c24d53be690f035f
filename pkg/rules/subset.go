package rules

import (
	"slices"

	networking "istio.io/api/networking/v1alpha3"
)

// rootNamespace is Istio's: DestinationRules there hold for the whole mesh.
const rootNamespace = "istio-system"

// hostRules are the DestinationRules of one namespace for one host, exact or
// wildcard, that are exported alike. Istio merges those: the subsets add up,
// and the first traffic policy counts.
type hostRules struct {
	host     string
	exportTo []string
	subsets  []*networking.Subset
	policy   *networking.TrafficPolicy
	first    *Meta
}

// destinationRule checks a DestinationRule and files what it says.
func (c *compiler) destinationRule(dr *DestinationRule) {
	spec, at := dr.Spec, (*field)(nil).dot("spec")
	c.checkSupported(&dr.Meta, spec.ProtoReflect(), at)
	c.exportTo(&dr.Meta, spec.ExportTo, at)
	if wrong := checkHost(spec.Host, true); wrong != "" {
		c.errorf(&dr.Meta, at.dot("host"), spec.Host, "%s", wrong)
	}
	c.checkPolicy(&dr.Meta, spec.TrafficPolicy, at.dot("trafficPolicy"))
	if len(spec.WorkloadSelector.GetMatchLabels()) > 0 {
		c.warnf(&dr.Meta, at.dot("workloadSelector"), "", "the rule has no effect: it is for some clients, and a copy is sent for any")
		return
	}
	into := c.hostRules(dr, fullName(spec.Host, dr.Namespace))
	if into.policy == nil {
		into.policy = spec.TrafficPolicy
	} else if spec.TrafficPolicy != nil {
		c.warnf(&dr.Meta, at.dot("trafficPolicy"), "", "has no effect: %s has one for %s already", into.first.object(), spec.Host)
	}
	for i, s := range spec.Subsets {
		f := at.dot("subsets").at(i)
		c.checkPolicy(&dr.Meta, s.TrafficPolicy, f.dot("trafficPolicy"))
		if s.Name == "" || !isLabel(s.Name) {
			c.errorf(&dr.Meta, f.dot("name"), s.Name, "expected a name of lower-case letters, digits and hyphens")
		}
		if slices.ContainsFunc(spec.Subsets[:i], func(o *networking.Subset) bool { return o.Name == s.Name }) {
			c.errorf(&dr.Meta, f.dot("name"), s.Name, "is given twice")
			continue
		}
		if slices.ContainsFunc(into.subsets, func(o *networking.Subset) bool { return o.Name == s.Name }) {
			c.warnf(&dr.Meta, f.dot("name"), s.Name, "has no effect: a subset of this name is already defined for %s by %s or a later one",
				spec.Host, into.first.object())
			continue
		}
		into.subsets = append(into.subsets, s)
	}
}

// hostRules is what dr is merged into.
func (c *compiler) hostRules(dr *DestinationRule, host string) *hostRules {
	exportTo := slices.Sorted(slices.Values(dr.Spec.ExportTo))
	byHost := c.subsets[dr.Namespace]
	if byHost == nil {
		byHost = map[string][]*hostRules{}
		c.subsets[dr.Namespace] = byHost
	}
	for _, r := range byHost[host] {
		if slices.Equal(r.exportTo, exportTo) {
			return r
		}
	}
	r := &hostRules{host: host, exportTo: exportTo, first: &dr.Meta}
	byHost[host] = append(byHost[host], r)
	return r
}

// destinationRules are the rules for a service that hold for a rule in
// namespace, nil if there are none. Istio consults the client's namespace, the
// service's and the root namespace, and the first that has a DestinationRule
// for the host decides; the most specific host goes first, and one that is not
// exported to the client is not replaced by a less specific one
// (PushContext.destinationRule). The client is not known here: the rule's
// namespace stands for it.
func (c *compiler) destinationRules(s *service, namespace string) *hostRules {
	own := func(r *hostRules) bool { return visible(r.exportTo, namespace, namespace) }
	if namespace == rootNamespace {
		// Rules for the mesh must not hide those of the service; only what
		// is meant for this namespace alone goes first.
		own = func(r *hostRules) bool { return private(r, namespace) }
	}
	if r := c.mostSpecific(namespace, s.host, own); r != nil {
		return r
	}
	for _, ns := range []string{s.namespace, rootNamespace} {
		shared := func(r *hostRules) bool { return !private(r, ns) }
		best := c.mostSpecific(ns, s.host, shared)
		if best == nil {
			continue
		}
		for _, r := range c.subsets[ns][best.host] {
			if shared(r) && visible(r.exportTo, ns, namespace) {
				return r
			}
		}
	}
	return nil
}

// private reports whether rules of a namespace hold in it alone.
func private(r *hostRules, namespace string) bool {
	return len(r.exportTo) == 1 && (r.exportTo[0] == "." || r.exportTo[0] == namespace)
}

// mostSpecific is the first of the rules of a namespace that ok accepts, by
// the exact host, else by the longest wildcard.
func (c *compiler) mostSpecific(namespace, host string, ok func(*hostRules) bool) *hostRules {
	byHost := c.subsets[namespace]
	if len(byHost) == 0 {
		return nil
	}
	name := host
	for i := -1; i < len(host); i++ {
		if i >= 0 {
			name = "*" + host[i+1:]
		}
		for _, r := range byHost[name] {
			if ok(r) {
				return r
			}
		}
	}
	return nil
}

// findSubset looks a subset of a service up for a rule in namespace. known are
// the names that would have been found.
func (c *compiler) findSubset(s *service, namespace, name string) (labels map[string]string, known []string, ok bool) {
	r := c.destinationRules(s, namespace)
	if r == nil {
		return nil, nil, false
	}
	for _, subset := range r.subsets {
		if subset.Name == name {
			return subset.Labels, nil, true
		}
		known = append(known, subset.Name)
	}
	return nil, known, false
}
