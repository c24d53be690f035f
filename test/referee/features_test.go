package referee

import (
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/types/known/durationpb"
	networking "istio.io/api/networking/v1alpha3"
)

// feature is something rules can say that the product may not support yet.
type feature struct {
	name string
	// supported is whether the product does. The generator uses only such
	// features; TestFeatures fails when this is out of date in either way.
	supported bool
	// use makes a route use it: m is the only match entry of http.
	use func(http *networking.HTTPRoute, m *networking.HTTPMatchRequest)
}

// supports reports whether the product supports a feature.
func supports(name string) bool {
	return slices.ContainsFunc(features(), func(f feature) bool { return f.name == name && f.supported })
}

// The features that are not supported by every version of the product.
const (
	schemeMatch     = "scheme"
	portMatch       = "port"
	sourceMatch     = "sourceLabels, sourceNamespace"
	gatewayMatch    = "match.gateways"
	authorityChange = "rewrite.authority"
	regexChange     = "rewrite.uriRegexRewrite"
	routeHeaders    = "headers"
	targetHeaders   = "route[].headers"
	timeout         = "timeout"
	faults          = "fault"
	delegates       = "delegate"
)

func features() []feature {
	type (
		route = *networking.HTTPRoute
		match = *networking.HTTPMatchRequest
	)
	exact := func(s string) *networking.StringMatch {
		return &networking.StringMatch{MatchType: &networking.StringMatch_Exact{Exact: s}}
	}
	headers := func() *networking.Headers {
		return &networking.Headers{Request: &networking.Headers_HeaderOperations{Set: map[string]string{"x-a": "v"}}}
	}
	return []feature{
		{schemeMatch, true, func(_ route, m match) { m.Scheme = exact("http") }},
		{portMatch, true, func(_ route, m match) { m.Port = 80 }},
		{sourceMatch, true, func(_ route, m match) { m.SourceNamespace = "default" }},
		{gatewayMatch, true, func(_ route, m match) { m.Gateways = []string{"gw"} }},
		{authorityChange, true, func(h route, _ match) { h.Rewrite = &networking.HTTPRewrite{Authority: "v2.example.com"} }},
		{regexChange, true, func(h route, _ match) {
			h.Rewrite = &networking.HTTPRewrite{UriRegexRewrite: &networking.RegexRewrite{Match: "/a", Rewrite: "/b"}}
		}},
		{routeHeaders, true, func(h route, _ match) { h.Headers = headers() }},
		{targetHeaders, true, func(h route, _ match) { h.Route[0].Headers = headers() }},
		{timeout, true, func(h route, _ match) { h.Timeout = durationpb.New(1e9) }},
		{faults, true, func(h route, _ match) {
			h.Fault = &networking.HTTPFaultInjection{Delay: &networking.HTTPFaultInjection_Delay{
				HttpDelayType: &networking.HTTPFaultInjection_Delay_FixedDelay{FixedDelay: durationpb.New(1e9)},
			}}
		}},
		{delegates, true, func(h route, _ match) {
			h.Route, h.Delegate = nil, &networking.Delegate{Name: "child", Namespace: "default"}
		}},
	}
}

// TestFeatures: the table of features is true of the product. When this fails
// because something is supported now, switch it on in the table, so that the
// generator uses it.
func TestFeatures(t *testing.T) {
	for _, f := range features() {
		t.Run(f.name, func(t *testing.T) {
			m := &networking.HTTPMatchRequest{}
			route := []*networking.HTTPRouteDestination{{Destination: &networking.Destination{Host: "httpbin", Subset: "v1"}}}
			http := &networking.HTTPRoute{
				Match:  []*networking.HTTPMatchRequest{m},
				Route:  route,
				Mirror: &networking.Destination{Host: "httpbin", Subset: "v2"},
			}
			f.use(http, m)
			w := &world{gateway: "gw", port: 80, rules: []rule{{namespace: "default", name: "test", spec: &networking.VirtualService{
				Hosts: []string{"*"}, Gateways: []string{"gw"}, Http: []*networking.HTTPRoute{http},
			}}}}
			if http.Delegate != nil {
				child := &networking.VirtualService{Http: []*networking.HTTPRoute{{Route: route}}}
				w.rules = append(w.rules, rule{namespace: "default", name: "child", spec: child})
			}
			if err := w.admit(); err != nil {
				t.Fatal(err)
			}
			_, err := w.compile(t)
			switch supported := err == nil; {
			case supported != f.supported:
				t.Errorf("supported: %v, in the table: %v (%v)", supported, f.supported, err)
			case !supported && !strings.Contains(err.Error(), "not supported yet"):
				t.Errorf("refused as wrong, not as not supported: %v", err)
			}
		})
	}
}
