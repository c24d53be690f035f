package rules

import (
	"fmt"
	"strings"
	"testing"
)

// many is n VirtualServices with 10 routes each, for hosts of their own or all
// for one host on a gateway.
func many(n int, oneHost bool) string {
	var b strings.Builder
	b.WriteString(services)
	for i := range n {
		host, gateways := fmt.Sprintf("host-%d.example", i), ""
		if oneHost {
			host, gateways = "one.example", "gateways: [gw], "
		}
		fmt.Fprintf(&b, "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: vs-%d}\nspec:\n  %shosts: [%s]\n  http:\n",
			i, strings.Replace(gateways, ", ", "\n  ", 1), host)
		for j := range 10 {
			fmt.Fprintf(&b, "  - match: [{uri: {prefix: /service-%d/route-%d}, headers: {x-version: {exact: '%d'}}}]\n"+
				"    rewrite: {uri: /}\n    route: [{destination: {host: httpbin, subset: v1}}]\n"+
				"    mirror: {host: httpbin, subset: v2}\n    mirrorPercentage: {value: 50}\n", i, j, j)
		}
		b.WriteString("---\n")
	}
	return b.String()
}

// lastRoute is a request that only the last route of many(n) takes.
func lastRoute(t testing.TB, n int, host string) string {
	return fmt.Sprintf("GET /service-%d/route-9/x?q=1\nHost: %s\nUser-Agent: test\nAccept: */*\nX-Request-Id: 1\nX-Version: 9\nCookie: a=b", n-1, host)
}

// TestAllocations: nothing is allocated for a request once the buffers are
// there.
func TestAllocations(t *testing.T) {
	p, _ := compile(t, vs(
		"match: [{uri: {regex: '/re.*'}, headers: {x-a: {exact: 'v,w'}}, queryParams: {k: {regex: 'v+'}}, withoutHeaders: {x-b: {}}}]\nrewrite: {uri: /v2}\n"+toV1,
		"match: [{uri: {prefix: /foo}}]\nrewrite: {uri: /}\n"+toV1,
		toV1), Options{})
	for _, head := range []string{
		"GET /regex?k=vv\nX-A: v\nX-A: w",
		"GET /foo/x",
		"GET /a/../%2e/foo/%41?x\nHost: H.Example:80",
		"GET http://h?q",
		"GET /other",
		"OPTIONS *",
	} {
		allocatesNothing(t, p, head)
	}
}

func allocatesNothing(t *testing.T, p *Program, head string) {
	t.Helper()
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

func BenchmarkDecide(b *testing.B)     { benchmarkDecide(b, many) }
func BenchmarkAppendHead(b *testing.B) { benchmarkAppendHead(b, many) }
func BenchmarkCompile(b *testing.B)    { benchmarkCompile(b, many) }
func BenchmarkDecode(b *testing.B)     { benchmarkDecode(b, many) }

// manyRules makes the text of n objects with 10 rules each, for hosts of their
// own or all for one host.
type manyRules func(n int, oneHost bool) string

func benchmarkDecide(b *testing.B, rules manyRules) {
	for _, bb := range []struct {
		name    string
		n       int
		oneHost bool
	}{{"1", 1, false}, {"1000", 1000, false}, {"1000-one-host", 1000, true}} {
		b.Run(bb.name, func(b *testing.B) {
			p, _ := compile(b, rules(bb.n, bb.oneHost), Options{})
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

func benchmarkAppendHead(b *testing.B, rules manyRules) {
	p, _ := compile(b, rules(1, false), Options{})
	r := request(b, lastRoute(b, 1, "host-0.example"))
	var d Decision
	p.Decide(r, 0, &d)
	buf := make([]byte, 0, 4096)
	b.ReportAllocs()
	for b.Loop() {
		buf = d.Route.AppendHead(buf[:0], r)
	}
}

func benchmarkCompile(b *testing.B, rules manyRules) {
	s, ps := Decode("many.yaml", []byte(rules(1000, false)))
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

func benchmarkDecode(b *testing.B, rules manyRules) {
	text := []byte(rules(1000, false))
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		if _, ps := Decode("many.yaml", text); ps != nil {
			b.Fatal(ps)
		}
	}
}
