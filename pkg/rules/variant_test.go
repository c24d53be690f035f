package rules

import (
	"net/netip"
	"strings"
	"testing"
)

// twoDestinations is a route to v1 and to v3, which has two endpoints, with
// the header operations of each.
func twoDestinations(route, first, second string) string {
	of := func(headers string) string {
		if headers == "" {
			return ""
		}
		return ", headers: {request: " + headers + "}"
	}
	return vs(route + `
route:
- {destination: {host: httpbin, subset: v1}, weight: 90` + of(first) + `}
- {destination: {host: httpbin, subset: v3}, weight: 10` + of(second) + `}
mirror: {host: httpbin, subset: v2}`)
}

// TestRouteHeaders: of several destinations the one that production chose is
// where the request arrived. What is said of it comes before what is said of
// the route.
func TestRouteHeaders(t *testing.T) {
	for _, tt := range []struct {
		name, route, first, second string
		// header lines of the copy of "X-A: 1, x-B: 2" that arrived at the
		// first, the second, and where it is not known
		atFirst, atSecond, anywhere string
	}{
		{"of one", "", "{set: {x-c: v1}}", "", "x-c: v1", "", ""},
		{"of both", "", "{set: {x-c: v1}}", "{add: {x-c: v3}}", "x-c: v1", "x-c: v3", ""},
		{"both the same", "", "{set: {x-c: v}}", "{set: {x-c: v}}", "x-c: v", "x-c: v", "x-c: v"},
		{"remove", "", "{remove: [x-a]}", "", "-X-A: 1", "", ""},
		{"route set is last", "headers: {request: {set: {x-c: route}}}", "{set: {x-c: v1}}", "{add: {x-c: v3}}", "x-c: route", "x-c: route", "x-c: route"},
		{"route add", "headers: {request: {add: {x-c: route}}}", "{set: {x-c: v1}}", "{remove: [x-c]}", "x-c: v1|x-c: route", "x-c: route", "x-c: route"},
		{"route remove undoes a set", "headers: {request: {remove: [x-c]}}", "{set: {x-c: v1}}", "", "", "", ""},
		{"remove does not undo a route set", "headers: {request: {set: {x-c: route}}}", "{remove: [x-c]}", "", "x-c: route", "x-c: route", "x-c: route"},
		{"Host", "", "{set: {Host: one}}", "{add: {':authority': three}}", "@one", "@three", ""},
		{"Host yields to the route's", "headers: {request: {set: {host: route}}}", "{set: {host: one}}", "", "@route", "@route", "@route"},
		{"Host yields to rewrite.authority", "rewrite: {authority: route}", "{set: {host: one}}", "", "@route", "@route", "@route"},
		{"REQ of what is there", "headers: {request: {set: {x-c: '%REQ(x-a)%'}}}", "{set: {x-d: v}}", "", "x-d: v|x-c: 1", "x-c: 1", "x-c: 1"},
		{"REQ of what is set", "headers: {request: {set: {x-c: '<%REQ(x-a):2%>'}}}", "{set: {x-a: new}}", "", "-X-A: 1|x-a: new|x-c: <ne>", "x-c: <1>", "x-c: <1>"},
		{"REQ of what is removed", "headers: {request: {set: {x-c: '%REQ(x-a?x-b)%'}}}", "{remove: [x-a]}", "{remove: [x-a, x-b]}", "-X-A: 1|x-c: 2", "-X-A: 1|-x-B: 2", "x-c: 1"},
		{"REQ of what the route removes", "headers: {request: {remove: [x-a]}}", "{set: {x-c: '%REQ(x-a)%'}}", "", "-X-A: 1|x-c: 1", "-X-A: 1", "-X-A: 1"},
		{"REQ of the Host", "headers: {request: {set: {x-c: '%REQ(:authority)%'}}}", "{set: {host: one}}", "", "@one|x-c: one", "x-c: h", "x-c: h"},
		{"REQ with another", "headers: {request: {set: {x-c: '%REQ(x-e?x-a)%'}}}", "{remove: [x-a]}", "", "-X-A: 1", "x-c: 1", "x-c: 1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, warnings := compile(t, twoDestinations(tt.route, tt.first, tt.second), Options{})
			if len(warnings) > 0 {
				t.Error(warnings)
			}
			for dst, want := range map[string]string{"10.0.0.1:80": tt.atFirst, "10.0.0.3:80": tt.atSecond, "10.0.0.4:8080": tt.atSecond, "": tt.anywhere} {
				checkVariant(t, p, dst, want)
			}
		})
	}
}

// checkVariant holds the copy of a request that arrived at dst against want:
// lines that are added, lines behind "-" that are gone, the host behind "@".
func checkVariant(t *testing.T, p *Program, dst, want string) {
	t.Helper()
	r := request(t, "GET /path\nHost: h\nX-A: 1\nx-B: 2")
	d := decide(t, p, r, dst)
	if len(d.Selected) != 1 {
		t.Fatalf("at %q: %v", dst, d.Why)
	}
	expected := "GET /path HTTP/1.1\r\nHost: h\r\nX-A: 1\r\nx-B: 2\r\n"
	for _, line := range strings.Split(want, "|") {
		if gone, ok := strings.CutPrefix(line, "-"); ok {
			expected = strings.Replace(expected, gone+"\r\n", "", 1)
		} else if host, ok := strings.CutPrefix(line, "@"); ok {
			expected = strings.Replace(expected, "Host: h", "Host: "+host, 1)
		} else if line != "" {
			expected += line + "\r\n"
		}
	}
	buf := make([]byte, 0, 1024)
	for name, head := range map[string]func([]byte) []byte{
		"mirror": func(b []byte) []byte { return d.Selected[0].AppendHead(b, r) },
		"route":  func(b []byte) []byte { return d.Route.AppendHead(b, r) },
	} {
		if got := string(head(buf)); got != expected {
			t.Errorf("%s, at %q: got\n%s\nwant\n%s", name, dst, got, expected)
		}
		if n := testing.AllocsPerRun(20, func() { head(buf) }); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// TestRouteWeight: a destination of weight 0 is none of several.
func TestRouteWeight(t *testing.T) {
	text := twoDestinations("headers: {request: {add: {x-c: route}}}", "{set: {x-c: v1}}", "{set: {x-c: v3}}")
	p, _ := compile(t, strings.Replace(text, "weight: 10", "weight: 0", 1), Options{})
	for _, dst := range []string{"10.0.0.1:80", ""} {
		checkVariant(t, p, dst, "x-c: v1|x-c: route")
	}
}

// TestRouteHeadersExplain: asked about no endpoint, a copy is said to be
// without what the destinations change.
func TestRouteHeadersExplain(t *testing.T) {
	const note = "come on top"
	for first, want := range map[string]bool{"{set: {x-c: v1}}": true, "": false} {
		p, _ := compile(t, twoDestinations("", first, ""), Options{})
		for dst, want := range map[string]bool{"": want, "10.0.0.1:80": false} {
			r := request(t, "GET /")
			decide(t, p, r, dst)
			e := p.Explain(r)
			var b strings.Builder
			if err := e.WriteText(&b); err != nil || strings.Contains(b.String(), note) != want || e.Mirrors[0].Varies != want {
				t.Errorf("%q at %q: %v, %s", first, dst, err, &b)
			}
		}
	}
}

// TestRouteHeadersProblems: what a tap cannot tell or do.
func TestRouteHeadersProblems(t *testing.T) {
	// Both lead to v1.
	same := strings.Replace(twoDestinations("headers: {request: {set: {x-d: route}}}", "{set: {x-c: a}}", "{set: {x-c: b}}"), "subset: v3}, weight", "subset: v1}, weight", 1)
	p, warnings := compile(t, same, Options{})
	if len(warnings) != 1 || warnings[0].Field != "spec.http[0].route[1].headers.request" || warnings[0].Value != "10.0.0.1:80" {
		t.Errorf("%v", warnings)
	}
	checkVariant(t, p, "10.0.0.1:80", "x-d: route")

	if ps := problemsOf(t, twoDestinations("", "{set: {':path': v}}", "")); len(ps) != 1 || ps[0].Field != "spec.http[0].route[0].headers.request.set[:path]" {
		t.Errorf("%v", ps)
	}
}

// TestBackendRefsFilters: the same for the backends of a rule of an HTTPRoute.
func TestBackendRefsFilters(t *testing.T) {
	modifier := func(ops string) string {
		return "{type: RequestHeaderModifier, requestHeaderModifier: {" + ops + "}}"
	}
	for _, tt := range []struct {
		name, rule, first, second   string
		atFirst, atSecond, anywhere string
	}{
		{"set", "", "set: [{name: x-c, value: app}]", "set: [{name: x-c, value: other}]", "x-c: app", "x-c: other", ""},
		{"of one", "", "", "remove: [x-a]", "", "-X-A: 1", ""},
		{"both the same", "", "set: [{name: x-c, value: v}]", "set: [{name: x-c, value: v}]", "x-c: v", "x-c: v", "x-c: v"},
		{"the rule is last", "set: [{name: x-c, value: rule}]", "set: [{name: x-c, value: app}]", "remove: [x-c]", "x-c: rule", "x-c: rule", "x-c: rule"},
		{"the rule adds", "add: [{name: x-c, value: rule}]", "set: [{name: x-c, value: '%'}]", "", "x-c: %|x-c: rule", "x-c: rule", "x-c: rule"},
		{"Host", "", "set: [{name: Host, value: one}]", "", "@one", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			filters := mirrored
			if tt.rule != "" {
				filters += ", " + modifier(tt.rule)
			}
			backend := func(name, ops string) string {
				if ops == "" {
					return "{name: " + name + ", port: 80}"
				}
				return "{name: " + name + ", port: 80, filters: [" + modifier(ops) + "]}"
			}
			p, _ := compile(t, httpRoutes("filters: ["+filters+"]\nbackendRefs: ["+backend("app", tt.first)+", "+backend("other", tt.second)+
				", {name: shadow-2, port: 80, weight: 0, filters: ["+modifier("remove: [x-b]")+"]}]"), Options{})
			for dst, want := range map[string]string{"10.1.0.1:8080": tt.atFirst, "10.1.0.2:8080": tt.atSecond, "": tt.anywhere} {
				checkVariant(t, p, dst, want)
			}
		})
	}
}

// TestValuesOfValues: a value of the route reads the header as the destination
// leaves it, with values of each request in it.
func TestValuesOfValues(t *testing.T) {
	for _, tt := range []struct{ route, first, want string }{
		// X-A is 1 and x-b is 2 in the request.
		{"%REQ(x-a)%", "{add: {x-a: v}}", "x-a: v|x-c: 1"},
		{"%REQ(x-n)%", "{add: {x-n: v}}", "x-n: v|x-c: v"},
		{"%REQ(x-a)%", "{set: {x-a: '%REQ(x-b)%'}}", "-X-A: 1|x-a: 2|x-c: 2"},
		{"%REQ(x-a)%", "{set: {x-a: '%REQ(x-n)%'}}", "x-c: 1"},
		{"%REQ(x-a)%", "{set: {x-a: '%REQ(x-n)%'}, remove: [x-a]}", "-X-A: 1"},
		{"%REQ(x-a?x-b)%", "{set: {x-a: '%REQ(x-n)%'}, remove: [x-a]}", "-X-A: 1|x-c: 2"},
		{"%REQ(x-a)%", "{remove: [x-a], add: {x-a: 'of %REQ(x-b)%'}}", "-X-A: 1|x-a: of 2|x-c: of 2"},
		{"%REQ(x-a)%", "{set: {x-a: '%REQ(x-b)%'}, add: {x-a: last}}", "-X-A: 1|x-a: 2|x-a: last|x-c: 2"},
		{"%REQ(x-n?x-a)%", "{set: {x-a: v}}", "-X-A: 1|x-a: v|x-c: v"},
		{"%REQ(x-n?x-a)%", "{set: {x-a: '%REQ(x-b)%'}}", "-X-A: 1|x-a: 2|x-c: 2"},
		{"%REQ(x-a):3%!", "{set: {x-a: '%REQ(:path)%'}}", "-X-A: 1|x-a: /path|x-c: /pa!"},
		{"%REQ(:authority)%", "{set: {host: 'new'}}", "@new|x-c: new"},
		{"%REQ(x-n?:authority)%", "{set: {host: 'new'}}", "@new|x-c: new"},
	} {
		p, _ := compile(t, twoDestinations("headers: {request: {set: {x-c: '"+tt.route+"'}}}", tt.first, ""), Options{})
		checkVariant(t, p, "10.0.0.1:80", tt.want)
	}
}

// TestExtraValues: a value of an annotation reads the header as the route leaves
// it.
func TestExtraValues(t *testing.T) {
	for set, want := range map[string]string{
		"{}": "1", "{x-a: v}": "v", "{x-a: '%REQ(x-b)%'}": "2", "{x-c: '%REQ(x-b)%'}": "1", "{x-a: '%REQ(x-n)%'}": "1",
	} {
		text := annotated("- {headers: {set: {x-s: '%REQ(x-a)%', x-f: '%REQ(x-forwarded-for)%'}}}", "headers: {request: {set: "+set+"}}\n"+toV1)
		for _, envoy := range []bool{false, true} {
			p, _ := compile(t, text, Options{EnvoyHeaders: envoy})
			r := request(t, "GET /\nHost: h\nX-A: 1\nX-B: 2")
			r.Source = netip.MustParseAddrPort("192.0.2.1:7")
			d := decide(t, p, r, "10.0.0.1:80")
			head := string(d.Selected[0].AppendHead(nil, r))
			if !strings.Contains(head, "x-s: "+want+"\r\n") || strings.Contains(head, "x-f: 192.0.2.1\r\n") != envoy {
				t.Errorf("%s: %s", set, head)
			}
		}
	}
}
