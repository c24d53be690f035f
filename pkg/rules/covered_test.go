package rules

import (
	"strings"
	"testing"
)

// serviceOf is a ServiceEntry for a host.
func serviceOf(name, host string) string {
	return strings.NewReplacer("NAME", name, "HOST", host).Replace(`
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: NAME}
spec: {hosts: [HOST], resolution: STATIC, ports: [{name: http, number: 80, protocol: HTTP}], endpoints: [{address: 10.8.8.8}]}
---
`)
}

// created gives the VirtualService of a hostRule its age.
func created(rule, at string) string {
	const head = "kind: VirtualService\nmetadata: {"
	return strings.Replace(rule, head, head+"creationTimestamp: '"+at+"', ", 1)
}

// from makes a rule one for certain clients alone.
func from(rule, match string) string {
	return strings.Replace(rule, "    route:", "    match: [{"+match+"}]\n    route:", 1)
}

const (
	first  = "2026-01-01T00:00:00Z"
	second = "2026-01-02T00:00:00Z"
)

// byHost asks which rule takes a request of a client to each host.
func byHost(t *testing.T, text string, c *Client, want map[string]string) {
	t.Helper()
	p, _ := compile(t, shadowEntry+text, Options{})
	for host, want := range want {
		got := ""
		if e := p.ExplainFrom(request(t, "GET /\nHost: "+host), Origin{Client: c}); e.Rule != nil {
			got = e.Rule.Name
		}
		if got != want {
			t.Errorf("%s: %q, want %q", host, got, want)
		}
	}
}

// TestHostsWildcard: in the mesh a wildcard stands for the services it covers,
// with all their names, and is a host of its own if there are none.
func TestHostsWildcard(t *testing.T) {
	const reviews = "reviews.default.svc.cluster.local"
	t.Run("names of services", func(t *testing.T) {
		byHost(t, serviceOf("reviews", reviews)+hostRule("any", "ns", "'*.default.svc.cluster.local'", "", "10.0.0.1"), nil, map[string]string{
			reviews: "any", reviews + ".": "any", "reviews.default.svc": "any", "reviews.default": "any", "reviews": "any",
			"other.default.svc.cluster.local": "",
		})
	})
	shop := serviceOf("shop", "shop.example.com")
	t.Run("other hosts", func(t *testing.T) {
		byHost(t, shop+hostRule("any", "ns", "'*.example.com'", "", "10.0.0.1"), nil, map[string]string{
			"shop.example.com": "any", "shop.example.com.": "any", "www.example.com": "",
		})
	})
	t.Run("no services", func(t *testing.T) {
		byHost(t, shop+hostRule("any", "ns", "'*.example.org'", "", "10.0.0.1"), nil, map[string]string{"www.example.org": "any"})
	})
	t.Run("every host", func(t *testing.T) {
		byHost(t, shop+hostRule("any", "ns", "'*'", "", "10.0.0.1"), nil, map[string]string{"www.example.org": "any", "shop.example.com": "any"})
	})
	t.Run("on a gateway", func(t *testing.T) {
		byHost(t, shop+hostRule("any", "ns", "'*.example.com'", "gateways: [gw]", "10.0.0.1"), &Client{Gateways: []string{"ns/gw"}},
			map[string]string{"shop.example.com": "any", "www.example.com": "any", "shop.example.com.": ""})
	})
	t.Run("on a gateway and in the mesh", func(t *testing.T) {
		rule := shop + hostRule("any", "ns", "'*.example.com'", "gateways: [gw, mesh]", "10.0.0.1")
		byHost(t, rule, &Client{Gateways: []string{"ns/gw"}}, map[string]string{"shop.example.com": "any", "www.example.com": "any"})
		byHost(t, rule, &Client{}, map[string]string{"shop.example.com": "any", "www.example.com": ""})
	})
	t.Run("the longest wildcard, the exact name before", func(t *testing.T) {
		byHost(t, shop+serviceOf("eu", "eu.shop.example.com")+serviceOf("us", "us.shop.example.com")+
			created(hostRule("any", "ns", "'*.com'", "", "10.0.0.1"), first)+
			created(hostRule("wide", "ns", "'*.example.com'", "", "10.0.0.2"), first)+
			created(hostRule("narrow", "ns", "'*.shop.example.com'", "", "10.0.0.3"), second)+
			created(hostRule("exact", "ns", "us.shop.example.com", "", "10.0.0.4"), second), nil, map[string]string{
			"shop.example.com": "wide", "eu.shop.example.com": "narrow", "us.shop.example.com": "exact", "us.shop.example.com.": "exact",
		})
	})
	t.Run("the oldest of one wildcard", func(t *testing.T) {
		byHost(t, shop+created(hostRule("young", "ns", "'*.example.com'", "", "10.0.0.1"), second)+
			created(hostRule("old", "ns", "'*.example.com'", "", "10.0.0.2"), first), nil, map[string]string{"shop.example.com": "old"})
	})
}

// TestHostsShorterName: the older rule has a name, whether it is its host or
// another name of it.
func TestHostsShorterName(t *testing.T) {
	const full = "ratings.other.svc.cluster.local"
	for _, tt := range []struct{ service, literal, want string }{
		{first, second, "service"},
		{second, first, "literal"},
	} {
		byHost(t, serviceOf("ratings", full)+created(hostRule("service", "ns", full, "", "10.0.0.1"), tt.service)+
			created(hostRule("literal", "ns", "ratings.other", "", "10.0.0.2"), tt.literal), nil, map[string]string{
			"ratings.other": tt.want, "ratings.other.svc": "service", full: "service",
		})
	}
	// The full name of another service is that service's.
	byHost(t, serviceOf("ratings", full)+serviceOf("short", "ratings.other")+hostRule("service", "ns", full, "", "10.0.0.1"), nil,
		map[string]string{"ratings.other": "", full: "service"})
}

// TestMatchSourceLabelsHost: a rule of which no route is for a client does not
// keep a host from those that have one.
func TestMatchSourceLabelsHost(t *testing.T) {
	app := func(name string, gateways ...string) *Client {
		return &Client{Labels: map[string]string{"app": name}, Gateways: gateways}
	}
	t.Run("a longer wildcard on a gateway", func(t *testing.T) {
		rules := created(hostRule("wide", "ns", "'*.example.com'", "gateways: [gw]", "10.0.0.1"), first) +
			created(from(hostRule("narrow", "ns", "'*.shop.example.com'", "gateways: [gw]", "10.0.0.2"), "sourceLabels: {app: client}"), second)
		byHost(t, rules, app("gw", "ns/gw"), map[string]string{"eu.shop.example.com": "wide"})
		byHost(t, rules, app("client", "ns/gw"), map[string]string{"eu.shop.example.com": "narrow"})
		byHost(t, rules, nil, map[string]string{"eu.shop.example.com": "wide"})
	})
	t.Run("one host in the mesh", func(t *testing.T) {
		rules := created(from(hostRule("old", "ns", "httpbin.ns.svc.cluster.local", "", "10.0.0.1"), "sourceLabels: {app: client}"), first) +
			created(hostRule("young", "ns", "httpbin.ns.svc.cluster.local", "", "10.0.0.2"), second)
		for _, host := range []string{"httpbin.ns.svc.cluster.local", "httpbin.ns", "httpbin.ns.svc.cluster.local."} {
			byHost(t, rules, app("client"), map[string]string{host: "old"})
			byHost(t, rules, app("other"), map[string]string{host: "young"})
		}
	})
	t.Run("a condition on the request does not exclude", func(t *testing.T) {
		rules := hostRule("wide", "ns", "'*.example.com'", "gateways: [gw]", "10.0.0.1") +
			from(hostRule("narrow", "ns", "'*.shop.example.com'", "gateways: [gw]", "10.0.0.2"), "method: {exact: PUT}")
		byHost(t, rules, app("gw", "ns/gw"), map[string]string{"eu.shop.example.com": ""})
	})
	t.Run("why", func(t *testing.T) {
		p, _ := compile(t, shadowEntry+from(hostRule("only", "ns", "x.com", "", "10.0.0.2"), "sourceLabels: {app: client}"), Options{})
		e := p.ExplainFrom(request(t, "GET /\nHost: x.com"), Origin{Client: app("other")})
		if e.Matched || len(e.Tried) != 1 || !strings.Contains(e.Tried[0].Reason, "expected app=client") {
			t.Errorf("matched %v, tried %v", e.Matched, e.Tried)
		}
	})
}
