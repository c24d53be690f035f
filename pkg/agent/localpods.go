package agent

import (
	"net/netip"
	"slices"
	"sync"

	"github.com/shadowtap/shadowtap/pkg/kube"
	"github.com/shadowtap/shadowtap/pkg/rules"
)

// localPods are the Pods of this node: a kube.PodSink.
type localPods struct {
	changed chan struct{} // holds one

	mu   sync.Mutex
	pods map[string]kube.Pod // by UID
	// leaving are those of which the API server has no object any more. Their
	// processes may run on: one that is deleted by force has all of its grace
	// period yet.
	leaving map[string]kube.Pod
}

func newLocalPods() *localPods {
	return &localPods{changed: make(chan struct{}, 1), pods: map[string]kube.Pod{}, leaving: map[string]kube.Pod{}}
}

// SetPod notes a Pod. Its addresses are no other's any more.
func (l *localPods) SetPod(p kube.Pod) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pods[p.UID] = p
	for uid, old := range l.leaving {
		if uid == p.UID || slices.ContainsFunc(old.IPs, func(a netip.Addr) bool { return slices.Contains(p.IPs, a) }) {
			delete(l.leaving, uid)
		}
	}
	l.signal()
}

// DeletePod notes that a Pod is gone, or is about to.
func (l *localPods) DeletePod(p kube.Pod) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.pods, p.UID)
	if !p.HostNetwork { // of the network of the node nobody can see when it ends
		l.leaving[p.UID] = p
	}
	l.signal()
}

// forget forgets the Pods that are leaving and have none of the addresses that
// network namespaces have.
func (l *localPods) forget(inhabited map[netip.Addr]bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for uid, p := range l.leaving {
		if !slices.ContainsFunc(p.IPs, func(a netip.Addr) bool { return inhabited[a] }) {
			delete(l.leaving, uid)
		}
	}
}

func (l *localPods) signal() {
	select {
	case l.changed <- struct{}{}:
	default:
	}
}

// each calls f with every Pod. The lock is held.
func (l *localPods) each(f func(kube.Pod)) {
	for _, p := range l.leaving {
		f(p)
	}
	for _, p := range l.pods {
		f(p)
	}
}

// workloads are the Pods as capture knows them.
func (l *localPods) workloads() []Workload {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := make([]Workload, 0, len(l.pods))
	l.each(func(p kube.Pod) {
		all = append(all, Workload{Addresses: p.IPs, HostNetwork: p.HostNetwork, Sidecar: p.Sidecar})
	})
	return all
}

// addresses are those of the Pods, and of the node where they have that.
func (l *localPods) addresses() map[netip.Addr]bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	here := map[netip.Addr]bool{}
	l.each(func(p kube.Pod) {
		for _, ip := range p.IPs {
			here[ip] = true
		}
	})
	return here
}

// namespaces are those of the Pods that have an address, which several have if
// it is the node's.
func (l *localPods) namespaces() map[netip.Addr][]string {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := map[netip.Addr][]string{}
	l.each(func(p kube.Pod) {
		for _, ip := range p.IPs {
			if !slices.Contains(out[ip], p.Namespace) {
				out[ip] = append(out[ip], p.Namespace)
			}
		}
	})
	return out
}

// described are the Pods as rules know them.
func (l *localPods) described() []rules.Pod {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := make([]rules.Pod, 0, len(l.pods))
	l.each(func(p kube.Pod) {
		d := rules.Pod{Labels: p.Labels, HostNetwork: p.HostNetwork, Ports: map[string]uint32{}}
		d.Namespace, d.Name = p.Namespace, p.Name
		for _, ip := range p.IPs {
			d.IPs = append(d.IPs, ip.String())
		}
		for name, port := range p.Ports {
			d.Ports[name] = uint32(port)
		}
		all = append(all, d)
	})
	return all
}
