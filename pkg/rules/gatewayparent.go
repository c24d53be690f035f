package rules

import (
	"slices"
	"strings"

	gateway "sigs.k8s.io/gateway-api/apis/v1"
)

// listener is a listener of a Gateway with the routes attached to it. Of a
// Gateway that is not in the Snapshot it stands for those that a route can
// mean by the same sectionName and port.
type listener struct {
	gateway  string // "namespace/name"
	section  string
	port     gateway.PortNumber // 0 if not known
	hostname string             // "*" if it takes every host
	spec     *gateway.Listener  // nil if not known

	routes map[string][]rankedRoute // by effective hostname
}

// meshService is a Service that routes are attached to for clients in the
// mesh (GAMMA), or one port of it. Routes of the namespace of the Service are
// for all clients, those of another for the clients of that one.
type meshService struct {
	service   *service
	port      gateway.PortNumber // 0 for every port
	consumers string             // the namespace of the clients, empty for all
	routes    []rankedRoute
}

// rankedRoute is a route with its place among the others.
type rankedRoute struct {
	*Route
	rank *precedence
}

// ranked are the routes of gr with their ranks.
func (gr *gatewayRoute) ranked() []rankedRoute {
	out := make([]rankedRoute, len(gr.routes))
	for i, rt := range gr.routes {
		out[i] = rankedRoute{rt, &gr.ranks[i]}
	}
	return out
}

// parentKind is what kind of parent a reference names.
func parentKind(ref *gateway.ParentReference) (group, kind string) {
	group, kind = gatewayGroup, "Gateway"
	if ref.Group != nil {
		group = string(*ref.Group)
	}
	if ref.Kind != nil {
		kind = string(*ref.Kind)
	}
	return group, kind
}

// parentName is "namespace/name" of the parent of a route.
func parentName(gr *gatewayRoute, ref *gateway.ParentReference) string {
	namespace := gr.meta.Namespace
	if ref.Namespace != nil {
		namespace = string(*ref.Namespace)
	}
	return namespace + "/" + string(ref.Name)
}

// reporter reports what is not supported: an error, unless gr mirrors nothing.
func (c *compiler) reporter(gr *gatewayRoute) reportf {
	if gr.mirrored() {
		return c.errorf
	}
	return c.warnf
}

// mirrored reports whether a rule of gr has a mirror.
func (gr *gatewayRoute) mirrored() bool {
	return slices.ContainsFunc(gr.routes, func(rt *Route) bool { return len(rt.action.mirrors) > 0 })
}

func isGateway(ref *gateway.ParentReference) bool {
	group, kind := parentKind(ref)
	return group == gatewayGroup && kind == "Gateway"
}

// onGateway reports whether a parent of gr is a Gateway.
func (gr *gatewayRoute) onGateway() bool {
	for i := range gr.parents {
		if isGateway(&gr.parents[i]) {
			return true
		}
	}
	return false
}

// section is the listener that ref asks for, empty and 0 for all of them.
func section(ref *gateway.ParentReference) (name string, port gateway.PortNumber) {
	if ref.SectionName != nil {
		name = string(*ref.SectionName)
	}
	if ref.Port != nil {
		port = *ref.Port
	}
	return name, port
}

// openGateways makes the listeners that routes refer to. Of a Gateway that is
// not known, a reference to one listener says that there is one, and one to
// all of them that there may be others.
func (c *compiler) openGateways() {
	g := &c.gateways
	open := func(l *listener) {
		l.routes = map[string][]rankedRoute{}
		g.listeners = append(g.listeners, l)
		g.groups[l.gateway] = append(g.groups[l.gateway], l)
	}
	for _, gr := range g.routes {
		for i := range gr.parents {
			ref := &gr.parents[i]
			name := parentName(gr, ref)
			if !isGateway(ref) {
				continue
			}
			if gw := g.gateways[name]; gw != nil {
				if len(g.groups[name]) == 0 {
					for j := range gw.Spec.Listeners {
						open(newListener(name, &gw.Spec.Listeners[j]))
					}
				}
				continue
			}
			s, port := section(ref)
			if !slices.ContainsFunc(g.groups[name], func(l *listener) bool { return l.section == s && l.port == port }) {
				open(&listener{gateway: name, section: s, port: port, hostname: "*"})
			}
		}
	}
}

func newListener(gatewayName string, spec *gateway.Listener) *listener {
	l := &listener{gateway: gatewayName, section: string(spec.Name), port: spec.Port, hostname: "*", spec: spec}
	if spec.Hostname != nil && *spec.Hostname != "" {
		l.hostname = strings.ToLower(string(*spec.Hostname))
	}
	return l
}

// attach attaches gr to its parents. That a parent does not take it is a
// warning: no request takes the route then, as in a cluster.
func (c *compiler) attach(gr *gatewayRoute) {
	for i := range gr.parents {
		ref := &gr.parents[i]
		at := (*field)(nil).dot("spec").dot("parentRefs").at(i)
		switch group, kind := parentKind(ref); {
		case group == gatewayGroup && kind == "Gateway":
			c.attachGateway(gr, ref, at)
		case group == "" && kind == "Service":
			c.attachService(gr, ref, at)
		default:
			c.reporter(gr)(gr.meta, at.dot("kind"), kind, "a parent of group %q is not supported, expected a Gateway or a Service", group)
		}
	}
	for _, list := range []*[]string{&gr.hosts, &gr.gateways} {
		slices.Sort(*list)
		*list = slices.Compact(*list)
	}
}

func (c *compiler) attachGateway(gr *gatewayRoute, ref *gateway.ParentReference, at *field) {
	name := parentName(gr, ref)
	a := c.admit(gr, ref, at)
	for _, by := range a.by {
		for _, host := range by.hosts {
			if !c.charge(gr.meta, hostCost+len(gr.routes)*bindCost) {
				break
			}
			by.routes[host] = append(by.routes[host], gr.ranked()...)
		}
		gr.hosts, gr.gateways = append(gr.hosts, by.hosts...), append(gr.gateways, name)
	}
	if len(a.by) == 0 {
		c.warnf(gr.meta, at, string(ref.Name), "no request takes the route by Gateway %s: %s", name, a.why)
	}
}

// admission is what a Gateway makes of a reference to it.
type admission struct {
	by []admittance // the listeners that take the route
	// If none does, the listener that was nearest to it says why.
	reason gateway.RouteConditionReason
	why    string
}

// admittance is a listener with the hosts that it takes a route for.
type admittance struct {
	*listener
	hosts []string
}

// admit says which listeners take gr by a reference that is at a field.
func (c *compiler) admit(gr *gatewayRoute, ref *gateway.ParentReference, at *field) admission {
	a := admission{reason: gateway.RouteReasonNoMatchingParent, why: "no listener has this sectionName or port"}
	s, port := section(ref)
	for _, l := range c.gateways.groups[parentName(gr, ref)] {
		if s != "" && l.section != s || port != 0 && l.port != port {
			continue
		}
		if why := c.refuses(l, gr, at); why != "" {
			if a.reason != gateway.RouteReasonNoMatchingListenerHostname {
				a.reason, a.why = gateway.RouteReasonNotAllowedByListeners, why
			}
			continue
		}
		hosts := intersect(l.hostname, gr.hostnames)
		if len(hosts) == 0 {
			a.reason = gateway.RouteReasonNoMatchingListenerHostname
			a.why = "no hostname of the route is one of listener " + l.section + " (" + l.hostname + ")"
			continue
		}
		a.by = append(a.by, admittance{l, hosts})
	}
	return a
}

// refuses says why a listener does not take a route, empty if it does.
func (c *compiler) refuses(l *listener, gr *gatewayRoute, at *field) string {
	if l.spec == nil {
		return "" // a Gateway that is not known is taken to admit everything
	}
	if p := l.spec.Protocol; p != gateway.HTTPProtocolType && p != gateway.HTTPSProtocolType {
		return "listener " + l.section + " speaks " + string(p)
	}
	allowed := l.spec.AllowedRoutes
	if allowed == nil {
		allowed = &gateway.AllowedRoutes{}
	}
	if len(allowed.Kinds) > 0 && !slices.ContainsFunc(allowed.Kinds, func(k gateway.RouteGroupKind) bool {
		return (k.Group == nil || *k.Group == gatewayGroup) && string(k.Kind) == gr.meta.Kind
	}) {
		return "listener " + l.section + " takes no " + gr.meta.Kind
	}
	from := gateway.NamespacesFromSame
	if allowed.Namespaces != nil && allowed.Namespaces.From != nil {
		from = *allowed.Namespaces.From
	}
	own, _, _ := strings.Cut(l.gateway, "/")
	switch from {
	case gateway.NamespacesFromAll:
		return ""
	case gateway.NamespacesFromSelector:
		return c.selects(allowed.Namespaces, gr, at)
	case gateway.NamespacesFromSame:
		if own == gr.meta.Namespace {
			return ""
		}
	}
	return "listener " + l.section + " takes no routes of namespace " + gr.meta.Namespace
}

// intersect are the hosts that both a listener and a route are for: the more
// specific of each pair that has some in common.
func intersect(hostname string, hostnames []string) (out []string) {
	if len(hostnames) == 0 {
		return []string{hostname}
	}
	for _, h := range hostnames {
		switch {
		case h == hostname || covers(hostname, h):
			out = append(out, h)
		case covers(h, hostname) && !slices.Contains(out, hostname):
			out = append(out, hostname)
		}
	}
	return out
}

// attachService attaches gr to a Service: its requests are those of clients in
// the mesh to the service, whatever its hostnames.
func (c *compiler) attachService(gr *gatewayRoute, ref *gateway.ParentReference, at *field) {
	name := parentName(gr, ref)
	namespace, short, _ := strings.Cut(name, "/")
	s := c.services.of(serviceHost(namespace, short), gr.meta.Namespace)
	if s == nil {
		c.warnf(gr.meta, at, short, "no request takes the route: there is no Service or ServiceEntry for %s", serviceHost(namespace, short))
		return
	}
	c.need(s.host)
	_, port := section(ref)
	if port != 0 && s.port(uint32(port)) == nil {
		c.warnf(gr.meta, at.dot("port"), "", "no request takes the route: %s has no port %d, expected one of %s", s.host, port, s.portList())
		return
	}
	if len(gr.hostnames) > 0 && !gr.onGateway() {
		c.warnf(gr.meta, (*field)(nil).dot("spec").dot("hostnames"), "", "has no effect on a route whose parent is a Service")
	}
	m := meshService{service: s, port: port}
	if namespace != gr.meta.Namespace {
		m.consumers, c.asksClient = gr.meta.Namespace, true
		c.asked = append(c.asked, &clientMatch{namespace: gr.meta.Namespace})
	}
	i := slices.IndexFunc(c.gateways.mesh, func(o *meshService) bool {
		return o.service == m.service && o.port == m.port && o.consumers == m.consumers
	})
	if i < 0 {
		i = len(c.gateways.mesh)
		c.gateways.mesh = append(c.gateways.mesh, &m)
	}
	c.gateways.mesh[i].routes = append(c.gateways.mesh[i].routes, gr.ranked()...)
	gr.hosts, gr.gateways, gr.consumers = append(gr.hosts, s.host), append(gr.gateways, meshGateway), m.consumers
}
