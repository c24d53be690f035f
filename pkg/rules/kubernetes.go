package rules

import (
	"errors"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
	networking "istio.io/api/networking/v1alpha3"
)

// Service is one Service of Kubernetes, as far as it says where requests to a
// host arrive (core/v1 ServiceSpec).
type Service struct {
	Meta
	// Selector are the labels of the Pods behind it.
	Selector map[string]string
	// ClusterIPs are its virtual addresses; "None" is not among them.
	ClusterIPs []string
	// ExternalName is the name it is an alias of, empty if it is none.
	ExternalName string
	Ports        []ServicePort
}

// ServicePort is one port of a Service.
type ServicePort struct {
	Name string
	Port uint32
	// TargetPort is where Pods serve it, TargetName the name of that port of
	// the container; with neither it is Port.
	TargetPort uint32
	TargetName string
	// Protocol is TCP unless given; AppProtocol goes before what the name
	// says of the protocol within.
	Protocol, AppProtocol string
}

// EndpointSlice is one EndpointSlice (discovery.k8s.io/v1).
type EndpointSlice struct {
	Meta
	// Service is the name of the Service it belongs to, in its namespace.
	Service   string
	Ports     []EndpointPort
	Endpoints []SliceEndpoint
}

// EndpointPort is a port of all endpoints of an EndpointSlice; Name is that of
// the Service's port.
type EndpointPort struct {
	Name string
	Port uint32
}

// SliceEndpoint is one endpoint of an EndpointSlice.
type SliceEndpoint struct {
	Addresses []string
	// Pod is the name of the Pod, in the namespace of the EndpointSlice,
	// empty if it is none. Its labels are those of the endpoint.
	Pod string
	// NotReady endpoints get no new connections.
	NotReady bool
	// Node and Zone are where the endpoint is, empty if that is not known.
	Node, Zone string
}

// Pod is one Pod, as far as it says which workload has an address.
type Pod struct {
	Meta
	Labels map[string]string
	IPs    []string
	// HostNetwork Pods have the address of their node.
	HostNetwork bool
	// Ports are the named ports of the containers.
	Ports map[string]uint32
	// NotReady is set if the Pod says that it is not.
	NotReady bool
}

// Namespace is one Namespace of Kubernetes, of which the labels are used.
type Namespace struct {
	Meta
	Labels map[string]string
}

// WorkloadEntry is one WorkloadEntry object.
type WorkloadEntry struct {
	Meta
	Spec *networking.WorkloadEntry

	labels map[string]string // of the object
}

// workloadLabels are those of the workload: the object's own are added to
// those of its spec (Istio: ConvertWorkloadEntry).
func (w *WorkloadEntry) workloadLabels() map[string]string { return united(w.labels, w.Spec.Labels) }

// IstioGateway is one Gateway of networking.istio.io, of which the selector is
// used: it says which workloads serve the gateway.
type IstioGateway struct {
	Meta
	Spec *networking.Gateway
}

// Forms of the objects of Kubernetes. What they hold besides says nothing
// about mirroring and is not looked at.
type (
	serviceForm struct {
		Spec struct {
			Type         string            `yaml:"type"`
			Selector     map[string]string `yaml:"selector"`
			ClusterIP    string            `yaml:"clusterIP"`
			ClusterIPs   []string          `yaml:"clusterIPs"`
			ExternalName string            `yaml:"externalName"`
			Ports        []struct {
				Name        string    `yaml:"name"`
				Port        uint32    `yaml:"port"`
				TargetPort  yaml.Node `yaml:"targetPort"`
				Protocol    string    `yaml:"protocol"`
				AppProtocol string    `yaml:"appProtocol"`
			} `yaml:"ports"`
		} `yaml:"spec"`
	}
	sliceForm struct {
		Ports []struct {
			Name string `yaml:"name"`
			Port uint32 `yaml:"port"`
		} `yaml:"ports"`
		Endpoints []struct {
			Addresses  []string `yaml:"addresses"`
			Conditions struct {
				Ready *bool `yaml:"ready"`
			} `yaml:"conditions"`
			NodeName  string `yaml:"nodeName"`
			Zone      string `yaml:"zone"`
			TargetRef struct {
				Kind string `yaml:"kind"`
				Name string `yaml:"name"`
			} `yaml:"targetRef"`
		} `yaml:"endpoints"`
	}
	podForm struct {
		Spec struct {
			HostNetwork bool `yaml:"hostNetwork"`
			Containers  []struct {
				Ports []struct {
					Name          string `yaml:"name"`
					ContainerPort uint32 `yaml:"containerPort"`
				} `yaml:"ports"`
			} `yaml:"containers"`
		} `yaml:"spec"`
		Status struct {
			Phase  string `yaml:"phase"`
			PodIP  string `yaml:"podIP"`
			PodIPs []struct {
				IP string `yaml:"ip"`
			} `yaml:"podIPs"`
			Conditions []struct {
				Type   string `yaml:"type"`
				Status string `yaml:"status"`
			} `yaml:"conditions"`
		} `yaml:"status"`
	}
)

// kubernetes decodes an object of Kubernetes. It reports whether it is of a
// kind that rules are made of.
func (d *decoder) kubernetes(apiVersion, kind string, n *yaml.Node) bool {
	switch apiVersion + " " + kind {
	case "v1 Service":
		var in serviceForm
		d.form(n, &in)
		d.out.Services = append(d.out.Services, d.service(&in))
	case "discovery.k8s.io/v1 EndpointSlice":
		var in sliceForm
		d.form(n, &in)
		d.out.EndpointSlices = append(d.out.EndpointSlices, d.endpointSlice(&in))
	case "v1 Pod":
		var in podForm
		d.form(n, &in)
		d.out.Pods = append(d.out.Pods, d.pod(&in))
	case "v1 Namespace":
		d.meta.Namespace = ""
		d.form(n, &struct{}{})
		d.out.Namespaces = append(d.out.Namespaces, Namespace{*d.meta, d.labels})
	default:
		return false
	}
	return true
}

// form decodes n into a form.
func (d *decoder) form(n *yaml.Node, into any) {
	if d.meta.Name == "" {
		d.report(n, (*field)(nil).dot("metadata").dot("name"), "", "is required")
	}
	if !d.bounded(n, 0) {
		return
	}
	err := n.Decode(into)
	if err == nil {
		return
	}
	if wrong, ok := errors.AsType[*yaml.TypeError](err); ok {
		for _, msg := range wrong.Errors {
			d.report(n, nil, "", "%s", msg)
		}
		return
	}
	d.report(n, nil, "", "%s", strings.TrimPrefix(err.Error(), "yaml: "))
}

// bounded reports whether n is within the bounds of a document, aliases
// unfolded.
func (d *decoder) bounded(n *yaml.Node, depth int) bool {
	n, ok := d.enter(n, nil, depth)
	if !ok {
		return false
	}
	for _, child := range n.Content {
		if !d.bounded(child, depth+1) {
			return false
		}
	}
	return true
}

func (d *decoder) service(in *serviceForm) Service {
	s := Service{Selector: in.Spec.Selector}
	if in.Spec.Type == "ExternalName" {
		s.ExternalName = in.Spec.ExternalName
	}
	for _, ip := range append(in.Spec.ClusterIPs, in.Spec.ClusterIP) {
		if ip != "" && ip != "None" && !slices.Contains(s.ClusterIPs, ip) {
			s.ClusterIPs = append(s.ClusterIPs, ip)
		}
	}
	at := (*field)(nil).dot("spec").dot("ports")
	for i, p := range in.Spec.Ports {
		port := ServicePort{Name: p.Name, Port: p.Port, Protocol: p.Protocol, AppProtocol: p.AppProtocol}
		if target := resolve(&p.TargetPort); target.Kind == yaml.ScalarNode {
			if target.Decode(&port.TargetPort) != nil {
				port.TargetPort, port.TargetName = 0, target.Value
			}
			if port.TargetPort > 65535 {
				d.report(target, at.at(i).dot("targetPort"), target.Value, "expected a port from 1 to 65535 or the name of one")
			}
		}
		s.Ports = append(s.Ports, port)
	}
	s.Meta = *d.meta
	return s
}

func (d *decoder) endpointSlice(in *sliceForm) EndpointSlice {
	s := EndpointSlice{Service: d.labels["kubernetes.io/service-name"]}
	for _, p := range in.Ports {
		s.Ports = append(s.Ports, EndpointPort{Name: p.Name, Port: p.Port})
	}
	for _, e := range in.Endpoints {
		out := SliceEndpoint{Addresses: e.Addresses, NotReady: e.Conditions.Ready != nil && !*e.Conditions.Ready, Node: e.NodeName, Zone: e.Zone}
		if e.TargetRef.Kind == "Pod" {
			out.Pod = e.TargetRef.Name
		}
		s.Endpoints = append(s.Endpoints, out)
	}
	s.Meta = *d.meta
	return s
}

func (d *decoder) pod(in *podForm) Pod {
	p := Pod{Labels: d.labels, HostNetwork: in.Spec.HostNetwork, Ports: map[string]uint32{}}
	for _, ip := range in.Status.PodIPs {
		p.IPs = append(p.IPs, ip.IP)
	}
	if len(p.IPs) == 0 && in.Status.PodIP != "" {
		p.IPs = []string{in.Status.PodIP}
	}
	if in.Status.Phase == "Succeeded" || in.Status.Phase == "Failed" {
		p.IPs = nil // they are others' since it ended
	}
	for _, c := range in.Spec.Containers {
		for _, port := range c.Ports {
			if port.Name != "" {
				p.Ports[port.Name] = port.ContainerPort
			}
		}
	}
	for _, c := range in.Status.Conditions {
		p.NotReady = p.NotReady || c.Type == "Ready" && c.Status != "True"
	}
	p.Meta = *d.meta
	return p
}

// inert reports whether objects of this kind stand in the same files as rules
// and decide nothing about mirroring.
func inert(apiVersion, kind string) bool {
	group, version, grouped := strings.Cut(apiVersion, "/")
	switch {
	case kind == "":
		return false
	case !grouped:
		return apiVersion == "v1" && kind != "List"
	case group == apiGroup:
		return slices.Contains(istioVersions[:], version) &&
			slices.Contains([]string{"Sidecar", "EnvoyFilter", "ProxyConfig", "WorkloadGroup"}, kind)
	case group == gatewayGroup:
		return slices.Contains([]string{"GatewayClass", "TCPRoute", "TLSRoute", "UDPRoute"}, kind)
	}
	return slices.Contains([]string{"apps", "batch", "autoscaling", "policy", "rbac.authorization.k8s.io", "networking.k8s.io",
		"storage.k8s.io", "scheduling.k8s.io", "apiextensions.k8s.io", "admissionregistration.k8s.io", "coordination.k8s.io",
		"security.istio.io", "telemetry.istio.io", "extensions.istio.io"}, group)
}
