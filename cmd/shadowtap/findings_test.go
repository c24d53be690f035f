package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// testServices are what the rules below lead to: app is captured, shadow is
// where copies go, and gone has no endpoint.
const testServices = `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: app}
spec:
  hosts: [app]
  resolution: STATIC
  ports: [{name: http, number: 80, protocol: HTTP}]
  endpoints: [{address: 10.0.0.1, labels: {version: v1}}, {address: 10.0.0.2, labels: {version: v2}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: app}
spec: {host: app, subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}, {name: v3, labels: {version: v3}}]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: shadow}
spec:
  hosts: [shadow]
  resolution: STATIC
  ports: [{name: http, number: 80, protocol: HTTP}]
  endpoints: [{address: 10.0.0.8}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: gone}
spec: {hosts: [gone], resolution: STATIC, ports: [{name: http, number: 80, protocol: HTTP}]}
---
`

// virtualService and httpRoute are rules with the given routes, one a line.
func virtualService(name, host, routes string) string {
	return "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: " + name + "}\nspec:\n  hosts: [" + host +
		"]\n  http:\n" + list(routes) + "---\n"
}

func httpRoute(name, host, rules string) string {
	return "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: " + name + "}\nspec:\n  parentRefs: [{name: gw}]\n" +
		"  hostnames: [" + host + "]\n  rules:\n" + list(rules) + "---\n"
}

func list(items string) (out string) {
	for item := range strings.Lines(items) {
		if strings.TrimSpace(item) != "" {
			out += "  - {" + strings.TrimSpace(item) + "}\n"
		}
	}
	return out
}

const (
	serviceApp    = "route: [{destination: {host: app, subset: v1}}]"
	serviceMirror = serviceApp + ", mirror: {host: shadow}"
	routeApp      = "backendRefs: [{name: app, port: 80}]"
	routeMirror   = routeApp + ", filters: [{type: RequestMirror, requestMirror: {backendRef: {name: shadow, port: 80}}}]"
)

func rulesText(t *testing.T, text string) (name string) {
	t.Helper()
	name = filepath.Join(t.TempDir(), "rules.yaml")
	if err := os.WriteFile(name, []byte(testServices+text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// TestFindings has what validate is for, in the rules of both APIs: each is
// found, at its place, and says what is wrong.
func TestFindings(t *testing.T) {
	to := func(mirror string) string {
		return routeApp + ", filters: [{type: RequestMirror, requestMirror: {" + mirror + "}}]"
	}
	for _, tt := range []struct {
		name, rules string
		code        int
		want        string
	}{
		{"nothing", virtualService("a", "a.example", serviceMirror) + httpRoute("b", "b.example", routeMirror), 0, "ok"},

		{"the same host", virtualService("a", "a.example", serviceMirror) + virtualService("b", "a.example", serviceMirror), 0,
			`warning: VirtualService default/b: spec.hosts[0]: "a.example": has no effect: the host belongs to VirtualService default/a`},
		{"the same host and match", httpRoute("a", "a.example", routeMirror) + httpRoute("b", "a.example", routeApp), 0,
			`warning: HTTPRoute default/b: spec.rules[0].matches[0]: is never reached for host a.example: HTTPRoute default/a (rules[0]) matches the same and goes first`},

		{"a route behind one for all", virtualService("a", "a.example", serviceMirror+"\n"+serviceApp), 0,
			"warning: VirtualService default/a: spec.http[1]: is never reached: spec.http[0] takes every request"},
		{"a route behind a wider one", virtualService("a", "a.example", "match: [{uri: {prefix: /a}}], "+serviceMirror+"\nmatch: [{uri: {exact: /a/b}}], "+serviceApp), 0,
			"spec.http[1].match[0]: is never reached: spec.http[0].match[0] takes every such request"},
		{"a rule behind the same", httpRoute("a", "a.example", "matches: [{path: {value: /a/}}], "+routeMirror+"\nmatches: [{path: {value: /a}}], "+routeApp), 0,
			"spec.rules[1].matches[0]: is never reached for host a.example: HTTPRoute default/a (rules[0]) matches the same"},

		{"a mirror without a service", virtualService("a", "a.example", serviceApp+", mirror: {host: none}"), 2,
			`spec.http[0].mirror.host: "none": no Service and no ServiceEntry has the host none.default.svc.cluster.local`},
		{"a mirror without endpoints", virtualService("a", "a.example", serviceApp+", mirror: {host: gone}"), 2,
			"spec.http[0].mirror: gone.default.svc.cluster.local has no endpoint"},
		{"a subset without endpoints", virtualService("a", "a.example", serviceApp+", mirror: {host: app, subset: v3}"), 2,
			"app.default.svc.cluster.local has no endpoint with the labels of subset v3 (version=v3)"},
		{"a subset that is not defined", virtualService("a", "a.example", serviceApp+", mirror: {host: app, subset: v4}"), 2,
			"defines this subset, did you mean v"},
		{"a RequestMirror without a service", httpRoute("a", "a.example", to("backendRef: {name: none, port: 80}")), 2,
			`requestMirror.backendRef: "none": there is no Service or ServiceEntry for none.default.svc.cluster.local`},
		{"a RequestMirror without endpoints", httpRoute("a", "a.example", to("backendRef: {name: gone, port: 80}")), 2,
			"gone.default.svc.cluster.local has no endpoint"},

		{"a mirror back to what is captured", virtualService("a", "a.example", serviceApp+", mirror: {host: app}"), 2,
			`spec.http[0].mirror: "10.0.0.1:80": is an endpoint whose requests are mirrored: copies would be mirrored again`},
		{"a mirror to what another rule captures", virtualService("a", "a.example", serviceMirror) +
			httpRoute("b", "b.example", "backendRefs: [{name: shadow, port: 80}], filters: [{type: RequestMirror, requestMirror: {backendRef: {name: app, port: 80}}}]"), 2,
			`VirtualService default/a: spec.http[0].mirror: "10.0.0.8:80": is an endpoint whose requests are mirrored`},
		{"a RequestMirror back to what is captured", httpRoute("a", "a.example", to("backendRef: {name: app, port: 80}")), 2,
			`requestMirror.backendRef: "10.0.0.1:80": is an endpoint whose requests are mirrored`},

		{"a percentage that is cut to nothing", virtualService("a", "a.example", serviceMirror+", mirrorPercentage: {value: 0.00009}"), 0,
			`spec.http[0].mirrorPercentage.value: "9e-05": mirrors nothing: less than 0.0001 counts as 0`},
		{"a fraction that is cut to nothing", httpRoute("a", "a.example", to("backendRef: {name: shadow, port: 80}, fraction: {numerator: 1, denominator: 2000000}")), 0,
			"requestMirror.fraction: mirrors nothing: less than 0.0001 percent counts as 0"},

		{"an expression that is not RE2", virtualService("a", "a.example", "match: [{uri: {regex: '(?=a)'}}], "+serviceMirror), 2,
			`spec.http[0].match[0].uri.regex: "(?=a)": expected an RE2 expression: invalid or unsupported Perl syntax`},
		{"an expression that is not RE2 in an HTTPRoute", httpRoute("a", "a.example", "matches: [{path: {type: RegularExpression, value: '/(?=a)'}}], "+routeMirror), 2,
			`spec.rules[0].matches[0].path.value: "/(?=a)": expected an RE2 expression`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			code, stdout, _ := command(t, "validate", "-f", rulesText(t, tt.rules))
			if code != tt.code || !strings.Contains(stdout, tt.want) {
				t.Errorf("exit code %d, want %d\n%s\nwant %s", code, tt.code, stdout, tt.want)
			}
			if tt.want != "ok" && strings.Count(stdout, "rules.yaml:") == 0 {
				t.Errorf("no line is named in\n%s", stdout)
			}
		})
	}
}

// TestExplainsEveryRule: for each rule that is tried explain says why it does
// or does not match.
func TestExplainsEveryRule(t *testing.T) {
	name := rulesText(t, virtualService("a", "a.example", "name: posts, match: [{uri: {prefix: /a}, method: {exact: POST}}], "+serviceMirror+
		"\nmatch: [{headers: {x-a: {exact: v}}, withoutHeaders: {x-b: {}}}, {queryParams: {q: {regex: 'v+'}}}], "+serviceMirror+"\n"+serviceApp)+
		httpRoute("b", "b.example", "matches: [{path: {value: /b}, headers: [{name: X-A, value: v}]}, {path: {type: Exact, value: /b}}], "+routeMirror))
	for _, tt := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"GET", "http://a.example/x?q=vv"}, 0, `no    VirtualService default/a route posts (http[0]): path "/x": expected prefix "/a"
no    VirtualService default/a (http[1]): header x-a is missing: expected exact "v"
match VirtualService default/a (http[1]): query parameter q regex "v+"
`},
		{[]string{"POST", "http://a.example/a"}, 0, `match VirtualService default/a route posts (http[0]): path prefix "/a", method exact "POST"
  100 % to shadow.default.svc.cluster.local (10.0.0.8:80)
`},
		{[]string{"GET", "http://a.example/a", "-H", "x-a: v", "-H", "x-b: w"}, 0, `no    VirtualService default/a route posts (http[0]): method "GET": expected exact "POST"
no    VirtualService default/a (http[1]): header x-b "w": expected to be without presence
no    VirtualService default/a (http[1]): query parameter q is missing: expected regex "v+"
match VirtualService default/a (http[2]): every request; mirrors nothing: the route has no mirror
`},
		{[]string{"GET", "http://b.example/b/c", "-H", "x-a: v"}, 0, `no    HTTPRoute default/b (rules[0]): path "/b/c": expected exact "/b"
match HTTPRoute default/b (rules[0]): path prefix "/b", header x-a exact "v"
`},
		{[]string{"GET", "http://b.example/c"}, 1, `no    HTTPRoute default/b (rules[0]): path "/c": expected exact "/b"
no    HTTPRoute default/b (rules[0]): path "/c": expected path prefix "/b"
no rule matches: no route for this host matches
`},
		{[]string{"GET", "http://c.example/"}, 1, `no    VirtualService default/a: host "c.example": expected a.example
no    HTTPRoute default/b: host "c.example": expected b.example
no rule matches: no rule is for this host
`},
	} {
		code, stdout, stderr := command(t, append([]string{"explain", "-f", name}, tt.args...)...)
		if code != tt.code || !strings.HasPrefix(stdout, tt.want) {
			t.Errorf("%q: exit code %d\n%s%s\nwant %d\n%s", tt.args, code, stdout, stderr, tt.code, tt.want)
		}
	}
}
