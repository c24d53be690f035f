package rules

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	networking "istio.io/api/networking/v1alpha3"
)

// service is what a destination host stands for.
type service struct {
	host       string // full name
	namespace  string
	addresses  []string // virtual addresses, as hosts
	ports      []servicePort
	endpoints  []endpoint
	dynamic    bool // endpoints come and go: that there are none is no error
	exportTo   []string
	resolution networking.ServiceEntry_Resolution
	altNames   []string // that certificates of its endpoints may have
	source     *Meta
}

type servicePort struct {
	number   uint32
	target   uint32 // on endpoints that do not say otherwise
	name     string
	protocol string // upper case, empty if not given
}

// http reports whether requests on the port are readable HTTP/1: only to such
// ports do http routes apply. A port without a protocol is found out by Istio
// from the bytes.
func (p *servicePort) http() bool { return p.protocol == "HTTP" || p.protocol == "" }

type endpoint struct {
	host   string     // IP address or DNS name
	addr   netip.Addr // not valid for a name
	ports  map[string]uint32
	labels map[string]string
	// complete is set if ports are all that it serves: others than those of
	// the service at which requests arrive.
	complete bool
	zone     string // empty if it is not known
	// notReady endpoints get no new connections. They are captured all the
	// same: one that starts is tapped before its first request then, and one
	// that terminates still answers on the connections it has.
	notReady bool
	foreign  bool // see compiler.foreign; copies may be sent there
}

// port is where the endpoint serves p (Istio: the endpoint's own map goes
// before targetPort, that before the number), 0 if it does not.
func (e *endpoint) port(p *servicePort) uint32 {
	if n := e.ports[p.name]; n != 0 || e.complete {
		return n
	}
	return p.target
}

// at is where requests to the endpoint for p arrive. ok is false if it does not
// serve p, is known by name alone, or is foreign.
func (e *endpoint) at(p *servicePort) (at netip.AddrPort, ok bool) {
	n := e.port(p)
	return netip.AddrPortFrom(e.addr, uint16(n)), n != 0 && e.addr.IsValid() && !e.foreign
}

// address is where to dial the endpoint for p.
func (e *endpoint) address(p *servicePort) string {
	return net.JoinHostPort(e.host, strconv.Itoa(int(e.port(p))))
}

// has reports whether the endpoint carries all labels.
func (e *endpoint) has(labels map[string]string) bool { return hasLabels(e.labels, labels) }

// port is the port with a number, nil if there is none.
func (s *service) port(number uint32) *servicePort {
	for i := range s.ports {
		if s.ports[i].number == number {
			return &s.ports[i]
		}
	}
	return nil
}

// portList is the numbers of the ports for messages.
func (s *service) portList() string {
	numbers := make([]uint32, len(s.ports))
	for i, p := range s.ports {
		numbers[i] = p.number
	}
	return numberList(numbers)
}

func numberList(numbers []uint32) string {
	list := make([]string, len(numbers))
	for i, n := range numbers {
		list[i] = strconv.Itoa(int(n))
	}
	return strings.Join(list, ", ")
}

// serviceEntry adds the services of a ServiceEntry.
func (c *compiler) serviceEntry(se *ServiceEntry) {
	spec, at := se.Spec, (*field)(nil).dot("spec")
	c.checkSupported(&se.Meta, spec.ProtoReflect(), at)
	c.exportTo(&se.Meta, spec.ExportTo, at)
	s := service{
		namespace: se.Namespace, source: &se.Meta, exportTo: spec.ExportTo, altNames: spec.SubjectAltNames,
		dynamic: spec.WorkloadSelector != nil, resolution: spec.Resolution,
	}
	for i, a := range spec.Addresses {
		addr, err := netip.ParseAddr(a)
		if err == nil {
			s.addresses = append(s.addresses, hostPattern(addr.String()))
		} else if _, err = netip.ParsePrefix(a); err != nil {
			c.errorf(&se.Meta, at.dot("addresses").at(i), a, "expected an IP address or a prefix such as 10.0.0.0/8")
		}
	}
	for i, p := range spec.Ports {
		s.ports = append(s.ports, c.servicePort(se, i, p))
	}
	if len(spec.Ports) == 0 {
		c.errorf(&se.Meta, at.dot("ports"), "", "expected at least one port")
	}
	dns := false
	switch spec.Resolution {
	case networking.ServiceEntry_STATIC:
	case networking.ServiceEntry_DNS, networking.ServiceEntry_DNS_ROUND_ROBIN:
		dns = true
	default:
		c.warnf(&se.Meta, at.dot("resolution"), spec.Resolution.String(),
			"has no endpoints that could be captured or mirrored to: STATIC, DNS and DNS_ROUND_ROBIN have")
	}
	for i, e := range spec.Endpoints {
		s.endpoints = append(s.endpoints, c.endpoint(se, i, e))
	}
	if spec.WorkloadSelector != nil {
		if len(spec.Endpoints) > 0 {
			c.errorf(&se.Meta, at.dot("workloadSelector"), "", "cannot be given together with endpoints")
		}
		s.endpoints = c.selected(se)
	}
	if len(spec.Hosts) == 0 {
		c.errorf(&se.Meta, at.dot("hosts"), "", "expected at least one host")
	}
	for i, host := range spec.Hosts {
		f := at.dot("hosts").at(i)
		if wrong := checkHost(host, true); wrong != "" {
			c.errorf(&se.Meta, f, host, "%s", wrong)
			continue
		}
		if strings.HasPrefix(host, "*") {
			c.warnf(&se.Meta, f, host, "%s: no destination can name it", noEffect)
			continue
		}
		s := s // of this host
		// Istio takes the hosts of a ServiceEntry as they are. Completing
		// them as it does destination hosts lets the same short name be
		// written everywhere on a machine without Kubernetes.
		s.host = fullName(host, se.Namespace)
		if len(s.endpoints) == 0 && dns && !s.dynamic {
			s.endpoints = []endpoint{newEndpoint(host)} // Istio: the host is the name to resolve
		}
		c.addService(&s, f)
	}
}

func (c *compiler) servicePort(se *ServiceEntry, i int, p *networking.ServicePort) servicePort {
	at := (*field)(nil).dot("spec").dot("ports").at(i)
	c.portNumber(&se.Meta, at.dot("number"), p.Number)
	out := servicePort{number: p.Number, target: p.Number, name: p.Name, protocol: strings.ToUpper(p.Protocol)}
	if p.TargetPort != 0 {
		c.portNumber(&se.Meta, at.dot("targetPort"), p.TargetPort)
		out.target = p.TargetPort
	}
	if out.protocol != "" && !slices.Contains(protocols[:], out.protocol) {
		c.errorf(&se.Meta, at.dot("protocol"), p.Protocol, "expected one of %s", strings.Join(protocols[:], ", "))
	}
	if !isLabel(strings.ToLower(p.Name)) {
		c.errorf(&se.Meta, at.dot("name"), p.Name, "expected a name of letters, digits and hyphens")
	}
	for _, other := range se.Spec.Ports[:i] {
		if other.Number == p.Number {
			c.errorf(&se.Meta, at.dot("number"), fmt.Sprint(p.Number), "is given twice")
		}
		if other.Name == p.Name {
			c.errorf(&se.Meta, at.dot("name"), p.Name, "is given twice")
		}
	}
	return out
}

func newEndpoint(host string) endpoint {
	e := endpoint{host: host}
	if addr, err := netip.ParseAddr(host); err == nil {
		e.addr = addr.Unmap()
		e.host = e.addr.String()
	}
	return e
}

func (c *compiler) endpoint(se *ServiceEntry, i int, w *networking.WorkloadEntry) endpoint {
	at := (*field)(nil).dot("spec").dot("endpoints").at(i)
	e := newEndpoint(w.Address)
	e.ports, e.labels = w.Ports, w.Labels
	c.address(&se.Meta, w.Address, at.dot("address"), se.Spec.Resolution == networking.ServiceEntry_STATIC)
	for name, number := range w.Ports {
		c.portNumber(&se.Meta, at.dot("ports").entry(name), number)
		if !slices.ContainsFunc(se.Spec.Ports, func(p *networking.ServicePort) bool { return p.Name == name }) {
			c.errorf(&se.Meta, at.dot("ports").entry(name), name, "expected the name of a port of this ServiceEntry")
		}
	}
	return e
}

func (c *compiler) portNumber(meta *Meta, f *field, n uint32) {
	if n == 0 || n > 65535 {
		c.errorf(meta, f, fmt.Sprint(n), "expected a port from 1 to 65535")
	}
}
