package rules

import (
	"fmt"
	"strings"
	"testing"
)

// delegated is rules in which one delegates /shop to another in namespace ns.
func delegated(root, leaf string) string {
	indent := func(s string) string { return strings.ReplaceAll(strings.TrimSpace(s), "\n", "\n    ") }
	return services + `apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: root}
spec:
  hosts: ['*']
  http:
  - ` + indent(root) + `
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: leaf, namespace: ns}
spec:
  http:
  - ` + indent(leaf) + `
`
}

// TestDelegateAnswers: a delegate that answers does not inherit a rewrite, and
// has none of its own.
func TestDelegateAnswers(t *testing.T) {
	const root = "rewrite: {uri: /own}\ndelegate: {name: leaf, namespace: ns}"
	for _, tt := range []struct{ name, leaf, wrong string }{
		{"redirect", "redirect: {uri: /x}", ""},
		{"directResponse", "directResponse: {status: 200}", ""},
		{"redirect with a rewrite", "redirect: {uri: /x}\nrewrite: {uri: /y}", "spec.http[0].rewrite"},
		{"directResponse with a rewrite", "directResponse: {status: 200}\nrewrite: {uri: /y}", "spec.http[0].rewrite"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			text := delegated(root, tt.leaf)
			if checkAdmission(t, text, tt.wrong); tt.wrong != "" {
				return
			}
			p, _ := compile(t, text, Options{})
			if d := decide(t, p, request(t, "GET /a"), ""); d.Route == nil || d.Why != NoMirror {
				t.Errorf("route %v, %v", d.Route, d.Why)
			}
		})
	}
}

// TestDelegateHost: each of two rules may change the host in its own way; as in
// one rule of Envoy's, an authority goes before a header.
func TestDelegateHost(t *testing.T) {
	const (
		byHeader    = "headers: {request: {set: {Host: header.example}}}\n"
		byAuthority = "rewrite: {authority: authority.example}\n"
		delegate    = "delegate: {name: leaf, namespace: ns}"
		answer      = "route: [{destination: {host: httpbin.default.svc.cluster.local}}]\nmirror: {host: httpbin.default.svc.cluster.local, port: {number: 8000}}"
	)
	for name, text := range map[string]string{
		"inherited header":    delegated(byHeader+delegate, byAuthority+answer),
		"inherited authority": delegated(byAuthority+delegate, byHeader+answer),
	} {
		p, _ := compile(t, text, Options{AllowLoops: true})
		r := request(t, "GET /")
		if got := string(decide(t, p, r, "").Selected[0].AppendHead(nil, r)); got != "GET / HTTP/1.1\r\nHost: authority.example\r\n" {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// TestDelegate has Istio's rules for merging.
func TestDelegate(t *testing.T) {
	const host = "httpbin.default.svc.cluster.local"
	const toV1 = "route: [{destination: {host: " + host + "}}]\n" // there are no subsets in namespace ns
	const mirror = "mirror: {host: mirror.example}\n"
	const entry = `
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: mirror}
spec: {hosts: [mirror.example], resolution: STATIC, ports: [{name: http, number: 80, protocol: HTTP}], endpoints: [{address: 10.9.9.9}]}
`
	for _, tt := range []struct {
		name, root, leaf string
		want             map[string]string // path to route name and target; empty: not matched
	}{
		{"a leaf without match takes the root's", "name: r\nmatch: [{uri: {prefix: /shop}}]\n", "name: l\n" + toV1 + mirror,
			map[string]string{"/shop/a": "r-l /shop/a", "/b": ""}},
		{"a root without match takes the leaf's", "", "match: [{uri: {prefix: /shop}}]\n" + toV1 + mirror,
			map[string]string{"/shop/a": " /shop/a", "/b": ""}},
		{"a narrower prefix", "match: [{name: m, uri: {prefix: /shop}}]", "match: [{name: n, uri: {prefix: /shop/cart}}]\n" + toV1 + mirror,
			map[string]string{"/shop/cart": ".m-n /shop/cart", "/shop": ""}},
		{"exact in the prefix", "match: [{uri: {prefix: /shop}}]", "match: [{uri: {exact: /shop/x}}]\n" + toV1 + mirror,
			map[string]string{"/shop/x": " /shop/x", "/shop/xy": ""}},
		{"every pair that fits", "match: [{uri: {prefix: /a}}, {uri: {prefix: /b}}]", "match: [{method: {exact: GET}}]\n" + toV1 + mirror,
			map[string]string{"/a": " /a", "/b": " /b", "/c": ""}},
		{"a wider prefix is left out", "match: [{uri: {prefix: /shop/cart}}]", "match: [{uri: {prefix: /shop}}]\n" + toV1 + mirror,
			map[string]string{"/shop/cart": ""}},
		{"a regex beside a prefix is left out", "match: [{uri: {prefix: /shop}}]", "match: [{uri: {regex: '/shop.*'}}]\n" + toV1 + mirror,
			map[string]string{"/shop": ""}},
		{"another ignoreUriCase is left out", "match: [{uri: {prefix: /shop}}]", "match: [{uri: {prefix: /shop}, ignoreUriCase: true}]\n" + toV1 + mirror,
			map[string]string{"/shop": ""}},
		{"the root's rewrite and mirror", "match: [{uri: {prefix: /shop}}]\nrewrite: {uri: /}\n" + mirror, toV1,
			map[string]string{"/shop": " /"}},
		{"the leaf's rewrite", "match: [{uri: {prefix: /shop}}]\nrewrite: {uri: /}\n" + mirror, "rewrite: {uri: /own}\n" + toV1,
			map[string]string{"/shop": " /own"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, _ := compile(t, delegated(tt.root+"\ndelegate: {name: leaf, namespace: ns}", tt.leaf)+entry, Options{})
			for path, want := range tt.want {
				r := request(t, "GET "+path)
				d := decide(t, p, r, "")
				got := ""
				if len(d.Selected) > 0 {
					target, _, _ := strings.Cut(strings.TrimPrefix(string(d.Selected[0].AppendHead(nil, r)), "GET "), " ")
					got = d.Route.Rule().Route + " " + target
					if rule := d.Route.Rule(); rule.Name != "root" || rule.Namespace != DefaultNamespace {
						t.Errorf("rule %v", rule)
					}
				}
				if got != want {
					t.Errorf("%s: %q, want %q", path, got, want)
				}
			}
		})
	}
	// A leaf that redirects has nothing to rewrite, whatever the root says.
	p, _ := compile(t, delegated("rewrite: {uri: /}\ndelegate: {name: leaf, namespace: ns}", "redirect: {uri: /x}"), Options{})
	if d := decide(t, p, request(t, "GET /"), ""); d.Route == nil || d.Why != NoMirror {
		t.Errorf("redirect: %v %v", d.Route, d.Why)
	}
	for _, tt := range []struct{ name, text, want string }{
		{"missing", delegated("delegate: {name: none}", toV1), "no VirtualService default/none without hosts"},
		{"with hosts", delegated("delegate: {name: root}", toV1), "no VirtualService default/root without hosts"},
		{"with a route", delegated(toV1+"delegate: {name: leaf, namespace: ns}", toV1), "cannot be given together with route"},
		{"further", delegated("delegate: {name: leaf, namespace: ns}", "delegate: {name: leaf}"), "a delegate cannot delegate further"},
		{"not exported", strings.Replace(delegated("delegate: {name: leaf, namespace: ns}", toV1), "spec:\n  http:", "spec:\n  exportTo: [.]\n  http:", 1), "is not exported"},
		{"stray", delegated(toV1, toV1), "no VirtualService delegates to it"},
	} {
		if ps := problemsOf(t, tt.text); !strings.Contains(ps.Error(), tt.want) {
			t.Errorf("%s: %v", tt.name, ps)
		}
	}
}

// TestURIRegexRewrite is RE2's GlobalReplace on the path.
func TestURIRegexRewrite(t *testing.T) {
	for _, tt := range []struct{ match, rewrite, target, want string }{
		{"^/a/(.*)$", `/b/\1`, "/a/x?q=/a/", "/b/x?q=/a/"},
		{"a", "bb", "/a/a?a", "/bb/bb?a"},
		{"/(x)/(y)", `/\2/\1/\0`, "/x/y", "/y/x//x/y"},
		{"a", "$1", "/a", "/$1"},
		{"a", `\\`, "/a", `/\`},
		{"none", "b", "/a?q", "/a?q"},
		{".*", "/all", "/a?q", "/all?q"},
		{"(/x)?.*", `\1`, "/a?q", "/a?q"}, // empty: not rewritten
		{"%41|A", "b", "/%41", "/b"},      // normalised before
		{"/a", "/b", "http://h/a", "http://h/b"},
	} {
		p, _ := compile(t, vs("rewrite: {uriRegexRewrite: {match: '"+tt.match+"', rewrite: '"+tt.rewrite+"'}}\n"+toV1), Options{})
		r := request(t, "GET "+tt.target)
		got := p.Explain(r).Mirrors[0].Request.Target
		if got != tt.want {
			t.Errorf("%s -> %s of %s: %q, want %q", tt.match, tt.rewrite, tt.target, got, tt.want)
		}
	}
	for _, bad := range []string{
		"{match: '(', rewrite: a}", "{match: a}", "{match: a, rewrite: ''}", "{rewrite: a}",
		`{match: a, rewrite: '\1'}`, `{match: a, rewrite: '\x'}`, `{match: a, rewrite: 'b\'}`, "{match: a, rewrite: 'b c'}",
	} {
		if ps := problemsOf(t, vs("rewrite: {uriRegexRewrite: "+bad+"}\n"+toV1)); ps.Err() == nil {
			t.Errorf("%s: no error", bad)
		}
	}
	if ps := problemsOf(t, vs("rewrite: {uri: /, uriRegexRewrite: {match: a, rewrite: b}}\n"+toV1)); ps.Err() == nil {
		t.Error("both rewrites: no error")
	}
}

// TestTimeoutAndFault: what of a route bounds or prevents a copy.
func TestTimeoutAndFault(t *testing.T) {
	for _, tt := range []struct {
		http    string
		timeout string // empty: nothing is mirrored
	}{
		{"", "0s"}, {"timeout: 1.5s", "1.5s"},
		{"fault: {abort: {httpStatus: 500, percentage: {value: 100}}}", ""},
		{"fault: {abort: {httpStatus: 500, percentage: {value: 50}}}", "0s"},
		{"fault: {abort: {httpStatus: 500}}", "0s"},
		{"fault: {delay: {fixedDelay: 5s, percentage: {value: 100}}}", "0s"},
	} {
		p, warnings := compile(t, vs(tt.http+"\n"+toV1), Options{})
		d := decide(t, p, request(t, "GET /"), "")
		got := ""
		if len(d.Selected) > 0 {
			got = d.Selected[0].Timeout().String()
		}
		if got != tt.timeout || strings.HasPrefix(tt.http, "fault") != (len(warnings) == 1) {
			t.Errorf("%s: %q, want %q; %v", tt.http, got, tt.timeout, warnings)
		}
	}
	for _, bad := range []string{"-1s", "0s", "0.0001s", "1.0001s"} {
		if ps := problemsOf(t, vs("timeout: "+bad+"\n"+toV1)); ps.Err() == nil {
			t.Errorf("%s: no error", bad)
		}
	}
}

// TestNeverReached finds routes behind wider ones.
func TestNeverReached(t *testing.T) {
	for _, tt := range []struct {
		first, second string
		never         bool
	}{
		{"uri: {prefix: /a}", "uri: {prefix: /ab}", true},
		{"uri: {prefix: /a}", "uri: {exact: /a}, method: {exact: GET}", true},
		{"uri: {exact: /a}", "uri: {prefix: /a}", false},
		{"uri: {prefix: /a}, method: {exact: GET}", "uri: {prefix: /a}", false},
		{"uri: {prefix: /A}, ignoreUriCase: true", "uri: {prefix: /a}", true},
		{"uri: {prefix: /a}", "uri: {prefix: /a}, ignoreUriCase: true", false},
		{"headers: {x: {}}", "headers: {x: {exact: v}, y: {exact: w}}", true},
		{"headers: {x: {exact: v}}", "headers: {x: {}}", false},
		{"withoutHeaders: {x: {exact: v}}", "withoutHeaders: {x: {exact: v}}, uri: {prefix: /a}", true},
		{"queryParams: {k: {regex: 'a.*'}}", "queryParams: {k: {regex: 'a.*'}}", true},
		{"sourceLabels: {a: b}", "sourceLabels: {a: b}", false}, // not known to be
		{"port: 80", "port: 80, uri: {prefix: /a}", true},
		{"port: 80", "uri: {prefix: /a}", false},
	} {
		_, warnings := compile(t, vs("match: [{"+tt.first+"}]\n"+toV1, "match: [{"+tt.second+"}]\n"+toV1), Options{})
		if got := strings.Contains(fmt.Sprint(warnings), "is never reached"); got != tt.never {
			t.Errorf("%s behind %s: %v", tt.second, tt.first, warnings)
		}
	}
}
