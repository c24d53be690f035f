package referee

import (
	"strings"
	"testing"

	gateway "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/shadowtap/shadowtap/test/referee/envoy"
)

// TestGatewayRoutes is about routes attached to the listeners of a Gateway:
// which host, route, rule and match takes a request, its mirrors, and what
// becomes of the request.
func TestGatewayRoutes(t *testing.T) {
	var c tally
	for i := range 3 * *worlds {
		g := newGenerator(*seed, uint64(i), false)
		w := g.gatewayWorld(5, false)
		c.gateway(t, g, w, "shop.example.com", "shop.example.com", "shop.example.com:80", "SHOP.example.com", "eu.shop.example.com", "a.b.shop.example.com",
			"www.example.com", "example.com", "foo.com", "foo.org")
	}
	c.check(t, rootPrefix, notOfListener, undeclaredHosts, serviceAlone)
}

// TestMeshRoutes is about routes attached to Services, for clients in the mesh.
func TestMeshRoutes(t *testing.T) {
	var c tally
	for i := range 3 * *worlds {
		g := newGenerator(*seed, uint64(i), false)
		w := g.gatewayWorld(4, true)
		c.gateway(t, g, w, "httpbin", "httpbin.default", "httpbin.default.svc.cluster.local", "httpbin:80", "reviews", "reviews.default.svc",
			"ratings.other", "ratings.other.svc.cluster.local.")
	}
	c.check(t, rootPrefix, servicePort)
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

// TestGrants: what a ReferenceGrant does not allow is not mirrored to. The
// product refuses such a rule.
func TestGrants(t *testing.T) {
	w := &gatewayWorld{gateway: newGenerator(1, 0, false).listeners()}
	from := gateway.NamespacesFromAll
	w.gateway.Spec.Listeners = []gateway.Listener{{
		Name: "l", Port: 80, Protocol: gateway.HTTPProtocolType,
		AllowedRoutes: &gateway.AllowedRoutes{Namespaces: &gateway.RouteNamespaces{From: &from}},
	}}
	g := newGenerator(1, 1, false)
	r := &gateway.HTTPRoute{TypeMeta: typed("v1", "HTTPRoute"), ObjectMeta: meta("default", "r", 0)}
	r.Spec.CommonRouteSpec = gateway.CommonRouteSpec{ParentRefs: []gateway.ParentReference{{
		Group: new(gateway.Group(gateway.GroupName)), Kind: new(gateway.Kind("Gateway")), Name: theGateway,
	}}}
	mirror := g.requestMirror()
	mirror.Percent, mirror.Fraction = nil, nil
	mirror.BackendRef.Name, mirror.BackendRef.Namespace = "ratings", new(gateway.Namespace("other"))
	backend := g.backend()
	backend.Name, backend.Namespace, backend.Weight = "httpbin", new(gateway.Namespace("default")), new(int32(1))
	r.Spec.Rules = []gateway.HTTPRouteRule{{
		Name:        new(gateway.SectionName("r")),
		Matches:     []gateway.HTTPRouteMatch{{Path: &gateway.HTTPPathMatch{Type: new(gateway.PathMatchPathPrefix), Value: new("/")}}},
		Filters:     []gateway.HTTPRouteFilter{{Type: gateway.HTTPRouteFilterRequestMirror, RequestMirror: mirror}},
		BackendRefs: []gateway.HTTPBackendRef{{BackendRef: backend}},
	}}
	w.http = []*gateway.HTTPRoute{r}
	mirrors := func() int {
		config, err := w.istio()
		if err != nil {
			t.Fatal(err)
		}
		v, err := theirs(w, config, &envoy.Request{Method: "GET", Target: "/", Fields: [][2]string{{"Host", "a.example"}}})
		if err != nil || v.route != "r" {
			t.Fatalf("%v, %v", v, err)
		}
		return len(v.mirrors)
	}
	if n := mirrors(); n != 0 {
		t.Errorf("without a grant Istio has %d mirrors", n)
	}
	if _, err := w.compile(t); err == nil || !strings.Contains(err.Error(), "no ReferenceGrant") {
		t.Errorf("without a grant: %v", err)
	}
	w.grant()
	if n := mirrors(); n != 1 {
		t.Errorf("with a grant Istio has %d mirrors", n)
	}
	if _, err := w.compile(t); err != nil {
		t.Errorf("with a grant: %v", err)
	}
}
