package rules

import (
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gateway "sigs.k8s.io/gateway-api/apis/v1"
)

// Attachments are what a controller has to say of its Gateways and of the
// routes that name them, in the order of the Snapshot. Conditions have no
// lastTransitionTime: that takes the status as it was.
type Attachments struct {
	Gateways []GatewayStatus
	Routes   []RouteStatus
}

// GatewayStatus is the status of a Gateway. It has no address.
type GatewayStatus struct {
	Meta
	Conditions []metav1.Condition
	Listeners  []gateway.ListenerStatus
}

// RouteStatus is the status of an HTTPRoute or GRPCRoute: an entry for each of
// its references to a Gateway of the controller, in their order.
type RouteStatus struct {
	Meta
	Parents []gateway.RouteParentStatus
}

// Attach finds out what becomes of the Gateways in s whose class is one of the
// controller's own, and of the routes that name them (Gateway API
// GatewayStatus, RouteParentStatus). A route is accepted if a listener takes it
// and problems, which are all that Decode and CompileEach said of s, have no
// error of it: it mirrors nothing then, so none of its rules is implemented and
// the condition PartiallyInvalid is never met. A backend that is missing is not
// such an error, it has a condition of its own.
//
// Endpoints decide nothing: they come and go, a status should not.
func Attach(s *Snapshot, problems Problems, controller string, own func(class string) bool) Attachments {
	view := attachable(s, own)
	if len(view.Gateways) == 0 {
		return Attachments{}
	}
	c := newCompiler(Options{})
	c.workloads(view)
	c.kubernetesServices(view)
	for i := range view.ServiceEntries {
		c.serviceEntry(&view.ServiceEntries[i])
	}
	c.gatewayRoutes(view)
	a := attacher{c: c, controller: gateway.GatewayController(controller), problems: map[string]Problems{}, attached: map[*gateway.Listener]int32{}}
	for _, p := range problems {
		if !p.Warning {
			a.problems[p.Object] = append(a.problems[p.Object], p)
		}
	}
	var out Attachments
	for _, gr := range c.gateways.routes {
		out.Routes = append(out.Routes, a.route(gr))
	}
	for i := range view.Gateways {
		out.Gateways = append(out.Gateways, a.gateway(&view.Gateways[i]))
	}
	return out
}

// attachable is s with nothing but the Gateways of own classes, the routes that
// name one, the namespaces of these and what backends are made of.
func attachable(s *Snapshot, own func(class string) bool) *Snapshot {
	view := &Snapshot{
		ReferenceGrants: s.ReferenceGrants, Services: s.Services, EndpointSlices: s.EndpointSlices,
		Pods: s.Pods, ServiceEntries: s.ServiceEntries, WorkloadEntries: s.WorkloadEntries,
		Namespaces: s.Namespaces,
	}
	ours := map[string]bool{}
	for _, gw := range s.Gateways {
		if own(string(gw.Spec.GatewayClassName)) {
			view.Gateways = append(view.Gateways, gw)
			ours[gw.Namespace+"/"+gw.Name] = true
		}
	}
	names := func(m *Meta, common *gateway.CommonRouteSpec) bool {
		gr := &gatewayRoute{meta: m}
		return slices.ContainsFunc(common.ParentRefs, func(ref gateway.ParentReference) bool {
			return isGateway(&ref) && ours[parentName(gr, &ref)]
		})
	}
	for _, r := range s.HTTPRoutes {
		if names(&r.Meta, &r.Spec.CommonRouteSpec) {
			view.HTTPRoutes = append(view.HTTPRoutes, r)
		}
	}
	for _, r := range s.GRPCRoutes {
		if names(&r.Meta, &r.Spec.CommonRouteSpec) {
			view.GRPCRoutes = append(view.GRPCRoutes, r)
		}
	}
	return view
}

// attacher says what became of compiled routes.
type attacher struct {
	c          *compiler
	controller gateway.GatewayController
	problems   map[string]Problems // errors by object
	attached   map[*gateway.Listener]int32
}

func (a *attacher) route(gr *gatewayRoute) RouteStatus {
	out := RouteStatus{Meta: *gr.meta}
	wrong := a.wrong(gr)
	for i := range gr.parents {
		ref := &gr.parents[i]
		if !isGateway(ref) || a.c.gateways.gateways[parentName(gr, ref)] == nil {
			continue
		}
		taken := a.c.admit(gr, ref, (*field)(nil).dot("spec").dot("parentRefs").at(i))
		if len(taken.by) > 0 && wrong != "" {
			taken = admission{reason: gateway.RouteReasonUnsupportedValue, why: wrong}
		}
		for _, by := range taken.by {
			a.attached[by.spec]++
		}
		out.Parents = append(out.Parents, gateway.RouteParentStatus{
			ParentRef: *ref, ControllerName: a.controller,
			Conditions: []metav1.Condition{gr.accepted(taken), gr.resolved()},
		})
	}
	return out
}

// wrong is the first error of a route that is not about a reference to a
// backend, empty if there is none.
func (a *attacher) wrong(gr *gatewayRoute) string {
	for _, p := range a.problems[gr.meta.object()] {
		if !slices.ContainsFunc(gr.unresolved, func(u unresolved) bool { return u.field == p.Field }) {
			p.Position, p.Object = Position{}, ""
			return "mirrors nothing: " + p.Error()
		}
	}
	return ""
}

func (gr *gatewayRoute) accepted(a admission) metav1.Condition {
	if len(a.by) == 0 {
		return gr.meta.condition(string(gateway.RouteConditionAccepted), false, string(a.reason), a.why)
	}
	listeners := make([]string, len(a.by))
	for i, by := range a.by {
		listeners[i] = by.section
	}
	return gr.meta.condition(string(gateway.RouteConditionAccepted), true, string(gateway.RouteReasonAccepted),
		"attached to "+strings.Join(listeners, ", "))
}

func (gr *gatewayRoute) resolved() metav1.Condition {
	if len(gr.unresolved) == 0 {
		return gr.meta.condition(string(gateway.RouteConditionResolvedRefs), true, string(gateway.RouteReasonResolvedRefs), "all backends are known")
	}
	u := gr.unresolved[0]
	message := u.field + ": " + u.message
	if n := len(gr.unresolved) - 1; n > 0 {
		message += fmt.Sprintf(" (and %d more)", n)
	}
	return gr.meta.condition(string(gateway.RouteConditionResolvedRefs), false, string(u.reason), message)
}

// gateway is the status of a Gateway of which nothing listens anywhere.
func (a *attacher) gateway(gw *Gateway) GatewayStatus {
	out := GatewayStatus{Meta: gw.Meta}
	valid := 0
	for i := range gw.Spec.Listeners {
		l, ok := a.listener(gw, &gw.Spec.Listeners[i])
		out.Listeners = append(out.Listeners, l)
		if ok {
			valid++
		}
	}
	accepted, reason, message := true, gateway.GatewayReasonAccepted, "routes are mirrored where their requests arrive"
	switch infrastructure := gw.Spec.Infrastructure; {
	case len(gw.bad) > 0:
		accepted, reason, message = false, gateway.GatewayReasonInvalid, gw.bad[0]+" is not understood"
	case len(gw.Spec.Addresses) > 0:
		accepted, reason, message = false, gateway.GatewayReasonUnsupportedAddress, "a Gateway of this class has no addresses: nothing of it listens"
	case infrastructure != nil && infrastructure.ParametersRef != nil:
		accepted, reason, message = false, gateway.GatewayReasonInvalidParameters, "a Gateway of this class has no parameters"
	case valid < len(gw.Spec.Listeners):
		accepted, reason = valid > 0, gateway.GatewayReasonListenersNotValid
		message = fmt.Sprintf("%d of %d listeners are not valid", len(gw.Spec.Listeners)-valid, len(gw.Spec.Listeners))
	}
	out.Conditions = append(out.Conditions, gw.condition(string(gateway.GatewayConditionAccepted), accepted, string(reason), message))
	programmed := gw.condition(string(gateway.GatewayConditionProgrammed), true, string(gateway.GatewayReasonProgrammed), "the agents follow it; nothing of it listens")
	if !accepted {
		programmed = gw.condition(string(gateway.GatewayConditionProgrammed), false, string(gateway.GatewayReasonInvalid), "it is not accepted")
	}
	out.Conditions = append(out.Conditions, programmed)
	return out
}

// listener is the status of a listener, and whether routes can attach to it.
func (a *attacher) listener(gw *Gateway, l *gateway.Listener) (gateway.ListenerStatus, bool) {
	out := gateway.ListenerStatus{Name: l.Name, AttachedRoutes: a.attached[l], SupportedKinds: []gateway.RouteGroupKind{}}
	add := func(t gateway.ListenerConditionType, ok bool, reason gateway.ListenerConditionReason, message string) {
		out.Conditions = append(out.Conditions, gw.condition(string(t), ok, string(reason), message))
	}
	add(gateway.ListenerConditionConflicted, false, gateway.ListenerReasonNoConflicts, "nothing listens on the port")
	if l.Protocol != gateway.HTTPProtocolType && l.Protocol != gateway.HTTPSProtocolType {
		add(gateway.ListenerConditionAccepted, false, gateway.ListenerReasonUnsupportedProtocol, fmt.Sprintf("%s is not mirrored, expected HTTP or HTTPS", l.Protocol))
		add(gateway.ListenerConditionProgrammed, false, gateway.ListenerReasonInvalid, "it is not accepted")
		add(gateway.ListenerConditionResolvedRefs, true, gateway.ListenerReasonResolvedRefs, "it takes no routes")
		return out, false
	}
	var unknown []string
	out.SupportedKinds, unknown = routeKinds(l.AllowedRoutes)
	add(gateway.ListenerConditionAccepted, true, gateway.ListenerReasonAccepted, "it takes routes")
	add(gateway.ListenerConditionProgrammed, true, gateway.ListenerReasonProgrammed, "the agents follow its routes")
	if len(unknown) > 0 {
		add(gateway.ListenerConditionResolvedRefs, false, gateway.ListenerReasonInvalidRouteKinds,
			strings.Join(unknown, ", ")+": not supported, expected HTTPRoute or GRPCRoute")
	} else {
		add(gateway.ListenerConditionResolvedRefs, true, gateway.ListenerReasonResolvedRefs, "certificates are not looked at: nothing of it ends TLS")
	}
	return out, true
}

// routeKinds are the kinds of routes that a listener takes, and those that it
// would have to take.
func routeKinds(allowed *gateway.AllowedRoutes) (supported []gateway.RouteGroupKind, unknown []string) {
	group := gateway.Group(gatewayGroup)
	if allowed == nil || len(allowed.Kinds) == 0 {
		return []gateway.RouteGroupKind{{Group: &group, Kind: "HTTPRoute"}, {Group: &group, Kind: "GRPCRoute"}}, nil
	}
	supported = []gateway.RouteGroupKind{}
	for _, k := range allowed.Kinds {
		if (k.Group == nil || *k.Group == group) && (k.Kind == "HTTPRoute" || k.Kind == "GRPCRoute") {
			supported = append(supported, gateway.RouteGroupKind{Group: &group, Kind: k.Kind})
		} else {
			unknown = append(unknown, string(k.Kind))
		}
	}
	return supported, unknown
}

// condition is one of the object's spec as it is now.
func (m *Meta) condition(kind string, holds bool, reason, message string) metav1.Condition {
	status := metav1.ConditionFalse
	if holds {
		status = metav1.ConditionTrue
	}
	return metav1.Condition{Type: kind, Status: status, ObservedGeneration: m.Generation, Reason: reason, Message: message}
}
