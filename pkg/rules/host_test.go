package rules

import (
	"fmt"
	"strings"
	"testing"
)

// hostRule is a VirtualService in namespace ns whose only route is called as
// the object and leads to endpoint addr.
func hostRule(name, ns, hosts, extra, addr string) string {
	return fmt.Sprintf(`
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: %[1]s, namespace: %[2]s}
spec:
  hosts: [%[1]s-%[2]s.example, ]
  resolution: STATIC
  ports: [{name: http, number: 80, protocol: HTTP}]
  endpoints: [{address: %[5]s}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: %[1]s, namespace: %[2]s}
spec:
  hosts: [%[3]s]
  %[4]s
  http:
  - name: %[1]s
    route: [{destination: {host: %[1]s-%[2]s.example}}]
    mirror: {host: shadow.example}
---
`, name, ns, hosts, extra, addr)
}

const shadowEntry = `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: shadow}
spec:
  hosts: [shadow.example]
  addresses: [240.0.0.9, '2001:db8::9', 10.0.0.0/8]
  resolution: STATIC
  ports: [{name: http, number: 80, protocol: HTTP}]
  endpoints: [{address: 10.9.9.9}]
---
`

func TestHost(t *testing.T) {
	p, _ := compile(t, shadowEntry+
		hostRule("exact", "ns", "a.foo.com, Mixed.Example, 192.0.2.1, '2001:DB8::1'", "", "10.0.0.1")+
		hostRule("foo", "ns", "'*.foo.com'", "", "10.0.0.2")+
		hostRule("com", "ns", "'*.com'", "", "10.0.0.3")+
		hostRule("eu", "ns", "'*-eu.foo.com'", "", "10.0.0.4")+
		hostRule("short", "ns", "reviews", "", "10.0.0.5")+
		hostRule("full", "ns", "ratings.other.svc.cluster.local", "", "10.0.0.6")+
		hostRule("vip", "ns", "shadow.example", "", "10.0.0.7")+
		hostRule("gw", "ns", "details", "gateways: [gateway]", "10.0.0.8"), Options{})
	for _, tt := range []struct{ host, want string }{
		{"a.foo.com", "exact"},
		{"A.FOO.com:8080", "exact"},
		{"mixed.example", "exact"},
		{"MIXED.EXAMPLE", "exact"},
		{"192.0.2.1", "exact"},
		{"192.0.2.1:80", "exact"},
		{"[2001:db8::1]:80", "exact"},
		{"[2001:DB8::1]", "exact"},
		{"b.foo.com", "foo"},
		{"a.b.foo.com", "foo"},
		{"foo.com", "com"}, // the wildcard takes one character at least
		{".com", ""},
		{"x-eu.foo.com", "eu"},
		{"-eu.foo.com", "foo"},
		{strings.Repeat("x", 300) + ".foo.com", "foo"},
		{strings.Repeat("x", 300), ""},
		{"reviews", "short"},
		{"reviews:9080", "short"},
		{"reviews.ns", "short"},
		{"reviews.ns.svc", "short"},
		{"reviews.ns.svc.cluster.local", "short"},
		{"reviews.ns.svc.cluster.local.", "short"},
		{"reviews.ns.svc.cluster.local.:80", "short"},
		{"reviews.", ""},
		{"reviews.other", ""},
		{"ratings", "full"},
		{"ratings.other", "full"},
		{"a.foo.com.", ""}, // not the name of a service: another host for Envoy
		{"shadow.example", "vip"},
		{"shadow.example.", "vip"},
		{"240.0.0.9", "vip"},
		{"[2001:db8::9]:80", "vip"},
		{"details.ns.svc.cluster.local", "gw"},
		{"details", ""}, // short names are for clients in the mesh
		{"none.example", ""},
		{"", ""},
	} {
		head := "GET / HTTP/1.0\nHost: " + tt.host
		if tt.host == "" {
			head = "GET / HTTP/1.0"
		}
		d := decide(t, p, request(t, head), "")
		got := ""
		if d.Route != nil {
			got = d.Route.Rule().Name
		} else if d.Why != NoHost {
			t.Errorf("%q: %v", tt.host, d.Why)
		}
		if got != tt.want {
			t.Errorf("%q: %q, want %q", tt.host, got, tt.want)
		}
	}
	// The authority of an absolute-form target goes before Host.
	if d := decide(t, p, request(t, "GET http://b.foo.com/\nHost: a.foo.com"), ""); d.Route.Rule().Name != "foo" {
		t.Errorf("absolute form: %v", d.Route.Rule())
	}
}

// TestHostIsFinal: the chosen host decides even if none of its routes match.
func TestHostIsFinal(t *testing.T) {
	specific := strings.Replace(hostRule("a", "ns", "a.foo.com", "", "10.0.0.1"),
		"- name: a\n", "- name: a\n    match: [{uri: {prefix: /a}}]\n", 1)
	p, _ := compile(t, shadowEntry+specific+hostRule("any", "ns", "'*'", "", "10.0.0.2"), Options{})
	if d := decide(t, p, request(t, "GET /b\nHost: a.foo.com"), ""); d.Why != NoRoute {
		t.Errorf("%v", d.Why)
	}
	if d := decide(t, p, request(t, "GET /b HTTP/1.0"), ""); d.Why != NotFiltered {
		t.Errorf("without host: %v", d.Why)
	}
}

// TestShortNameInTwoNamespaces: where the request arrived tells which is meant.
func TestShortNameInTwoNamespaces(t *testing.T) {
	p, _ := compile(t, shadowEntry+hostRule("one", "ns1", "reviews", "", "10.0.0.1")+
		hostRule("two", "ns2", "reviews", "", "10.0.0.2"), Options{})
	for dst, want := range map[string]string{
		"": "one", "10.0.0.1:80": "one", "10.0.0.2:80": "two",
	} {
		if d := decide(t, p, request(t, "GET /\nHost: reviews"), dst); d.Verdict != Mirrored || d.Route.Rule().Name != want {
			t.Errorf("at %q: %v, want %s", dst, d.Verdict, want)
		}
	}
}

// TestSharedHost: in the mesh the oldest VirtualService keeps a host, on
// gateways the routes are merged.
func TestSharedHost(t *testing.T) {
	aged := func(s, at string) string {
		i := strings.Index(s, "kind: VirtualService\nmetadata: {")
		i += len("kind: VirtualService\nmetadata: {")
		return s[:i] + "creationTimestamp: '" + at + "', " + s[i:]
	}
	only := func(s, match string) string {
		return strings.Replace(s, "    route:", "    match: "+match+"\n    route:", 1)
	}

	t.Run("mesh", func(t *testing.T) {
		p, warnings := compile(t, shadowEntry+
			aged(hostRule("a", "ns", "x.com", "", "10.0.0.1"), "2026-01-02T00:00:00Z")+
			aged(hostRule("b", "ns", "x.com, y.com", "", "10.0.0.2"), "2026-01-01T00:00:00Z"), Options{})
		if len(warnings) != 1 || !strings.Contains(warnings[0].Message, "VirtualService ns/b") {
			t.Errorf("%v", warnings)
		}
		if d := decide(t, p, request(t, "GET /\nHost: x.com"), ""); d.Route.Rule().Name != "b" {
			t.Errorf("%v", d.Route.Rule())
		}
		if got := fmt.Sprint(p.Targets()); got != "[10.0.0.2:80]" {
			t.Errorf("captured %s for a rule that is never reached", got)
		}
	})
	t.Run("gateway", func(t *testing.T) {
		p, _ := compile(t, shadowEntry+
			hostRule("a", "ns", "x.com", "gateways: [gw]", "10.0.0.1")+ // takes everything
			only(hostRule("b", "ns", "x.com", "gateways: [ns/gw]", "10.0.0.2"), "[{uri: {prefix: /b}}]"), Options{})
		for path, want := range map[string]string{"/b": "b", "/": "a"} {
			if d := decide(t, p, request(t, "GET "+path+"\nHost: x.com"), ""); d.Route.Rule().Name != want {
				t.Errorf("%s: %v, want %s", path, d.Route.Rule(), want)
			}
		}
		if len(p.Targets()) != 2 {
			t.Errorf("%v", p.Targets())
		}
	})
	t.Run("gateways and mesh", func(t *testing.T) {
		p, warnings := compile(t, shadowEntry+
			hostRule("a", "ns", "x.com", "gateways: [gw1]", "10.0.0.1")+
			hostRule("b", "ns", "x.com", "gateways: [gw2, mesh]", "10.0.0.2")+
			hostRule("c", "ns", "x.com", "", "10.0.0.3"), Options{})
		if len(warnings) != 2 || !strings.Contains(warnings[0].Message, "for other clients") || !strings.Contains(warnings[1].Message, "has no effect") {
			t.Errorf("%v", warnings)
		}
		r := request(t, "GET /\nHost: x.com")
		for gateway, want := range map[string]string{"ns/gw1": "a", "ns/gw2": "b", "": "b", "ns/gw3": "", "other/gw1": ""} {
			c := &Client{}
			if gateway != "" {
				c.Gateways = []string{gateway}
			}
			got := ""
			if e := p.ExplainFrom(r, Origin{Client: c}); e.Rule != nil {
				got = e.Rule.Name
			}
			if got != want {
				t.Errorf("by gateway %q: %q, want %q", gateway, got, want)
			}
		}
		// Of a client that is not known the endpoint decides.
		for dst, want := range map[string]string{"": "b", "10.0.0.1:80": "a", "10.0.0.2:80": "b"} {
			if d := decide(t, p, r, dst); d.Route == nil || d.Route.Rule().Name != want {
				t.Errorf("at %q: %v, want %s", dst, d.Why, want)
			}
		}
	})
}
