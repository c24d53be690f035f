package rules

import (
	"strings"
	"testing"
	"time"
)

// policyRules mirrors to subset v2 of a service under DestinationRules.
func policyRules(rules ...string) string {
	entry, _, _ := strings.Cut(services, "---\n")
	for _, r := range rules {
		entry += "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\n" + r
	}
	return entry + `
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: test}
spec:
  hosts: ['*']
  http:
  - route: [{destination: {host: httpbin, subset: v1}}]
    mirror: {host: httpbin, subset: v2}
`
}

const subsets = "subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}%s}]"

func rule(name, spec string) string {
	return "metadata: {name: " + name + "}\nspec: {host: httpbin, " + spec + "}\n"
}

// TestTrafficPolicy: which of a DestinationRule's policies holds for a mirror.
func TestTrafficPolicy(t *testing.T) {
	with := func(subset string) string { return strings.Replace(subsets, "%s", subset, 1) }
	for _, tt := range []struct {
		name  string
		rules []string
		want  Policy
	}{
		{"none", []string{rule("a", with(""))}, Policy{}},
		{"connectionPool", []string{rule("a", "trafficPolicy: {connectionPool: {tcp: {maxConnections: 3, connectTimeout: 2s, idleTimeout: 9s}, "+
			"http: {http1MaxPendingRequests: 4, http2MaxRequests: 5, maxRequestsPerConnection: 6, idleTimeout: 7s}}}, "+with(""))},
			Policy{MaxConnections: 3, MaxPending: 4, MaxRequests: 5, RequestsPerConnection: 6, ConnectTimeout: 2 * time.Second, IdleTimeout: 7 * time.Second}},
		{"the subset's field by field", []string{rule("a", "trafficPolicy: {connectionPool: {tcp: {maxConnections: 3}}, outlierDetection: {}}, "+
			with(", trafficPolicy: {connectionPool: {tcp: {connectTimeout: 1s}}}"))},
			Policy{ConnectTimeout: time.Second, Outlier: &Outlier{Errors: 5, Ejection: 30 * time.Second, MaxPercent: 10}}},
		{"portLevelSettings replace", []string{rule("a", "trafficPolicy: {outlierDetection: {}, connectionPool: {tcp: {maxConnections: 3}}, "+
			"portLevelSettings: [{port: {number: 8000}, connectionPool: {tcp: {maxConnections: 9}}}]}, "+with(""))}, Policy{MaxConnections: 9}},
		{"portLevelSettings of another port", []string{rule("a", "trafficPolicy: {connectionPool: {tcp: {maxConnections: 3}}, "+
			"portLevelSettings: [{port: {number: 80}, connectionPool: {tcp: {maxConnections: 9}}}]}, "+with(""))}, Policy{MaxConnections: 3}},
		{"merged, the first policy counts", []string{rule("a", with("")), rule("b", "trafficPolicy: {connectionPool: {tcp: {maxConnections: 3}}}"),
			rule("c", "trafficPolicy: {connectionPool: {tcp: {maxConnections: 4}}}")}, Policy{MaxConnections: 3}},
		{"outlierDetection", []string{rule("a", "trafficPolicy: {outlierDetection: {consecutive5xxErrors: 0, consecutiveGatewayErrors: 2, baseEjectionTime: 5s, maxEjectionPercent: 50}}, "+with(""))},
			Policy{Outlier: &Outlier{GatewayErrors: 2, Ejection: 5 * time.Second, MaxPercent: 50}}},
		{"tls DISABLE", []string{rule("a", "trafficPolicy: {tls: {mode: DISABLE}}, "+with(""))}, Policy{}},
		{"tls SIMPLE", []string{rule("a", "trafficPolicy: {tls: {mode: SIMPLE, caCertificates: /ca, sni: s.example, subjectAltNames: [a, b]}}, "+with(""))},
			Policy{TLS: &TLS{CACertificates: "/ca", ServerName: "s.example", AltNames: "a,b"}}},
		{"tls MUTUAL", []string{rule("a", with(", trafficPolicy: {tls: {mode: MUTUAL, clientCertificate: /c, privateKey: /k, insecureSkipVerify: true}}"))},
			Policy{TLS: &TLS{ClientCertificate: "/c", PrivateKey: "/k", SkipVerify: true}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, _ := compile(t, policyRules(tt.rules...), Options{})
			m := p.Mirrors()[0]
			if got := m.Policy.key(); got != tt.want.key() {
				t.Errorf("%s, want %s", got, tt.want.key())
			}
			if e := m.Endpoints[0]; e.TLS != (tt.want.TLS != nil) || e.TLS && e.ServerName != tt.want.TLS.serverName(&service{host: m.Host}) {
				t.Errorf("endpoint %+v", e)
			}
			if plain := m.Key() == m.Host+"|v2|8000"; plain != (tt.want == (Policy{})) {
				t.Errorf("key %s", m.Key())
			}
		})
	}
	for _, bad := range []string{
		"trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}, " + with(""),
		"trafficPolicy: {tls: {mode: SIMPLE, credentialName: a}}, " + with(""),
		"trafficPolicy: {tls: {mode: MUTUAL}}, " + with(""),
		"trafficPolicy: {connectionPool: {tcp: {maxConnections: -1}}}, " + with(""),
		"trafficPolicy: {outlierDetection: {maxEjectionPercent: 101}}, " + with(""),
		"trafficPolicy: {portLevelSettings: [{port: {number: 0}}]}, " + with(""),
	} {
		if ps := problemsOf(t, policyRules(rule("a", bad))); ps.Err() == nil {
			t.Errorf("%s: no error", bad)
		}
	}
}

// TestDestinationRuleExportTo: a rule that the client's namespace does not see
// does not hold, and hides no other namespace's.
func TestDestinationRuleExportTo(t *testing.T) {
	const host = "httpbin.default.svc.cluster.local"
	dr := func(namespace, exportTo, label string) string {
		return "metadata: {name: " + label + ", namespace: " + namespace + "}\nspec: {host: " + host + ", exportTo: " + exportTo +
			", subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: " + label + "}}]}\n"
	}
	for _, tt := range []struct {
		name      string
		namespace string // of the VirtualService
		rules     []string
		want      string
	}{
		{"everywhere", "rules", []string{dr("default", "['*']", "v2")}, "10.0.0.2:80"},
		{"to the client", "rules", []string{dr("default", "[rules]", "v2")}, "10.0.0.2:80"},
		{"to another", "rules", []string{dr("default", "[other]", "v2")}, ""},
		{"private to the service", "rules", []string{dr("default", "[.]", "v2")}, ""},
		{"private to the client", "rules", []string{dr("rules", "[.]", "v2")}, "10.0.0.2:80"},
		{"the client's own, exported elsewhere", "rules", []string{dr("rules", "[other]", "v3"), dr("default", "['*']", "v2")}, "10.0.0.2:80"},
		{"not seen, then the root's", "rules", []string{dr("default", "[.]", "v3"), dr("istio-system", "['*']", "v2")}, "10.0.0.2:80"},
		{"in the root namespace the service's goes first", "istio-system", []string{dr("istio-system", "['*']", "v3"), dr("default", "['*']", "v2")}, "10.0.0.2:80"},
		{"in the root namespace a private one goes first", "istio-system", []string{dr("istio-system", "[.]", "v2"), dr("default", "['*']", "v3")}, "10.0.0.2:80"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			text := strings.ReplaceAll(policyRules(tt.rules...), "{host: httpbin, ", "{host: "+host+", ")
			text = strings.Replace(text, "{name: test}", "{name: test, namespace: "+tt.namespace+"}", 1)
			s, ps := decodeAll(t, text)
			if ps.Err() != nil {
				t.Fatal(ps)
			}
			p, ps := Compile(s, Options{})
			got := ""
			if p != nil {
				got = p.Mirrors()[0].Endpoints[0].Address
			}
			if got != tt.want {
				t.Errorf("%q, want %q: %v", got, tt.want, ps)
			}
		})
	}
}
