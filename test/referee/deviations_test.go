package referee

import (
	"slices"
	"strings"

	"github.com/shadowtap/shadowtap/test/referee/envoy"
)

// deviation is a way in which the product differs from Istio and Envoy.
type deviation struct {
	name string
	// reason says why the product differs on purpose, or, beginning with
	// "defect:", what is wrong with it.
	reason string
	// covers reports whether a difference is of this kind, and of no other.
	covers func(w *world, r *envoy.Request, theirs, ours *verdict) bool
}

// The names of the deviations.
const (
	foreignShortName = "short name of a service in another namespace"
	unknownService   = "names of a service nobody defines"
	hostInUpperCase  = "a host of a rule in upper case next to a wildcard"
	relativeRewrite  = "a rewrite without a slash of an absolute-form target"
)

func deviations() []deviation {
	return []deviation{{
		foreignShortName,
		"By a name of one label a client means a service of its own namespace. Which namespace that is cannot be seen " +
			"in a packet; where the request arrived decides instead, and nothing arrives anywhere here.",
		func(w *world, r *envoy.Request, theirs, ours *verdict) bool {
			host := requestHost(r)
			return w.gateway == "" && !slices.Contains(w.hostsOf(ours), host+".default"+clusterDomain) &&
				slices.ContainsFunc(w.hosts(), func(h string) bool {
					name, rest, _ := strings.Cut(h, ".")
					return name == host && strings.HasSuffix(rest, clusterDomain) && rest != "default"+clusterDomain
				})
		},
	}, {
		unknownService,
		"A rules file need not define the service that a rule is for, only those it leads to. A service has its shorter " +
			"names all the same.",
		func(w *world, r *envoy.Request, theirs, ours *verdict) bool {
			return w.gateway == "" && theirs.route == "" && slices.ContainsFunc(w.hostsOf(ours), func(h string) bool {
				return !isService(h) && slices.Contains(alternates(h), requestHost(r))
			})
		},
	}, {
		hostInUpperCase,
		"Hosts have no letter case. Istio looks up in lower case which service a host means, but with case whether a wildcard " +
			"rule leaves that service to a rule with its exact name; so an older wildcard keeps it.",
		func(w *world, r *envoy.Request, theirs, ours *verdict) bool {
			return w.gateway == "" && slices.ContainsFunc(w.rules, func(rule rule) bool {
				return slices.ContainsFunc(rule.spec.Hosts, func(h string) bool {
					full := strings.ToLower(h)
					return full != h && isService(full) && (full == requestHost(r) || slices.Contains(alternates(full), requestHost(r)))
				})
			})
		},
	}, {
		relativeRewrite,
		"Envoy sends the origin-form with the path as the rule has it. A copy keeps the absolute form, where such a path " +
			"would be part of the host, so it gets a slash.",
		func(w *world, r *envoy.Request, theirs, ours *verdict) bool {
			if !strings.Contains(r.Target, "://") || strings.HasPrefix(r.Target, "/") || theirs.copy == nil || ours.copy == nil {
				return false
			}
			method, path, _ := strings.Cut(theirs.copy[0], " ")
			return !strings.HasPrefix(path, "/") && theirs.route == ours.route && slices.Equal(theirs.mirrors, ours.mirrors) &&
				ours.copy[0] == method+" /"+path && slices.Equal(theirs.copy[1:], ours.copy[1:])
		},
	}}
}

const clusterDomain = ".svc.cluster.local"

// requestHost is the host a request is for, without its port.
func requestHost(r *envoy.Request) string {
	host := r.Fields[0][1] // Host comes first in what is generated
	if _, rest, absolute := strings.Cut(r.Target, "://"); absolute && r.Target[0] != '/' {
		host, _, _ = strings.Cut(rest, "/")
		host, _, _ = strings.Cut(host, "?")
	}
	host, _, _ = strings.Cut(host, ":")
	return strings.ToLower(host)
}

// hosts is the hosts of the rule, in full.
func (r *rule) hosts() []string {
	var hosts []string
	for _, h := range r.spec.Hosts {
		h = strings.ToLower(h)
		if !strings.Contains(h, ".") && h != "*" {
			h += "." + r.namespace + clusterDomain
		}
		hosts = append(hosts, h)
	}
	return hosts
}

// hosts is the hosts of all rules.
func (w *world) hosts() []string {
	var hosts []string
	for _, r := range w.rules {
		hosts = append(hosts, r.hosts()...)
	}
	return hosts
}

// hostsOf is the hosts of the rule that a verdict names.
func (w *world) hostsOf(v *verdict) []string {
	for _, r := range w.rules {
		if strings.HasPrefix(v.route, r.namespace+"/"+r.name+" ") {
			return r.hosts()
		}
	}
	return nil
}

// alternates are the names of a service besides its full one.
func alternates(host string) []string {
	names := []string{host + "."}
	if short, ok := strings.CutSuffix(host, clusterDomain); ok {
		name, _, _ := strings.Cut(short, ".")
		names = append(names, short+".svc", short, name)
	}
	return names
}

func isService(host string) bool {
	return slices.ContainsFunc(services(), func(s service) bool { return s.host == host })
}

// under reports whether a wildcard covers a host.
func under(wildcard, host string) bool {
	suffix, ok := strings.CutPrefix(wildcard, "*")
	return ok && len(host) > len(suffix) && strings.HasSuffix(host, suffix)
}
