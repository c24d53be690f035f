package referee

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	networking "istio.io/api/networking/v1alpha3"

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

// deviation implements subject.
func (w *world) deviation(r *envoy.Request, theirs, ours *verdict) string {
	for _, d := range deviations() {
		if d.name != relativeRewrite && theirs.route == ours.route && slices.Equal(theirs.mirrors, ours.mirrors) {
			continue // all others are about which route or mirror it is, not about the copy
		}
		if d.covers(w, r, theirs, ours) {
			return d.name
		}
	}
	return ""
}

// listener implements subject.
func (w *world) listener() uint32 { return w.port }

// routeName implements subject.
func (w *world) routeName(object, route string) string { return object + " " + route }

// The names of the deviations.
const (
	foreignShortName = "short name of a service in another namespace"
	unknownService   = "names of a service nobody defines"
	hostInUpperCase  = "a host of a rule in upper case next to a wildcard"
	serverUpperCase  = "a host in upper case of a rule or of a server of the gateway"
	portOfGateway    = "match.port on a gateway"
	portInHost       = "a host that names another port than the listener's"
	hostByPort       = "a name of two rules, of which the older has it on some ports"
	onlyPort         = "a service of one port on a listener of another"
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
		serverUpperCase,
		"Hosts have no letter case. Istio compares those of a rule with those of the gateway's servers as they are written.",
		func(w *world, r *envoy.Request, theirs, ours *verdict) bool {
			upper := func(host string) bool { return strings.ToLower(host) != host }
			return slices.ContainsFunc(slices.Concat(w.servers...), upper) || w.servers != nil && slices.ContainsFunc(w.rules, func(r rule) bool {
				return slices.ContainsFunc(r.spec.Hosts, upper)
			})
		},
	}, {
		portOfGateway,
		"The port by which a request came to a gateway leaves no trace where it arrives; match.port holds there.",
		func(w *world, r *envoy.Request, theirs, ours *verdict) bool {
			return w.gateway != "" && slices.ContainsFunc(w.entriesOf(ours), func(m *networking.HTTPMatchRequest) bool {
				return m.Port != 0 && m.Port != w.port
			})
		},
	}, {
		portInHost,
		"Where the host is a service with several ports and the destination has a port of its own, only Host tells the port. " +
			"A client names it there, unless it is 80 (RFC 9110 section 7.2).",
		func(w *world, r *envoy.Request, theirs, ours *verdict) bool {
			return w.gateway == "" && theirs.cluster != "" && requestPort(r) != w.port
		},
	}, {
		hostByPort,
		"Of rules that compete for a name the oldest has it, and validation says so. Istio decides that for each port, so that " +
			"on a port which none of the services has that the older is for, the name is the younger's.",
		func(w *world, r *envoy.Request, theirs, ours *verdict) bool {
			return w.gateway == "" && w.port != 80 && theirs.route != "" && ours.route != theirs.route && w.competing(theirs, ours, requestHost(r))
		},
	}, {
		onlyPort,
		"By Istio's documentation a destination without a port means the only port of its service. A sidecar's generator looks " +
			"at the services of its listener's port alone, and so names a cluster that there is not.",
		func(w *world, r *envoy.Request, theirs, ours *verdict) bool {
			return theirs.route == ours.route && !slices.Equal(theirs.mirrors, ours.mirrors) && w.sameMirrors(theirs, ours) && sameCopy(r, theirs, ours)
		},
	}, {
		relativeRewrite,
		"Envoy sends the origin-form with the path as the rule has it. A copy keeps the absolute form, where such a path " +
			"would be part of the host, so it gets a slash.",
		func(w *world, r *envoy.Request, theirs, ours *verdict) bool {
			return theirs.route == ours.route && w.sameMirrors(theirs, ours) && sameCopy(r, theirs, ours)
		},
	}}
}

// sameMirrors reports whether mirrors are the same but for onlyPort.
func (w *world) sameMirrors(theirs, ours *verdict) bool {
	return slices.EqualFunc(theirs.mirrors, ours.mirrors, func(a, b string) bool {
		if a == b || w.gateway != "" {
			return a == b
		}
		host, _, _ := strings.Cut(b, " ")
		s := services()[slices.IndexFunc(services(), func(s service) bool { return s.host == host })]
		port := func(n uint32) string { return fmt.Sprintf(" port %d:", n) }
		return len(s.ports) == 1 && s.ports[0] != w.port && strings.Replace(a, port(w.port), port(s.ports[0]), 1) == b
	})
}

// sameCopy reports whether copies are the same but for relativeRewrite.
func sameCopy(r *envoy.Request, theirs, ours *verdict) bool {
	if slices.Equal(theirs.copy, ours.copy) {
		return true
	}
	if !strings.Contains(r.Target, "://") || strings.HasPrefix(r.Target, "/") || theirs.copy == nil || ours.copy == nil {
		return false
	}
	method, path, _ := strings.Cut(theirs.copy[0], " ")
	return !strings.HasPrefix(path, "/") && ours.copy[0] == method+" /"+path && slices.Equal(theirs.copy[1:], ours.copy[1:])
}

const clusterDomain = ".svc.cluster.local"

// requestHost is the host a request is for, without its port.
func requestHost(r *envoy.Request) string {
	host, _, _ := strings.Cut(requestAuthority(r), ":")
	return host
}

// requestPort is the port that a request names, or that of http.
func requestPort(r *envoy.Request) uint32 {
	_, port, _ := strings.Cut(requestAuthority(r), ":")
	if n, err := strconv.ParseUint(port, 10, 16); err == nil {
		return uint32(n)
	}
	return 80
}

// requestAuthority is what a request is addressed to, in lower case.
func requestAuthority(r *envoy.Request) string {
	host := r.Fields[0][1] // Host comes first in what is generated
	if _, rest, absolute := strings.Cut(r.Target, "://"); absolute && r.Target[0] != '/' {
		host, _, _ = strings.Cut(rest, "/")
		host, _, _ = strings.Cut(host, "?")
	}
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

// competing reports whether both of two rules have a name that a request is for,
// and only the first a service with the port of the world.
func (w *world) competing(theirs, ours *verdict, name string) bool {
	has := func(v *verdict) (has, served bool) {
		for _, h := range w.hostsOf(v) {
			has = has || h == name || slices.Contains(alternates(h), name) || under(h, name)
			served = served || slices.ContainsFunc(services(), func(s service) bool {
				return (s.host == h || under(h, s.host)) && slices.Contains(s.ports, w.port)
			})
		}
		return has, served
	}
	first, served := has(theirs)
	second, alsoServed := has(ours)
	return first && served && (second && !alsoServed || ours.route == "")
}

// entriesOf are the match entries that make up the route that a verdict names:
// "RULE ROUTE.ENTRY", with those of a delegate behind a hyphen.
func (w *world) entriesOf(v *verdict) (out []*networking.HTTPMatchRequest) {
	id, route, _ := strings.Cut(v.route, " ")
	route, entry, _ := strings.Cut(route, ".")
	for name := range strings.SplitSeq(route, "-") {
		for _, r := range w.rules {
			if r.namespace+"/"+r.name != id {
				continue
			}
			for _, h := range r.spec.Http {
				if h.Name != name {
					continue
				}
				for _, m := range h.Match {
					if slices.Contains(strings.Split(entry, "-"), m.Name) {
						out = append(out, m)
					}
				}
				if d := h.Delegate; d != nil {
					id = d.Namespace + "/" + d.Name
				}
			}
			break
		}
	}
	return out
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
