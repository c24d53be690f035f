package referee

import (
	"fmt"
	"strings"
	"testing"
)

// TestGatewayHosts is about several rules with hosts that overlap, on a
// gateway: the host decides which rules are looked at, and those for one host
// are merged.
func TestGatewayHosts(t *testing.T) {
	c := testHosts(t, "gw", "*", "*.com", "*.example.com", "shop.example.com", "Shop.example.com", "*.shop.example.com",
		"eu.shop.example.com", "*-eu.example.com", "httpbin", "httpbin.default.svc.cluster.local", "ratings.other", "10.1.1.1")
	c.check(t, serverUpperCase)
}

// TestMeshHosts is the same for clients in the mesh: there, of rules for one
// host the oldest has it, and services have more names than one.
func TestMeshHosts(t *testing.T) {
	c := testHosts(t, "", "*.com", "*.example.com", "shop.example.com", "Shop.example.com", "*.shop.example.com",
		"eu.shop.example.com", "*-eu.example.com", "httpbin", "httpbin.default.svc.cluster.local",
		"*.default.svc.cluster.local", "reviews", "ratings", "ratings.other", "ratings.other.svc.cluster.local", "10.1.1.1")
	c.check(t, foreignShortName, unknownService, hostInUpperCase, hostByPort, portInHost)
}

func testHosts(t *testing.T, gateway string, hosts ...string) *tally {
	var c tally
	for i := range 4 * *worlds {
		g := newGenerator(*seed, uint64(i), gateway != "")
		w := g.hostsWorld(gateway, hosts)
		c.run(t, g, w, func(rule) string {
			host := pick(g, "shop.example.com", "SHOP.example.com:8080", "shop.example.com.", "eu.shop.example.com",
				"a.b.shop.example.com", "www.example.com", "example.com", "x-eu.example.com", "-eu.example.com", "foo.com", "foo.org",
				"httpbin", "HTTPBIN:80", "httpbin.default", "httpbin.default.svc", "httpbin.default.svc.cluster.local",
				"httpbin.default.svc.cluster.local.", "httpbin.default.svc.cluster.local:8000", "reviews", "reviews.default",
				"ratings", "ratings.other", "ratings.other.svc", "ratings.other.svc.cluster.local", "ratings.default.svc.cluster.local",
				"10.1.1.1", "10.1.1.1:80")
			if gateway == "" && w.port != 80 && g.chance(.9) {
				name, _, _ := strings.Cut(host, ":")
				host = fmt.Sprintf("%s:%d", name, w.port)
			}
			return host
		})
	}
	return &c
}

// hostsWorld is a world of up to four rules whose hosts Istio admits.
func (g *generator) hostsWorld(gateway string, hosts []string) *world {
	w := &world{gateway: gateway, port: pick[uint32](g, 80, 80, 80, 8080)}
	for gateway != "" && len(w.servers) < 2 && g.chance(.5) {
		w.servers = append(w.servers, pick(g, []string{"*"}, []string{"./*"}, []string{"default/*.example.com", "foo.com"},
			[]string{"other/*.com", "*/shop.example.com"}, []string{"eu.shop.example.com", "default/*-eu.example.com"},
			[]string{"Shop.example.com", "*.shop.example.com"}, []string{"httpbin.default.svc.cluster.local", "other/*"}))
	}
	reference := gateway
	if gateway != "" {
		reference = "default/" + gateway
	}
	for n := 1 + g.IntN(4); len(w.rules) < n; {
		// Istio refuses hosts of one rule of which one covers another, and the
		// product those that are two forms of one name.
		with := []string{pick(g, hosts...)}
		if second := pick(g, hosts...); g.chance(.3) && !strings.HasPrefix(strings.ToLower(second), strings.ToLower(with[0])) &&
			!strings.HasPrefix(strings.ToLower(with[0]), strings.ToLower(second)) {
			with = append(with, second)
		}
		r := g.rule(reference, pick(g, "default", "default", "other"), fmt.Sprintf("%c-%d", 'a'+rune(g.IntN(26)), len(w.rules)), 2, with...)
		if (&world{gateway: gateway, port: w.port, rules: []rule{r}}).admit() == nil {
			w.rules = append(w.rules, r)
		}
	}
	return w
}
