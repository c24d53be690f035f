package rules

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	networking "istio.io/api/networking/v1alpha3"
)

// target is what a destination of a rule resolves to.
type target struct {
	service   *service
	ports     []servicePort // that it may mean; never empty
	endpoints []*endpoint   // empty only if they come and go
	subset    string
	named     bool // the destination names the port
}

// ready reports whether there is an endpoint that copies can be sent to.
func (t *target) ready() bool {
	return slices.ContainsFunc(t.endpoints, func(e *endpoint) bool { return !e.notReady })
}

// destination resolves d, and reports why that is not possible: it would be a
// cluster that Envoy does not have, to which nothing is sent. Of a destination
// that is not needed, to which neither requests nor copies are followed, the
// service may be unknown and what is wrong is only a warning.
func (c *compiler) destination(vs *VirtualService, d *networking.Destination, at *field, needed bool) *target {
	report := c.errorf
	if !needed {
		report = c.warnf
	}
	if wrong := checkHost(d.Host, false); wrong != "" {
		c.errorf(&vs.Meta, at.dot("host"), d.Host, "%s", wrong)
		return nil
	}
	host := fullName(d.Host, vs.Namespace)
	s := c.services.of(host, vs.Namespace)
	if needed {
		c.need(host)
	}
	if s == nil && !needed {
		return nil
	}
	if s == nil {
		hint := ""
		if long := host + clusterDomain; len(c.services[long]) > 0 {
			hint = ", did you mean " + long + "?"
		}
		report(&vs.Meta, at.dot("host"), d.Host, "no Service and no ServiceEntry has the host %s%s", host, hint)
		return nil
	}
	if !visible(s.exportTo, s.namespace, vs.Namespace) {
		report(&vs.Meta, at.dot("host"), d.Host, "%s is not exported to namespace %s by %s", host, vs.Namespace, s.source.object())
		return nil
	}
	t := &target{service: s, subset: d.Subset}
	var labels map[string]string
	if d.Subset != "" {
		found, known, ok := c.findSubset(s, vs.Namespace, d.Subset)
		if !ok {
			report(&vs.Meta, at.dot("subset"), d.Subset, "no DestinationRule for %s in namespace %s defines this subset%s",
				s.host, vs.Namespace, suggest(d.Subset, known))
			return nil
		}
		labels = found
	}
	for i := range s.endpoints {
		if s.endpoints[i].has(labels) {
			t.endpoints = append(t.endpoints, &s.endpoints[i])
		}
	}
	if len(t.endpoints) == 0 && !s.dynamic {
		report(&vs.Meta, at, "", "%s has no endpoint%s", s.host, subsetSuffix(d.Subset, labels))
		return nil
	}
	if !t.ready() && needed {
		c.warnf(&vs.Meta, at, "", "%s "+noEndpointNow+"%s", s.host, subsetSuffix(d.Subset, labels))
	}
	if d.Port == nil {
		t.ports = s.ports
	} else {
		c.portNumber(&vs.Meta, at.dot("port").dot("number"), d.Port.Number)
		p := s.port(d.Port.Number)
		if p == nil {
			report(&vs.Meta, at.dot("port").dot("number"), fmt.Sprint(d.Port.Number),
				"%s has no such port, expected one of %s", s.host, s.portList())
			return nil
		}
		t.ports, t.named = []servicePort{*p}, true
	}
	if len(t.ports) == 0 { // of a ServiceEntry that is reported where it is defined
		if s.source.Kind == "Service" {
			report(&vs.Meta, at.dot("host"), d.Host, "%s has no TCP port", s.host)
		}
		return nil
	}
	return t
}

func subsetSuffix(subset string, labels map[string]string) string {
	if subset == "" {
		return ""
	}
	return fmt.Sprintf(" with the labels of subset %s (%s)", subset, labelList(labels))
}

// captured is where the requests of a route arrive: the endpoints of each of
// its destinations, nil for one that requests are not sent to. A destination
// without a port means whichever port of the service the request was addressed
// to. It is found out for routes without a mirror too: it tells which of
// several rules for a host a request came by.
func (c *compiler) captured(vs *VirtualService, in *networking.HTTPRoute, at *field, mirrored bool) []map[netip.AddrPort]struct{} {
	out := make([]map[netip.AddrPort]struct{}, len(in.Route))
	for i, rd := range in.Route {
		f := at.dot("route").at(i).dot("destination")
		if rd.Destination == nil {
			c.errorf(&vs.Meta, f, "", "is required")
			continue
		}
		t := c.destination(vs, rd.Destination, f, mirrored)
		if t == nil || (len(in.Route) > 1 && rd.Weight == 0) {
			continue // Istio leaves out destinations of weight 0 among several
		}
		if mirrored {
			c.checkNamespace(&vs.Meta, f, t.service)
		}
		found := map[netip.AddrPort]struct{}{}
		c.capture(vs, t, f, found, mirrored)
		out[i] = c.capturedAt(&vs.Meta, t, found)
	}
	return out
}

// arrivalKey is what decides where requests for a target arrive.
type arrivalKey struct {
	service   *service
	namespace string // of who refers to it: subsets may differ
	subset    string
	port      uint32 // 0 for all
}

// capturedAt is found, or the same set as another route has with that target:
// services have many endpoints, and often many routes. It is not to be changed.
func (c *compiler) capturedAt(meta *Meta, t *target, found map[netip.AddrPort]struct{}) map[netip.AddrPort]struct{} {
	key := arrivalKey{service: t.service, namespace: meta.Namespace, subset: t.subset}
	if t.named || len(t.ports) == 1 {
		key.port = t.ports[0].number
	}
	if known := c.arrive[key]; maps.Equal(known, found) && known != nil {
		return known
	}
	if !c.charge(meta, len(found)*arrivalCost) {
		return nil
	}
	c.arrive[key] = found
	return found
}

// union is the addresses of all, which is not to be changed either.
func (c *compiler) union(meta *Meta, sets []map[netip.AddrPort]struct{}) map[netip.AddrPort]struct{} {
	sets = slices.DeleteFunc(slices.Clone(sets), func(s map[netip.AddrPort]struct{}) bool { return s == nil })
	if len(sets) == 1 {
		return sets[0]
	}
	out := map[netip.AddrPort]struct{}{}
	for _, s := range sets {
		maps.Copy(out, s)
	}
	if !c.charge(meta, len(out)*arrivalCost) {
		clear(out)
	}
	return out
}

// capture adds the addresses of t to out. If nothing is mirrored of what
// arrives there, nothing is wrong with them.
func (c *compiler) capture(vs *VirtualService, t *target, at *field, out map[netip.AddrPort]struct{}, mirrored bool) {
	report := c.errorf
	if !mirrored {
		report = func(*Meta, *field, string, string, ...any) {}
	}
	readable := 0
	if mirrored {
		before := len(c.arrivals.all)
		defer func() { c.charge(&vs.Meta, (len(c.arrivals.all)-before)*arrivalCost) }()
	}
	for i := range t.ports {
		p := &t.ports[i]
		if !p.http() {
			continue
		}
		readable++
		for _, e := range t.endpoints {
			if !e.addr.IsValid() {
				report(&vs.Meta, at, e.host, "cannot be captured by name: the ServiceEntry needs the addresses of its endpoints and resolution STATIC")
				return
			}
			addr, ok := e.at(p)
			if mirrored && e.foreign {
				c.warnForeign(&vs.Meta, at, t.service, e)
			}
			if !ok {
				continue
			}
			out[addr] = struct{}{}
			if mirrored {
				c.arrivals.arrive(t, p.number, addr)
			}
		}
	}
	if readable == 0 {
		report(&vs.Meta, at, "", "%s has no port with protocol HTTP: capturing anything else is not supported yet", t.service.host)
	}
}
