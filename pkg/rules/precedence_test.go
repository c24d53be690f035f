package rules

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// inNamespace is an object of another namespace, with a creation time if it is
// not empty.
func inNamespace(doc, namespace, created string) string {
	metadata := "namespace: " + namespace
	if created != "" {
		metadata += ", creationTimestamp: '" + created + "'"
	}
	return strings.Replace(doc, "metadata: {name: ", "metadata: {"+metadata+", name: ", 1)
}

// serviceRule is a VirtualService for a Service in the mesh.
func serviceRule(name, host, http string) string {
	return "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: " + name + "}\nspec:\n  hosts: [" + host +
		"]\n  http:\n  - " + indent(http, "    ") + "\n---\n"
}

// TestNoMirrorPrecedence: a route without a mirror takes its requests all the
// same, whatever else there is for the host and the endpoint.
func TestNoMirrorPrecedence(t *testing.T) {
	plain := serviceRule("vs", "app", "match: [{uri: {prefix: /quiet}}]\nroute: [{destination: {host: app}}]")
	route := routeTo("route", "parentRefs: [{name: gw}]\nhostnames: [app.default.svc.cluster.local]", "app", "shadow")
	p, _ := compile(t, backends+plain+route, Options{})
	for target, want := range map[string]string{"/quiet": "VirtualService default/vs (http[0])", "/": "HTTPRoute default/route (rules[0])"} {
		d := decide(t, p, request(t, "GET "+target+"\nHost: app.default.svc.cluster.local"), "10.1.0.1:8080")
		if d.Route == nil || d.Route.Rule().String() != want {
			t.Errorf("%s: %v %v", target, d.Route, d.Why)
		}
	}
	if got := fmt.Sprint(p.Targets()); got != "[10.1.0.1:8080]" {
		t.Errorf("captured: %s", got)
	}
	// What is wrong with where it leads needs no one.
	unreadable := strings.Replace(kubeService("app", "10.1.0.1"), "name: http,", "name: grpc,", 1)
	if ps := problemsOf(t, unreadable+serviceRule("vs", "app", "route: [{destination: {host: app}}]")); ps != nil {
		t.Errorf("%v", ps)
	}
}

// TestMeshPrecedence: of a VirtualService and routes attached to the Service
// the older has its requests, which lead to the same place by both.
func TestMeshPrecedence(t *testing.T) {
	for _, tt := range []struct{ service, route, want string }{
		{"2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z", "vs"},
		{"2026-01-02T00:00:00Z", "2026-01-01T00:00:00Z", "route"},
		{"", "", "route"}, // by name
	} {
		p, _ := compile(t, backends+
			inNamespace(serviceRule("vs", "app", "route: [{destination: {host: app}}]\nmirror: {host: shadow-2}"), "default", tt.service)+
			inNamespace(routeTo("route", "parentRefs: [{group: '', kind: Service, name: app}]", "app", "shadow"), "default", tt.route), Options{})
		for _, dst := range []string{"", "10.1.0.1:8080"} {
			if got := takes(t, p, "app", dst); got != tt.want {
				t.Errorf("%+v at %q: %q", tt, dst, got)
			}
		}
	}
}

// TestConsumerRoutes: a route of another namespace than its Service's is for
// clients of that one, which have it instead of those of the Service's.
func TestConsumerRoutes(t *testing.T) {
	const parent = "parentRefs: [{group: '', kind: Service, name: app, namespace: default}]"
	consumer := inNamespace(gatewayDoc("HTTPRoute", "consumer", parent+"\n"+ruleList(
		"matches: [{path: {value: /a}}]\nfilters: [{type: RequestMirror, requestMirror: {backendRef: {name: shadow, namespace: default, port: 80}}}]\n"+
			"backendRefs: [{name: app, namespace: default, port: 80}]")), "shop", "")
	producer := routeTo("producer", parent, "app", "shadow-2")
	p, _ := compile(t, workloads+"---\n"+strings.ReplaceAll(backends, "10.1.0.1", "10.1.0.7")+consumer+producer, Options{})
	for _, tt := range []struct{ source, target, want string }{
		{"10.1.0.1:5", "/a", "HTTPRoute shop/consumer (rules[0])"},
		{"10.1.0.1:5", "/b", ""}, // answered with 404
		{"10.1.0.2:5", "/a", "HTTPRoute default/producer (rules[0])"},
		{"10.1.0.99:5", "/a", "HTTPRoute default/producer (rules[0])"}, // not known
	} {
		for _, host := range []string{"app.default", "10.96.3.7", "elsewhere.example"} {
			r := request(t, "GET "+tt.target+"\nHost: "+host)
			r.Source = netip.MustParseAddrPort(tt.source)
			d := decide(t, p, r, "10.1.0.7:8080")
			got := ""
			if d.Route != nil {
				got = d.Route.Rule().String()
			}
			if got != tt.want {
				t.Errorf("%s from %s for %s: %q, want %q", tt.target, tt.source, host, got, tt.want)
			}
		}
	}
	alone, _ := compile(t, workloads+"---\n"+backends+consumer, Options{})
	e := alone.ExplainFrom(request(t, "GET /a\nHost: app.default.svc.cluster.local"), Origin{Client: &Client{Namespace: "other"}})
	if e.Matched || len(e.Tried) != 1 || !strings.Contains(e.Tried[0].Reason, "expected mesh, namespace shop") {
		t.Errorf("%+v", e)
	}
	if e := alone.ExplainFrom(request(t, "GET /a\nHost: app.default"), Origin{Client: &Client{Namespace: "shop"}}); !e.Matched {
		t.Errorf("%+v", e)
	}
}

// entry is a ServiceEntry of a namespace for shop.example with one endpoint.
func entry(namespace, name, address, more string) string {
	return fmt.Sprintf("apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: %s, namespace: %s}\nspec:\n"+
		"  hosts: [shop.example]\n  resolution: STATIC\n  ports: [{name: http, number: 80, protocol: HTTP%s}]\n  endpoints: [{address: %s}]\n---\n",
		name, namespace, more, address)
}

// TestServicesOfOneHost: which of several services with one host a rule means.
func TestServicesOfOneHost(t *testing.T) {
	rule := serviceRule("vs", "shop.example", "route: [{destination: {host: app.default.svc.cluster.local}}]\nmirror: {host: shop.example}")
	endpoints := func(p *Program) (out []string) {
		for _, m := range p.Mirrors() {
			for _, e := range m.Endpoints {
				out = append(out, e.Address)
			}
			out = append(out, m.Key())
		}
		return out
	}
	for _, tt := range []struct {
		name, text string
		want       []string
	}{
		{"the first", entry("b", "x", "10.3.0.2", "") + entry("a", "x", "10.3.0.1", "") + rule, []string{"10.3.0.1:80", "shop.example||80"}},
		{
			"the oldest", entry("a", "x", "10.3.0.1", "") +
				strings.Replace(entry("b", "x", "10.3.0.2", ""), "namespace: b", "namespace: b, creationTimestamp: '2000-01-01T00:00:00Z'", 1) +
				strings.Replace(rule, "metadata: {", "metadata: {creationTimestamp: '2000-01-01T00:00:00Z', ", 1),
			[]string{"10.3.0.1:80", "shop.example||80"}, // one without a time is older
		},
		{"its own", entry("a", "x", "10.3.0.1", "") + entry("default", "x", "10.3.0.2", "") + rule, []string{"10.3.0.2:80", "shop.example||80|default"}},
		{
			"the first that it sees", strings.Replace(entry("a", "x", "10.3.0.1", ""), "spec:\n", "spec:\n  exportTo: [.]\n", 1) +
				entry("b", "x", "10.3.0.2", "") + rule, []string{"10.3.0.2:80", "shop.example||80|b"},
		},
		{
			"endpoints of one namespace", entry("a", "x", "10.3.0.1", "") + entry("a", "y", "10.3.0.2", ", targetPort: 8080") + rule,
			[]string{"10.3.0.1:80", "10.3.0.2:8080", "shop.example||80"},
		},
	} {
		p, ps := compile(t, backends+tt.text, Options{})
		if got := endpoints(p); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
		if !strings.Contains(ps.Error(), "is also a host of ServiceEntry a/x") {
			t.Errorf("%s: %v", tt.name, ps)
		}
	}
	// A Service of Kubernetes goes before a ServiceEntry, whose endpoints serve
	// its ports by their names.
	se := strings.Replace(entry("default", "vm", "10.3.0.1", ", targetPort: 9090"), "hosts: [shop.example]", "hosts: [app.default.svc.cluster.local]", 1)
	p, _ := compile(t, backends+strings.Replace(se, "}]\n  endpoints", "}, {name: other, number: 81, protocol: HTTP}]\n  endpoints", 1)+
		serviceRule("vs", "app", "route: [{destination: {host: other}}]\nmirror: {host: app}"), Options{})
	if got := endpoints(p); !slices.Equal(got, []string{"10.1.0.1:8080", "10.3.0.1:9090", "app.default.svc.cluster.local||80"}) {
		t.Errorf("%q", got)
	}
}
