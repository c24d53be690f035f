package rules

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/shadowtap/shadowtap/pkg/httpstream"
)

// annotatedRoute is an HTTPRoute on Gateway gw with more metadata.
func annotatedRoute(metadata string, rules ...string) string {
	return backends + strings.Replace(gatewayDoc("HTTPRoute", "test", "parentRefs: [{name: gw}]\n"+ruleList(rules...)),
		"metadata: {name: test}", "metadata: {name: test, "+metadata+"}", 1)
}

// headOfCopy is the head of the only copy of r, which arrived at app.
func headOfCopy(t *testing.T, p *Program, r *httpstream.Request) string {
	t.Helper()
	d := decide(t, p, r, "10.1.0.1:8080")
	if len(d.Selected) != 1 {
		t.Fatalf("%v %v: %d copies", d.Verdict, d.Why, len(d.Selected))
	}
	return string(d.Selected[0].AppendHead(nil, r))
}

// TestGatewayPolicy: a DestinationRule shapes calls to a mirror whoever names
// it, so that both kinds of rules share the destination.
func TestGatewayPolicy(t *testing.T) {
	p, _ := compile(t, annotatedRoute("labels: {}", toShadow)+`
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: shadow}
spec: {host: shadow, trafficPolicy: {connectionPool: {tcp: {maxConnections: 3}}}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: vs}
spec:
  hosts: [other]
  http: [{route: [{destination: {host: other}}], mirror: {host: shadow}}]
`, Options{})
	if m := p.Mirrors(); len(m) != 1 || m[0].Policy.MaxConnections != 3 {
		t.Fatalf("%+v", m)
	}
	for host, dst := range map[string]string{"any": "10.1.0.1:8080", "other": "10.1.0.2:8080"} {
		d := decide(t, p, request(t, "GET /\nHost: "+host), dst)
		if len(d.Selected) != 1 || d.Selected[0].Mirror != p.Mirrors()[0] {
			t.Errorf("%s: %v %v", host, d.Verdict, d.Why)
		}
	}
}

// TestGatewayOptions: what options do to the copies of a VirtualService they do
// to those of an HTTPRoute.
func TestGatewayOptions(t *testing.T) {
	p, _ := compile(t, annotatedRoute("labels: {}", toShadow+"timeouts: {request: 2s, backendRequest: 1500ms}\n"),
		Options{HostSuffix: true, EnvoyHeaders: true})
	r := request(t, "GET /\nHost: h.example:80")
	r.Source = netip.MustParseAddrPort("10.9.9.9:1")
	want := "GET / HTTP/1.1\r\nHost: h.example-shadow:80\r\nx-envoy-internal: true\r\n" +
		"x-forwarded-for: 10.9.9.9\r\nx-envoy-expected-rq-timeout-ms: 1500\r\n"
	if got := headOfCopy(t, p, r); got != want {
		t.Errorf("%q, expected %q", got, want)
	}
}

// TestGatewayTimeout: copies are bound as the request is.
func TestGatewayTimeout(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"":                               0,
		"timeouts: {request: 0s}":        0,
		"timeouts: {request: 2s}":        2 * time.Second,
		"timeouts: {backendRequest: 1s}": time.Second,
		"timeouts: {request: 2s, backendRequest: 1s}":                       time.Second,
		"timeouts: {request: 2s, backendRequest: 1s}\nretry: {attempts: 2}": 2 * time.Second,
		"timeouts: {request: 1m500ms}":                                      60500 * time.Millisecond,
	} {
		p, _ := compile(t, annotatedRoute("labels: {}", toShadow+text), Options{})
		d := decide(t, p, request(t, "GET /"), "10.1.0.1:8080")
		if len(d.Selected) != 1 || d.Selected[0].Timeout() != want {
			t.Errorf("%q: %v %v, expected %v", text, d.Verdict, d.Selected, want)
		}
	}
}

// TestGatewayAnnotation: the annotation says of the mirrors of an HTTPRoute what
// it says of those of a VirtualService.
func TestGatewayAnnotation(t *testing.T) {
	p, _ := compile(t, annotatedRoute(`annotations: {shadowtap.dev/mirrors: "[{route: a, host: shadow, safeMethods: true, headers: {set: {x-copy: '1'}}, rewrite: {prefix: /v2}}]"}`,
		"name: a\n"+toShadow), Options{})
	if got, want := headOfCopy(t, p, request(t, "GET /p?q\nHost: h")), "GET /v2/p?q HTTP/1.1\r\nHost: h\r\nx-copy: 1\r\n"; got != want {
		t.Errorf("%q, expected %q", got, want)
	}
	if d := decide(t, p, request(t, "POST /\nContent-Length: 0"), "10.1.0.1:8080"); d.Why != NoMirror {
		t.Errorf("POST: %v %v", d.Verdict, d.Why)
	}
}

// TestGatewayBehindProxy: a hostname may be the one a proxy says the client
// asked for, and what a proxy has rewritten is not rewritten again.
func TestGatewayBehindProxy(t *testing.T) {
	p, _ := compile(t, backends+gatewayDoc("HTTPRoute", "test", "parentRefs: [{name: gw}]\nhostnames: [h.example]\n"+
		ruleList("matches: [{path: {value: /a}}]\nfilters: ["+mirrored+
			", {type: URLRewrite, urlRewrite: {hostname: new, path: {type: ReplacePrefixMatch, replacePrefixMatch: /b}}}]\n"+toApp)), Options{})
	for _, tt := range []struct{ head, want string }{
		{"GET /a/x\nHost: h.example", "GET /b/x HTTP/1.1\r\nHost: new\r\n"},
		{"GET /a/x\nHost: inner\nX-Forwarded-Host: h.example", "GET /b/x HTTP/1.1\r\nHost: new\r\nX-Forwarded-Host: h.example\r\n"},
		{"GET /b/x\nHost: new\nx-envoy-original-path: /a/x\nx-envoy-original-host: h.example",
			"GET /b/x HTTP/1.1\r\nHost: new\r\nx-envoy-original-path: /a/x\r\nx-envoy-original-host: h.example\r\n"},
	} {
		if got := headOfCopy(t, p, request(t, tt.head)); got != tt.want {
			t.Errorf("%q: %q, expected %q", tt.head, got, tt.want)
		}
	}
	if d := decide(t, p, request(t, "GET /a\nHost: inner\nX-Forwarded-Host: other"), "10.1.0.1:8080"); d.Why != NoHost {
		t.Errorf("%v %v", d.Verdict, d.Why)
	}
}

// TestGatewaysOfBothGroups: Gateways of Istio and of the Gateway API may have
// the same name, and who asks may say which one a request came by.
func TestGatewaysOfBothGroups(t *testing.T) {
	p, _ := compile(t, `
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: gw}
spec: {selector: {app: ingress}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}]}
---
`+backends+gatewayOf("name: a, port: 80")+
		routeTo("by-gw", "parentRefs: [{name: gw}]", "app", "shadow")+
		routeTo("by-other", "parentRefs: [{name: other}]", "other", "shadow")+
		routeTo("mesh", "parentRefs: [{group: '', kind: Service, name: app}]", "app", "shadow-2"), Options{})
	for _, tt := range []struct {
		gateways []string
		host     string
		want     string
	}{
		{nil, "any", "by-gw"},
		{[]string{"default/gw"}, "any", "by-gw"},
		{[]string{"default/other"}, "any", "by-other"},
		{[]string{"default/other"}, "app", "by-other"},
		{nil, "app", "mesh"},
		{[]string{"mesh"}, "app", "mesh"},
		{[]string{"default/none"}, "app", ""},
	} {
		e := p.ExplainFrom(request(t, "GET /\nHost: "+tt.host), Origin{Client: &Client{Gateways: tt.gateways}})
		got := ""
		if e.Matched {
			got = e.Rule.Name
		}
		if got != tt.want {
			t.Errorf("%v, %s: %q, expected %q", tt.gateways, tt.host, got, tt.want)
		}
		if tt.want == "" && (len(e.Tried) != 3 || e.Tried[0].Reason != `client of gateway default/none: expected default/gw`) {
			t.Errorf("%+v", e.Tried)
		}
	}
}

// TestIsolatedListener: the reason why a route for the host is not taken may be
// another listener.
func TestIsolatedListener(t *testing.T) {
	p, _ := compile(t, backends+gatewayOf("name: a, port: 80, hostname: '*.example'", "name: b, port: 80, hostname: b.example")+
		routeTo("r", "parentRefs: [{name: gw, sectionName: a}]", "app", "shadow"), Options{})
	e := p.Explain(request(t, "GET /\nHost: b.example"))
	if e.Matched || len(e.Tried) != 1 || !strings.Contains(e.Tried[0].Reason, "a listener for a more specific host") {
		t.Errorf("%+v", e)
	}
	if e := p.Explain(request(t, "GET /\nHost: c.example")); !e.Matched {
		t.Errorf("%+v", e)
	}
}
