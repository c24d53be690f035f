package kube

import (
	"reflect"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	gateway "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/shadowtap/shadowtap/pkg/rules"
)

// A status is kept in the form it has in JSON: what is not known here must come
// out as it went in.

// writesStatus reports whether the status of objects of a kind may be ours to
// write.
func (s *Source) writesStatus(k kind) bool {
	return s.cfg.GatewayStatus && k.group == gatewayGroup && k.kind != "ReferenceGrant"
}

// ownStatus is the part of the status of an object that could be ours, nil if
// none could.
func (s *Source) ownStatus(k kind, in *unstructured.Unstructured) map[string]any {
	if !s.writesStatus(k) {
		return nil
	}
	own := map[string]any{}
	status, _ := in.Object["status"].(map[string]any)
	for _, name := range []string{"conditions", "listeners"} {
		if v, ok := status[name]; ok {
			own[name] = v
		}
	}
	var parents []any
	for _, p := range list(status["parents"]) {
		if isOurs(p) {
			parents = append(parents, p)
		}
	}
	if parents != nil {
		own["parents"] = parents
	}
	return own
}

// list is v if it is a list.
func list(v any) []any {
	l, _ := v.([]any)
	return l
}

// isOurs reports whether an entry of a route's status is of this controller.
func isOurs(parent any) bool {
	p, _ := parent.(map[string]any)
	return p["controllerName"] == ControllerName
}

// inJSON is a value of the Gateway API in the form it has in JSON.
func inJSON(v any) map[string]any {
	out, _ := runtime.DefaultUnstructuredConverter.ToUnstructured(v) // fails for no type that is used here
	return out
}

// parentsVerdict is the status of a route.
type parentsVerdict struct{ parents []parentVerdict }

type parentVerdict struct {
	ref        map[string]any
	conditions []metav1.Condition
}

func routeVerdict(parents []gateway.RouteParentStatus) verdict {
	var v parentsVerdict
	for _, p := range parents {
		v.parents = append(v.parents, parentVerdict{inJSON(&p.ParentRef), p.Conditions})
	}
	return v
}

// merge replaces the entries of this controller. Those that there are keep
// their place, and entries of others theirs.
func (v parentsVerdict) merge(old map[string]any, now metav1.Time) (map[string]any, bool) {
	out, changed := []any{}, false
	said := make([]bool, len(v.parents))
	for _, entry := range list(old["parents"]) {
		if !isOurs(entry) {
			out = append(out, entry)
			continue
		}
		before := entry.(map[string]any)
		kept := false
		for i, p := range v.parents {
			if said[i] || !reflect.DeepEqual(before["parentRef"], any(p.ref)) {
				continue
			}
			conditions, other := mergeConditions(list(before["conditions"]), p.conditions, now)
			said[i], kept, changed = true, true, changed || other
			out = append(out, withField(before, "conditions", conditions))
			break
		}
		changed = changed || !kept
	}
	for i, p := range v.parents {
		if !said[i] {
			conditions, _ := mergeConditions(nil, p.conditions, now)
			out = append(out, map[string]any{"parentRef": p.ref, "controllerName": ControllerName, "conditions": conditions})
			changed = true
		}
	}
	return map[string]any{"parents": out}, changed
}

// listenersVerdict is the status of a Gateway.
type listenersVerdict struct {
	conditions conditionsVerdict
	listeners  []listenerVerdict
}

type listenerVerdict struct {
	fields     map[string]any // but its conditions
	conditions []metav1.Condition
}

func gatewayVerdict(conditions []metav1.Condition, listeners []gateway.ListenerStatus) verdict {
	v := listenersVerdict{conditions: conditions}
	for _, l := range listeners {
		own := listenerVerdict{conditions: l.Conditions}
		l.Conditions = nil
		own.fields = inJSON(&l)
		delete(own.fields, "conditions")
		v.listeners = append(v.listeners, own)
	}
	return v
}

func (v listenersVerdict) merge(old map[string]any, now metav1.Time) (map[string]any, bool) {
	fields, changed := v.conditions.merge(old, now)
	before := map[any]map[string]any{} // by name
	for _, l := range list(old["listeners"]) {
		if l, ok := l.(map[string]any); ok {
			before[l["name"]] = l
		}
	}
	changed = changed || len(before) != len(v.listeners)
	listeners := []any{}
	for _, l := range v.listeners {
		entry := before[l.fields["name"]]
		for name, value := range l.fields {
			if !reflect.DeepEqual(entry[name], value) {
				entry, changed = withField(entry, name, value), true
			}
		}
		conditions, other := mergeConditions(list(entry["conditions"]), l.conditions, now)
		listeners, changed = append(listeners, withField(entry, "conditions", conditions)), changed || other
	}
	fields["listeners"] = listeners
	return fields, changed
}

// conditionsVerdict is a status of conditions alone.
type conditionsVerdict []metav1.Condition

func (v conditionsVerdict) merge(old map[string]any, now metav1.Time) (map[string]any, bool) {
	conditions, changed := mergeConditions(list(old["conditions"]), v, now)
	return map[string]any{"conditions": conditions}, changed
}

// mergeConditions puts conditions among those that there are. One that is as
// before, but for its words, keeps the time since which it is (metav1.Condition
// lastTransitionTime). Nobody who knows a later generation is contradicted.
func mergeConditions(old []any, want []metav1.Condition, now metav1.Time) (out []any, changed bool) {
	out = append(out, old...)
	for _, c := range want {
		at, before := len(out), map[string]any(nil)
		for i, o := range out {
			if o, ok := o.(map[string]any); ok && o["type"] == c.Type {
				at, before = i, o
			}
		}
		c.LastTransitionTime = now
		next := inJSON(&c)
		if before["status"] == next["status"] {
			next["lastTransitionTime"] = before["lastTransitionTime"]
		}
		observed, _ := before["observedGeneration"].(int64)
		switch {
		case before == nil:
			out, changed = append(out, next), true
		case observed <= c.ObservedGeneration && !sameCondition(before, next):
			out[at], changed = next, true
		}
	}
	return out, changed
}

func sameCondition(a, b map[string]any) bool {
	for _, name := range []string{"status", "reason", "message", "observedGeneration"} {
		if !reflect.DeepEqual(a[name], b[name]) {
			return false
		}
	}
	return true
}

// withField returns a copy of an object with another value for a field.
func withField(object map[string]any, name string, value any) map[string]any {
	out := map[string]any{}
	for k, v := range object {
		out[k] = v
	}
	out[name] = value
	return out
}

// classPart is what is kept of a GatewayClass.
type classPart struct {
	controller string
	generation int64
	parameters bool // it refers to some
}

func (*classPart) addTo(*rules.Snapshot) {}

func convertClass(in *unstructured.Unstructured) part {
	controller, _, _ := unstructured.NestedString(in.Object, "spec", "controllerName")
	_, parameters, _ := unstructured.NestedMap(in.Object, "spec", "parametersRef")
	return &classPart{controller, in.GetGeneration(), parameters}
}

// ownClasses are the GatewayClasses of this controller by name. The lock is
// held.
func (s *Source) ownClasses() map[string]*classPart {
	out := map[string]*classPart{}
	for _, w := range s.watches {
		if w.class != gatewayClass().definition() {
			continue
		}
		for key, o := range w.collected().objects {
			if class, ok := o.part.(*classPart); ok && class.controller == ControllerName {
				out[strings.TrimPrefix(key, "/")] = class
			}
		}
	}
	return out
}

// verdict is the status of a class where the Gateway API is of a release.
func (c *classPart) verdict(release string) verdict {
	condition := func(kind gateway.GatewayClassConditionType, holds bool, reason gateway.GatewayClassConditionReason, message string) metav1.Condition {
		status := metav1.ConditionFalse
		if holds {
			status = metav1.ConditionTrue
		}
		return metav1.Condition{Type: string(kind), Status: status, ObservedGeneration: c.generation, Reason: string(reason), Message: message}
	}
	accepted := condition(gateway.GatewayClassConditionStatusAccepted, true, gateway.GatewayClassReasonAccepted, "routes of its Gateways are mirrored where their requests arrive")
	if c.parameters {
		accepted = condition(gateway.GatewayClassConditionStatusAccepted, false, gateway.GatewayClassReasonInvalidParameters, "the class has no parameters")
	}
	supported := condition(gateway.GatewayClassConditionStatusSupportedVersion, true, gateway.GatewayClassReasonSupportedVersion, "the definitions are of "+release)
	if !strings.HasPrefix(release, "v1.") {
		supported = condition(gateway.GatewayClassConditionStatusSupportedVersion, false, gateway.GatewayClassReasonUnsupportedVersion,
			"the definitions should be of a release v1, and their annotation says "+`"`+release+`"`)
	}
	return conditionsVerdict{accepted, supported}
}
