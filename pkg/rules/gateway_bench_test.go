package rules

import (
	"fmt"
	"strings"
	"testing"
)

// manyHTTPRoutes is n HTTPRoutes with 10 rules each on one Gateway, for hosts
// of their own or all for one host.
func manyHTTPRoutes(n int, oneHost bool) string {
	var b strings.Builder
	b.WriteString(backends)
	for i := range n {
		host := fmt.Sprintf("host-%d.example", i)
		if oneHost {
			host = "one.example"
		}
		rules := make([]string, 10)
		for j := range rules {
			rules[j] = fmt.Sprintf("matches: [{path: {value: /service-%d/route-%d}, headers: [{name: x-version, value: '%d'}]}]\n"+
				"filters: [{type: URLRewrite, urlRewrite: {hostname: new.example, path: {type: ReplacePrefixMatch, replacePrefixMatch: /}}}, "+
				"{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: X-Shadow, value: 'yes'}], remove: [Cookie]}}, %s]\n%s", i, j, j, mirrored, toApp)
		}
		b.WriteString(gatewayDoc("HTTPRoute", fmt.Sprintf("r-%d", i), "parentRefs: [{name: gw}]\nhostnames: ["+host+"]\n"+ruleList(rules...)))
	}
	return b.String()
}

// TestGatewayAllocations: nothing is allocated for a request once the buffers
// are there, whatever the route does to its copy.
func TestGatewayAllocations(t *testing.T) {
	p, _ := compile(t, manyHTTPRoutes(20, true)+routeTo("mesh", "parentRefs: [{group: '', kind: Service, name: other}]", "other", "shadow"), Options{})
	for _, head := range []string{
		lastRoute(t, 20, "one.example"),
		"GET http://one.example/service-3/route-4?x\nX-Version: 4\nCookie: c",
		"GET /\nHost: other",
		"GET /\nHost: none.example",
	} {
		r := request(t, head)
		var d Decision
		buf := make([]byte, 0, 4096)
		allocs := testing.AllocsPerRun(100, func() {
			p.Decide(r, 0, &d)
			if d.Route != nil {
				buf = d.Route.AppendHead(buf[:0], r)
			}
		})
		if allocs != 0 {
			t.Errorf("%q: %v allocations", head, allocs)
		}
	}
}

func BenchmarkGatewayDecide(b *testing.B) {
	for _, bb := range []struct {
		name    string
		n       int
		oneHost bool
	}{{"1", 1, false}, {"1000", 1000, false}, {"1000-one-host", 1000, true}} {
		b.Run(bb.name, func(b *testing.B) {
			p, _ := compile(b, manyHTTPRoutes(bb.n, bb.oneHost), Options{})
			host := fmt.Sprintf("host-%d.example", bb.n-1)
			if bb.oneHost {
				host = "one.example"
			}
			r := request(b, lastRoute(b, bb.n, host))
			var d Decision
			b.ReportAllocs()
			for b.Loop() {
				p.Decide(r, 0, &d)
			}
			if d.Verdict != Mirrored || d.Route.Rule().Index != 9 {
				b.Fatal(d.Verdict, d.Why)
			}
		})
	}
}

func BenchmarkGatewayAppendHead(b *testing.B) {
	p, _ := compile(b, manyHTTPRoutes(1, false), Options{})
	r := request(b, lastRoute(b, 1, "host-0.example"))
	var d Decision
	p.Decide(r, 0, &d)
	buf := make([]byte, 0, 4096)
	b.ReportAllocs()
	for b.Loop() {
		buf = d.Route.AppendHead(buf[:0], r)
	}
}

func BenchmarkGatewayCompile(b *testing.B) {
	s, ps := Decode("many.yaml", []byte(manyHTTPRoutes(1000, false)))
	if ps != nil {
		b.Fatal(ps)
	}
	b.ReportAllocs()
	for b.Loop() {
		if p, ps := Compile(s, Options{}); p == nil {
			b.Fatal(ps)
		}
	}
}

func BenchmarkGatewayDecode(b *testing.B) {
	text := []byte(manyHTTPRoutes(1000, false))
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		if _, ps := Decode("many.yaml", text); ps != nil {
			b.Fatal(ps)
		}
	}
}
