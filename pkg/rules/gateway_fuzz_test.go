package rules

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/shadowtap/shadowtap/pkg/httpstream"
	gateway "sigs.k8s.io/gateway-api/apis/v1"
)

// gatewaySeeds are rules files for FuzzProgram.
var gatewaySeeds = []string{
	httpRoutes(
		"matches: [{path: {value: /httpbin}, queryParams: [{name: k, value: v}]}]\nfilters: ["+mirrored+
			", {type: URLRewrite, urlRewrite: {hostname: h.example, path: {type: ReplacePrefixMatch, replacePrefixMatch: /}}}]\n"+toApp,
		"matches: [{path: {type: RegularExpression, value: '/a.*'}}, {headers: [{name: X-A, value: '1'}], method: GET}]\nfilters: ["+mirrored+
			", {type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: X-A, value: b}], add: [{name: Host, value: c}], remove: [X-B]}}]\n"+toApp),
	backends + gatewayOf("name: a, port: 80, hostname: '*.com'", "name: b, port: 80") +
		routeTo("gateway", "parentRefs: [{name: gw}]\nhostnames: [www.bookinfo.com, '*.com']", "app", "shadow") +
		routeTo("mesh", "parentRefs: [{group: '', kind: Service, name: other}]", "other", "shadow-2"),
	workloads + "---\n" + backends + inNamespace(routeTo("consumer", "parentRefs: [{group: '', kind: Service, name: app, namespace: default}]", "app", "shadow"), "shop", "") +
		routeTo("producer", "parentRefs: [{group: '', kind: Service, name: app, port: 80}]", "app", "shadow-2") +
		inNamespace(serviceRule("vs", "app", "route: [{destination: {host: app}}]\nmirror: {host: shadow}"), "default", "2026-01-01T00:00:00Z"),
	workloads + entry("default", "a", "10.3.0.1", "") + entry("default", "b", "10.3.0.2", ", targetPort: 8080") + entry("other", "a", "10.3.0.3", "") +
		strings.Replace(vs(toV1), "  hosts: ['*']", "  gateways: [gw, mesh]\n  hosts: [www.bookinfo.com, '*.bookinfo.com']", 1),
	"apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: gw}\nspec: {selector: {a: b}, servers: [{port: {number: 80, name: http, protocol: HTTP}, " +
		"hosts: ['./*.bookinfo.com', 'x/*']}, {port: {number: 443, name: s, protocol: HTTPS}, tls: {mode: SIMPLE}, hosts: ['*']}]}\n---\n" +
		strings.Replace(vs(toV1), "  hosts: ['*']", "  gateways: [gw]\n  hosts: ['*.com']", 1),
	backends + gatewayDoc("GRPCRoute", "test", "parentRefs: [{name: gw}]\n"+
		ruleList("matches: [{method: {service: a.B}}, {method: {type: RegularExpression, method: 'h.*'}}]\n"+toShadow)),
}

// elements are those of a path between its slashes; behind a slash at the end
// there is an empty one.
func elements(path string) []string { return strings.Split(strings.TrimPrefix(path, "/"), "/") }

// FuzzPathPrefix holds PathPrefix and ReplacePrefixMatch to their definition,
// written element by element.
func FuzzPathPrefix(f *testing.F) {
	f.Add("/foo", "/xyz/", "/foo/bar")
	f.Add("/foo/", "", "/foo")
	f.Add("/", "/xyz", "/abc//d/")
	f.Fuzz(func(t *testing.T, value, replacement, path string) {
		if !strings.HasPrefix(value, "/") || strings.Contains(value, "//") || !strings.HasPrefix(path, "/") ||
			replacement != "" && !strings.HasPrefix(replacement, "/") ||
			strings.ContainsFunc(value+replacement+path, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '#' || r == '?' }) {
			return
		}
		kind, modifier := gateway.PathMatchPathPrefix, gateway.PrefixMatchHTTPPathModifier
		p, ps := Compile(&Snapshot{HTTPRoutes: []HTTPRoute{{
			Meta: Meta{Kind: "HTTPRoute", Namespace: "default", Name: "r"},
			Spec: &gateway.HTTPRouteSpec{
				CommonRouteSpec: gateway.CommonRouteSpec{ParentRefs: []gateway.ParentReference{{Name: "gw"}}},
				Rules: []gateway.HTTPRouteRule{{
					Matches: []gateway.HTTPRouteMatch{{Path: &gateway.HTTPPathMatch{Type: &kind, Value: &value}}},
					Filters: []gateway.HTTPRouteFilter{{Type: gateway.HTTPRouteFilterURLRewrite, URLRewrite: &gateway.HTTPURLRewriteFilter{
						Path: &gateway.HTTPPathModifier{Type: modifier, ReplacePrefixMatch: &replacement},
					}}},
				}},
			},
		}}}, Options{Normalize: NormalizeNone})
		if p == nil {
			t.Fatal(ps)
		}
		r, err := httpstream.ParseRequest([]byte("GET " + path + "?q HTTP/1.1\r\nHost: h\r\n\r\n"))
		if err != nil {
			return
		}
		defer r.Release()
		var d Decision
		p.Decide(r, 0, &d)

		prefix, all := elements(strings.TrimSuffix(value, "/")), elements(path)
		if strings.TrimSuffix(value, "/") == "" {
			prefix = nil
		}
		matches := len(all) >= len(prefix) && slices.Equal(all[:len(prefix)], prefix)
		if matches != (d.Route != nil) {
			t.Fatalf("prefix %q, path %q: %v", value, path, d.Route != nil)
		}
		if !matches {
			return
		}
		want := strings.TrimSuffix(replacement, "/")
		for _, e := range all[len(prefix):] {
			want += "/" + e
		}
		if want == "" {
			want = "/"
		}
		head := string(d.Route.AppendHead(nil, r))
		if !strings.HasPrefix(head, "GET "+want+"?q HTTP/1.1\r\n") {
			t.Fatalf("prefix %q by %q in %q: %q, expected %q", value, replacement, path, head, want)
		}
	})
}

// FuzzHeaderOps: a copy has the fields that a simple model of the three
// classes of changes says, in its order.
func FuzzHeaderOps(f *testing.F) {
	f.Add("a b c", "b d", "a", "", "A: 1\r\nB: 2\r\n")
	f.Add("", "", "", "new", "X: 1\r\nhost: h\r\nHost: i\r\n")
	f.Fuzz(func(t *testing.T, set, add, remove, host, head string) {
		names := func(list string) (out []headerField) {
			for _, name := range strings.Fields(list) {
				if strings.ContainsFunc(name, func(r rune) bool { return (r|0x20 < 'a' || r|0x20 > 'z') || r >= 0x7f }) || strings.EqualFold(name, "host") {
					return nil
				}
				out = append(out, headerField{name, "v-" + name})
			}
			return out
		}
		if strings.ContainsFunc(host, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
			return
		}
		change := &headerChange{host: host, set: names(set), add: names(add)}
		for _, n := range names(remove) {
			change.remove = append(change.remove, n.name)
		}
		r, err := httpstream.ParseRequest([]byte("GET / HTTP/1.0\r\n" + head + "\r\n"))
		if err != nil || r.HTTP11() {
			return
		}
		defer r.Release()
		type field struct{ name, value string }
		var want []field
		gone := func(name string) bool {
			same := func(f headerField) bool { return strings.EqualFold(f.name, name) }
			return slices.ContainsFunc(change.set, same) || slices.ContainsFunc(names(remove), same)
		}
		placed := host == ""
		if _, ok := r.Get("Host"); !ok && !placed {
			want, placed = append(want, field{"host", host}), true
		}
		for i := range r.NumFields() {
			n, v := r.Field(i)
			switch name := strings.ToLower(string(n)); {
			case name == "host" && host != "":
				if !placed {
					want, placed = append(want, field{name, host}), true
				}
			case !gone(name):
				want = append(want, field{name, string(v)})
			}
		}
		for i, s := range change.set {
			if !slices.ContainsFunc(change.set[i+1:], func(o headerField) bool { return strings.EqualFold(o.name, s.name) }) {
				want = append(want, field{strings.ToLower(s.name), s.value})
			}
		}
		for _, a := range change.add {
			want = append(want, field{strings.ToLower(a.name), a.value})
		}
		var got []field
		rt := &Route{action: &action{edit: change.edit()}, form: NormalizeBase}
		rt.bind()
		raw := append(rt.AppendHead(nil, r), "\r\n"...)
		copied, err := httpstream.ParseRequest(raw)
		if err != nil {
			t.Fatalf("%v of %q", err, raw)
		}
		defer copied.Release()
		for i := range copied.NumFields() {
			n, v := copied.Field(i)
			got = append(got, field{strings.ToLower(string(n)), string(v)})
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("%q: %q, expected %q", head, got, want)
		}
	})
}
