package referee

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gateway "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/gateway-api/apis/v1beta1"

	"github.com/shadowtap/shadowtap/test/referee/envoy"
)

// What the API server fills in is written out here: Istio's controller relies
// on it.

// listeners makes the Gateway, with up to three listeners on port 80 whose
// hostnames overlap.
func (g *generator) listeners() *gateway.Gateway {
	gw := &gateway.Gateway{TypeMeta: typed("v1", "Gateway"), ObjectMeta: meta("default", theGateway, 0)}
	gw.Spec.GatewayClassName = "istio"
	hostnames := []string{"", "*.example.com", "shop.example.com", "*.shop.example.com", "*.com"}
	g.Shuffle(len(hostnames), func(i, j int) { hostnames[i], hostnames[j] = hostnames[j], hostnames[i] })
	for i, h := range hostnames[:1+g.IntN(3)] {
		allowed := &gateway.RouteNamespaces{From: new(pick(g,
			gateway.NamespacesFromAll, gateway.NamespacesFromAll, gateway.NamespacesFromSame, gateway.NamespacesFromSelector))}
		if *allowed.From == gateway.NamespacesFromSelector {
			allowed.Selector = g.namespaceSelector()
		}
		l := gateway.Listener{
			Name: gateway.SectionName(fmt.Sprintf("l%d", i)), Port: 80, Protocol: gateway.HTTPProtocolType,
			AllowedRoutes: &gateway.AllowedRoutes{Namespaces: allowed},
		}
		if h != "" {
			l.Hostname = new(gateway.Hostname(h))
		}
		gw.Spec.Listeners = append(gw.Spec.Listeners, l)
	}
	return gw
}

// namespaceSelector selects namespaces by a label or two.
func (g *generator) namespaceSelector() *metav1.LabelSelector {
	out := &metav1.LabelSelector{}
	if g.chance(.5) {
		out.MatchLabels = map[string]string{"team": pick(g, "a", "b")}
	}
	if g.chance(.2) {
		out.MatchLabels = map[string]string{corev1.LabelMetadataName: pick(g, "default", "other")}
	}
	if g.chance(.4) {
		out.MatchExpressions = []metav1.LabelSelectorRequirement{pick(g,
			metav1.LabelSelectorRequirement{Key: "team", Operator: metav1.LabelSelectorOpIn, Values: []string{"a", "b"}},
			metav1.LabelSelectorRequirement{Key: "team", Operator: metav1.LabelSelectorOpNotIn, Values: []string{"a"}},
			metav1.LabelSelectorRequirement{Key: "tier", Operator: metav1.LabelSelectorOpNotIn, Values: []string{"web"}},
			metav1.LabelSelectorRequirement{Key: "tier", Operator: metav1.LabelSelectorOpExists},
			metav1.LabelSelectorRequirement{Key: "tier", Operator: metav1.LabelSelectorOpDoesNotExist},
		)}
	}
	return out
}

// gatewayWorld makes a world of up to n routes, on a Gateway or in the mesh.
func (g *generator) gatewayWorld(n int, mesh bool) *gatewayWorld {
	w := &gatewayWorld{}
	if !mesh {
		w.gateway = g.listeners()
	}
	for i := range 1 + g.IntN(n) {
		namespace := pick(g, "default", "default", "default", "other")
		name := fmt.Sprintf("%c%d", 'a'+rune(g.IntN(26)), i)
		common := g.parents(w, namespace)
		if g.chance(.15) {
			r := &gateway.GRPCRoute{TypeMeta: typed("v1", "GRPCRoute"), ObjectMeta: meta(namespace, name, g.IntN(4))}
			r.Spec.CommonRouteSpec, r.Spec.Hostnames = common, g.hostnames(w)
			for j := range 1 + g.IntN(3) {
				r.Spec.Rules = append(r.Spec.Rules, g.grpcRule(ruleName(namespace, name, j)))
			}
			w.grpc = append(w.grpc, r)
			continue
		}
		r := &gateway.HTTPRoute{TypeMeta: typed("v1", "HTTPRoute"), ObjectMeta: meta(namespace, name, g.IntN(4))}
		r.Spec.CommonRouteSpec, r.Spec.Hostnames = common, g.hostnames(w)
		for j := range 1 + g.IntN(4) {
			r.Spec.Rules = append(r.Spec.Rules, g.httpRule(ruleName(namespace, name, j)))
		}
		w.http = append(w.http, r)
	}
	w.grant()
	return w
}

func ruleName(namespace, name string, i int) *gateway.SectionName {
	return new(gateway.SectionName(fmt.Sprintf("%s-%s-r%d", namespace, name, i)))
}

// parents are the references of a route of namespace to its parents.
func (g *generator) parents(w *gatewayWorld, namespace string) (out gateway.CommonRouteSpec) {
	if w.gateway == nil {
		ref := gateway.ParentReference{Group: new(gateway.Group("")), Kind: new(gateway.Kind("Service")), Name: "ratings"}
		if namespace == "default" {
			ref.Name = pick[gateway.ObjectName](g, "httpbin", "httpbin", "reviews")
		}
		if g.chance(.2) { // for clients of its own namespace
			ref.Namespace, ref.Name = new(gateway.Namespace("other")), "ratings"
			if namespace == "other" {
				*ref.Namespace, ref.Name = "default", "httpbin"
			}
		}
		if g.chance(.3) {
			ref.Port = new(gateway.PortNumber(80))
		}
		out.ParentRefs = []gateway.ParentReference{ref}
		return out
	}
	ref := gateway.ParentReference{
		Group: new(gateway.Group(gateway.GroupName)), Kind: new(gateway.Kind("Gateway")),
		Namespace: new(gateway.Namespace("default")), Name: theGateway,
	}
	if g.chance(.3) {
		ref.SectionName = new(pick(g, w.gateway.Spec.Listeners...).Name)
	}
	if g.chance(.2) {
		ref.Port = new(pick[gateway.PortNumber](g, 80, 80, 80, 81))
	}
	out.ParentRefs = []gateway.ParentReference{ref}
	return out
}

func (g *generator) hostnames(w *gatewayWorld) (out []gateway.Hostname) {
	for w.gateway != nil && len(out) < 2 && g.chance(.5) {
		h := pick[gateway.Hostname](g, "*.example.com", "shop.example.com", "shop.example.com", "*.shop.example.com",
			"eu.shop.example.com", "*.com", "foo.org")
		if !slices.Contains(out, h) {
			out = append(out, h)
		}
	}
	return out
}

// httpRule is a rule that mostly mirrors.
func (g *generator) httpRule(name *gateway.SectionName) gateway.HTTPRouteRule {
	rule := gateway.HTTPRouteRule{Name: name}
	for range 1 + g.IntN(3) {
		rule.Matches = append(rule.Matches, g.httpMatch())
	}
	for len(rule.Filters) < 5 && g.chance(.6) {
		rule.Filters = append(rule.Filters, gateway.HTTPRouteFilter{Type: gateway.HTTPRouteFilterRequestMirror, RequestMirror: g.requestMirror()})
	}
	if g.chance(.3) {
		rule.Filters = append(rule.Filters, gateway.HTTPRouteFilter{
			Type: gateway.HTTPRouteFilterRequestHeaderModifier, RequestHeaderModifier: g.headerModifier(),
		})
	}
	switch {
	case g.chance(.06):
		rule.Filters = append(rule.Filters, gateway.HTTPRouteFilter{
			Type:            gateway.HTTPRouteFilterRequestRedirect,
			RequestRedirect: &gateway.HTTPRequestRedirectFilter{Hostname: new(gateway.PreciseHostname("elsewhere.example.com"))},
		})
		return rule
	case g.chance(.6):
		rule.Filters = append(rule.Filters, gateway.HTTPRouteFilter{Type: gateway.HTTPRouteFilterURLRewrite, URLRewrite: g.urlRewrite(&rule)})
	}
	for range pick(g, 0, 1, 1, 1, 1, 1, 1, 1, 2) {
		rule.BackendRefs = append(rule.BackendRefs, gateway.HTTPBackendRef{BackendRef: g.backend()})
	}
	if len(rule.BackendRefs) == 1 && g.chance(.2) {
		rule.BackendRefs[0].Filters = []gateway.HTTPRouteFilter{{
			Type: gateway.HTTPRouteFilterRequestHeaderModifier, RequestHeaderModifier: g.headerModifier(),
		}}
	}
	return rule
}

func (g *generator) backend() gateway.BackendRef {
	ref := gateway.BackendRef{BackendObjectReference: g.service(), Weight: new(int32(1))}
	if g.chance(.1) {
		ref.Weight = new(int32(0))
	}
	return ref
}

// service is a reference to one of the services.
func (g *generator) service() gateway.BackendObjectReference {
	ref := gateway.BackendObjectReference{
		Group: new(gateway.Group("")), Kind: new(gateway.Kind("Service")),
		Namespace: new(gateway.Namespace("default")), Name: pick[gateway.ObjectName](g, "httpbin", "reviews"),
		Port: new(gateway.PortNumber(80)),
	}
	if g.chance(.2) {
		*ref.Namespace, ref.Name = "other", "ratings"
	}
	return ref
}

func (g *generator) requestMirror() *gateway.HTTPRequestMirrorFilter {
	m := &gateway.HTTPRequestMirrorFilter{BackendRef: g.service()}
	switch g.IntN(4) {
	case 0:
		m.Percent = new(pick[int32](g, 0, 1, 33, 57, 100))
	case 1:
		m.Fraction = &gateway.Fraction{Numerator: pick[int32](g, 0, 1, 1, 2), Denominator: new(pick[int32](g, 2, 3, 7, 100, 1000, 1000000, 1999999))}
	}
	return m
}

func (g *generator) headerModifier() *gateway.HTTPHeaderFilter {
	list := func() (out []gateway.HTTPHeader) {
		seen := map[string]bool{}
		for range 1 + g.IntN(2) {
			name := pick(g, g.headerName(), g.headerName(), g.headerName(), "Host")
			if !seen[strings.ToLower(name)] {
				seen[strings.ToLower(name)] = true
				value := pick(g, "v", "w", "v w")
				if name == "Host" {
					value = pick(g, "v2.example.com", "v:8080")
				}
				out = append(out, gateway.HTTPHeader{Name: gateway.HTTPHeaderName(name), Value: value})
			}
		}
		return out
	}
	h := &gateway.HTTPHeaderFilter{}
	if g.chance(.5) {
		h.Set = list()
	}
	if g.chance(.5) {
		h.Add = list()
	}
	if g.chance(.5) {
		h.Remove = []string{g.headerName()}
	}
	return h
}

// urlRewrite is a rewrite for a rule. To replace a prefix the rule has to match
// by one.
func (g *generator) urlRewrite(rule *gateway.HTTPRouteRule) *gateway.HTTPURLRewriteFilter {
	f := &gateway.HTTPURLRewriteFilter{}
	if g.chance(.3) {
		f.Hostname = new(pick[gateway.PreciseHostname](g, "v2.example.com", "elsewhere.org"))
	}
	to := pick(g, "", "/", "/v2", "/v2/", "/foo", "/v2/x")
	switch {
	case g.chance(.6):
		rule.Matches = rule.Matches[:1]
		rule.Matches[0].Path = g.pathPrefix()
		f.Path = &gateway.HTTPPathModifier{Type: gateway.PrefixMatchHTTPPathModifier, ReplacePrefixMatch: &to}
	case f.Hostname == nil || g.chance(.5):
		if to == "" {
			to = "/v3"
		}
		f.Path = &gateway.HTTPPathModifier{Type: gateway.FullPathHTTPPathModifier, ReplaceFullPath: &to}
	}
	return f
}

func (g *generator) pathPrefix() *gateway.HTTPPathMatch {
	return &gateway.HTTPPathMatch{
		Type:  new(gateway.PathMatchPathPrefix),
		Value: new(pick(g, "/", "/", "/f", "/foo", "/foo", "/foo", "/foo/", "/FOO", "/foo/bar", "/b", "/foo.")),
	}
}

func (g *generator) httpMatch() gateway.HTTPRouteMatch {
	var m gateway.HTTPRouteMatch
	switch n := g.IntN(20); {
	case n < 9:
		m.Path = g.pathPrefix()
	case n < 15:
		m.Path = &gateway.HTTPPathMatch{
			Type:  new(gateway.PathMatchExact),
			Value: new(pick(g, "/", "/foo", "/foo/", "/FOO", "/foobar", "/foo/bar", "/b", "/foo.")),
		}
	default:
		m.Path = &gateway.HTTPPathMatch{
			Type: new(gateway.PathMatchRegularExpression),
			Value: new(g.expression(".*", "/.*", "/foo", "/foo.*", "/foo/?", "/(foo|bar)", "/foo|/bar", "(?i)/foo(/.*)?",
				"/[^/]+/bar", "/fo+", `/foo\.`)),
		}
	}
	if g.chance(.2) {
		m.Method = new(pick(g, gateway.HTTPMethodGet, gateway.HTTPMethodPost, gateway.HTTPMethodPut))
	}
	for g.chance(.25) {
		h := gateway.HTTPHeaderMatch{Type: new(gateway.HeaderMatchExact), Name: gateway.HTTPHeaderName(g.headerName()), Value: pick(g, "v", "V", "w", "v,w")}
		if g.chance(.3) {
			h.Type, h.Value = new(gateway.HeaderMatchRegularExpression), g.expression(".*", ".+", "v|w", "[vw,]+", "(?i)v")
		}
		if !slices.ContainsFunc(m.Headers, func(o gateway.HTTPHeaderMatch) bool { return strings.EqualFold(string(o.Name), string(h.Name)) }) {
			m.Headers = append(m.Headers, h)
		}
	}
	for g.chance(.2) {
		q := gateway.HTTPQueryParamMatch{Type: new(gateway.QueryParamMatchExact), Name: pick[gateway.HTTPHeaderName](g, "a", "A", "b", "x-a"), Value: pick(g, "v", "V", "w", "v,w")}
		if g.chance(.3) {
			q.Type, q.Value = new(gateway.QueryParamMatchRegularExpression), g.expression(".*", ".+", "v|w", "[vw,]+", "(?i)v")
		}
		if !slices.ContainsFunc(m.QueryParams, func(o gateway.HTTPQueryParamMatch) bool { return o.Name == q.Name }) {
			m.QueryParams = append(m.QueryParams, q)
		}
	}
	return m
}

func (g *generator) grpcRule(name *gateway.SectionName) gateway.GRPCRouteRule {
	rule := gateway.GRPCRouteRule{Name: name, BackendRefs: []gateway.GRPCBackendRef{{BackendRef: g.backend()}}}
	for range 1 + g.IntN(2) {
		m := gateway.GRPCRouteMatch{Method: &gateway.GRPCMethodMatch{Type: new(gateway.GRPCMethodMatchExact)}}
		n := g.IntN(3)
		if n != 1 {
			m.Method.Service = new(pick(g, "foo", "foo", "bar"))
		}
		if n != 0 {
			m.Method.Method = new(pick(g, "bar", "baz"))
		}
		if g.chance(.2) {
			m.Headers = []gateway.GRPCHeaderMatch{{Type: new(gateway.GRPCHeaderMatchExact), Name: "x-a", Value: "v"}}
		}
		rule.Matches = append(rule.Matches, m)
	}
	for len(rule.Filters) < 5 && g.chance(.6) {
		rule.Filters = append(rule.Filters, gateway.GRPCRouteFilter{Type: gateway.GRPCRouteFilterRequestMirror, RequestMirror: g.requestMirror()})
	}
	return rule
}

// grant allows every reference that is made between namespaces. What becomes
// of one that is not allowed TestGrants asks.
func (w *gatewayWorld) grant() {
	for _, namespaces := range [][2]string{{"default", "other"}, {"other", "default"}} {
		grant := &v1beta1.ReferenceGrant{TypeMeta: typed("v1beta1", "ReferenceGrant"), ObjectMeta: meta(namespaces[1], "all", 0)}
		for _, kind := range []v1beta1.Kind{"HTTPRoute", "GRPCRoute"} {
			grant.Spec.From = append(grant.Spec.From, v1beta1.ReferenceGrantFrom{
				Group: gateway.GroupName, Kind: kind, Namespace: v1beta1.Namespace(namespaces[0]),
			})
		}
		grant.Spec.To = []v1beta1.ReferenceGrantTo{{Kind: "Service"}}
		w.grants = append(w.grants, grant)
	}
}

// gatewayRequest is a request that mostly does what a match of a route asks
// for, and often nearly.
func (g *generator) gatewayRequest(w *gatewayWorld, host string) *envoy.Request {
	method, path := pick(g, "GET", "GET", "POST", "PUT"), pick(g, "/", "/foo", "/foo/bar", "/bar", "/foo/baz", "/foobar")
	var query []string
	fields := [][2]string{{"Host", host}}
	if len(w.http) > 0 {
		r := pick(g, w.http...)
		m := pick(g, pick(g, r.Spec.Rules...).Matches...)
		value := *m.Path.Value
		switch {
		case !g.chance(.9):
		case *m.Path.Type == gateway.PathMatchRegularExpression:
			path = g.meet(matching(value), path)
		case *m.Path.Type == gateway.PathMatchExact:
			path = value + pick(g, "", "", "", "/", "x")
		default:
			path = value + pick(g, "", "", "/", "/bar", "x", "/bar/", "//", "/../foo")
		}
		if m.Method != nil && g.chance(.9) {
			method = string(*m.Method)
		}
		for _, h := range m.Headers {
			if g.chance(.9) {
				fields = append(fields, [2]string{g.inCase(string(h.Name)), g.satisfy(*h.Type == gateway.HeaderMatchRegularExpression, h.Value)})
			}
		}
		for _, q := range m.QueryParams {
			if g.chance(.9) {
				query = append(query, string(q.Name)+"="+g.satisfy(*q.Type == gateway.QueryParamMatchRegularExpression, q.Value))
			}
		}
	}
	if !strings.HasPrefix(path, "/") {
		path = "/" + path
	}
	if g.chance(.2) {
		fields = append(fields, [2]string{g.headerName(), pick(g, "v", "w")})
	}
	if g.chance(.2) {
		query = append(query, pick(g, "a", "a=v", "b=w", "x=/foo"))
	}
	if query != nil {
		path += "?" + strings.Join(query, "&")
	}
	return &envoy.Request{Method: method, Target: path, Fields: fields}
}

// satisfy is a text that mostly meets a condition.
func (g *generator) satisfy(regular bool, value string) string {
	if regular {
		return strings.ReplaceAll(g.meet(matching(value), "v"), " ", "")
	}
	return pick(g, value, value, value, value+"x")
}
