package kube

import (
	"slices"
	"unique"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/shadowtap/shadowtap/pkg/rules"
)

// The objects of Kubernetes itself come as Go types, in protobuf. What becomes
// of them is what rules.Decode makes of the same objects in YAML; a test holds
// the two against each other.

// part is what an object adds to a Snapshot. Parts are never changed.
type part interface{ addTo(*rules.Snapshot) }

type (
	servicePart rules.Service
	slicePart   rules.EndpointSlice
	podPart     rules.Pod

	namespacePart rules.Namespace
)

func (p *servicePart) addTo(s *rules.Snapshot) { s.Services = append(s.Services, rules.Service(*p)) }
func (p *slicePart) addTo(s *rules.Snapshot) {
	s.EndpointSlices = append(s.EndpointSlices, rules.EndpointSlice(*p))
}
func (p *podPart) addTo(s *rules.Snapshot) { s.Pods = append(s.Pods, rules.Pod(*p)) }
func (p *namespacePart) addTo(s *rules.Snapshot) {
	s.Namespaces = append(s.Namespaces, rules.Namespace(*p))
}

func metaOf(kind string, o *metav1.ObjectMeta) rules.Meta {
	return rules.Meta{Kind: kind, Namespace: intern(o.Namespace), Name: o.Name, CreationTimestamp: o.CreationTimestamp.Time}
}

func convertService(in *corev1.Service) part {
	out := &servicePart{Meta: metaOf("Service", &in.ObjectMeta), Selector: internMap(in.Spec.Selector)}
	out.Extras = in.Annotations[rules.Annotation]
	if in.Spec.Type == corev1.ServiceTypeExternalName {
		out.ExternalName = in.Spec.ExternalName
	}
	for _, ip := range append(slices.Clip(in.Spec.ClusterIPs), in.Spec.ClusterIP) {
		if ip != "" && ip != corev1.ClusterIPNone && !slices.Contains(out.ClusterIPs, ip) {
			out.ClusterIPs = append(out.ClusterIPs, ip)
		}
	}
	for _, p := range in.Spec.Ports {
		port := rules.ServicePort{Name: intern(p.Name), Port: uint32(p.Port), Protocol: intern(string(p.Protocol))}
		if p.AppProtocol != nil {
			port.AppProtocol = intern(*p.AppProtocol)
		}
		if p.TargetPort.Type == intstr.String {
			port.TargetName = intern(p.TargetPort.StrVal)
		} else {
			port.TargetPort = uint32(p.TargetPort.IntVal)
		}
		out.Ports = append(out.Ports, port)
	}
	return out
}

func convertSlice(in *discoveryv1.EndpointSlice) part {
	out := &slicePart{Meta: metaOf("EndpointSlice", &in.ObjectMeta), Service: intern(in.Labels[discoveryv1.LabelServiceName])}
	out.Group = discoveryv1.GroupName
	for _, p := range in.Ports {
		var port rules.EndpointPort
		if p.Name != nil {
			port.Name = intern(*p.Name)
		}
		if p.Port != nil {
			port.Port = uint32(*p.Port)
		}
		out.Ports = append(out.Ports, port)
	}
	for _, e := range in.Endpoints {
		to := rules.SliceEndpoint{Addresses: e.Addresses, NotReady: e.Conditions.Ready != nil && !*e.Conditions.Ready}
		if e.NodeName != nil {
			to.Node = intern(*e.NodeName)
		}
		if e.Zone != nil {
			to.Zone = intern(*e.Zone)
		}
		if e.TargetRef != nil && e.TargetRef.Kind == "Pod" {
			to.Pod = e.TargetRef.Name
		}
		out.Endpoints = append(out.Endpoints, to)
	}
	return out
}

func convertPod(in *corev1.Pod) part {
	out := &podPart{
		Meta: metaOf("Pod", &in.ObjectMeta), Labels: internMap(in.Labels),
		HostNetwork: in.Spec.HostNetwork, IPs: podIPs(in), Ports: map[string]uint32{},
	}
	for name, port := range namedPorts(in) {
		out.Ports[intern(name)] = uint32(port)
	}
	for _, c := range in.Status.Conditions {
		out.NotReady = out.NotReady || c.Type == corev1.PodReady && c.Status != corev1.ConditionTrue
	}
	return out
}

func convertNamespace(in *corev1.Namespace) part {
	return &namespacePart{Meta: metaOf("Namespace", &in.ObjectMeta), Labels: internMap(in.Labels)}
}

func podIPs(in *corev1.Pod) (ips []string) {
	for _, ip := range in.Status.PodIPs {
		ips = append(ips, ip.IP)
	}
	if len(ips) == 0 && in.Status.PodIP != "" {
		ips = []string{in.Status.PodIP}
	}
	return ips
}

func namedPorts(in *corev1.Pod) map[string]uint16 {
	ports := map[string]uint16{}
	for _, c := range in.Spec.Containers {
		for _, p := range c.Ports {
			if p.Name != "" {
				ports[p.Name] = uint16(p.ContainerPort)
			}
		}
	}
	return ports
}

// intern shares the texts that many objects have in common: namespaces, the
// names and values of labels.
func intern(s string) string { return unique.Make(s).Value() }

func internMap(m map[string]string) map[string]string {
	if m == nil {
		return nil
	}
	out := make(map[string]string, len(m))
	for k, v := range m {
		out[intern(k)] = intern(v)
	}
	return out
}
