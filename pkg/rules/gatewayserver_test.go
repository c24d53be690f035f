package rules

import (
	"slices"
	"strings"
	"testing"
)

// TestGatewayServers: a rule bound to a gateway has the hosts that its servers
// admit, and no others.
func TestGatewayServers(t *testing.T) {
	const http = "{port: {number: 80, name: http, protocol: HTTP}, hosts: "
	for _, tt := range []struct {
		name, servers, hosts string
		yes, no              []string // hosts of requests
		warning              string
	}{
		{"all", http + "['*']}", "[a.example]", []string{"a.example"}, []string{"b.example"}, ""},
		{"the same", http + "[A.example]}", "[a.example]", []string{"a.example"}, nil, ""},
		{"a wildcard of the server", http + "['*.example']}", "[a.example, b.test]", []string{"a.example"}, []string{"b.test", "b.example"},
			`spec.hosts[1]: "b.test": has no effect: no server of Gateway default/gw admits it, expected one of *.example`},
		{"a wildcard of the rule", http + "[a.example, b.example]}", "['*.example']", []string{"a.example", "b.example"}, []string{"c.example"}, ""},
		{"two wildcards", http + "['*.b.example']}", "['*.example']", []string{"a.b.example"}, []string{"b.example", "a.example"}, ""},
		{"its namespace", http + "[default/a.example, other/b.example]}", "['*.example']", []string{"a.example"}, []string{"b.example"}, ""},
		{"the gateway's namespace", http + "[./a.example, '*/b.example']}", "['*.example']", []string{"a.example", "b.example"}, nil, ""},
		{"two servers", http + "[a.example]}, " + http + "['*.example']}", "['*']", []string{"a.example", "b.example"}, []string{"a.test"}, ""},
		{"TLS that ends here", "{port: {number: 443, name: s, protocol: HTTPS}, tls: {mode: SIMPLE}, hosts: ['*']}", "[a.example]", []string{"a.example"}, nil, ""},
		{"TLS that does not", "{port: {number: 443, name: s, protocol: HTTPS}, tls: {mode: PASSTHROUGH}, hosts: ['*']}", "[a.example]", nil, []string{"a.example"},
			"no server of Gateway default/gw takes HTTP requests"},
		{"TCP", "{port: {number: 1, name: s, protocol: TCP}, hosts: ['*']}", "[a.example]", nil, []string{"a.example"},
			"no server of Gateway default/gw takes HTTP requests"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			gw := "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: gw}\nspec: {selector: {a: b}, servers: [" + tt.servers + "]}\n---\n"
			p, ps := compile(t, gw+strings.Replace(vs(toV1), "  hosts: ['*']", "  gateways: [gw]\n  hosts: "+tt.hosts, 1), Options{})
			for _, host := range slices.Concat(tt.yes, tt.no) {
				d := decide(t, p, request(t, "GET /\nHost: "+host), "10.0.0.1:80")
				if got, want := d.Verdict == Mirrored, slices.Contains(tt.yes, host); got != want {
					t.Errorf("%s: %v %v", host, d.Verdict, d.Why)
				}
			}
			if tt.warning == "" && ps != nil || !strings.Contains(ps.Error(), tt.warning) {
				t.Errorf("%v, want %q", ps, tt.warning)
			}
		})
	}
	// Nothing is known of a gateway that is not there.
	p, ps := compile(t, strings.Replace(vs(toV1), "  hosts: ['*']", "  gateways: [gw]\n  hosts: [a.example]", 1), Options{})
	if d := decide(t, p, request(t, "GET /\nHost: a.example"), "10.0.0.1:80"); d.Verdict != Mirrored || ps != nil {
		t.Errorf("%v %v, %v", d.Verdict, d.Why, ps)
	}
}
