package rules

import (
	"slices"
	"strings"

	networking "istio.io/api/networking/v1alpha3"
)

// admitted are the hosts that requests for a host of vs can have at a gateway:
// what it has in common with the hosts of the servers that speak HTTP
// (buildGatewayHTTPRouteConfig). A gateway that no object defines is taken to
// admit every host.
func (c *compiler) admitted(host, gateway string, vs *virtualService, at *field) (names []string) {
	i := slices.IndexFunc(c.snapshot.IstioGateways, func(g IstioGateway) bool { return g.Namespace+"/"+g.Name == gateway })
	if i < 0 {
		return []string{host}
	}
	g := &c.snapshot.IstioGateways[i]
	var hosts []string // that the servers admit
	for _, s := range g.Spec.Servers {
		if !speaksHTTP(s) {
			continue
		}
		for _, h := range s.Hosts {
			hosts = append(hosts, h)
			if name := inCommon(host, serverHost(h, g.Namespace, vs.src.Namespace)); name != "" && !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	switch {
	case len(names) > 0:
	case len(hosts) == 0:
		c.warnf(&vs.src.Meta, at, host, "has no effect: no server of Gateway %s takes HTTP requests", gateway)
	default:
		c.warnf(&vs.src.Meta, at, host, "has no effect: no server of Gateway %s admits it, expected one of %s", gateway, strings.Join(hosts, ", "))
	}
	return names
}

// speaksHTTP reports whether a server hands requests to routes (Istio:
// gateway.IsHTTPServer). One that passes TLS through does not.
func speaksHTTP(s *networking.Server) bool {
	switch strings.ToUpper(s.GetPort().GetProtocol()) {
	case "HTTP", "HTTP2", "GRPC", "GRPC-WEB", "HTTP_PROXY":
		return true
	case "HTTPS":
		mode := s.GetTls().GetMode()
		return s.Tls != nil && mode != networking.ServerTLSSettings_PASSTHROUGH && mode != networking.ServerTLSSettings_AUTO_PASSTHROUGH
	}
	return false
}

// serverHost is a host of a server of a Gateway in namespace own as objects of
// another one see it, empty if it is not for them. It may begin with the
// namespace it is for: "*" is every one and "." its own (Server.hosts).
func serverHost(host, own, from string) string {
	namespace, name, scoped := strings.Cut(host, "/")
	switch {
	case !scoped:
		name = host
	case namespace == "*", namespace == from, namespace == "." && own == from:
	default:
		return ""
	}
	return strings.ToLower(name)
}

// inCommon is what two hosts both match, one of the two (Istio:
// host.Names.Intersection). It is empty if there is nothing.
func inCommon(a, b string) string {
	switch {
	case b == "":
	case a == b, covers(b, a):
		return a
	case covers(a, b):
		return b
	}
	return ""
}
