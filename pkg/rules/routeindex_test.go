package rules

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// TestRouteIndex: looking routes up finds the same as trying them in order.
func TestRouteIndex(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	word := func() string { return []string{"a", "b", "ab", "B", ".*", "(a|b)", "a+"}[rnd.IntN(7)] }
	plain := func() string { return []string{"a", "b", "ab", "B"}[rnd.IntN(4)] }
	for range 30 {
		var routes []string
		for i := range indexFrom + 20 {
			var uri string
			switch rnd.IntN(8) {
			case 0, 1:
				uri = fmt.Sprintf("uri: {exact: '/%s/%s'}", plain(), plain())
			case 2, 3:
				uri = fmt.Sprintf("uri: {prefix: '/%s/%s'}", plain(), plain())
			case 4:
				uri = fmt.Sprintf("uri: {regex: '/%s/%s'}", word(), word())
			case 5:
				uri = fmt.Sprintf("uri: {regex: '(?i)/%s/%s'}", word(), word())
			case 6:
				uri = fmt.Sprintf("uri: {prefix: '/%s'}, ignoreUriCase: true", plain())
			case 7:
				uri = "method: {exact: PUT}"
			}
			if rnd.IntN(2) == 0 {
				uri += fmt.Sprintf(", queryParams: {k: {exact: '%d'}}", rnd.IntN(3))
			}
			routes = append(routes, fmt.Sprintf("name: r%d\nmatch: [{%s}]\n", i, uri)+toV1)
		}
		p, _ := compile(t, vs(routes...), Options{})
		if p.hosts.any.index == nil {
			t.Fatal("no index")
		}
		for range 100 {
			decide(t, p, request(t, fmt.Sprintf("%s /%s/%s%s?k=%d", []string{"GET", "GET", "PUT"}[rnd.IntN(3)],
				plain(), plain(), []string{"", "/", "a"}[rnd.IntN(3)], rnd.IntN(4))), "")
		}
	}
}
