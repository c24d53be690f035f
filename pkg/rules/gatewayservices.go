package rules

import (
	"net/netip"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Service is one Service object of Kubernetes, as far as routing goes.
type Service struct {
	Meta
	Spec *ServiceSpec
}

// ServiceSpec is what is used of the spec of a Service.
type ServiceSpec struct {
	Type         string           `json:"type"`
	ClusterIP    string           `json:"clusterIP"`
	ClusterIPs   []string         `json:"clusterIPs"`
	ExternalName string           `json:"externalName"`
	Ports        []KubernetesPort `json:"ports"`
}

// KubernetesPort is a port of a Service or of an EndpointSlice.
type KubernetesPort struct {
	Name        string `json:"name"`
	Port        uint32 `json:"port"`
	Protocol    string `json:"protocol"` // TCP if empty
	AppProtocol string `json:"appProtocol"`
	// TargetPort is a number or the name of a container's port, which only an
	// EndpointSlice resolves.
	TargetPort any `json:"targetPort"`
}

// EndpointSlice is one EndpointSlice object of discovery.k8s.io. Service is the
// name of the Service it is for, from the label kubernetes.io/service-name.
type EndpointSlice struct {
	Meta
	Service   string
	Endpoints []SliceEndpoint
	Ports     []KubernetesPort
}

// SliceEndpoint is an endpoint of an EndpointSlice.
type SliceEndpoint struct {
	Addresses  []string `json:"addresses"`
	Conditions struct {
		// Ready is true if nil (discovery.k8s.io/v1).
		Ready *bool `json:"ready"`
	} `json:"conditions"`
}

func openObject(properties map[string]*schema) *schema {
	return &schema{Type: "object", Properties: properties, Open: true}
}

func serviceSchema(slice bool) *schema {
	text, lo, hi := &schema{Type: "string"}, 1.0, 65535.0
	texts := &schema{Type: "array", Items: text}
	port := &schema{Type: "integer", Minimum: &lo, Maximum: &hi}
	ports := &schema{Type: "array", Items: openObject(map[string]*schema{
		"name": text, "port": port, "protocol": text, "appProtocol": text,
		"targetPort": {Type: "int-or-string", Minimum: &lo, Maximum: &hi},
	})}
	if !slice {
		ports.Items.Required = []string{"port"}
		return openObject(map[string]*schema{
			"type": text, "clusterIP": text, "clusterIPs": texts, "externalName": text, "ports": ports,
		})
	}
	conditions := openObject(map[string]*schema{"ready": {Type: "boolean"}})
	return openObject(map[string]*schema{
		"addressType": text,
		"ports":       ports,
		"endpoints":   {Type: "array", Items: openObject(map[string]*schema{"addresses": texts, "conditions": conditions})},
	})
}

// serviceObject decodes a Service or EndpointSlice. It reports whether the
// object is one.
func (d *decoder) serviceObject(n *yaml.Node, apiVersion, kind string) bool {
	switch {
	case apiVersion == "v1" && kind == "Service":
		d.envelope(n)
		spec := &ServiceSpec{}
		if s := child(n, "spec"); s == nil {
			d.report(n, (*field)(nil).dot("spec"), "", "is required")
		} else {
			d.structuralInto(s, serviceSchema(false), (*field)(nil).dot("spec"), spec)
		}
		d.out.Services = append(d.out.Services, Service{*d.meta, spec})
	case apiVersion == "discovery.k8s.io/v1" && kind == "EndpointSlice":
		var content struct {
			Endpoints []SliceEndpoint
			Ports     []KubernetesPort
		}
		d.structuralInto(n, serviceSchema(true), nil, &content)
		es := EndpointSlice{Endpoints: content.Endpoints, Ports: content.Ports}
		if metadata := child(n, "metadata"); metadata != nil {
			if labels := child(metadata, "labels"); labels != nil {
				es.Service = scalar(child(labels, "kubernetes.io/service-name"))
			}
		}
		es.Meta = *d.meta
		d.out.EndpointSlices = append(d.out.EndpointSlices, es)
	default:
		return false
	}
	return true
}

// kubernetesServices adds the Services with their endpoints.
func (c *compiler) kubernetesServices(s *Snapshot) {
	type key struct{ namespace, name string }
	slicesOf := map[key][]*EndpointSlice{}
	for i := range s.EndpointSlices {
		es := &s.EndpointSlices[i]
		k := key{es.Namespace, es.Service}
		slicesOf[k] = append(slicesOf[k], es)
	}
	for i := range s.Services {
		ks := &s.Services[i]
		svc := &service{
			host:      serviceHost(ks.Namespace, ks.Name),
			namespace: ks.Namespace,
			source:    &ks.Meta,
		}
		if first := c.services[svc.host]; first != nil {
			c.errorf(&ks.Meta, nil, svc.host, "is also a host of %s", first.source.object())
			continue
		}
		for _, ip := range append(slices.Clone(ks.Spec.ClusterIPs), ks.Spec.ClusterIP) {
			if addr, err := netip.ParseAddr(ip); err == nil && !slices.Contains(svc.addresses, hostPattern(addr.String())) {
				svc.addresses = append(svc.addresses, hostPattern(addr.String()))
			}
		}
		for _, p := range ks.Spec.Ports {
			if p.Protocol != "" && p.Protocol != "TCP" {
				continue
			}
			sp := servicePort{number: p.Port, target: p.Port, name: p.Name, protocol: appProtocol(&p)}
			if target, ok := p.TargetPort.(float64); ok {
				sp.target = uint32(target)
			}
			svc.ports = append(svc.ports, sp)
		}
		if ks.Spec.Type == "ExternalName" {
			svc.endpoints = append(svc.endpoints, newEndpoint(ks.Spec.ExternalName))
		}
		for _, es := range slicesOf[key{ks.Namespace, ks.Name}] {
			svc.endpoints = append(svc.endpoints, c.sliceEndpoints(es)...)
		}
		c.services[svc.host] = svc
	}
}

func (c *compiler) sliceEndpoints(es *EndpointSlice) (out []endpoint) {
	ports := map[string]uint32{}
	for _, p := range es.Ports {
		ports[p.Name] = p.Port
	}
	for i, e := range es.Endpoints {
		if e.Conditions.Ready != nil && !*e.Conditions.Ready {
			continue
		}
		for j, address := range e.Addresses {
			ep := newEndpoint(address)
			ep.ports = ports
			if !ep.addr.IsValid() {
				c.errorf(&es.Meta, (*field)(nil).dot("endpoints").at(i).dot("addresses").at(j), address, "expected an IP address")
				continue
			}
			out = append(out, ep)
		}
	}
	return out
}

// appProtocol is the protocol of a port: by its appProtocol, else by what its
// name begins with (Istio: ConvertProtocol). A port that says neither is found
// out from the bytes.
func appProtocol(p *KubernetesPort) string {
	switch strings.ToLower(p.AppProtocol) {
	case "":
	case "kubernetes.io/h2c":
		return "HTTP2"
	case "kubernetes.io/ws":
		return "HTTP"
	case "kubernetes.io/wss":
		return "HTTPS"
	default:
		return strings.ToUpper(p.AppProtocol)
	}
	name := strings.ToLower(p.Name)
	if strings.HasPrefix(name, "grpc-web") {
		return "GRPC-WEB"
	}
	prefix, _, _ := strings.Cut(name, "-")
	if slices.Contains([]string{"http", "https", "http2", "grpc", "tcp", "tls", "udp", "mongo", "redis", "mysql"}, prefix) {
		return strings.ToUpper(prefix)
	}
	return ""
}
