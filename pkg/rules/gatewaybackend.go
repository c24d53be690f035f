package rules

import "fmt"

// serviceHost is the full name of a service.
func serviceHost(namespace, name string) string { return name + "." + namespace + clusterDomain }

// backend is a port of a service that a route of the Gateway API leads to.
type backend struct {
	service   *service
	port      *servicePort
	endpoints []endpoint
}

// lookupBackend finds port of the Service called name in namespace ns, or says
// what is missing.
func (c *compiler) lookupBackend(ns, name string, port uint32) (b backend, missing string) {
	return c.lookupHost(serviceHost(ns, name), port)
}

// lookupHost is lookupBackend for the full name of a service.
func (c *compiler) lookupHost(host string, port uint32) (b backend, missing string) {
	s := c.services[host]
	if s == nil {
		return b, "there is no Service or ServiceEntry for " + host
	}
	p := s.port(port)
	if p == nil {
		return b, fmt.Sprintf("%s has no port %d, expected one of %s", s.host, port, s.portList())
	}
	if len(s.endpoints) == 0 {
		return b, s.host + " has no endpoint"
	}
	return backend{s, p, s.endpoints}, ""
}
