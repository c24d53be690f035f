package rules

import "slices"

// serviceTable is the services by host. In every namespace there may be one
// for a host; they stand in the order in which Istio prefers them to each
// other: those of Kubernetes first, then the oldest.
type serviceTable map[string][]*service

// of is the service that a host means to what is in namespace, nil if there is
// none (Istio: SidecarScope, selectServices): of those that are exported to it
// its own one, else the first. If none is exported to it, it is one that is
// not.
func (t serviceTable) of(host, namespace string) *service {
	var first *service
	for _, s := range t[host] {
		switch {
		case !visible(s.exportTo, s.namespace, namespace):
		case s.namespace == namespace:
			return s
		case first == nil:
			first = s
		}
	}
	if first == nil && len(t[host]) > 0 {
		return t[host][0]
	}
	return first
}

// scope tells s from others with its host, empty if it is the first of them.
func (t serviceTable) scope(s *service) string {
	if list := t[s.host]; len(list) == 0 || list[0] == s {
		return ""
	}
	return s.namespace
}

// addService files a service, for which its source asks at. A second one of
// its namespace is joined with the first, as Istio's index of endpoints, which
// is by namespace and host, does.
func (c *compiler) addService(s *service, at *field) {
	list := c.services[s.host]
	if i := slices.IndexFunc(list, func(o *service) bool { return o.namespace == s.namespace }); i >= 0 {
		c.warnf(s.source, at, s.host, "is also a host of %s: the endpoints of both are taken together", list[i].source.object())
		if c.charge(s.source, (len(list[i].endpoints)+len(s.endpoints))*(endpointCost+len(list[i].ports)*nameCost)) {
			list[i].join(s)
		}
		return
	}
	if len(list) > 0 {
		c.warnf(s.source, at, s.host, "is also a host of %s: only rules in namespace %s mean this one", list[0].source.object(), s.namespace)
	}
	c.services[s.host] = append(list, s)
}

// join adds the endpoints of o, which is less preferred, to s. Ports are joined
// too where both are ServiceEntries of one resolution (Istio:
// canMergeServices); else an endpoint serves the ports of s that have the
// names of its own.
func (s *service) join(o *service) {
	s.endpoints = append(s.servedEndpoints(), o.servedEndpoints()...)
	s.dynamic = s.dynamic || o.dynamic
	if s.source.Kind != "ServiceEntry" || o.source.Kind != "ServiceEntry" || s.resolution != o.resolution {
		return
	}
	for _, p := range o.ports {
		if s.port(p.number) == nil {
			s.ports = append(s.ports, p)
		}
	}
}

// servedEndpoints are the endpoints, each with all the ports it serves.
func (s *service) servedEndpoints() []endpoint {
	out := slices.Clone(s.endpoints)
	for i := range out {
		e := &out[i]
		if e.complete {
			continue
		}
		ports := make(map[string]uint32, len(s.ports))
		for j := range s.ports {
			ports[s.ports[j].name] = e.port(&s.ports[j])
		}
		e.ports, e.complete = ports, true
	}
	return out
}
