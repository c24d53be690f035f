package rules

import (
	"strings"
	"testing"
)

// TestSelectiveHost: for a client that none of the routes of a host is for,
// Istio does not generate the host, so that a younger rule or a wildcard has
// the request.
func TestSelectiveHost(t *testing.T) {
	rule := func(name, host, gateway, match string) string {
		return "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: " + name + "}\nspec:\n" +
			"  hosts: ['" + host + "']\n  gateways: [" + gateway + "]\n  http:\n  - " + match + indent(toV1, "    ") + "\n"
	}
	const forA = "match: [{uri: {prefix: /b}, sourceLabels: {app: a}}, {uri: {prefix: /b}, sourceNamespace: ns}]\n    "
	for _, gateway := range []string{meshGateway, "default/gw"} {
		p, _ := compile(t, services+rule("a", "h.example", gateway, forA)+rule("b", "h.example", gateway, "match: [{uri: {prefix: /b}}]\n    ")+
			rule("c", "one.example", gateway, forA)+rule("d", "*.example", gateway, ""), Options{})
		for _, tt := range []struct {
			client    *Client
			url, want string
		}{
			{&Client{Labels: map[string]string{"app": "a"}}, "h.example/b", "a"},
			{&Client{Namespace: "ns"}, "h.example/b", "a"},
			{&Client{Namespace: "other"}, "h.example/b", "b"},
			{&Client{Namespace: "other"}, "h.example/", ""}, // the host is that of b
			{nil, "h.example/b", "b"},
			{&Client{Namespace: "ns"}, "one.example/b", "c"},
			{&Client{Namespace: "other"}, "one.example/b", "d"},
			{nil, "one.example/b", "d"},
		} {
			if tt.client != nil && gateway != meshGateway {
				tt.client.Gateways = []string{gateway}
			}
			host, path, _ := strings.Cut(tt.url, "/")
			e := p.ExplainFrom(request(t, "GET /"+path+"\nHost: "+host), Origin{Client: tt.client})
			got := ""
			if e.Matched {
				got = e.Rule.Name
			}
			if got != tt.want {
				t.Errorf("%s, %+v, %s: %q, expected %q", gateway, tt.client, tt.url, got, tt.want)
			}
		}
	}
	p, _ := compile(t, services+rule("a", "h.example", meshGateway, forA), Options{})
	e := p.ExplainFrom(request(t, "GET /b\nHost: h.example"), Origin{Client: &Client{}})
	if e.Matched || len(e.Tried) != 2 || !strings.HasPrefix(e.Tried[0].Reason, "client ") {
		t.Errorf("%+v", e)
	}
}
