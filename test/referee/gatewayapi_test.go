package referee

import (
	"testing"
)

// TestGatewayRoutes is about routes attached to the listeners of a Gateway:
// which host, route, rule and match takes a request, its mirrors, and what
// becomes of the request.
func TestGatewayRoutes(t *testing.T) {
	var c tally
	for i := range 3 * *worlds {
		g := newGenerator(*seed, uint64(i))
		w := g.gatewayWorld(5, false)
		c.gateway(t, g, w, "shop.example.com", "shop.example.com", "shop.example.com:80", "SHOP.example.com", "eu.shop.example.com", "a.b.shop.example.com",
			"www.example.com", "example.com", "foo.com", "foo.org")
	}
	c.check(t)
}

// TestMeshRoutes is about routes attached to Services, for clients in the mesh.
func TestMeshRoutes(t *testing.T) {
	var c tally
	for i := range 3 * *worlds {
		g := newGenerator(*seed, uint64(i))
		w := g.gatewayWorld(4, true)
		c.gateway(t, g, w, "httpbin", "httpbin.default", "httpbin.default.svc.cluster.local", "httpbin:80", "reviews", "reviews.default.svc",
			"ratings.other", "ratings.other.svc.cluster.local.")
	}
	c.check(t)
}

// gateway judges requests to some hosts by the routes of a world.
func (c *tally) gateway(t *testing.T, g *generator, w *gatewayWorld, hosts ...string) {
	t.Helper()
	tr, err := newTrial(t, w)
	if err != nil {
		t.Errorf("%v\nin\n%s", err, w.text(t))
		return
	}
	for range 4 * *requests {
		if !c.ask(t, tr, g.gatewayRequest(w, pick(g, hosts...))) {
			return
		}
	}
}
