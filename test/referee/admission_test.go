package referee

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
	networking "istio.io/api/networking/v1alpha3"
)

// TestAdmission: what Istio's admission refuses, the product refuses too, and
// what it admits compiles. Each row is one edit of a rule that is right.
func TestAdmission(t *testing.T) {
	type (
		service = *networking.VirtualService
		match   = *networking.HTTPMatchRequest
		text    = networking.StringMatch
	)
	onMatch := func(f func(match)) func(service) {
		return func(vs service) { f(vs.Http[0].Match[0]) }
	}
	onRoute := func(f func(*networking.HTTPRoute)) func(service) {
		return func(vs service) { f(vs.Http[0]) }
	}
	headers := func(name string, m *text) func(service) {
		return onMatch(func(in match) { in.Headers = map[string]*text{name: m} })
	}
	without := func(m *text) func(service) {
		return onMatch(func(in match) { in.WithoutHeaders = map[string]*text{"x-a": m} })
	}
	param := func(name string, m *text) func(service) {
		return onMatch(func(in match) { in.QueryParams = map[string]*text{name: m} })
	}
	hosts := func(of ...string) func(service) { return func(vs service) { vs.Hosts = of } }
	inMesh := func(of ...string) func(service) {
		return func(vs service) { vs.Hosts, vs.Gateways = of, nil }
	}
	target := func(host string) *networking.HTTPRouteDestination {
		return &networking.HTTPRouteDestination{Destination: &networking.Destination{Host: host, Subset: "v1"}}
	}
	destination := func(d *networking.Destination) func(service) {
		return onRoute(func(h *networking.HTTPRoute) { h.Route[0].Destination = d })
	}
	abort := func(percentage float64) func(*networking.HTTPRoute) {
		return func(h *networking.HTTPRoute) {
			h.Fault = &networking.HTTPFaultInjection{Abort: &networking.HTTPFaultInjection_Abort{
				ErrorType:  &networking.HTTPFaultInjection_Abort_HttpStatus{HttpStatus: 503},
				Percentage: &networking.Percent{Value: percentage},
			}}
		}
	}
	value := func(s string) func(*networking.HTTPRoute) {
		return func(h *networking.HTTPRoute) {
			h.Headers = &networking.Headers{Request: &networking.Headers_HeaderOperations{Set: map[string]string{"x-a": s}}}
		}
	}
	answer := func(f func(*networking.HTTPRoute)) func(service) {
		return onRoute(func(h *networking.HTTPRoute) { h.Route, h.Mirror = nil, nil; f(h) })
	}
	for _, tt := range []struct {
		name string
		edit func(service)
		// differs says why the product judges otherwise on purpose.
		differs string
	}{
		{"nothing", func(service) {}, ""},

		{"uri prefix, empty", onMatch(func(m match) { m.Uri = beginning("") }), ""},
		{"uri exact, empty", onMatch(func(m match) { m.Uri = exactly("") }), ""},
		{"uri regex, empty", onMatch(func(m match) { m.Uri = matching("") }), ""},
		{"uri regex, not RE2", onMatch(func(m match) { m.Uri = matching("(?=a)") }), ""},
		{"uri regex, *", onMatch(func(m match) { m.Uri = matching("*") }), ""},
		{"uri regex, unbalanced", onMatch(func(m match) { m.Uri = matching("a)|(b") }), ""},
		{"uri regex, 1024 bytes", onMatch(func(m match) { m.Uri = matching(strings.Repeat("a", 1024)) }), ""},
		{"uri regex, 1025 bytes", onMatch(func(m match) { m.Uri = matching(strings.Repeat("a", 1025)) }), ""},
		{"method prefix, empty", onMatch(func(m match) { m.Method = beginning("") }), ""},
		{"method regex, empty", onMatch(func(m match) { m.Method = matching("") }), ""},
		{"method without value", onMatch(func(m match) { m.Method = &text{} }), ""},
		{"authority prefix, empty", onMatch(func(m match) { m.Authority = beginning("") }), ""},
		{"header exact, empty", headers("x-a", exactly("")), ""},
		{"header prefix, empty", headers("x-a", beginning("")), ""},
		{"header regex, empty", headers("x-a", matching("")), ""},
		{"header regex, *", headers("x-a", matching("*")), ""},
		{"header without value", headers("x-a", &text{}), ""},
		{"header without name", headers("", exactly("v")), ""},
		{"header name with a space", headers("x a", exactly("v")), ""},
		{"header name with an underscore", headers("x_a", exactly("v")), ""},
		{"header name with a dot", headers("x.a", exactly("v")), ""},
		{"header name :method", headers(":method", exactly("GET")),
			"pseudo-headers have conditions of their own; as headers they are refused with that advice"},
		{"withoutHeaders prefix, empty", without(beginning("")), ""},
		{"withoutHeaders regex, *", without(matching("*")), ""},
		{"withoutHeaders regex, empty", without(matching("")), ""},
		{"withoutHeaders without value", without(&text{}), ""},
		{"queryParams prefix, empty", param("a", beginning("")), ""},
		{"queryParams regex, *", param("a", matching("*")), ""},
		{"queryParams regex, empty", param("a", matching("")), ""},
		{"queryParams without value", param("a", &text{}), ""},

		{"mirror and mirrors", onRoute(func(h *networking.HTTPRoute) {
			h.Mirrors = []*networking.HTTPMirrorPolicy{{Destination: h.Mirror}}
		}), ""},
		{"mirrors without destination", onRoute(func(h *networking.HTTPRoute) {
			h.Mirror, h.Mirrors = nil, []*networking.HTTPMirrorPolicy{{}}
		}), ""},
		{"mirrors, 101 %", onRoute(func(h *networking.HTTPRoute) {
			h.Mirrors = []*networking.HTTPMirrorPolicy{{Destination: h.Mirror, Percentage: &networking.Percent{Value: 101}}}
			h.Mirror = nil
		}), ""},
		{"mirrorPercentage 100.0001", onRoute(func(h *networking.HTTPRoute) {
			h.MirrorPercentage = &networking.Percent{Value: 100.0001}
		}), ""},
		{"mirrorPercentage below 0", onRoute(func(h *networking.HTTPRoute) {
			h.MirrorPercentage = &networking.Percent{Value: -1}
		}), ""},
		{"mirrorPercentage 0", onRoute(func(h *networking.HTTPRoute) { h.MirrorPercentage = &networking.Percent{} }), ""},
		{"mirror_percent 101", onRoute(func(h *networking.HTTPRoute) {
			h.MirrorPercent = wrapperspb.UInt32(101) //nolint:staticcheck // deprecated, not gone
		}), ""},
		{"mirrorPercentage without mirror", onRoute(func(h *networking.HTTPRoute) {
			h.Mirror, h.MirrorPercentage = nil, &networking.Percent{Value: 5}
		}), ""},
		{"mirror without host", onRoute(func(h *networking.HTTPRoute) { h.Mirror = &networking.Destination{} }), ""},
		{"mirror to a wildcard", onRoute(func(h *networking.HTTPRoute) { h.Mirror.Host = "*.example.com" }),
			"a wildcard has no endpoints to send copies to"},

		{"rewrite of nothing", onRoute(func(h *networking.HTTPRoute) { h.Rewrite = &networking.HTTPRewrite{} }), ""},
		{"rewrite without slash", onRoute(func(h *networking.HTTPRoute) { h.Rewrite = &networking.HTTPRewrite{Uri: "v2"} }), ""},
		{"rewrite with a space", onRoute(func(h *networking.HTTPRoute) { h.Rewrite = &networking.HTTPRewrite{Uri: "/a b"} }),
			"the copy would not be a request: the target ends at a space"},
		{"rewrite and redirect", answer(func(h *networking.HTTPRoute) {
			h.Redirect, h.Rewrite = &networking.HTTPRedirect{Uri: "/x"}, &networking.HTTPRewrite{Uri: "/y"}
		}), ""},
		{"rewrite and directResponse", answer(func(h *networking.HTTPRoute) {
			h.DirectResponse, h.Rewrite = &networking.HTTPDirectResponse{Status: 200}, &networking.HTTPRewrite{Uri: "/y"}
		}), ""},
		{"redirect and directResponse", answer(func(h *networking.HTTPRoute) {
			h.Redirect, h.DirectResponse = &networking.HTTPRedirect{Uri: "/x"}, &networking.HTTPDirectResponse{Status: 200}
		}), ""},
		{"redirect and route", onRoute(func(h *networking.HTTPRoute) { h.Redirect = &networking.HTTPRedirect{Uri: "/x"} }), ""},
		{"redirect", answer(func(h *networking.HTTPRoute) { h.Redirect = &networking.HTTPRedirect{Uri: "/x"} }), ""},
		{"directResponse", answer(func(h *networking.HTTPRoute) { h.DirectResponse = &networking.HTTPDirectResponse{Status: 200} }), ""},
		{"no route", answer(func(*networking.HTTPRoute) {}), ""},
		{"no http", func(vs service) { vs.Http = nil }, ""},

		{"timeout", onRoute(func(h *networking.HTTPRoute) { h.Timeout = durationpb.New(1e6) }), ""},
		{"timeout 0", onRoute(func(h *networking.HTTPRoute) { h.Timeout = durationpb.New(0) }), ""},
		{"timeout below 1 ms", onRoute(func(h *networking.HTTPRoute) { h.Timeout = durationpb.New(1e5) }), ""},
		{"timeout with a part of 1 ms", onRoute(func(h *networking.HTTPRoute) { h.Timeout = durationpb.New(15e5) }), ""},
		{"fault.abort 0.0001 %", onRoute(abort(.0001)), ""},
		{"fault.abort 0.00001 %", onRoute(abort(.00001)), ""},
		{"fault.abort 0 %", onRoute(abort(0)), ""},
		{"fault.abort 100.1 %", onRoute(abort(100.1)), ""},
		{"header value with a command", onRoute(value("%REQ(x-a?x-b)%")), ""},
		{"header value with a percent sign", onRoute(value("5%")), ""},
		{"header value with a length", onRoute(value("%REQ(x-a):5%")), "Envoy takes it, which Istio's admission does not know"},
		{"header value of no command", onRoute(value("%nothing%")), "Envoy refuses it, which Istio's admission does not know"},
		{"Host in set and in add", onRoute(func(h *networking.HTTPRoute) {
			h.Headers = &networking.Headers{Request: &networking.Headers_HeaderOperations{
				Set: map[string]string{"Host": "a"}, Add: map[string]string{":authority": "b"},
			}}
		}), ""},
		{"Host removed", onRoute(func(h *networking.HTTPRoute) {
			h.Headers = &networking.Headers{Request: &networking.Headers_HeaderOperations{Remove: []string{"Host"}}}
		}), ""},

		{"two destinations of weight 0", onRoute(func(h *networking.HTTPRoute) {
			h.Route = append(h.Route, target("reviews"))
		}), ""},
		{"two destinations, one of weight 0", onRoute(func(h *networking.HTTPRoute) {
			h.Route = append(h.Route, target("reviews"))
			h.Route[0].Weight = 1
		}), ""},
		{"weight below 0", onRoute(func(h *networking.HTTPRoute) { h.Route[0].Weight = -1 }), ""},
		{"no destination", destination(nil), ""},
		{"destination without host", destination(&networking.Destination{Subset: "v1"}), ""},
		{"destination host with a space", destination(&networking.Destination{Host: "http bin"}), ""},
		{"destination port 0", destination(&networking.Destination{Host: "httpbin", Port: &networking.PortSelector{}}), ""},
		{"destination port 65536", destination(&networking.Destination{Host: "httpbin", Port: &networking.PortSelector{Number: 65536}}), ""},

		{"host *", hosts("*"), ""},
		{"host * in the mesh", inMesh("*"),
			"where there is no Kubernetes there are no gateways, and * is the host to write for all"},
		{"host *.com in the mesh", inMesh("*.com"), ""},
		{"host with a wildcard at the end", hosts("www.*"), ""},
		{"host with a wildcard inside", hosts("a.*.com"), ""},
		{"host with half a label", hosts("*-eu.example.com"), ""},
		{"host with a wildcard before letters", hosts("*eu.example.com"), ""},
		{"host with a port", hosts("www.example.com:80"), ""},
		{"host in upper case", hosts("WWW.example.com"), ""},
		{"host with an underscore", hosts("a_b.example.com"), ""},
		{"host with a dot at the end", hosts("www.example.com."), ""},
		{"host that is an address", hosts("10.0.0.1"), ""},
		{"host that is an IPv6 address", hosts("2001:db8::1"), ""},
		{"host that is an IPv6 address in brackets", hosts("[2001:db8::1]"),
			"it is how the address stands in Host"},
		{"empty host", hosts(""), ""},
		{"two hosts", hosts("a.example.com", "b.example.com"), ""},
		{"host twice", hosts("a.example.com", "a.example.com"), ""},
		{"host in two forms", hosts("httpbin", "httpbin.default.svc.cluster.local"),
			"one name given twice, which Istio does not see because it compares what is written"},
		{"host covered by another", hosts("*.example.com", "a.example.com"),
			"the exact host goes first, as between two rules"},
		{"gateway without a name", func(vs service) { vs.Gateways = []string{""} }, ""},
		{"gateway of another namespace", func(vs service) { vs.Gateways = []string{"other/gw"} }, ""},
		{"gateway and mesh", func(vs service) { vs.Gateways = []string{"gw", "mesh"}; vs.Hosts = []string{"a.example.com"} }, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			vs := &networking.VirtualService{
				Hosts: []string{"www.example.com"}, Gateways: []string{"gw"},
				Http: []*networking.HTTPRoute{{
					Match:  []*networking.HTTPMatchRequest{{}},
					Route:  []*networking.HTTPRouteDestination{target("httpbin")},
					Mirror: &networking.Destination{Host: "httpbin", Subset: "v2"},
				}},
			}
			tt.edit(vs)
			w := &world{gateway: "gw", port: 80, rules: []rule{{namespace: "default", name: "test", spec: vs}}}
			admitted := w.admit()
			_, compiled := w.compile(t)
			if agree := (admitted == nil) == (compiled == nil); agree == (tt.differs != "") {
				t.Errorf("Istio: %v\nshadowtap: %v\nexpected to differ: %q", admitted, compiled, tt.differs)
			}
		})
	}
}
