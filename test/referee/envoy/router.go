package envoy

import (
	"fmt"
	"strings"
	"time"

	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	fault "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/fault/v3"
	xdstype "github.com/envoyproxy/go-control-plane/envoy/type/v3"
)

// Outcome is what the router makes of a request.
type Outcome struct {
	// VirtualHost and Route are what takes the request, nil if it is answered
	// with 404 or 400.
	VirtualHost *route.VirtualHost
	Route       *route.Route
	// Cluster is where the request goes, empty if it is answered here; it is
	// one of Clusters by the request's Choice.
	Cluster  string
	Clusters int
	// Mirrors are where it is mirrored, in order, and Timeout what bounds that,
	// 0 for nothing.
	Mirrors []Mirror
	Timeout time.Duration
	// Method, Authority and Path, the path with its query, are those of the
	// request as it goes to the upstream and to the mirrors; Fields its other
	// header fields, names in lower case.
	Method, Authority, Path string
	Fields                  [][2]string
}

// Mirror is a request_mirror_policy that can ever take a request: Numerator of
// Denominator requests go to Cluster.
type Mirror struct {
	Cluster                string
	Numerator, Denominator uint32
}

// Evaluate routes a request. An error says that the configuration is not one
// this checker can judge.
func Evaluate(c *route.RouteConfiguration, r *Request) (*Outcome, error) {
	out := &Outcome{}
	h, ok := receive(r)
	if !ok {
		return out, nil
	}
	out.VirtualHost = findVirtualHost(c, h.authority)
	if out.VirtualHost == nil {
		return out, nil
	}
	for _, rt := range out.VirtualHost.Routes {
		ok, err := matches(rt.Match, h)
		if err != nil {
			return nil, fmt.Errorf("route %s: %w", rt.Name, err)
		}
		if ok {
			out.Route = rt
			break
		}
	}
	if out.Route == nil {
		return out, nil
	}
	action := out.Route.GetRoute()
	if action == nil {
		return out, nil // answered by a redirect or a direct response
	}
	if aborted, err := aborts(out.Route); aborted || err != nil {
		return out, err
	}
	var cluster *route.WeightedCluster_ClusterWeight
	out.Cluster, out.Clusters, out.Timeout = action.GetCluster(), 1, action.Timeout.AsDuration()
	if list := action.GetWeightedClusters().GetClusters(); list != nil {
		out.Clusters = len(list)
		cluster = list[r.Choice%len(list)]
		out.Cluster = cluster.Name
	}
	if err := finalize(out.Route, action, cluster, h); err != nil {
		return nil, fmt.Errorf("route %s: %w", out.Route.Name, err)
	}
	out.Method, out.Authority, out.Path, out.Fields = h.method, h.authority, h.path, h.fields
	for _, p := range action.RequestMirrorPolicies {
		m, err := mirror(p)
		if err != nil {
			return nil, fmt.Errorf("route %s: %w", out.Route.Name, err)
		}
		if m.Numerator > 0 {
			out.Mirrors = append(out.Mirrors, m)
		}
	}
	return out, nil
}

// findVirtualHost chooses by domain: the exact one, else the longest wildcard
// at the front, else the longest at the end, else "*". Letter case does not
// count, nor does the port where the configuration says so.
func findVirtualHost(c *route.RouteConfiguration, authority string) *route.VirtualHost {
	host := strings.ToLower(authority)
	if c.IgnorePortInHostMatching {
		if i := strings.LastIndexByte(host, ':'); i > strings.LastIndexByte(host, ']') {
			host = host[:i]
		}
	}
	const exact, suffix, prefix, any = 3, 2, 1, 0
	var best *route.VirtualHost
	kind, length := -1, -1
	for _, vh := range c.VirtualHosts {
		for _, d := range vh.Domains {
			d = strings.ToLower(d)
			k := -1
			switch {
			case d == "*":
				k = any
			case strings.HasPrefix(d, "*"):
				if len(host) >= len(d) && strings.HasSuffix(host, d[1:]) {
					k = suffix
				}
			case strings.HasSuffix(d, "*"):
				if len(host) >= len(d) && strings.HasPrefix(host, d[:len(d)-1]) {
					k = prefix
				}
			case d == host:
				k = exact
			}
			if k > kind || k == kind && k >= 0 && len(d) > length {
				best, kind, length = vh, k, len(d)
			}
		}
	}
	return best
}

// aborts reports whether the fault filter, which goes before the router, answers
// every request of a route. Of a route where it answers some, the others are
// what is routed.
func aborts(rt *route.Route) (bool, error) {
	for name, config := range rt.TypedPerFilterConfig {
		f := &fault.HTTPFault{}
		if name != "envoy.filters.http.fault" {
			return false, fmt.Errorf("route %s: filter %s is not known to this checker", rt.Name, name)
		}
		if err := config.UnmarshalTo(f); err != nil {
			return false, err
		}
		if p := f.GetAbort().GetPercentage(); p != nil {
			n, of := fraction(p)
			return n >= of, nil
		}
	}
	return false, nil
}

func fraction(p *xdstype.FractionalPercent) (numerator, denominator uint32) {
	switch p.GetDenominator() {
	case xdstype.FractionalPercent_TEN_THOUSAND:
		denominator = 10_000
	case xdstype.FractionalPercent_MILLION:
		denominator = 1_000_000
	default:
		denominator = 100
	}
	return p.GetNumerator(), denominator
}

// mirror reads a RequestMirrorPolicy. Without runtime_fraction it takes all
// requests.
func mirror(p *route.RouteAction_RequestMirrorPolicy) (Mirror, error) {
	if err := known(p, "cluster", "runtime_fraction", "trace_sampled", "disable_shadow_host_suffix_append"); err != nil {
		return Mirror{}, err
	}
	if !p.DisableShadowHostSuffixAppend {
		return Mirror{}, fmt.Errorf("mirror %s: the host suffix is on", p.Cluster)
	}
	m := Mirror{Cluster: p.Cluster, Numerator: 100, Denominator: 100}
	if f := p.RuntimeFraction; f != nil {
		if err := known(f, "default_value"); err != nil {
			return Mirror{}, err
		}
		m.Numerator, m.Denominator = fraction(f.DefaultValue)
	}
	return m, nil
}
