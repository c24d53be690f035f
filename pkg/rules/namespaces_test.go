package rules

import (
	"fmt"
	"strings"
	"testing"
)

// TestNamespaceSelector: a listener takes the routes of the namespaces that
// have the labels it asks for. Of a namespace that is not among the rules only
// the name is known. What is needed must not depend on what is known, or it
// would be read and forgotten in turns.
func TestNamespaceSelector(t *testing.T) {
	route := strings.Replace(routeTo("r", "parentRefs: [{name: gw, namespace: default}]", "app", "shadow"), "{name: r}", "{name: r, namespace: ns}", 1)
	services := kubeServiceIn("ns", "app", "10.1.0.1") + kubeServiceIn("ns", "shadow", "10.1.0.8")
	// A Namespace cannot have another name than its own by a label.
	const namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: ns, labels: {team: a, tier: web, kubernetes.io/metadata.name: other}}\n---\n" +
		"apiVersion: v1\nkind: Namespace\nmetadata: {name: other, labels: {team: b}}\n---\n"
	for _, tt := range []struct {
		selector       string
		known, unknown bool // taken
		needed         bool
	}{
		{"{}", true, true, false},
		{"{matchLabels: {kubernetes.io/metadata.name: ns}}", true, true, false},
		{"{matchLabels: {kubernetes.io/metadata.name: other}}", false, false, false},
		{"{matchExpressions: [{key: kubernetes.io/metadata.name, operator: In, values: [x, ns]}]}", true, true, false},
		{"{matchExpressions: [{key: kubernetes.io/metadata.name, operator: NotIn, values: [x, ns]}]}", false, false, false},
		{"{matchLabels: {team: a}}", true, true, true},
		{"{matchLabels: {team: b}}", false, true, true},
		{"{matchLabels: {team: a, tier: db}}", false, true, true},
		{"{matchLabels: {team: a, kubernetes.io/metadata.name: other}}", false, false, false},
		{"{matchExpressions: [{key: team, operator: In, values: [a, b]}, {key: tier, operator: Exists}]}", true, true, true},
		{"{matchExpressions: [{key: team, operator: NotIn, values: [a]}]}", false, true, true},
		{"{matchExpressions: [{key: none, operator: NotIn, values: [a]}]}", true, true, true},
		{"{matchExpressions: [{key: tier, operator: DoesNotExist}]}", false, true, true},
		{"{matchExpressions: [{key: tier, operator: Between}]}", false, false, false},
		{"{matchExpressions: [{key: tier, operator: In}]}", false, false, false},
	} {
		gw := gatewayOf("name: a, port: 80, allowedRoutes: {namespaces: {from: Selector, selector: " + tt.selector + "}}")
		for objects, want := range map[string]bool{"": tt.unknown, namespace: tt.known} {
			p, ps := compile(t, services+gw+objects+route, Options{})
			if got := takes(t, p, "h", "10.1.0.1:8080") == "r"; got != want {
				t.Errorf("%s, known %v: taken %v", tt.selector, objects != "", got)
			}
			if got := p.Needs().Namespaces; got != tt.needed {
				t.Errorf("%s, known %v: needed %v", tt.selector, objects != "", got)
			}
			// Refused, or taken on trust.
			if told := len(ps) > 0; told != (!want || tt.needed && objects == "") {
				t.Errorf("%s, known %v: %v", tt.selector, objects != "", ps)
			}
		}
		plain := strings.Replace(route, "filters: [{type: RequestMirror", "filters: [] #", 1)
		if p, _ := compile(t, services+gw+plain, Options{}); p.Needs().Namespaces {
			t.Errorf("%s: needed without a mirror", tt.selector)
		}
	}
}

// TestNamespaceTwice: a Namespace has no namespace, and is an object like others.
func TestNamespaceTwice(t *testing.T) {
	const namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: ns}\n---\n"
	if got, want := problemsOf(t, namespace+namespace).Error(), "test.yaml:5: Namespace ns: is given twice, first in test.yaml:1"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// TestNamespacesBesideABrokenObject: a Gateway must not take the routes of a
// namespace that it excludes because somebody's object, of whatever namespace,
// has an error.
func TestNamespacesBesideABrokenObject(t *testing.T) {
	route := strings.Replace(routeTo("r", "parentRefs: [{name: gw, namespace: default}]", "app", "shadow"), "{name: r}", "{name: r, namespace: ns}", 1)
	text := kubeServiceIn("ns", "app", "10.1.0.1") + kubeServiceIn("ns", "shadow", "10.1.0.8") +
		gatewayOf("name: a, port: 80, allowedRoutes: {namespaces: {from: Selector, selector: {matchLabels: {team: b}}}}") +
		"apiVersion: v1\nkind: Namespace\nmetadata: {name: ns, labels: {team: a}}\n---\n" + route
	for name, broken := range map[string]string{
		"none": "",
		"one": "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: broken, namespace: elsewhere}\n" +
			"spec: {hosts: [x.com], http: [{route: [{destination: {host: nowhere}}], mirror: {host: nowhere}}]}\n",
	} {
		s, _ := decodeAll(t, text+broken)
		p, problems := CompileEach(s, Options{})
		if p == nil || (problems.Err() != nil) != (broken != "") {
			t.Fatalf("%s broken: %v", name, problems)
		}
		if got := takes(t, p, "h", "10.1.0.1:8080"); got == "r" {
			t.Errorf("%s broken: the route is taken", name)
		}
	}
}

// TestBrokenGateway: nobody gets by a Gateway with an error what it may have
// been there to refuse.
func TestBrokenGateway(t *testing.T) {
	istio := "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: gw}\n" +
		"spec: {%sselector: {app: ingress}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: [default/h.com]}]}\n---\n"
	listener := "name: a, %sport: 80, allowedRoutes: {namespaces: {from: Same}}"
	for name, tt := range map[string]struct{ gateway, route string }{
		"Gateway API": {
			gatewayOf(listener),
			strings.Replace(routeTo("r", "parentRefs: [{name: gw, namespace: default}]", "app", "shadow"), "{name: r}", "{name: r, namespace: ns}", 1),
		},
		"Istio": {
			istio,
			"apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: r, namespace: ns}\n" +
				"spec: {hosts: [h.com], gateways: [default/gw], http: [{route: [{destination: {host: app}}], mirror: {host: shadow}}]}\n---\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, field := range []string{"", "future: 1, "} {
				s, _ := decodeAll(t, kubeServiceIn("ns", "app", "10.1.0.1")+kubeServiceIn("ns", "shadow", "10.1.0.8")+
					fmt.Sprintf(tt.gateway, field)+tt.route)
				p, problems := CompileEach(s, Options{})
				if p == nil || (problems.Err() != nil) != (field != "") {
					t.Fatalf("%q: %v", field, problems)
				}
				if got := takes(t, p, "h.com", "10.1.0.1:8080"); got == "r" {
					t.Errorf("%q: the route is taken", field)
				}
			}
		})
	}
}
