package agent

import (
	"net"
	"net/netip"
	"slices"

	"github.com/shadowtap/shadowtap/pkg/capture"
)

// plan says which endpoints are to be captured in a namespace.
type plan struct {
	ports     map[netip.Addr][]uint16 // of the endpoints, by their address
	anywhere  []uint16                // of those with any address
	workloads map[netip.Addr]Workload
}

func newPlan(endpoints []netip.AddrPort, workloads map[netip.Addr]Workload) plan {
	l := plan{ports: make(map[netip.Addr][]uint16), workloads: workloads}
	for _, e := range endpoints {
		if a := e.Addr().Unmap(); !a.IsValid() || a.IsUnspecified() {
			l.anywhere = append(l.anywhere, e.Port())
		} else {
			l.ports[a] = append(l.ports[a], e.Port())
		}
	}
	return l
}

// targets returns the endpoints that are addresses of a namespace.
func (l plan) targets(addresses []netip.Addr) (targets []capture.Target) {
	for _, a := range addresses {
		for _, port := range l.ports[a] {
			targets = append(targets, capture.Target{Addr: a, Port: port})
		}
		for _, port := range l.anywhere {
			targets = append(targets, capture.Target{Addr: a, Port: port})
		}
	}
	return targets
}

// proxied reports whether a namespace is that of a workload with a sidecar. The
// host's is that of many, and what holds for one of them does not for all.
func (l plan) proxied(addresses []netip.Addr) bool {
	for _, a := range addresses {
		if w := l.workloads[a]; w.Sidecar && !w.HostNetwork {
			return true
		}
	}
	return false
}

// host returns the endpoints that are captured from this host's interfaces:
// those that no namespace has, as far as they are on this node. missing are
// those addresses of pods of this node that ought to be in a namespace, the
// agent's own for pods that use the host's network: the agent may run in a pod.
func (l plan) host(endpoints []netip.AddrPort, inPods map[netip.Addr]bool, own func(netip.Addr) bool) (host []netip.AddrPort, missing int) {
	without := make(map[netip.Addr]bool)
	for _, e := range endpoints {
		a := e.Addr().Unmap()
		w, ok := l.workloads[a]
		switch {
		case inPods[a]:
		case l.workloads == nil || w.HostNetwork && own(a):
			host = append(host, e)
		case ok:
			without[a] = true
		}
	}
	return host, len(without)
}

// adaptHost sets the endpoints that are captured from this host's interfaces.
func (p *podSource) adaptHost() error {
	select {
	case <-p.found:
	default:
		return nil
	}
	host, missing := p.plan.host(p.endpoints, p.inPods(), ownAddress)
	p.noteMissing(missing)
	return p.liveSource.SetTargets(host)
}

// ownAddress reports whether an address is one of the agent's own network
// namespace, as far as that can be found out.
func ownAddress(a netip.Addr) bool {
	list, err := net.InterfaceAddrs()
	return err != nil || slices.ContainsFunc(list, func(l net.Addr) bool {
		prefix, err := netip.ParsePrefix(l.String())
		return err == nil && prefix.Addr().Unmap() == a
	})
}

// noteMissing remembers how many pods that are to be captured have no
// namespace. A pod that is being made has none for a moment.
func (p *podSource) noteMissing(n int) {
	s := *p.current.Load()
	if n > s.missing {
		p.warn.Do(func() {
			p.log.Warn("pods are not captured: no network namespace that can be seen has their address", "pods", n)
		})
	}
	s.missing = n
	p.current.Store(&s)
}
