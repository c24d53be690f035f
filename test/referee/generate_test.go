package referee

import (
	"fmt"
	"math/rand/v2"
	"slices"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
	networking "istio.io/api/networking/v1alpha3"
)

// generator makes rules and requests from a seed. Its alphabets are small, so
// that what it makes collides: most paths are prefixes of each other, most
// names differ in case alone.
type generator struct {
	*rand.Rand
	on      map[string]bool // features to use
	gateway bool            // requests come by a gateway
}

func newGenerator(seed, stream uint64, gateway bool) *generator {
	g := &generator{Rand: rand.New(rand.NewPCG(seed, stream)), on: map[string]bool{}, gateway: gateway}
	for _, f := range features() {
		g.on[f.name] = f.supported
	}
	return g
}

func (g *generator) chance(p float64) bool { return g.Float64() < p }

// may is the chance to use a feature, none if the product does not have it.
func (g *generator) may(feature string, p float64) bool { return g.on[feature] && g.chance(p) }

func pick[T any](g *generator, of ...T) T { return of[g.IntN(len(of))] }

func (g *generator) path() string {
	return pick(g, "/", "/foo", "/foo/", "/FOO", "/Foo/bar", "/foobar", "/foo/bar", "/foo//bar", "//foo", "//", "/bar", "/b",
		"/foo%2Fbar", "/f%6fo", "/foo%20bar", "/foo.", "/.foo", "/foo/baz/bar")
}

func (g *generator) prefix() string {
	return pick(g, "", "/", "/f", "/foo", "/foo", "/foo", "/foo/", "/foo/", "/FOO", "/foo/bar", "//", "/b", "/foo%2F")
}

func (g *generator) value() string { return pick(g, "", "v", "V", "w", "v,w", "vw", "v w", "1") }

// expressions are regular expressions with texts that match them, or nearly.
func expressions() map[string][]string {
	return map[string][]string{
		".*":                {"", "/", "/foo", "v"},
		".+":                {"", "v"},
		"/.*":               {"/", "/foo"},
		"/foo":              {"/foo", "/foo/", "/Foo"},
		"/foo.*":            {"/foo", "/foobar", "/foo/bar"},
		"/foo/?":            {"/foo", "/foo/", "/foo//"},
		"/(foo|bar)":        {"/foo", "/bar", "/foobar"},
		"/foo|/bar":         {"/foo", "/bar", "/bar/", "/foo/bar"},
		"(?i)/foo(/.*)?":    {"/foo", "/FOO/x", "/fo"},
		"/[^/]+/bar":        {"/foo/bar", "//bar", "/a/b/bar"},
		"^/foo$":            {"/foo", "/foo/"},
		"/fo+":              {"/fo", "/fooo", "/foo"},
		`/foo\.`:            {"/foo.", "/foox"},
		"v|w":               {"v", "w", "vw"},
		"v*":                {"", "vv", "vw"},
		"[vw,]+":            {"v,w", "v, w", "w"},
		"(?i)v":             {"V", "v"},
		"GET|POST":          {"GET", "POST", "GETPOST"},
		"[-a-z.0-9]+":       {"v", "", "rule-0.example.com"},
		".*example.com.*":   {"example.com"},
		"(v)(w)?":           {"v", "vw"},
		`\w+`:               {"v", "GET", ""},
		`\d`:                {"1", "11"},
		"(/foo/bar|/foo)":   {"/foo", "/foo/bar"},
		"/foo(?:/bar){0,1}": {"/foo/bar", "/foo"},
	}
}

func (g *generator) expression(of ...string) string { return pick(g, of...) }

func exactly(s string) *networking.StringMatch {
	return &networking.StringMatch{MatchType: &networking.StringMatch_Exact{Exact: s}}
}

func beginning(s string) *networking.StringMatch {
	return &networking.StringMatch{MatchType: &networking.StringMatch_Prefix{Prefix: s}}
}

func matching(s string) *networking.StringMatch {
	return &networking.StringMatch{MatchType: &networking.StringMatch_Regex{Regex: s}}
}

func (g *generator) uri() *networking.StringMatch {
	switch n := g.IntN(20); {
	case n < 8:
		return beginning(g.prefix())
	case n < 14:
		return exactly(g.path())
	case n < 19:
		return matching(g.expression(".*", "/.*", "/foo", "/foo.*", "/foo/?", "/(foo|bar)", "/foo|/bar", "(?i)/foo(/.*)?",
			"/[^/]+/bar", "^/foo$", "/fo+", `/foo\.`, "(/foo/bar|/foo)", "/foo(?:/bar){0,1}"))
	}
	return &networking.StringMatch{}
}

// text is a condition on a header or parameter.
func (g *generator) text() *networking.StringMatch {
	switch g.IntN(8) {
	case 0, 1, 2:
		return exactly(g.value())
	case 3, 4:
		return beginning(pick(g, "v", "V", "w", "v,"))
	case 5, 6:
		return matching(g.expression(".*", ".+", "v|w", "v*", "[vw,]+", "(?i)v", "(v)(w)?", `\w+`, `\d`))
	}
	return &networking.StringMatch{}
}

func (g *generator) texts(names ...string) map[string]*networking.StringMatch {
	out := map[string]*networking.StringMatch{}
	for range 1 + g.IntN(2) {
		out[pick(g, names...)] = g.text()
	}
	return out
}

func (g *generator) headerName() string {
	return pick(g, "x-a", "X-A", "x-b", "X-b", "x_c", "accept", "user-agent")
}

func (g *generator) paramName() string { return pick(g, "a", "A", "b", "a%20", "x-a") }

func (g *generator) match(host, name string) *networking.HTTPMatchRequest {
	m := &networking.HTTPMatchRequest{Name: name}
	if g.chance(.85) {
		m.Uri = g.uri()
	}
	m.IgnoreUriCase = g.chance(.25)
	if g.chance(.2) {
		m.Method = pick(g, exactly("GET"), exactly("POST"), exactly("get"), beginning("P"), matching("GET|POST"), &networking.StringMatch{})
	}
	if g.chance(.1) {
		m.Authority = pick(g, exactly(host), exactly(host+":80"), beginning(host), beginning("R"), matching("[-a-z.0-9]+"),
			matching(".*example.com.*"), &networking.StringMatch{})
	}
	if g.chance(.3) {
		m.Headers = g.texts(g.headerName(), g.headerName(), "host")
	}
	if g.chance(.2) {
		m.WithoutHeaders = g.texts(g.headerName(), g.headerName())
		if g.chance(.2) {
			m.WithoutHeaders[g.headerName()] = matching("*") // presence, only here
		}
	}
	if g.chance(.25) {
		m.QueryParams = g.texts(g.paramName(), g.paramName())
	}
	if g.chance(.1) {
		m.StatPrefix = "stat"
	}
	if g.may(schemeMatch, .1) {
		m.Scheme = pick(g, exactly("http"), exactly("https"), beginning("h"), matching("https?"), exactly("HTTP"))
	}
	if g.may(portMatch, .1) {
		m.Port = pick[uint32](g, 80, 80, 8080)
	}
	if g.may(sourceMatch, .1) {
		m.SourceNamespace = pick(g, "default", "other")
	}
	if g.may(sourceMatch, .1) {
		m.SourceLabels = pick(g, map[string]string{"app": "client"}, map[string]string{"app": "other"}, map[string]string{"istio": "ingressgateway"})
	}
	if g.may(gatewayMatch, .1) {
		m.Gateways = pick(g, []string{"default/gw"}, []string{"mesh"}, []string{"default/other", "gw"})
	}
	return m
}

func (g *generator) percentage() *networking.Percent {
	p := pick(g, 0, .00001, .00009, .0001, .57, 1, 29.7, 33.3, 50, 99.99999, 100, g.Float64()*100)
	return &networking.Percent{Value: p}
}

// mirrorTo is a destination that is nobody's primary.
func (g *generator) mirrorTo() *networking.Destination {
	return g.port(pick(g,
		&networking.Destination{Host: "httpbin.default.svc.cluster.local", Subset: "v2"},
		&networking.Destination{Host: "httpbin.default.svc.cluster.local", Subset: "v3"},
		&networking.Destination{Host: "httpbin.default.svc.cluster.local"},
		&networking.Destination{Host: "reviews.default.svc.cluster.local", Subset: "v2"},
		&networking.Destination{Host: "ratings.other.svc.cluster.local", Subset: "v2"},
		&networking.Destination{Host: "shop.example.com"},
	))
}

// port gives a destination a port, or leaves it out where it may be. By which
// port of a gateway a request came is not seen, so the product wants to be told
// there, if the service has several.
func (g *generator) port(d *networking.Destination) *networking.Destination {
	s := services()[slices.IndexFunc(services(), func(s service) bool { return s.host == d.Host })]
	if g.gateway && len(s.ports) > 1 || g.chance(.3) {
		d.Port = &networking.PortSelector{Number: pick(g, s.ports...)}
	}
	return d
}

func (g *generator) primary() *networking.HTTPRouteDestination {
	return &networking.HTTPRouteDestination{Destination: g.port(pick(g,
		&networking.Destination{Host: "httpbin.default.svc.cluster.local", Subset: "v1"},
		&networking.Destination{Host: "httpbin.default.svc.cluster.local", Subset: "v3"},
		&networking.Destination{Host: "reviews.default.svc.cluster.local", Subset: "v1"},
		&networking.Destination{Host: "reviews.default.svc.cluster.local"},
		&networking.Destination{Host: "ratings.other.svc.cluster.local", Subset: "v1"},
	))}
}

// headerOperations are changes of the header, with values from a list.
func (g *generator) headerOperations() *networking.Headers {
	ops := &networking.Headers_HeaderOperations{}
	values := func() map[string]string {
		out := map[string]string{}
		for range 1 + g.IntN(2) {
			out[g.headerName()] = pick(g, headerValues...)
		}
		return out
	}
	if g.chance(.5) {
		ops.Set = values()
	}
	if g.chance(.5) {
		ops.Add = values()
	}
	if g.chance(.5) {
		ops.Remove = []string{g.headerName()}
	}
	return &networking.Headers{Request: ops}
}

// hostOperation makes header operations change the host. Istio admits one such
// change in each place.
func (g *generator) hostOperation(ops *networking.Headers_HeaderOperations) {
	name, value := pick(g, "Host", "host", ":authority", ":Authority"), pick(g, "v3.example.com", "V3:8080")
	if g.chance(.5) {
		if ops.Set == nil {
			ops.Set = map[string]string{}
		}
		ops.Set[name] = value
	} else {
		if ops.Add == nil {
			ops.Add = map[string]string{}
		}
		ops.Add[name] = value
	}
}

// headerValues are those of header operations: text, what is no header field,
// header fields, and those of which there is a choice.
var headerValues = []string{
	"v", "w", "50%%", "",
	"%PROTOCOL%", "%REQ(:path)%", "<%REQ(:METHOD)%>", "%DOWNSTREAM_REMOTE_ADDRESS%", "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
	"%REQ(x-a)%", "%REQ(X-B)%!", "%REQ(:authority)%",
	"%REQ(x-a?x-b)%", "%REQ(x-b?:method)%", "%REQ(host)%", "%REQ(no?:AUTHORITY)%", "%REQ(no)%",
}

// action fills in what a route does.
func (g *generator) action(h *networking.HTTPRoute) {
	switch {
	case g.chance(.06):
		h.Redirect = &networking.HTTPRedirect{Uri: "/elsewhere"}
	case g.chance(.06):
		h.DirectResponse = &networking.HTTPDirectResponse{Status: 503}
	default:
		h.Route = g.destinations()
		g.change(h)
		if g.may(faults, .1) {
			h.Fault = g.fault()
		}
	}
	switch {
	case g.chance(.08): // no mirror
	case g.chance(.6):
		h.Mirror = g.mirrorTo()
		if g.chance(.4) {
			h.MirrorPercentage = g.percentage()
		}
		if g.chance(.3) {
			h.MirrorPercent = wrapperspb.UInt32(pick[uint32](g, 0, 1, 57, 100)) //nolint:staticcheck // deprecated, not gone
		}
	default:
		for range 1 + g.IntN(3) {
			m := &networking.HTTPMirrorPolicy{Destination: g.mirrorTo()}
			if g.chance(.6) {
				m.Percentage = g.percentage()
			}
			h.Mirrors = append(h.Mirrors, m)
		}
	}
}

// destinations are where a route leads: mostly to one place, else to several of
// which no two have an endpoint in common.
func (g *generator) destinations() []*networking.HTTPRouteDestination {
	out := []*networking.HTTPRouteDestination{g.primary()}
	if out[0].Weight = pick[int32](g, 0, 0, 0, 1, 100); g.chance(.7) {
		return out
	}
	out[0].Weight = 60
	for range 1 + g.IntN(2) {
		d := g.primary()
		if !slices.ContainsFunc(out, func(o *networking.HTTPRouteDestination) bool {
			return o.Destination.Host == d.Destination.Host && (o.Destination.Subset == "" || d.Destination.Subset == "" || o.Destination.Subset == d.Destination.Subset)
		}) {
			d.Weight = pick[int32](g, 0, 1, 40)
			out = append(out, d)
		}
	}
	return out
}

// fault delays requests or answers some of them, or all.
func (g *generator) fault() *networking.HTTPFaultInjection {
	if g.chance(.2) {
		return &networking.HTTPFaultInjection{Delay: &networking.HTTPFaultInjection_Delay{
			HttpDelayType: &networking.HTTPFaultInjection_Delay_FixedDelay{FixedDelay: durationpb.New(1e9)},
			Percentage:    &networking.Percent{Value: 100},
		}}
	}
	abort := &networking.HTTPFaultInjection_Abort{ErrorType: &networking.HTTPFaultInjection_Abort_HttpStatus{HttpStatus: 503}}
	if g.chance(.8) {
		abort.Percentage = &networking.Percent{Value: pick(g, 100, 100, 99.99999, 50, .0001, 0)}
	}
	return &networking.HTTPFaultInjection{Abort: abort}
}

// change fills in what a route makes of a request.
func (g *generator) change(h *networking.HTTPRoute) {
	if g.chance(.5) {
		h.Rewrite = &networking.HTTPRewrite{Uri: pick(g, "/", "/v2", "/v2/", "/foo", "//", "/$1", `/\1`, "/%2f", "/v?x=1", "v2", "v2")}
	}
	if g.may(regexChange, .2) {
		h.Rewrite = &networking.HTTPRewrite{UriRegexRewrite: pick(g,
			&networking.RegexRewrite{Match: "/foo", Rewrite: "/v2"},
			&networking.RegexRewrite{Match: "o", Rewrite: "0"},
			&networking.RegexRewrite{Match: "^/([^/]*)/(.*)$", Rewrite: `/\2/\1`},
			&networking.RegexRewrite{Match: "/", Rewrite: `\0\\$1`},
			&networking.RegexRewrite{Match: "(/foo)|.", Rewrite: `\1`},
		)}
	}
	if g.may(authorityChange, .2) {
		if h.Rewrite == nil {
			h.Rewrite = &networking.HTTPRewrite{}
		}
		h.Rewrite.Authority = pick(g, "v2.example.com", "V2:8080")
	}
	if g.may(routeHeaders, .3) {
		if h.Headers = g.headerOperations(); h.Rewrite.GetAuthority() == "" && g.chance(.2) {
			g.hostOperation(h.Headers.Request)
		}
	}
	for _, d := range h.Route {
		if !g.may(targetHeaders, .3) {
			continue
		}
		d.Headers = g.headerOperations()
		if g.chance(.2) {
			g.hostOperation(d.Headers.Request)
		}
	}
	if g.may(timeout, .1) {
		h.Timeout = pick(g, durationpb.New(2e9), durationpb.New(15e6))
	}
}

// takesAll reports whether a match entry may take every request, so that
// nothing behind it counts.
func takesAll(m *networking.HTTPMatchRequest) bool {
	all := &networking.HTTPMatchRequest{Name: m.Name, IgnoreUriCase: m.IgnoreUriCase, StatPrefix: m.StatPrefix, Uri: m.Uri}
	return proto.Equal(m, all) && (len(m.Uri.GetExact()) == 0 && len(m.Uri.GetPrefix()) < 2 && len(m.Uri.GetRegex()) < 4)
}

// manyRoutes is a number of routes at which the product looks routes up by
// path instead of trying one after the other.
const manyRoutes = 30

// rule is a VirtualService for hosts with up to n routes. Their names say
// where they stand, so that each can be told from the others.
func (g *generator) rule(gateway, namespace, name string, n int, hosts ...string) rule {
	vs := &networking.VirtualService{Hosts: hosts}
	if gateway != "" {
		vs.Gateways = []string{gateway}
	}
	for i := range 1 + g.IntN(n) {
		h := &networking.HTTPRoute{Name: fmt.Sprintf("r%d", i)}
		if n == manyRoutes || !g.chance(.08) {
			for j := range 1 + g.IntN(3) {
				m := g.match(hosts[0], fmt.Sprintf("m%d", j))
				for n == manyRoutes && takesAll(m) {
					m = g.match(hosts[0], m.Name)
				}
				h.Match = append(h.Match, m)
			}
		}
		g.action(h)
		vs.Http = append(vs.Http, h)
	}
	return rule{namespace, name, vs, hosts[0]}
}

// delegate hands the decision of some routes of a rule to rules of their own,
// which it returns.
func (g *generator) delegate(root rule) []rule {
	var out []rule
	for _, h := range root.spec.Http {
		if !g.may(delegates, .3) {
			continue
		}
		child := g.rule("", pick(g, "default", "other"), root.name+"-"+h.Name, 3, root.host)
		child.spec.Hosts = nil
		if len(h.Match) > 0 && h.Match[0].Uri.GetPrefix() != "" {
			// Most matches conflict; this one does not.
			child.spec.Http[0].Match = []*networking.HTTPMatchRequest{{
				Name: "m0", Uri: beginning(h.Match[0].Uri.GetPrefix() + pick(g, "", "o", "/")), IgnoreUriCase: h.Match[0].IgnoreUriCase,
			}}
		}
		h.Delegate = &networking.Delegate{Name: child.name, Namespace: child.namespace}
		h.Route, h.Redirect, h.DirectResponse = nil, nil, nil
		out = append(out, child)
	}
	return out
}
