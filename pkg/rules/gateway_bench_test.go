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
		allocatesNothing(t, p, head)
	}
}

func BenchmarkGatewayDecide(b *testing.B)     { benchmarkDecide(b, manyHTTPRoutes) }
func BenchmarkGatewayAppendHead(b *testing.B) { benchmarkAppendHead(b, manyHTTPRoutes) }
func BenchmarkGatewayCompile(b *testing.B)    { benchmarkCompile(b, manyHTTPRoutes) }
func BenchmarkGatewayDecode(b *testing.B)     { benchmarkDecode(b, manyHTTPRoutes) }
