package rules

import (
	"net/netip"
	"strings"
)

// clusterDomain is the domain of the services of a Kubernetes cluster.
const clusterDomain = ".svc.cluster.local"

// fullName is a host of a rule in its full form: lower-case, without the dot
// at the end, a name of one label completed with the namespace of the rule
// (Istio: ResolveShortnameToFQDN).
func fullName(host, namespace string) string {
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	if host == "" || host == "*" || strings.ContainsAny(host, ".:") {
		return host
	}
	return host + "." + namespace + clusterDomain
}

// serviceHost is the full name of a service of a cluster.
func serviceHost(namespace, name string) string { return name + "." + namespace + clusterDomain }

// serviceNamespace is the namespace in the full name of a service, empty if
// host is no such name.
func serviceNamespace(host string) string {
	short, ok := strings.CutSuffix(host, clusterDomain)
	if !ok {
		return ""
	}
	_, namespace, ok := strings.Cut(short, ".")
	if !ok || strings.Contains(namespace, ".") {
		return ""
	}
	return namespace
}

// hostPattern is host as it is compared with the host of a request: an IPv6
// address has brackets there.
func hostPattern(host string) string {
	if strings.Contains(host, ":") && !strings.HasPrefix(host, "[") {
		return "[" + host + "]"
	}
	return host
}

// checkHost says what is wrong with a host of a rule: it must be an IP
// address or a DNS name, of which the first label may begin with "*" if
// wildcard is set.
func checkHost(host string, wildcard bool) string {
	switch {
	case host == "":
		return "is required"
	case host == "*":
		if wildcard {
			return ""
		}
		return "expected the name of a service, not a wildcard"
	}
	if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return ""
	}
	name := strings.TrimSuffix(host, ".")
	if rest, ok := strings.CutPrefix(name, "*"); ok {
		if !wildcard {
			return "expected the name of a service, not a wildcard"
		}
		name = strings.TrimPrefix(rest, ".")
		if rest != "" && rest[0] != '.' {
			name = "a" + rest // "*-eu.example.com": the rest of a label
		}
	}
	if len(host) > 255 || !isDNSName(name) {
		return "expected a DNS name or an IP address, without a port, with a wildcard at the front at most"
	}
	return ""
}

// isDNSName reports whether every label of s is one of RFC 1123 section 2.1,
// in either case.
func isDNSName(s string) bool {
	for label := range strings.SplitSeq(s, ".") {
		if !isLabel(strings.ToLower(label)) {
			return false
		}
	}
	return true
}

// isLabel reports whether s is a DNS-1123 label as Kubernetes uses it for names.
func isLabel(s string) bool {
	if s == "" || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for i := range len(s) {
		if c := s[i]; c != '-' && (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}

// covers reports whether pattern, which may be a wildcard, matches host, which
// may be one too (Istio: host.Name.SubsetOf). A wildcard takes at least one
// character.
func covers(pattern, host string) bool {
	suffix, wildcard := strings.CutPrefix(pattern, "*")
	if !wildcard {
		return pattern == host
	}
	return len(host) > len(suffix) && strings.HasSuffix(host, suffix)
}
