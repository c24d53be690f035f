package rules

import (
	"slices"

	networking "istio.io/api/networking/v1alpha3"
)

// rootNamespace is Istio's: DestinationRules there hold for the whole mesh.
const rootNamespace = "istio-system"

// hostRules are the subsets defined for one host, exact or wildcard, by the
// DestinationRules of one namespace. Istio merges those for the same host.
type hostRules struct {
	host    string
	subsets []*networking.Subset
	first   *Meta
}

// destinationRule checks a DestinationRule and files its subsets.
func (c *compiler) destinationRule(dr *DestinationRule) {
	spec, at := dr.Spec, (*field)(nil).dot("spec")
	c.checkSupported(&dr.Meta, spec.ProtoReflect(), at)
	c.exportTo(&dr.Meta, spec.ExportTo, at)
	if wrong := checkHost(spec.Host, true); wrong != "" {
		c.errorf(&dr.Meta, at.dot("host"), spec.Host, "%s", wrong)
	}
	host := fullName(spec.Host, dr.Namespace)
	into := c.subsets[dr.Namespace][host]
	if into == nil {
		into = &hostRules{host: host, first: &dr.Meta}
		if c.subsets[dr.Namespace] == nil {
			c.subsets[dr.Namespace] = map[string]*hostRules{}
		}
		c.subsets[dr.Namespace][host] = into
	}
	for i, s := range spec.Subsets {
		f := at.dot("subsets").at(i)
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

// findSubset looks a subset of a service up for a rule in namespace. Istio
// consults the client's namespace, the service's and the root namespace, and
// the first that has a DestinationRule for the host decides; the most specific
// host goes first (PushContext.destinationRule). The client is not known here:
// the rule's namespace stands for it. known are the names that would have been
// found.
func (c *compiler) findSubset(s *service, namespace, name string) (labels map[string]string, known []string, ok bool) {
	for _, ns := range []string{namespace, s.namespace, rootNamespace} {
		best := c.subsets[ns][s.host]
		for i := 0; best == nil && i < len(s.host); i++ {
			best = c.subsets[ns]["*"+s.host[i+1:]] // the longest wildcard first
		}
		if best == nil {
			continue
		}
		for _, subset := range best.subsets {
			if subset.Name == name {
				return subset.Labels, nil, true
			}
			known = append(known, subset.Name)
		}
		return nil, known, false
	}
	return nil, nil, false
}
