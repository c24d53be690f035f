package referee

import (
	"path"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gateway "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/shadowtap/shadowtap/test/referee/envoy"
)

// gatewayDeviation is a way in which the product differs from what Istio makes
// of the Gateway API. Where the two disagree about the text of the API, what
// its conformance tests ask for decides.
type gatewayDeviation struct {
	name   string
	reason string
	// covers reports whether a difference is of this kind, and of no other.
	covers func(w *gatewayWorld, r *envoy.Request, theirs, ours *verdict) bool
}

// The names of the deviations.
const (
	rootPrefix      = "a replaced prefix /"
	notOfListener   = "a listener that takes the host and has no route for it"
	undeclaredHosts = "routes with different hostnames that are one at a listener"
	servicePort     = "routes for a Service and routes for one port of it"
	serviceAlone    = "the path of a gRPC service without a method"
)

func gatewayDeviations() []gatewayDeviation {
	return []gatewayDeviation{{
		rootPrefix,
		"Replacing the prefix / by /v2 makes /v2/a of /a, as replacing /b does of /b/a: a path is a list of segments. Istio's " +
			"generator puts the texts together, which makes /v2a. The API's table has no row for it, its tests no case.",
		func(w *gatewayWorld, r *envoy.Request, theirs, ours *verdict) bool {
			rule := w.httpRule(ours.route)
			if rule == nil || theirs.route != ours.route || !slices.Equal(theirs.mirrors, ours.mirrors) || len(ours.copy) == 0 ||
				!slices.Equal(theirs.copy[1:], ours.copy[1:]) {
				return false
			}
			prefix := "" // what replaces "/"
			for _, f := range rule.Filters {
				if f.URLRewrite != nil && f.URLRewrite.Path != nil && f.URLRewrite.Path.ReplacePrefixMatch != nil && *rule.Matches[0].Path.Value == "/" {
					prefix = strings.TrimSuffix(*f.URLRewrite.Path.ReplacePrefixMatch, "/")
				}
			}
			method, path, _ := strings.Cut(theirs.copy[0], " ")
			rest, ok := strings.CutPrefix(path, prefix)
			return ok && prefix != "" && ours.copy[0] == method+" "+prefix+"/"+rest
		},
	}, {
		notOfListener,
		"Of the listeners on a port a request is for the one with the most specific hostname alone (Gateway.spec.listeners). " +
			"Istio keeps to that only where that listener has a route for the host.",
		func(w *gatewayWorld, r *envoy.Request, theirs, ours *verdict) bool {
			l := w.listenerFor(requestHost(r))
			return ours.route == "" && l != nil && !slices.ContainsFunc(w.attached(), func(a attachment) bool {
				return a.listener == l && matchesHost(a.host, requestHost(r))
			})
		},
	}, {
		undeclaredHosts,
		"Routes whose hostnames come to the same at a listener, because it is for one of them alone, are for one host, and the most " +
			"specific match goes first. Istio orders only the routes that name the same hostname and puts the others behind one another.",
		func(w *gatewayWorld, r *envoy.Request, theirs, ours *verdict) bool {
			host := requestHost(r)
			l := w.listenerFor(host)
			declared := map[string]bool{}
			for _, a := range w.attached() {
				if a.listener == l && a.host == w.best(l, host) {
					declared[a.declared] = true
				}
			}
			return len(declared) > 1 && theirs.route != ours.route
		},
	}, {
		servicePort,
		"Routes for a port of a Service and those for all of them are for one host, and the most specific match goes first. Istio " +
			"keeps the two apart, and the ones with the older route have all requests.",
		func(w *gatewayWorld, r *envoy.Request, theirs, ours *verdict) bool {
			var one, all bool
			for _, common := range w.common() {
				for _, ref := range common.ParentRefs {
					if name, _, _ := strings.Cut(requestHost(r), "."); string(ref.Name) == name {
						one, all = one || ref.Port != nil, all || ref.Port == nil
					}
				}
			}
			return w.gateway == nil && one && all && theirs.route != ours.route
		},
	}, {
		serviceAlone,
		"A call of gRPC is for /service/method. Istio's route for all methods of a service takes the path /service too.",
		func(w *gatewayWorld, r *envoy.Request, theirs, ours *verdict) bool {
			sent, _, _ := strings.Cut(r.Target, "?")
			return theirs.route != ours.route && slices.ContainsFunc(w.grpc, func(route *gateway.GRPCRoute) bool {
				return slices.ContainsFunc(route.Spec.Rules, func(rule gateway.GRPCRouteRule) bool {
					return rule.Name != nil && string(*rule.Name) == theirs.route &&
						slices.ContainsFunc(rule.Matches, func(m gateway.GRPCRouteMatch) bool {
							return m.Method.Service != nil && m.Method.Method == nil && !strings.HasSuffix(sent, "/") &&
								path.Clean(sent) == "/"+*m.Method.Service
						})
				})
			})
		},
	}}
}

// common is what routes of both kinds have in common.
func (w *gatewayWorld) common() (out []gateway.CommonRouteSpec) {
	for _, r := range w.http {
		out = append(out, r.Spec.CommonRouteSpec)
	}
	for _, r := range w.grpc {
		out = append(out, r.Spec.CommonRouteSpec)
	}
	return out
}

// httpRule is the rule of an HTTPRoute with a name, nil if there is none.
func (w *gatewayWorld) httpRule(name string) *gateway.HTTPRouteRule {
	for _, r := range w.http {
		for i := range r.Spec.Rules {
			if string(*r.Spec.Rules[i].Name) == name {
				return &r.Spec.Rules[i]
			}
		}
	}
	return nil
}

// attachment is a route at a listener for one host.
type attachment struct {
	listener       *gateway.Listener
	declared, host string // by the route, "*" if it has none; and what both have in common
}

// admits reports whether a listener of a Gateway takes routes of a namespace.
func admits(from *gateway.RouteNamespaces, own, namespace string) bool {
	switch *from.From {
	case gateway.NamespacesFromSame:
		return namespace == own
	case gateway.NamespacesFromSelector:
		selector, err := metav1.LabelSelectorAsSelector(from.Selector)
		return err == nil && selector.Matches(namespaceLabels()[namespace])
	}
	return true
}

// attached is what is attached where, written from the text of the API.
func (w *gatewayWorld) attached() (out []attachment) {
	add := func(namespace string, common gateway.CommonRouteSpec, hostnames []gateway.Hostname) {
		if hostnames == nil {
			hostnames = []gateway.Hostname{"*"}
		}
		for i := range w.gateway.Spec.Listeners {
			l := &w.gateway.Spec.Listeners[i]
			ref := common.ParentRefs[0]
			if ref.SectionName != nil && *ref.SectionName != l.Name || ref.Port != nil && *ref.Port != l.Port ||
				!admits(l.AllowedRoutes.Namespaces, w.gateway.Namespace, namespace) {
				continue
			}
			for _, h := range hostnames {
				switch own := listenerHost(l); {
				case matchesHost(own, string(h)):
					out = append(out, attachment{l, string(h), string(h)})
				case matchesHost(string(h), own):
					out = append(out, attachment{l, string(h), own})
				}
			}
		}
	}
	if w.gateway == nil {
		return nil
	}
	for _, r := range w.http {
		add(r.Namespace, r.Spec.CommonRouteSpec, r.Spec.Hostnames)
	}
	for _, r := range w.grpc {
		add(r.Namespace, r.Spec.CommonRouteSpec, r.Spec.Hostnames)
	}
	return out
}

// best is the most specific host at a listener that a request is for.
func (w *gatewayWorld) best(l *gateway.Listener, host string) (best string) {
	for _, a := range w.attached() {
		if a.listener == l && matchesHost(a.host, host) && len(a.host) > len(best) {
			best = a.host
		}
	}
	return best
}

// listenerFor is the one that a request for host is for, nil if there is none.
func (w *gatewayWorld) listenerFor(host string) (best *gateway.Listener) {
	if w.gateway == nil {
		return nil
	}
	for i := range w.gateway.Spec.Listeners {
		l := &w.gateway.Spec.Listeners[i]
		if matchesHost(listenerHost(l), host) && (best == nil || len(listenerHost(l)) > len(listenerHost(best))) {
			best = l
		}
	}
	return best
}

// listenerHost is the hostname of a listener, "*" if it has none.
func listenerHost(l *gateway.Listener) string {
	if l.Hostname == nil {
		return "*"
	}
	return string(*l.Hostname)
}

// matchesHost reports whether a hostname takes another, or a host.
func matchesHost(pattern, host string) bool {
	return pattern == "*" || pattern == host || strings.HasPrefix(pattern, "*.") && under(pattern, host)
}
