package rules

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// gatewayOf is a Gateway called gw with listeners, each the fields of one.
func gatewayOf(listeners ...string) string {
	text := "gatewayClassName: x\nlisteners:\n"
	for _, l := range listeners {
		text += "- {protocol: HTTP, " + l + "}\n"
	}
	return gatewayDoc("Gateway", "gw", text)
}

// routeTo is an HTTPRoute that mirrors everything of backend to mirror.
func routeTo(name, spec, backend, mirror string) string {
	return gatewayDoc("HTTPRoute", name, spec+"\n"+ruleList(
		fmt.Sprintf("backendRefs: [{name: %s, port: 80}]\nfilters: [{type: RequestMirror, requestMirror: {backendRef: {name: %s, port: 80}}}]", backend, mirror)))
}

// takes is the name of the route that takes a request for host, whose path
// does not matter, empty if none does.
func takes(t *testing.T, p *Program, host, dst string) string {
	t.Helper()
	if d := decide(t, p, request(t, "GET /\nHost: "+host), dst); d.Route != nil {
		return d.Route.Rule().Name
	}
	return ""
}

// TestHostnames: the hosts of a route are those both it and a listener are
// for, and the most specific one decides.
func TestHostnames(t *testing.T) {
	p, _ := compile(t, backends+
		gatewayOf("name: a, port: 80, hostname: '*.example.com'", "name: b, port: 80, hostname: exact.org", "name: c, port: 8080")+
		routeTo("exact", "parentRefs: [{name: gw}]\nhostnames: [a.example.com, b.other.com]", "app", "shadow")+
		routeTo("wildcard", "parentRefs: [{name: gw, sectionName: a}]\nhostnames: ['*.com']", "app", "shadow")+
		routeTo("section", "parentRefs: [{name: gw, sectionName: b}]", "app", "shadow")+
		routeTo("port", "parentRefs: [{name: gw, port: 8080}]\nhostnames: ['*.port.net', port.net]", "app", "shadow"), Options{})
	for host, want := range map[string]string{
		"a.example.com": "exact", "A.Example.COM:1234": "exact", "b.example.com": "wildcard", "x.y.example.com": "wildcard",
		"example.com": "", "b.other.com": "exact", "c.other.com": "", "exact.org": "section", "x.exact.org": "",
		"port.net": "port", "x.port.net": "port", "unknown.net": "",
	} {
		if got := takes(t, p, host, ""); got != want {
			t.Errorf("%s: %q, expected %q", host, got, want)
		}
	}
}

// TestHostnameFallback: a host whose routes do not match is not tried with a
// wildcard, as by other gateways made of Envoy.
func TestHostnameFallback(t *testing.T) {
	p, _ := compile(t, backends+routeTo("wildcard", "parentRefs: [{name: gw}]\nhostnames: ['*.example.com']", "app", "shadow")+
		gatewayDoc("HTTPRoute", "exact", "parentRefs: [{name: gw}]\nhostnames: [a.example.com]\n"+ruleList("matches: [{path: {value: /a}}]\n"+toShadow)), Options{})
	if got := takes(t, p, "a.example.com", ""); got != "" {
		t.Error(got)
	}
	if got := takes(t, p, "b.example.com", ""); got != "wildcard" {
		t.Error(got)
	}
}

// TestNotAttached: what no listener takes is said and takes no request.
func TestNotAttached(t *testing.T) {
	for _, tt := range []struct{ name, gateway, route, why string }{
		{"sectionName", gatewayOf("name: a, port: 80"), "parentRefs: [{name: gw, sectionName: b}]", "no listener has this sectionName or port"},
		{"port", gatewayOf("name: a, port: 80"), "parentRefs: [{name: gw, port: 81}]", "no listener has this sectionName or port"},
		{"hostnames", gatewayOf("name: a, port: 80, hostname: a.example"), "parentRefs: [{name: gw}]\nhostnames: [b.example]", "no hostname of the route"},
		{"protocol", gatewayDoc("Gateway", "gw", "gatewayClassName: x\nlisteners: [{name: a, port: 80, protocol: TCP}]"), "parentRefs: [{name: gw}]", "speaks TCP"},
		{"kinds", gatewayOf("name: a, port: 80, allowedRoutes: {kinds: [{kind: GRPCRoute}]}"), "parentRefs: [{name: gw}]", "takes no HTTPRoute"},
		{"namespaces Selector", gatewayOf("name: a, port: 80, allowedRoutes: {namespaces: {from: Selector, selector: {matchLabels: {kubernetes.io/metadata.name: x}}}}"),
			"parentRefs: [{name: gw}]", "takes no routes of namespace"},
		{"Service", "", "parentRefs: [{group: '', kind: Service, name: none}]", "there is no Service"},
		{"Service port", "", "parentRefs: [{group: '', kind: Service, name: app, port: 81}]", "has no port 81"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, ps := compile(t, backends+tt.gateway+routeTo("r", tt.route, "app", "shadow"), Options{})
			if len(ps) != 1 || !strings.Contains(ps[0].Message, tt.why) || !strings.HasPrefix(ps[0].Message, "no request takes the route") {
				t.Errorf("%v", ps)
			}
			if len(p.Targets()) != 0 {
				t.Error(p.Targets())
			}
		})
	}
}

// TestNamespaces: routes of other namespaces are taken if the listener says so.
func TestNamespaces(t *testing.T) {
	route := strings.Replace(routeTo("r", "parentRefs: [{name: gw, namespace: default}]", "app", "shadow"), "{name: r}", "{name: r, namespace: ns}", 1)
	services := kubeServiceIn("ns", "app", "10.1.0.1") + kubeServiceIn("ns", "shadow", "10.1.0.8")
	for from, want := range map[string]string{
		"":                                "",
		"allowedRoutes: {namespaces: {}}": "",
		"allowedRoutes: {namespaces: {from: Same}}": "",
		"allowedRoutes: {namespaces: {from: All}}":  "r",
		"allowedRoutes: {namespaces: {from: Selector, selector: {matchLabels: {kubernetes.io/metadata.name: ns}}}}": "r",
		"allowedRoutes: {namespaces: {from: Selector, selector: {matchLabels: {team: a}}}}":                         "r", // with a warning
	} {
		p, _ := compile(t, services+gatewayOf(strings.TrimSuffix("name: a, port: 80, "+from, ", "))+route, Options{})
		if got := takes(t, p, "h", "10.1.0.1:8080"); got != want {
			t.Errorf("%q: %q", from, got)
		}
	}
}

// TestListeners: by which listener a request came is told by where it
// arrived. The redirect to HTTPS that goes with most routes is for the same
// host and every path.
func TestListeners(t *testing.T) {
	redirect := gatewayDoc("HTTPRoute", "a-redirect", "parentRefs: [{name: gw, sectionName: http}]\nhostnames: [h.example]\n"+
		ruleList("filters: [{type: RequestRedirect, requestRedirect: {scheme: https}}]"))
	app := routeTo("app", "parentRefs: [{name: gw, sectionName: https}]\nhostnames: [h.example]", "app", "shadow")
	known := gatewayDoc("Gateway", "gw", "gatewayClassName: x\nlisteners: [{name: http, port: 80, protocol: HTTP}, "+
		"{name: https, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: c}]}}]")
	for _, gw := range []string{"", known} {
		p, _ := compile(t, backends+gw+redirect+app, Options{})
		for _, dst := range []string{"", "10.1.0.1:8080"} {
			if got := takes(t, p, "h.example", dst); got != "app" {
				t.Errorf("at %q: %q", dst, got)
			}
		}
		if d := decide(t, p, request(t, "GET /\nHost: h.example"), "10.1.0.2:8080"); d.Verdict != Filtered {
			t.Error(d.Verdict)
		}
	}
	// Two Gateways for every host.
	p, _ := compile(t, backends+routeTo("inside", "parentRefs: [{name: gw}]", "app", "shadow")+
		routeTo("outside", "parentRefs: [{name: gw-2}]", "other", "shadow-2"), Options{})
	for dst, want := range map[string]string{"10.1.0.1:8080": "inside", "10.1.0.2:8080": "outside"} {
		if got := takes(t, p, "h.example", dst); got != want {
			t.Errorf("at %s: %q", dst, got)
		}
	}
}

// TestListenerClash: where nothing tells two listeners apart, that is said.
func TestListenerClash(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		want       int
	}{
		{"same backend", routeTo("a", "parentRefs: [{name: gw}]", "app", "shadow") + routeTo("b", "parentRefs: [{name: gw-2}]", "app", "shadow-2"), 1},
		{"other host", routeTo("a", "parentRefs: [{name: gw}]\nhostnames: [a.example]", "app", "shadow") +
			routeTo("b", "parentRefs: [{name: gw-2}]\nhostnames: [b.example]", "app", "shadow-2"), 0},
		{"other backend", routeTo("a", "parentRefs: [{name: gw}]", "app", "shadow") + routeTo("b", "parentRefs: [{name: gw-2}]", "other", "shadow"), 0},
		{"same route", routeTo("a", "parentRefs: [{name: gw}, {name: gw-2}]", "app", "shadow"), 0},
	} {
		_, ps := compile(t, backends+tt.text, Options{})
		if len(ps) != tt.want || tt.want > 0 && !strings.Contains(ps[0].Message, "cannot be told apart") {
			t.Errorf("%s: %v", tt.name, ps)
		}
	}
}

// TestShadowed: a route that another one hides is pointed out.
func TestShadowed(t *testing.T) {
	same := "matches: [{path: {value: /a/}, headers: [{name: x, value: v}, {name: y, value: w}]}, {path: {value: /b}}]\n" + toShadow
	swapped := "matches: [{path: {value: /a}, headers: [{name: Y, value: w}, {name: X, value: v}]}, {path: {type: Exact, value: /b}}]\n" + toShadow
	_, ps := compile(t, httpRoutes(same, swapped), Options{})
	if len(ps) != 1 || ps[0].Field != "spec.rules[1].matches[0]" ||
		ps[0].Message != "is never reached for host *: HTTPRoute default/test (rules[0]) matches the same and goes first" {
		t.Error(ps)
	}
	mesh := "parentRefs: [{group: '', kind: Service, name: app}]"
	if _, ps = compile(t, backends+routeTo("a", mesh, "app", "shadow")+routeTo("b", mesh, "app", "shadow-2"), Options{}); len(ps) != 1 {
		t.Error(ps)
	}
	if _, ps = compile(t, backends+routeTo("a", "parentRefs: [{name: gw}]\nhostnames: [a.example]", "app", "shadow")+
		routeTo("b", "parentRefs: [{name: gw}]\nhostnames: [b.example]", "app", "shadow"), Options{}); len(ps) != 0 {
		t.Error(ps)
	}
}

// TestMesh: a route whose parent is a Service takes the requests to any of its
// names, and those that arrive at it whatever their host.
func TestMesh(t *testing.T) {
	p, _ := compile(t, backends+routeTo("mesh", "parentRefs: [{group: '', kind: Service, name: app}]\nhostnames: [ignored.example]", "app", "shadow"), Options{})
	for _, host := range []string{"app", "app.default", "app.default.svc", "APP.default.svc.cluster.local:80", "app.default.svc.cluster.local.", "10.96.3.7"} {
		if got := takes(t, p, host, ""); got != "mesh" {
			t.Errorf("%s: %q", host, got)
		}
	}
	for _, tt := range [][3]string{
		{"anything.example", "10.1.0.1:8080", "mesh"}, {"ignored.example", "", ""}, {"anything.example", "", ""},
		{"anything.example", "10.1.0.2:8080", ""}, {"other", "", ""},
	} {
		if got := takes(t, p, tt[0], tt[1]); got != tt[2] {
			t.Errorf("%s at %s: %q", tt[0], tt[1], got)
		}
	}
	// A Gateway for every host does not take what it does not lead to.
	p, _ = compile(t, backends+routeTo("mesh", "parentRefs: [{group: '', kind: Service, name: app}]", "app", "shadow")+
		routeTo("gateway", "parentRefs: [{name: gw}]", "other", "shadow"), Options{})
	for dst, want := range map[string]string{"10.1.0.1:8080": "mesh", "10.1.0.2:8080": "gateway"} {
		if got := takes(t, p, "h.example", dst); got != want {
			t.Errorf("at %s: %q", dst, got)
		}
	}
}

// TestMeshPort: a route for one port of a Service leaves the others to those
// for all.
func TestMeshPort(t *testing.T) {
	two := strings.Replace(kubeService("app", "10.1.0.1"), "ports: [{name: http, port: 80, targetPort: 8080}]",
		"ports: [{name: http, port: 80, targetPort: 8080}, {name: http-admin, port: 81, targetPort: 8081}]", 1)
	two = strings.Replace(two, "ports: [{name: http, port: 8080}]", "ports: [{name: http, port: 8080}, {name: http-admin, port: 8081}]", 1)
	admin := strings.Replace(routeTo("a", "parentRefs: [{group: '', kind: Service, name: app}]", "app", "shadow"), "port: 80}]\n", "port: 81}]\n", 1)
	p, _ := compile(t, two+kubeService("shadow", "10.1.0.8")+admin+
		routeTo("b", "parentRefs: [{group: '', kind: Service, name: app, port: 80}]", "app", "shadow"), Options{})
	if got := fmt.Sprint(p.Targets()); got != "[10.1.0.1:8080 10.1.0.1:8081]" {
		t.Error(got)
	}
	if got := takes(t, p, "app", "10.1.0.1:8081"); got != "a" {
		t.Error(got)
	}
}

// TestReferenceGrant: a reference to another namespace needs to be granted
// there, to the kind, namespace and name in question.
func TestReferenceGrant(t *testing.T) {
	services := backends + kubeServiceIn("ns", "shadow", "10.1.0.7")
	route := gatewayDoc("HTTPRoute", "r", "parentRefs: [{name: gw}]\n"+
		ruleList("filters: [{type: RequestMirror, requestMirror: {backendRef: {name: shadow, namespace: ns, port: 80}}}]\n"+toApp))
	grant := func(namespace, from, to string) string {
		return fmt.Sprintf("apiVersion: gateway.networking.k8s.io/v1\nkind: ReferenceGrant\nmetadata: {name: g, namespace: %s}\n"+
			"spec: {from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: x}, %s], to: [%s]}\n---\n", namespace, from, to)
	}
	const from = "{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: default}"
	for _, tt := range []struct {
		name, grant string
		ok          bool
	}{
		{"none", "", false},
		{"all", grant("ns", from, "{group: '', kind: Service}"), true},
		{"by name", grant("ns", from, "{group: '', kind: Service, name: other}, {group: '', kind: Service, name: shadow}"), true},
		{"other name", grant("ns", from, "{group: '', kind: Service, name: other}"), false},
		{"other namespace", grant("default", from, "{group: '', kind: Service}"), false},
		{"from another namespace", grant("ns", strings.Replace(from, "default", "y", 1), "{group: '', kind: Service}"), false},
		{"from another kind", grant("ns", strings.Replace(from, "HTTPRoute", "GRPCRoute", 1), "{group: '', kind: Service}"), false},
		{"from another group", grant("ns", strings.Replace(from, "gateway.networking.k8s.io", "x.io", 1), "{group: '', kind: Service}"), false},
		{"to another kind", grant("ns", from, "{group: '', kind: Secret}"), false},
		{"to another group", grant("ns", from, "{group: x.io, kind: Service}"), false},
	} {
		ps := problemsOf(t, services+tt.grant+route)
		if tt.ok != (ps.Err() == nil) || !tt.ok && !strings.Contains(ps[0].Message, "no ReferenceGrant in namespace ns lets a HTTPRoute of namespace default refer to Service shadow") {
			t.Errorf("%s: %v", tt.name, ps)
		}
	}
	mesh := strings.Replace(route, "{name: gw}", "{group: '', kind: Service, name: app}", 1)
	if ps := problemsOf(t, services+mesh); ps.Err() != nil {
		t.Errorf("in the mesh: %v", ps)
	}
}

// TestBothAPIs: VirtualServices and HTTPRoutes stand side by side.
func TestBothAPIs(t *testing.T) {
	p, _ := compile(t, vs(toV1)+"---\n"+backends+routeTo("route", "parentRefs: [{name: gw}]", "app", "shadow"), Options{})
	for dst, want := range map[string]string{"10.0.0.1:80": "test", "10.1.0.1:8080": "route", "": "test"} {
		if got := takes(t, p, "h.example", dst); got != want {
			t.Errorf("at %q: %q", dst, got)
		}
	}
	var names []string
	for _, r := range p.Rules() {
		names = append(names, r.String())
	}
	if want := []string{"HTTPRoute default/route (rules[0])", "VirtualService default/test (http[0])"}; !slices.Equal(names, want) {
		t.Errorf("%q", names)
	}
}

// TestServiceEntryBackend: a backend may be the host of a ServiceEntry, as one
// that is called like a Service or with Istio's kind Hostname.
func TestServiceEntryBackend(t *testing.T) {
	p, _ := compile(t, services+kubeService("shadow", "10.1.0.8")+
		gatewayDoc("HTTPRoute", "r", "parentRefs: [{name: gw}]\n"+ruleList("filters: [{type: RequestMirror, requestMirror: {backendRef: "+
			"{group: networking.istio.io, kind: Hostname, name: httpbin.default.svc.cluster.local, port: 8000}}}]\nbackendRefs: [{name: shadow, port: 80}]")), Options{})
	if len(p.Mirrors()) != 1 || len(p.Mirrors()[0].Endpoints) != 4 {
		t.Fatal(p.Mirrors())
	}
}
