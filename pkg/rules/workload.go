package rules

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
)

// workloads checks the objects that only say what is where.
func (c *compiler) workloads(s *Snapshot) {
	c.snapshot = s
	at := (*field)(nil).dot("spec")
	for i := range s.WorkloadEntries {
		w := &s.WorkloadEntries[i]
		c.checkSupported(&w.Meta, w.Spec.ProtoReflect(), at)
		c.address(&w.Meta, w.Spec.Address, at.dot("address"), false)
	}
	for i := range s.IstioGateways {
		g := &s.IstioGateways[i]
		c.checkSupported(&g.Meta, g.Spec.ProtoReflect(), at)
	}
	c.slices = map[string][]*EndpointSlice{}
	listed := map[podKey]bool{}
	for i := range s.EndpointSlices {
		e := &s.EndpointSlices[i]
		if e.Service == "" {
			c.warnf(&e.Meta, (*field)(nil).dot("metadata").dot("labels"), "", "%s: it has no label kubernetes.io/service-name", noEffect)
			continue
		}
		key := e.Namespace + "/" + e.Service
		c.slices[key] = append(c.slices[key], e)
		for j := range e.Endpoints {
			to := &e.Endpoints[j]
			listed[podKey{e.Namespace, to.Pod, ""}] = true
			for _, address := range to.Addresses {
				listed[podKey{e.Namespace, "", address}] = true
			}
		}
	}
	c.namespaces = map[string]*Namespace{}
	for i := range s.Namespaces {
		c.namespaces[s.Namespaces[i].Name] = &s.Namespaces[i]
	}
	c.pods, c.newPods, c.podOf = map[string][]*Pod{}, map[string][]*Pod{}, map[podKey]*Pod{}
	c.owners = map[netip.Addr][]string{}
	for i := range s.Pods {
		p := &s.Pods[i]
		c.own(p)
		c.pods[p.Namespace] = append(c.pods[p.Namespace], p)
		if !listed[podKey{p.Namespace, p.Name, ""}] &&
			!slices.ContainsFunc(p.IPs, func(ip string) bool { return listed[podKey{p.Namespace, "", ip}] }) {
			c.newPods[p.Namespace] = append(c.newPods[p.Namespace], p)
		}
		c.podOf[podKey{p.Namespace, p.Name, ""}] = p
		for _, ip := range p.IPs {
			if k := (podKey{p.Namespace, "", ip}); c.podOf[k] == nil && !p.HostNetwork {
				c.podOf[k] = p
			}
		}
	}
}

// selected are the endpoints of a ServiceEntry with a workloadSelector: the
// WorkloadEntries and Pods of its namespace that carry the labels.
func (c *compiler) selected(se *ServiceEntry) (out []endpoint) {
	labels := se.Spec.WorkloadSelector.Labels
	for i := range c.snapshot.WorkloadEntries {
		w := &c.snapshot.WorkloadEntries[i]
		if own := w.workloadLabels(); w.Namespace == se.Namespace && hasLabels(own, labels) {
			e := newEndpoint(w.Spec.Address)
			e.ports, e.labels = w.Spec.Ports, own
			out = append(out, e)
		}
	}
	for _, p := range c.pods[se.Namespace] {
		if hasLabels(p.Labels, labels) {
			for _, ip := range p.IPs[:min(1, len(p.IPs))] {
				e := newEndpoint(ip)
				e.labels, e.notReady = p.Labels, p.NotReady
				out = append(out, e)
			}
		}
	}
	return out
}

// kubernetesServices adds the Services of Kubernetes. Their endpoints are
// those of their EndpointSlices or, where there are none, the Pods that they
// select.
func (c *compiler) kubernetesServices(snapshot *Snapshot) {
	for _, in := range byAge(snapshot.Services, func(s *Service) *Meta { return &s.Meta }) {
		s := &service{
			host: serviceHost(in.Namespace, in.Name), namespace: in.Namespace,
			dynamic: true, source: &in.Meta,
		}
		for _, ip := range in.ClusterIPs {
			s.addresses = append(s.addresses, hostPattern(newEndpoint(ip).host))
		}
		for _, p := range in.Ports {
			if p.Protocol != "" && p.Protocol != "TCP" {
				continue
			}
			port := servicePort{number: p.Port, target: p.Port, name: p.Name, protocol: protocolOf(p)}
			if p.TargetPort != 0 {
				port.target = p.TargetPort
			}
			s.ports = append(s.ports, port)
		}
		switch list := c.slices[in.Namespace+"/"+in.Name]; {
		case in.ExternalName != "":
			s.endpoints = []endpoint{newEndpoint(strings.TrimSuffix(in.ExternalName, "."))}
		case len(list) > 0:
			s.endpoints = c.sliceEndpoints(in, list)
		case len(in.Selector) > 0:
			s.endpoints = podEndpoints(in, c.pods[in.Namespace])
		}
		if !slices.ContainsFunc(c.services[s.host], func(o *service) bool { return o.namespace == s.namespace }) {
			c.addService(s, nil) // one that is given twice is reported as that
		}
	}
}

// sliceEndpoints are the endpoints in slices of a Service, with the labels of
// their Pods. An address may be in several slices, with other ports in each.
// Pods that are selected and in no slice yet get no copies, but are captured:
// their first request may follow the slice at once.
func (c *compiler) sliceEndpoints(in *Service, list []*EndpointSlice) (out []endpoint) {
	known := map[string]int{}
	for _, slice := range list {
		for _, e := range slice.Endpoints {
			if len(e.Addresses) == 0 {
				continue
			}
			address := e.Addresses[0] // the others are the same endpoint's (EndpointSlice API)
			at, ok := known[address]
			if !ok {
				at, known[address] = len(out), len(out)
				ep := newEndpoint(address)
				ep.ports, ep.notReady, ep.zone = map[string]uint32{}, true, e.Zone
				if p := cmp.Or(c.podOf[podKey{in.Namespace, e.Pod, ""}], c.podOf[podKey{in.Namespace, "", address}]); p != nil {
					ep.labels = p.Labels
				}
				out = append(out, ep)
			}
			out[at].notReady = out[at].notReady && e.NotReady
			for _, p := range slice.Ports {
				out[at].ports[p.Name] = p.Port
			}
		}
	}
	return append(out, c.unlisted(in, out)...)
}

// unlisted are the Pods that a Service selects, of those that no Service has
// among its endpoints yet.
func (c *compiler) unlisted(in *Service, listed []endpoint) (out []endpoint) {
	if len(in.Selector) == 0 {
		return nil
	}
	for _, e := range podEndpoints(in, c.newPods[in.Namespace]) {
		// A Service may be of one family of addresses alone.
		if len(listed) == 0 || listed[0].addr.Is4() == e.addr.Is4() {
			e.notReady = true
			out = append(out, e)
		}
	}
	return out
}

// podKey is the namespace of a Pod with its name, or with an address that is
// its own.
type podKey struct{ namespace, name, address string }

// podEndpoints are those of the Pods that a Service selects.
func podEndpoints(in *Service, pods []*Pod) (out []endpoint) {
	for _, pod := range pods {
		if len(pod.IPs) == 0 || !hasLabels(pod.Labels, in.Selector) {
			continue
		}
		e := newEndpoint(pod.IPs[0])
		e.labels, e.ports, e.notReady = pod.Labels, map[string]uint32{}, pod.NotReady
		for _, p := range in.Ports {
			if n := pod.Ports[p.TargetName]; p.TargetName != "" && n != 0 {
				e.ports[p.Name] = n
			}
		}
		out = append(out, e)
	}
	return out
}

// protocolOf is the protocol of a port of a Service, empty if it does not say
// (Istio: kube.ConvertProtocol).
func protocolOf(p ServicePort) string {
	name := p.AppProtocol
	switch strings.ToLower(name) {
	case "kubernetes.io/h2c", "kubernetes.io/h2", "http2":
		return "HTTP2"
	case "kubernetes.io/ws", "kubernetes.io/wss":
		return "HTTP"
	case "":
		if name, _, _ = strings.Cut(p.Name, "-"); strings.HasPrefix(p.Name, "grpc-web") {
			name = "grpc-web"
		}
	}
	if upper := strings.ToUpper(name); slices.Contains(protocols[:], upper) {
		return upper
	}
	return ""
}

// protocols are those that a port can have.
var protocols = [...]string{"HTTP", "HTTPS", "HTTP2", "GRPC", "GRPC-WEB", "TCP", "TLS", "UDP", "MONGO", "REDIS", "MYSQL"}

// address checks the address of a workload.
func (c *compiler) address(meta *Meta, address string, at *field, static bool) {
	e := newEndpoint(address)
	switch {
	case address == "":
		c.errorf(meta, at, "", "is required")
	case strings.HasPrefix(address, "unix://"):
		c.errorf(meta, at, address, "Unix sockets are not supported")
	case e.addr.Zone() != "" || e.addr.IsUnspecified() || e.addr.IsMulticast():
		c.errorf(meta, at, address, "expected the address of one machine")
	case !e.addr.IsValid() && static:
		c.errorf(meta, at, address, "expected an IP address, as resolution is STATIC")
	case !e.addr.IsValid() && !isDNSName(address):
		c.errorf(meta, at, address, "expected an IP address or a DNS name")
	}
}
