package rules

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gateway "sigs.k8s.io/gateway-api/apis/v1"
)

// attachmentsOf is what a controller whose class is x says of text, in short.
func attachmentsOf(t *testing.T, text string) map[string]string {
	t.Helper()
	s, problems := decodeAll(t, text)
	_, more := CompileEach(s, Options{})
	found := Attach(s, append(problems, more...), "example.com/mirror", func(class string) bool { return class == "x" })
	short := func(conditions []metav1.Condition) string {
		var words []string
		for _, c := range conditions {
			if string(c.Status) == "True" && c.Reason == c.Type {
				continue // nothing to tell
			}
			words = append(words, fmt.Sprint(c.Type, "=", c.Status, "/", c.Reason))
		}
		return strings.Join(words, " ")
	}
	out := map[string]string{}
	for _, g := range found.Gateways {
		out[g.object()] = short(g.Conditions)
		for _, l := range g.Listeners {
			var kinds []gateway.Kind
			for _, k := range l.SupportedKinds {
				kinds = append(kinds, k.Kind)
			}
			out[g.object()+" "+string(l.Name)] = strings.TrimSpace(fmt.Sprint(l.AttachedRoutes, " routes of ", kinds, " ", short(l.Conditions)))
		}
	}
	for _, r := range found.Routes {
		for i, p := range r.Parents {
			if p.ControllerName != "example.com/mirror" || len(p.Conditions) != 2 {
				t.Errorf("%s: %+v", r.object(), p)
			}
			section := ""
			if p.ParentRef.SectionName != nil {
				section = "/" + string(*p.ParentRef.SectionName)
			}
			out[fmt.Sprint(r.object(), " ", i, " ", p.ParentRef.Name, section)] = short(p.Conditions)
		}
	}
	return out
}

// Listeners that take any route.
const (
	oneRoute = "1 routes of [HTTPRoute GRPCRoute] Conflicted=False/NoConflicts"
	noRoute  = "0 routes of [HTTPRoute GRPCRoute] Conflicted=False/NoConflicts"
)

// TestAttach: what becomes of a route, by the reasons that the API has for it.
func TestAttach(t *testing.T) {
	elsewhere := strings.NewReplacer("name: shadow", "name: hidden, namespace: other")
	for _, tt := range []struct {
		name, text string
		want       map[string]string // but what is as it is without a problem
	}{
		{"attached", gatewayOf("name: a, port: 80") + routeTo("r", "parentRefs: [{name: gw}]", "app", "shadow"), nil},
		{"another's Gateway beside it", gatewayOf("name: a, port: 80") + routeTo("r", "parentRefs: [{name: real}, {name: gw}]", "app", "shadow"), nil},
		{"a Service beside it", gatewayOf("name: a, port: 80") + routeTo("r", "parentRefs: [{group: '', kind: Service, name: app}, {name: gw}]", "app", "shadow"), nil},
		{"no such listener", gatewayOf("name: a, port: 80") + routeTo("r", "parentRefs: [{name: gw, sectionName: b}]", "app", "shadow"),
			map[string]string{"HTTPRoute default/r 0 gw": "-", "HTTPRoute default/r 0 gw/b": "Accepted=False/NoMatchingParent", "Gateway default/gw a": noRoute}},
		{"no such hostname", gatewayOf("name: a, port: 80, hostname: a.example") + routeTo("r", "parentRefs: [{name: gw}]\nhostnames: [b.example]", "app", "shadow"),
			map[string]string{"HTTPRoute default/r 0 gw": "Accepted=False/NoMatchingListenerHostname", "Gateway default/gw a": noRoute}},
		{"not allowed", gatewayOf("name: a, port: 80, allowedRoutes: {kinds: [{kind: GRPCRoute}]}") + routeTo("r", "parentRefs: [{name: gw}]", "app", "shadow"),
			map[string]string{"HTTPRoute default/r 0 gw": "Accepted=False/NotAllowedByListeners", "Gateway default/gw a": "0 routes of [GRPCRoute] Conflicted=False/NoConflicts"}},
		{"namespace without the label", gatewayOf("name: a, port: 80, allowedRoutes: {namespaces: {from: Selector, selector: {matchLabels: {team: a}}}}") +
			"apiVersion: v1\nkind: Namespace\nmetadata: {name: default, labels: {team: b}}\n---\n" + routeTo("r", "parentRefs: [{name: gw}]", "app", "shadow"),
			map[string]string{"HTTPRoute default/r 0 gw": "Accepted=False/NotAllowedByListeners", "Gateway default/gw a": noRoute}},
		{"nearest refusal", gatewayOf("name: a, port: 80, hostname: a.example", "name: b, port: 81, allowedRoutes: {kinds: [{kind: GRPCRoute}]}") +
			routeTo("r", "parentRefs: [{name: gw}]\nhostnames: [b.example]", "app", "shadow"),
			map[string]string{"HTTPRoute default/r 0 gw": "Accepted=False/NoMatchingListenerHostname", "Gateway default/gw a": noRoute,
				"Gateway default/gw b": "0 routes of [GRPCRoute] Conflicted=False/NoConflicts"}},
		{"two references", gatewayOf("name: a, port: 80", "name: b, port: 81") + routeTo("r", "parentRefs: [{name: gw, sectionName: a}, {name: gw, sectionName: c}]", "app", "shadow"),
			map[string]string{"HTTPRoute default/r 0 gw": "-", "HTTPRoute default/r 0 gw/a": "",
				"HTTPRoute default/r 1 gw/c": "Accepted=False/NoMatchingParent", "Gateway default/gw b": noRoute}},
		{"not supported", gatewayOf("name: a, port: 80") + gatewayDoc("HTTPRoute", "r", "parentRefs: [{name: gw}]\n"+
			ruleList("backendRefs: [{name: app, port: 80}]\nfilters: [{type: ExtensionRef, extensionRef: {group: g, kind: k, name: n}}, {type: RequestMirror, requestMirror: {backendRef: {name: shadow, port: 80}}}]")),
			map[string]string{"HTTPRoute default/r 0 gw": "Accepted=False/UnsupportedValue", "Gateway default/gw a": noRoute}},
		{"no mirror", gatewayOf("name: a, port: 80") + routeTo("r", "parentRefs: [{name: gw}]", "app", "none"),
			map[string]string{"HTTPRoute default/r 0 gw": "ResolvedRefs=False/BackendNotFound"}},
		{"no backend, no mirror asked for", gatewayOf("name: a, port: 80") + gatewayDoc("HTTPRoute", "r", "parentRefs: [{name: gw}]\n"+ruleList("backendRefs: [{name: none, port: 80}]")),
			map[string]string{"HTTPRoute default/r 0 gw": "ResolvedRefs=False/BackendNotFound"}},
		{"not permitted", gatewayOf("name: a, port: 80") + elsewhere.Replace(routeTo("r", "parentRefs: [{name: gw}]", "app", "shadow")),
			map[string]string{"HTTPRoute default/r 0 gw": "ResolvedRefs=False/RefNotPermitted"}},
		{"no Service", gatewayOf("name: a, port: 80") + strings.Replace(routeTo("r", "parentRefs: [{name: gw}]", "app", "shadow"), "{name: shadow", "{kind: Pod, name: shadow", 1),
			map[string]string{"HTTPRoute default/r 0 gw": "ResolvedRefs=False/InvalidKind"}},
		{"listener of TCP", gatewayDoc("Gateway", "gw", "gatewayClassName: x\nlisteners: [{name: a, port: 80, protocol: HTTP}, {name: b, port: 81, protocol: TCP}]") +
			routeTo("r", "parentRefs: [{name: gw}]", "app", "shadow"),
			map[string]string{"Gateway default/gw": "Accepted=True/ListenersNotValid",
				"Gateway default/gw b": "0 routes of [] Conflicted=False/NoConflicts Accepted=False/UnsupportedProtocol Programmed=False/Invalid"}},
		{"listeners of TCP", gatewayDoc("Gateway", "gw", "gatewayClassName: x\nlisteners: [{name: a, port: 81, protocol: TCP}]") +
			routeTo("r", "parentRefs: [{name: gw}]", "app", "shadow"),
			map[string]string{"Gateway default/gw": "Accepted=False/ListenersNotValid Programmed=False/Invalid",
				"Gateway default/gw a":     "0 routes of [] Conflicted=False/NoConflicts Accepted=False/UnsupportedProtocol Programmed=False/Invalid",
				"HTTPRoute default/r 0 gw": "Accepted=False/NotAllowedByListeners"}},
		{"unknown kinds of routes", gatewayOf("name: a, port: 80, allowedRoutes: {kinds: [{kind: HTTPRoute}, {kind: TCPRoute}]}") + routeTo("r", "parentRefs: [{name: gw}]", "app", "shadow"),
			map[string]string{"Gateway default/gw a": "1 routes of [HTTPRoute] Conflicted=False/NoConflicts ResolvedRefs=False/InvalidRouteKinds"}},
		{"addresses", gatewayDoc("Gateway", "gw", "gatewayClassName: x\naddresses: [{value: 192.0.2.1}]\nlisteners: [{name: a, port: 80, protocol: HTTP}]") + routeTo("r", "parentRefs: [{name: gw}]", "app", "shadow"),
			map[string]string{"Gateway default/gw": "Accepted=False/UnsupportedAddress Programmed=False/Invalid"}},
		{"another class", strings.Replace(gatewayOf("name: a, port: 80"), "ClassName: x", "ClassName: y", 1) + routeTo("r", "parentRefs: [{name: gw}]", "app", "shadow"),
			map[string]string{"Gateway default/gw": "-", "Gateway default/gw a": "-", "HTTPRoute default/r 0 gw": "-"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			want := map[string]string{"Gateway default/gw": "", "Gateway default/gw a": oneRoute, "HTTPRoute default/r 0 gw": ""}
			for k, v := range tt.want {
				want[k] = v
			}
			for k, v := range want {
				if v == "-" {
					delete(want, k)
				}
			}
			if d := cmp.Diff(want, attachmentsOf(t, backends+tt.text)); d != "" {
				t.Errorf("(-want +got)\n%s", d)
			}
		})
	}
}
