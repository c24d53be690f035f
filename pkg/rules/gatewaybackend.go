package rules

import "fmt"

// lookupBackend finds port of the Service called name in namespace ns for an
// object in namespace from, or says what is missing.
func (c *compiler) lookupBackend(ns, name, from string, port uint32) (t *target, missing string) {
	return c.lookupHost(serviceHost(ns, name), from, port)
}

// lookupHost is lookupBackend for the full name of a service.
func (c *compiler) lookupHost(host, from string, port uint32) (t *target, missing string) {
	s := c.services[host]
	if s == nil {
		return nil, "there is no Service or ServiceEntry for " + host
	}
	if !visible(s.exportTo, s.namespace, from) {
		return nil, fmt.Sprintf("%s is not exported to namespace %s by %s", host, from, s.source.object())
	}
	p := s.port(port)
	if p == nil {
		return nil, fmt.Sprintf("%s has no port %d, expected one of %s", s.host, port, s.portList())
	}
	if len(s.endpoints) == 0 && !s.dynamic {
		return nil, s.host + " has no endpoint"
	}
	t = &target{service: s, ports: []servicePort{*p}}
	for i := range s.endpoints {
		t.endpoints = append(t.endpoints, &s.endpoints[i])
	}
	return t, ""
}

// warnEmpty warns of a backend that has no endpoint now.
func (c *compiler) warnEmpty(meta *Meta, t *target, at *field) {
	if !t.ready() {
		c.warnf(meta, at, "", "%s "+noEndpointNow, t.service.host)
	}
}
