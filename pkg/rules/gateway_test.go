package rules

import (
	"fmt"
	"strings"
	"testing"
)

// kubeService is a Service of the default namespace with port 80, which its
// endpoint serves on 8080.
func kubeService(name, address string) string { return kubeServiceIn("default", name, address) }

func kubeServiceIn(namespace, name, address string) string {
	return fmt.Sprintf(`
apiVersion: v1
kind: Service
metadata: {name: %[1]s, namespace: %[3]s}
spec: {clusterIP: 10.96.%[4]d.%[5]d, selector: {app: x}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: %[1]s-1, namespace: %[3]s, labels: {kubernetes.io/service-name: %[1]s}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints: [{addresses: [%[2]s], conditions: {ready: true}}]
---
`, name, address, namespace, len(name), len(namespace))
}

// backends are what the routes of the tests lead to.
var backends = kubeService("app", "10.1.0.1") + kubeService("other", "10.1.0.2") +
	kubeService("shadow", "10.1.0.8") + kubeService("shadow-2", "10.1.0.9")

// toApp is what most rules of the tests do.
const toApp = "backendRefs: [{name: app, port: 80}]\n"

// mirrored is a filter that mirrors to shadow.
const mirrored = "{type: RequestMirror, requestMirror: {backendRef: {name: shadow, port: 80}}}"

// toShadow is toApp with a mirror.
const toShadow = "filters: [" + mirrored + "]\n" + toApp

// gatewayDoc is an object with the given spec, its fields indented by
// nothing.
func gatewayDoc(kind, name, spec string) string {
	return fmt.Sprintf("apiVersion: gateway.networking.k8s.io/v1\nkind: %s\nmetadata: {name: %s}\nspec:\n  %s\n---\n",
		kind, name, indent(spec, "  "))
}

func indent(text, by string) string {
	return strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n"+by)
}

// ruleList is the rules of a route, each the YAML of an entry.
func ruleList(rules ...string) string {
	text := "rules:\n"
	for _, r := range rules {
		text += "- " + indent(r, "  ") + "\n"
	}
	return text
}

// httpRoutes is an HTTPRoute on Gateway gw for every host.
func httpRoutes(rules ...string) string {
	return backends + gatewayDoc("HTTPRoute", "test", "parentRefs: [{name: gw}]\n"+ruleList(rules...))
}

// TestHTTPRouteMatch: semantics of every condition of a match. The rule under
// test is the first; what it does not take goes to none.
func TestHTTPRouteMatch(t *testing.T) {
	for _, tt := range []struct {
		name, match string
		yes, no     []string
	}{
		{"path default", "{}", []string{"GET /", "GET /a?b", "GET /%2F"}, []string{"OPTIONS *"}},
		{"path without type", "{path: {value: /a}}", []string{"GET /a/b"}, []string{"GET /ab"}},
		{"path Exact", "{path: {type: Exact, value: /a/b}}",
			[]string{"GET /a/b", "GET /a/b?c=d", "GET /a/./b", "GET /a/x/../b", "GET http://h/a/b", "GET /%61/b"},
			[]string{"GET /a/b/", "GET /A/b", "GET /a", "GET /a/b/c", "GET /a//b", "GET /a%2Fb"}},
		{"path Exact with slash", "{path: {type: Exact, value: /a/}}", []string{"GET /a/"}, []string{"GET /a"}},
		{"path PathPrefix", "{path: {type: PathPrefix, value: /abc}}",
			[]string{"GET /abc", "GET /abc/", "GET /abc/def", "GET /abc?x", "GET /abc//d"}, []string{"GET /abcd", "GET /ab", "GET /ABC/", "GET /x/abc"}},
		{"path PathPrefix with slash", "{path: {type: PathPrefix, value: /abc/}}",
			[]string{"GET /abc", "GET /abc/", "GET /abc/def"}, []string{"GET /abcd", "GET /"}},
		{"path PathPrefix of all", "{path: {type: PathPrefix, value: /}}", []string{"GET /", "GET /a", "GET http://h"}, nil},
		{"path RegularExpression", "{path: {type: RegularExpression, value: '/a/[0-9]+'}}",
			[]string{"GET /a/12", "GET /a/1?x=y"}, []string{"GET /a/12/", "GET /x/a/1", "GET /a/"}},
		{"path RegularExpression with alternatives", "{path: {type: RegularExpression, value: '/a|/b'}}",
			[]string{"GET /a", "GET /b"}, []string{"GET /ab", "GET /a/b"}},
		{"method", "{method: PUT}", []string{"PUT /"}, []string{"GET /", "put /", "PUTS /"}},
		{"headers", "{headers: [{name: X-A, value: v}]}",
			[]string{"GET /\nx-a: v", "GET /\nX-A:v"}, []string{"GET /", "GET /\nX-A: V", "GET /\nX-A: v\nX-A: w", "GET /\nX-A:"}},
		{"headers RegularExpression", "{headers: [{type: RegularExpression, name: X-A, value: 'v+'}]}",
			[]string{"GET /\nX-A: vv"}, []string{"GET /\nX-A: vw", "GET /"}},
		{"headers all", "{headers: [{name: a, value: '1'}, {name: b, value: '2'}]}",
			[]string{"GET /\nA: 1\nB: 2"}, []string{"GET /\nA: 1", "GET /\nB: 2"}},
		{"headers with the same name", "{headers: [{name: X-A, value: v}, {name: x-a, value: w}]}",
			[]string{"GET /\nX-A: v"}, []string{"GET /\nX-A: w", "GET /\nX-A: v,w"}},
		{"queryParams", "{queryParams: [{name: k, value: v}]}",
			[]string{"GET /?k=v", "GET /?a&k=v", "GET /?k=v&k=w"}, []string{"GET /", "GET /?K=v", "GET /?k=w&k=v", "GET /?k", "GET /?k=%76"}},
		{"queryParams RegularExpression", "{queryParams: [{type: RegularExpression, name: k, value: '.*'}]}",
			[]string{"GET /?k", "GET /?k=", "GET /?k=x"}, []string{"GET /?kk=x"}},
		{"all together", "{path: {value: /a}, method: GET, headers: [{name: h, value: v}], queryParams: [{name: q, value: v}]}",
			[]string{"GET /a?q=v\nH: v"}, []string{"GET /b?q=v\nH: v", "POST /a?q=v\nH: v", "GET /a?q=v", "GET /a\nH: v"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, _ := compile(t, httpRoutes("matches: ["+tt.match+"]\n"+toShadow), Options{})
			for _, head := range tt.yes {
				if d := decide(t, p, request(t, head), "10.1.0.1:8080"); d.Verdict != Mirrored {
					t.Errorf("%q: %v %v", head, d.Verdict, d.Why)
				}
			}
			for _, head := range tt.no {
				if d := decide(t, p, request(t, head), "10.1.0.1:8080"); d.Route != nil {
					t.Errorf("%q: %v", head, d.Verdict)
				}
			}
		})
	}
}

// TestHTTPRouteMatches: matches are alternatives, and a rule without any, or a
// route without rules, is for everything.
func TestHTTPRouteMatches(t *testing.T) {
	p, _ := compile(t, httpRoutes("matches: [{path: {value: /a}}, {method: PUT}]\n"+toShadow), Options{})
	for head, want := range map[string]bool{"GET /a": true, "PUT /b": true, "GET /b": false} {
		if d := decide(t, p, request(t, head), ""); (d.Route != nil) != want {
			t.Errorf("%s: %v", head, d.Route != nil)
		}
	}
	p, _ = compile(t, httpRoutes(toShadow), Options{})
	if d := decide(t, p, request(t, "GET /x"), "10.1.0.1:8080"); d.Verdict != Mirrored {
		t.Error(d.Verdict)
	}
	p, _ = compile(t, backends+gatewayDoc("HTTPRoute", "test", "parentRefs: [{name: gw}]"), Options{})
	if d := decide(t, p, request(t, "GET /x"), "10.1.0.1:8080"); d.Route == nil || d.Why != NoMirror {
		t.Error(d.Why)
	}
}

// TestPrecedence: each row is two rules that both match, the one that goes
// first being first; they are given in both orders, in one route and in two.
func TestPrecedence(t *testing.T) {
	for _, tt := range []struct{ name, first, second, head string }{
		{"exact path", "{path: {type: Exact, value: /a}}", "{path: {value: /a}, method: GET, headers: [{name: h, value: v}]}", "GET /a\nH: v"},
		{"longer exact path does not matter", "{path: {type: Exact, value: /a/b}}", "{path: {value: /a/b}}", "GET /a/b"},
		{"longer prefix", "{path: {value: /a/b}}", "{path: {value: /a}, method: GET}", "GET /a/b/c"},
		{"slash at the end is no character", "{path: {value: /a}, method: GET}", "{path: {value: /a/}}", "GET /a/b"},
		{"prefix before regex", "{path: {value: /a}}", "{path: {type: RegularExpression, value: '/a.*'}, method: GET}", "GET /a"},
		{"every path before regex", "{}", "{path: {type: RegularExpression, value: '/a.*'}}", "GET /a"},
		{"longer regex", "{path: {type: RegularExpression, value: '/a.*b'}}", "{path: {type: RegularExpression, value: '/a.*'}}", "GET /a/b"},
		{"method", "{method: GET}", "{headers: [{name: h, value: v}, {name: i, value: v}]}", "GET /\nH: v\nI: v"},
		{"more headers", "{headers: [{name: h, value: v}, {name: i, value: v}]}", "{headers: [{name: h, value: v}], queryParams: [{name: q, value: v}]}", "GET /?q=v\nH: v\nI: v"},
		{"more query parameters", "{queryParams: [{name: q, value: v}, {name: r, value: v}]}", "{queryParams: [{name: q, value: v}]}", "GET /?q=v&r=v"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			first := "name: first\nmatches: [" + tt.first + "]\n" + toShadow
			second := "name: second\nmatches: [" + tt.second + "]\n" + toShadow
			two := func(a, b string) string {
				return backends + gatewayDoc("HTTPRoute", "a", "parentRefs: [{name: gw}]\n"+ruleList(a)) +
					gatewayDoc("HTTPRoute", "b", "parentRefs: [{name: gw}]\n"+ruleList(b))
			}
			for _, text := range []string{httpRoutes(first, second), httpRoutes(second, first), two(first, second), two(second, first)} {
				p, _ := compile(t, text, Options{})
				if d := decide(t, p, request(t, tt.head), "10.1.0.1:8080"); d.Route == nil || d.Route.Rule().Route != "first" {
					t.Errorf("%v of\n%s", d.Route.Rule(), text)
				}
			}
		})
	}
}

// TestPrecedenceTies: of matches that are alike the older route goes first,
// then the one whose "namespace/name" is first, then the rule.
func TestPrecedenceTies(t *testing.T) {
	route := func(namespace, name, created string) string {
		return fmt.Sprintf("apiVersion: gateway.networking.k8s.io/v1beta1\nkind: HTTPRoute\n"+
			"metadata: {name: %s, namespace: %s, creationTimestamp: %s}\nspec:\n  parentRefs: [{name: gw, namespace: default}]\n  rules:\n"+
			"  - backendRefs: [{name: app, namespace: default, port: 80}]\n"+
			"    filters: [{type: RequestMirror, requestMirror: {backendRef: {name: shadow, namespace: default, port: 80}}}]\n  - {}\n---\n", name, namespace, created)
	}
	grant := "apiVersion: gateway.networking.k8s.io/v1beta1\nkind: ReferenceGrant\nmetadata: {name: all}\nspec:\n  from:\n" +
		"  - {group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: a}\n  - {group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: a-b}\n" +
		"  to: [{group: '', kind: Service}]\n---\n"
	for _, tt := range []struct{ name, text, want string }{
		{"older", route("a", "a", "2026-01-02T00:00:00Z") + route("a", "z", "2026-01-01T00:00:00Z"), "HTTPRoute a/z (rules[0])"},
		{"name", route("a", "z", "2026-01-01T00:00:00Z") + route("a", "b", "2026-01-01T00:00:00Z"), "HTTPRoute a/b (rules[0])"},
		// "-" is before "/": the text "{namespace}/{name}" is compared, not its parts.
		{"namespace and name", route("a", "a", "2026-01-01T00:00:00Z") + route("a-b", "z", "2026-01-01T00:00:00Z"), "HTTPRoute a-b/z (rules[0])"},
	} {
		p, _ := compile(t, backends+grant+tt.text, Options{})
		if d := decide(t, p, request(t, "GET /"), ""); d.Route == nil || d.Route.Rule().String() != tt.want {
			t.Errorf("%s: %v", tt.name, d.Route.Rule())
		}
	}
}

// TestURLRewrite is the table of replacePrefixMatch in the definition of the
// API, what it leaves open, and the rest of the filter.
func TestURLRewrite(t *testing.T) {
	for _, tt := range []struct{ prefix, rewrite, head, want string }{
		{"/foo", "path: {type: ReplacePrefixMatch, replacePrefixMatch: /xyz}", "GET /foo/bar", "/xyz/bar"},
		{"/foo", "path: {type: ReplacePrefixMatch, replacePrefixMatch: /xyz/}", "GET /foo/bar", "/xyz/bar"},
		{"/foo/", "path: {type: ReplacePrefixMatch, replacePrefixMatch: /xyz}", "GET /foo/bar", "/xyz/bar"},
		{"/foo/", "path: {type: ReplacePrefixMatch, replacePrefixMatch: /xyz/}", "GET /foo/bar", "/xyz/bar"},
		{"/foo", "path: {type: ReplacePrefixMatch, replacePrefixMatch: /xyz}", "GET /foo", "/xyz"},
		{"/foo", "path: {type: ReplacePrefixMatch, replacePrefixMatch: /xyz}", "GET /foo/", "/xyz/"},
		{"/foo", "path: {type: ReplacePrefixMatch, replacePrefixMatch: ''}", "GET /foo/bar", "/bar"},
		{"/foo", "path: {type: ReplacePrefixMatch, replacePrefixMatch: ''}", "GET /foo/", "/"},
		{"/foo", "path: {type: ReplacePrefixMatch, replacePrefixMatch: ''}", "GET /foo", "/"},
		{"/foo", "path: {type: ReplacePrefixMatch, replacePrefixMatch: /}", "GET /foo/", "/"},
		{"/foo", "path: {type: ReplacePrefixMatch, replacePrefixMatch: /}", "GET /foo", "/"},
		{"/foo", "path: {type: ReplacePrefixMatch, replacePrefixMatch: /}", "GET /foo/bar", "/bar"},
		{"/", "path: {type: ReplacePrefixMatch, replacePrefixMatch: /xyz}", "GET /abc", "/xyz/abc"},
		{"/", "path: {type: ReplacePrefixMatch, replacePrefixMatch: /xyz}", "GET /", "/xyz/"},
		{"/", "path: {type: ReplacePrefixMatch, replacePrefixMatch: /}", "GET /abc", "/abc"},
		{"/", "path: {type: ReplacePrefixMatch, replacePrefixMatch: /}", "GET /", "/"},
		{"/foo", "path: {type: ReplacePrefixMatch, replacePrefixMatch: /}", "GET /foo?x=/foo", "/?x=/foo"},
		{"/foo", "path: {type: ReplacePrefixMatch, replacePrefixMatch: /a/b}", "GET /%66oo/./c?d", "/a/b/c?d"},
		{"/foo", "path: {type: ReplacePrefixMatch, replacePrefixMatch: /xyz}", "GET http://h:80/foo/bar?q", "http://h:80/xyz/bar?q"},
		{"/foo", "path: {type: ReplacePrefixMatch, replacePrefixMatch: /}", "GET http://h/foo", "http://h/"},
		{"/foo", "path: {type: ReplaceFullPath, replaceFullPath: /xyz}", "GET /foo/bar", "/xyz"},
		{"/foo", "path: {type: ReplaceFullPath, replaceFullPath: /xyz/}", "GET /foo?a=b", "/xyz/?a=b"},
		{"/foo", `path: {type: ReplaceFullPath, replaceFullPath: '/\1$1'}`, "GET /foo", `/\1$1`},
		{"/", "path: {type: ReplaceFullPath, replaceFullPath: /xyz}", "GET http://h", "http://h/xyz"},
		{"/foo", "path: {type: ReplaceFullPath, replaceFullPath: ''}", "GET /foo?q", "/?q"},
		{"/foo", "hostname: new.example", "GET /foo?q", "/foo?q"},
		{"/foo", "hostname: longer.new.example", "GET http://h/foo?q", "http://longer.new.example/foo?q"},
		{"/foo", "hostname: n", "GET http://user@long.example:8080/foo?q", "http://user@n/foo?q"},
	} {
		rule := fmt.Sprintf("matches: [{path: {value: %s}}]\nfilters: [%s, {type: URLRewrite, urlRewrite: {%s}}]\n%s", tt.prefix, mirrored, tt.rewrite, toApp)
		p, _ := compile(t, httpRoutes(rule), Options{})
		r := request(t, tt.head)
		d := decide(t, p, r, "10.1.0.1:8080")
		if d.Verdict != Mirrored {
			t.Errorf("%s: %v %v", tt.head, d.Verdict, d.Why)
			continue
		}
		copied := newCopy(d.Selected[0], r)
		if copied.Target != tt.want {
			t.Errorf("%s, %s, %s: %s, expected %s", tt.prefix, tt.rewrite, tt.head, copied.Target, tt.want)
		}
		host := "any.example"
		if name, ok := strings.CutPrefix(tt.rewrite, "hostname: "); ok {
			host = name
		}
		if len(copied.Headers) != 1 || copied.Headers[0] != [2]string{"Host", host} {
			t.Errorf("%s: %v, expected host %s", tt.head, copied.Headers, host)
		}
	}
}

// TestRequestMirror: how many requests a mirror takes.
func TestRequestMirror(t *testing.T) {
	for share, want := range map[string]float64{
		"":                         100,
		"percent: 0":               0,
		"percent: 1":               1,
		"percent: 100":             100,
		"fraction: {numerator: 1}": 1,
		"fraction: {numerator: 0, denominator: 5}":          0,
		"fraction: {numerator: 5, denominator: 5}":          100,
		"fraction: {numerator: 1, denominator: 3}":          33.3333,
		"fraction: {numerator: 2, denominator: 3}":          66.6666,
		"fraction: {numerator: 1, denominator: 2000000000}": 0,
	} {
		rule := "filters: [{type: RequestMirror, requestMirror: {backendRef: {name: shadow, port: 80}, " + share + "}}]\n" + toApp
		p, _ := compile(t, httpRoutes(rule), Options{})
		d := decide(t, p, request(t, "GET /"), "10.1.0.1:8080")
		got := 0.0
		if len(d.Selected) > 0 {
			got = d.Selected[0].Percentage()
		}
		if got != want || (want == 0) != (d.Why == NoMirror) {
			t.Errorf("%q: %v percent (%v), expected %v", share, got, d.Why, want)
		}
	}
}

// TestRequestMirrors: a filter that repeats mirrors to each of its backends.
func TestRequestMirrors(t *testing.T) {
	p, _ := compile(t, httpRoutes("filters: ["+mirrored+
		", {type: RequestMirror, requestMirror: {percent: 10, backendRef: {name: shadow-2, port: 80}}}]\n"+toApp), Options{})
	d := decide(t, p, request(t, "GET /"), "10.1.0.1:8080")
	if len(d.Selected) != 2 || d.Selected[0].Mirror.Key() != "shadow.default.svc.cluster.local||80" ||
		d.Selected[1].Mirror.Endpoints[0].Address != "10.1.0.9:8080" {
		t.Fatalf("%v", d.Selected)
	}
	p.Decide(request(t, "GET /"), 999_999, d)
	if len(d.Selected) != 1 || d.Verdict != Mirrored {
		t.Fatalf("%v", d.Selected)
	}
	if got := fmt.Sprint(p.Targets()); got != "[10.1.0.1:8080]" {
		t.Error(got)
	}
}

// TestRequestHeaderModifier: every class of changes, and how they combine with
// each other, with a rewrite of the host and with the filters of the backend.
func TestRequestHeaderModifier(t *testing.T) {
	const head = "GET /\nHost: h\nX-A: 1\nx-a: 2\nX-B: 3"
	for _, tt := range []struct{ name, filters, backend, want string }{
		{"set", "set: [{name: x-A, value: v}]", "", "Host: h|X-B: 3|x-A: v"},
		{"set what is not there", "set: [{name: X-C, value: 'a, b'}]", "", "Host: h|X-A: 1|x-a: 2|X-B: 3|X-C: a, b"},
		{"add", "add: [{name: X-A, value: v}]", "", "Host: h|X-A: 1|x-a: 2|X-B: 3|X-A: v"},
		{"remove", "remove: [x-A, X-Not-There]", "", "Host: h|X-B: 3"},
		{"order", "add: [{name: X-A, value: a}], set: [{name: X-A, value: s}], remove: [X-A]", "", "Host: h|X-B: 3|X-A: s|X-A: a"},
		{"value is literal", "set: [{name: X-C, value: '%REQ(x-a)% %% $1'}]", "", "Host: h|X-A: 1|x-a: 2|X-B: 3|X-C: %REQ(x-a)% %% $1"},
		{"first of a name", "set: [{name: X-C, value: a}, {name: x-c, value: b}]", "", "Host: h|X-A: 1|x-a: 2|X-B: 3|X-C: a"},
		{"host set", "set: [{name: host, value: new}]", "", "Host: new|X-A: 1|x-a: 2|X-B: 3"},
		{"host added", "add: [{name: Host, value: new}]", "", "Host: new|X-A: 1|x-a: 2|X-B: 3"},
		{"host set before added", "add: [{name: Host, value: a}], set: [{name: host, value: s}]", "", "Host: s|X-A: 1|x-a: 2|X-B: 3"},
		{"host removed", "remove: [Host]", "", "Host: h|X-A: 1|x-a: 2|X-B: 3"},
		{"backend set", "", "set: [{name: X-A, value: b}]", "Host: h|X-B: 3|X-A: b"},
		{"backend after rule", "set: [{name: X-A, value: r}], add: [{name: X-B, value: r}]", "set: [{name: x-a, value: b}], add: [{name: X-B, value: b}]",
			"Host: h|X-B: 3|x-a: b|X-B: r|X-B: b"},
		{"backend cannot remove what the rule sets", "set: [{name: X-A, value: r}]", "remove: [X-A]", "Host: h|X-B: 3|X-A: r"},
	} {
		filters, backend := mirrored, ""
		if tt.filters != "" {
			filters += ", {type: RequestHeaderModifier, requestHeaderModifier: {" + tt.filters + "}}"
		}
		if tt.backend != "" {
			backend = ", filters: [{type: RequestHeaderModifier, requestHeaderModifier: {" + tt.backend + "}}]"
		}
		p, _ := compile(t, httpRoutes("filters: ["+filters+"]\nbackendRefs: [{name: app, port: 80"+backend+"}]"), Options{})
		r := request(t, head)
		d := decide(t, p, r, "10.1.0.1:8080")
		var got []string
		for _, h := range newCopy(d.Selected[0], r).Headers {
			got = append(got, h[0]+": "+h[1])
		}
		if strings.Join(got, "|") != tt.want {
			t.Errorf("%s: %s, expected %s", tt.name, strings.Join(got, "|"), tt.want)
		}
	}
}

// TestURLRewriteHostname: a rewrite of the host goes before a header operation on it,
// and requests that name their host in other ways, or not at all.
func TestURLRewriteHostname(t *testing.T) {
	p, _ := compile(t, httpRoutes("filters: ["+mirrored+", {type: URLRewrite, urlRewrite: {hostname: new.example}}, "+
		"{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: Host, value: other}]}}]\n"+toApp), Options{})
	for head, want := range map[string]string{
		"GET /\nhost: h:80":             "GET / HTTP/1.1\r\nhost: new.example\r\n",
		"GET / HTTP/1.0\nA: b":          "GET / HTTP/1.0\r\nHost: new.example\r\nA: b\r\n",
		"GET http://h/x\nHost: another": "GET http://new.example/x HTTP/1.1\r\nHost: new.example\r\n",
	} {
		r := request(t, head)
		d := decide(t, p, r, "10.1.0.1:8080")
		if d.Verdict != Mirrored {
			t.Errorf("%q: %v", head, d.Why)
		} else if got := string(d.Route.AppendHead(nil, r)); got != want {
			t.Errorf("%q: %q, expected %q", head, got, want)
		}
	}
}

// TestAnswered: what is answered without a backend is not mirrored.
func TestAnswered(t *testing.T) {
	for name, rule := range map[string]string{
		"RequestRedirect": "filters: [" + mirrored + ", {type: RequestRedirect, requestRedirect: {hostname: x.example}}]",
		"no backend":      "filters: [" + mirrored + "]",
		"weight 0":        "filters: [" + mirrored + "]\nbackendRefs: [{name: app, port: 80, weight: 0}]",
	} {
		p, ps := compile(t, httpRoutes(rule), Options{})
		d := decide(t, p, request(t, "GET /"), "")
		if d.Route == nil || d.Why != NoMirror || len(p.Targets())+len(p.Mirrors()) != 0 {
			t.Errorf("%s: %v, %v", name, d.Why, p.Targets())
		}
		if len(ps) != 1 || !strings.Contains(ps[0].Message, "mirrors nothing") {
			t.Errorf("%s: %v", name, ps)
		}
	}
}

// TestWeight: requests arrive at every backend with a weight.
func TestWeight(t *testing.T) {
	p, _ := compile(t, httpRoutes("filters: ["+mirrored+"]\nbackendRefs: [{name: app, port: 80, weight: 0}, {name: other, port: 80, weight: 3}, {name: shadow-2, port: 80}]"), Options{})
	if got := fmt.Sprint(p.Targets()); got != "[10.1.0.2:8080 10.1.0.9:8080]" {
		t.Error(got)
	}
	if d := decide(t, p, request(t, "GET /"), "10.1.0.1:8080"); d.Why != OtherDestination {
		t.Error(d.Why)
	}
}

// TestGRPCRoute: matches of services and methods are of paths.
func TestGRPCRoute(t *testing.T) {
	for _, tt := range []struct {
		name, match string
		yes, no     []string
	}{
		{"all", "{}", []string{"POST /a.B/C", "POST /"}, nil},
		{"Exact", "{method: {service: a.B, method: C}}", []string{"POST /a.B/C", "GET /a.B/C"}, []string{"POST /a.B/c", "POST /a.B/C/", "POST /a.BB/C", "POST /aXB/C"}},
		{"Exact service", "{method: {service: a.B}}", []string{"POST /a.B/C", "POST /a.B/D"}, []string{"POST /a.B", "POST /a.BC/D", "POST /x/a.B/C"}},
		{"Exact method", "{method: {method: C}}", []string{"POST /a.B/C", "POST /x/C"}, []string{"POST /C", "POST /a/b/C", "POST /a/CC"}},
		{"RegularExpression", "{method: {type: RegularExpression, service: 'a|b', method: 'C|D'}}",
			[]string{"POST /a/C", "POST /b/D"}, []string{"POST /a", "POST /ab/C", "POST /c/D", "POST /a/C/D"}},
		{"RegularExpression service", "{method: {type: RegularExpression, service: 'a.+'}}", []string{"POST /a.B/C"}, []string{"POST /a/C", "POST /a.B/"}},
		{"RegularExpression method", "{method: {type: RegularExpression, method: 'G.*'}}", []string{"POST /a/Get"}, []string{"POST /a/Put", "POST /a/b/Get"}},
		{"headers", "{headers: [{name: X-A, value: v}, {name: X-B, type: RegularExpression, value: 'w+'}]}",
			[]string{"POST /a/B\nx-a: v\nx-b: ww"}, []string{"POST /a/B\nx-a: v"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, _ := compile(t, backends+gatewayDoc("GRPCRoute", "test", "parentRefs: [{name: gw}]\n"+ruleList("matches: ["+tt.match+"]\n"+toShadow)), Options{})
			for _, head := range tt.yes {
				if d := decide(t, p, request(t, head), "10.1.0.1:8080"); d.Verdict != Mirrored {
					t.Errorf("%q: %v", head, d.Why)
				}
			}
			for _, head := range tt.no {
				if d := decide(t, p, request(t, head), "10.1.0.1:8080"); d.Route != nil {
					t.Errorf("%q: %v", head, d.Verdict)
				}
			}
		})
	}
}

// TestGRPCPrecedence: the longer service, then the longer method, then more
// headers.
func TestGRPCPrecedence(t *testing.T) {
	matches := []string{
		"{method: {service: a.B, method: Get}, headers: [{name: h, value: v}]}",
		"{method: {service: a.B, method: Get}}",
		"{method: {service: a.B}}",
		"{method: {method: Get}}",
	}
	checkGRPCOrder(t, matches)
	// Of expressions the length is all there is to go by.
	checkGRPCOrder(t, []string{
		"{method: {type: RegularExpression, service: 'a[.]B', method: '.*'}}",
		"{method: {type: RegularExpression, service: 'a.B', method: 'Get'}}",
		"{method: {type: RegularExpression, service: 'a.B', method: '.*'}, headers: [{name: h, value: v}]}",
		"{method: {type: RegularExpression, service: 'a.B', method: '.*'}}",
	})
}

// checkGRPCOrder checks that each of the matches, which are all of one
// request, goes before those behind it.
func checkGRPCOrder(t *testing.T, matches []string) {
	t.Helper()
	for i := range matches {
		for j := i + 1; j < len(matches); j++ {
			p, _ := compile(t, backends+gatewayDoc("GRPCRoute", "test", "parentRefs: [{name: gw}]\n"+
				ruleList("name: second\nmatches: ["+matches[j]+"]\n"+toShadow, "name: first\nmatches: ["+matches[i]+"]\n"+toShadow)), Options{})
			if d := decide(t, p, request(t, "POST /a.B/Get\nh: v"), ""); d.Route == nil || d.Route.Rule().Route != "first" {
				t.Errorf("%s before %s", matches[j], matches[i])
			}
		}
	}
}
