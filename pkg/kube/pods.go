package kube

import (
	"maps"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/tools/cache"
)

// Pod is a Pod of this node that runs and has an address.
type Pod struct {
	Namespace, Name string
	// UID tells a Pod from an earlier one of the same name (metadata.uid).
	UID string
	// IPs are its addresses; those of the node if HostNetwork is set.
	IPs         []netip.Addr
	HostNetwork bool
	// Labels are what Services select it by.
	Labels map[string]string
	// Ports are the ports of its containers that have names.
	Ports map[string]uint16
	// Sidecar is whether a proxy of a service mesh, in the Pod or for it (Istio
	// ambient), stands in front of its containers: what arrives at the Pod may
	// be encrypted, what the proxy hands on over the loopback interface is not.
	Sidecar bool
}

func (p *Pod) equal(o *Pod) bool {
	return p.UID == o.UID && p.HostNetwork == o.HostNetwork && p.Sidecar == o.Sidecar &&
		slices.Equal(p.IPs, o.IPs) && maps.Equal(p.Ports, o.Ports) && maps.Equal(p.Labels, o.Labels)
}

// PodSink is told what becomes of the Pods of this node. The calls come one at
// a time and must not take long: the next change waits.
//
// Changes that were missed while the API server was away are made up for, so
// that at every time the Pods that were set and not deleted are those that were
// last known.
type PodSink interface {
	// SetPod tells of a Pod that is new, or has changed.
	SetPod(Pod)
	// DeletePod tells of one that ended or is gone, as it was last set.
	DeletePod(Pod)
}

// nodePods are the Pods of this node. A reflector fills it.
type nodePods struct {
	source *Source
	sink   PodSink
	pods   map[string]Pod // by namespace/name; only the reflector uses it
	synced bool           // guarded by the mutex of source
}

var _ cache.TransformingStore = (*nodePods)(nil)

func (s *Source) nodePods() subject {
	node := fields.AndSelectors(fields.OneTermEqualSelector("spec.nodeName", s.cfg.Node), unfinished)
	sub := typed(s.clients.core, "pods", metav1.NamespaceAll, metav1.ListOptions{FieldSelector: node.String()}, convertPod,
		subject{class: "Pod of node", what: "Pod of v1 on node " + s.cfg.Node, store: func(s *Source) cache.ReflectorStore {
			return &nodePods{source: s, sink: s.cfg.Pods, pods: map[string]Pod{}}
		}})
	return sub
}

func (n *nodePods) Transformer() cache.TransformFunc { return trimTyped }
func (n *nodePods) Resync() error                    { return nil }

// Add tells of a new Pod.
func (n *nodePods) Add(obj any) error { return n.Update(obj) }

// Update tells of a Pod that has changed.
func (n *nodePods) Update(obj any) error {
	in, ok := obj.(*corev1.Pod)
	if !ok {
		return errUnexpected(obj)
	}
	key := in.Namespace + "/" + in.Name
	var pod Pod
	if n.source.cfg.Guard(func() { pod = nodePod(in) }) != nil {
		return nil // what is known of it stays
	}
	old, known := n.pods[key]
	gone := in.Status.Phase == corev1.PodSucceeded || in.Status.Phase == corev1.PodFailed || len(pod.IPs) == 0
	if known && (gone || old.UID != pod.UID) {
		n.drop(key, old)
		known = false
	}
	if gone || known && old.equal(&pod) {
		return nil
	}
	n.sink.SetPod(pod)
	n.pods[key] = pod
	return nil
}

// drop tells of a Pod that ended or is gone. The sink is told before the map is
// changed, as with SetPod: if it panics, it is told again.
func (n *nodePods) drop(key string, pod Pod) {
	n.sink.DeletePod(pod)
	delete(n.pods, key)
}

// Delete tells of a Pod that is gone.
func (n *nodePods) Delete(obj any) error {
	key, err := cache.DeletionHandlingMetaNamespaceKeyFunc(obj)
	if err != nil {
		return err
	}
	if old, ok := n.pods[key]; ok {
		n.drop(key, old)
	}
	return nil
}

// Replace tells of what changed meanwhile.
func (n *nodePods) Replace(list []any, _ string) error {
	there := map[string]bool{}
	for _, obj := range list {
		in, ok := obj.(*corev1.Pod)
		if !ok {
			return errUnexpected(obj)
		}
		there[in.Namespace+"/"+in.Name] = true
		if err := n.Update(in); err != nil {
			return err
		}
	}
	for key, old := range n.pods {
		if !there[key] {
			n.drop(key, old)
		}
	}
	n.source.mu.Lock()
	defer n.source.mu.Unlock()
	if !n.synced {
		n.synced = true
		n.source.signal()
	}
	return nil
}

func nodePod(in *corev1.Pod) Pod {
	pod := Pod{
		Namespace: in.Namespace, Name: in.Name, UID: string(in.UID),
		HostNetwork: in.Spec.HostNetwork, Labels: internMap(in.Labels), Ports: namedPorts(in), Sidecar: hasSidecar(in),
	}
	for _, ip := range podIPs(in) {
		if addr, err := netip.ParseAddr(ip); err == nil {
			pod.IPs = append(pod.IPs, addr.Unmap())
		}
	}
	return pod
}

// Annotations that say what stands in front of a Pod.
const (
	// sidecarStatus is left by Istio's injector.
	sidecarStatus = "sidecar.istio.io/status"
	// ambientRedirection is "enabled" where Istio's node agent has put rules
	// into the network namespace of the Pod that lead to ztunnel. Unless
	// ambientBypass is "true", those that arrive are among them.
	ambientRedirection = "ambient.istio.io/redirection"
	ambientBypass      = "ambient.istio.io/bypass-inbound-capture"
)

// ofPods reports whether an annotation of a Pod is looked at.
func ofPods(annotation string) bool {
	return annotation == sidecarStatus || annotation == ambientRedirection || annotation == ambientBypass
}

// hasSidecar reports whether a proxy of Istio or Linkerd hands requests on in
// the Pod. Proxies that are containers of their own kind (native sidecars) are
// among the containers that initialise. ztunnel is none of the Pod's
// containers, but its sockets are in its network namespace: it takes TLS on a
// port of its own, and plain text by a redirection behind the TC hook, and
// connects to the Pod's address over lo in either case.
func hasSidecar(in *corev1.Pod) bool {
	if in.Annotations[sidecarStatus] != "" {
		return true
	}
	if in.Annotations[ambientRedirection] == "enabled" && in.Annotations[ambientBypass] != "true" {
		return true
	}
	return slices.ContainsFunc(slices.Concat(in.Spec.Containers, in.Spec.InitContainers), func(c corev1.Container) bool {
		return c.Name == "istio-proxy" || c.Name == "linkerd-proxy"
	})
}
