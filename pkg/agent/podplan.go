package agent

import (
	"net/netip"

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

// proxied reports whether a namespace is that of a workload with a sidecar.
func (l plan) proxied(addresses []netip.Addr) bool {
	for _, a := range addresses {
		if l.workloads[a].Sidecar {
			return true
		}
	}
	return false
}

// adaptHost sets the endpoints that are captured from this host's interfaces:
// those that no pod has, as far as they are on this node.
func (p *podSource) adaptHost() error {
	select {
	case <-p.found:
	default:
		return nil
	}
	inPods := make(map[netip.Addr]bool)
	for _, at := range p.pods {
		for _, a := range at.addresses {
			inPods[a] = true
		}
	}
	var host []netip.AddrPort
	missing := make(map[netip.Addr]bool)
	for _, e := range p.endpoints {
		a := e.Addr().Unmap()
		w, ok := p.workloads[a]
		switch {
		case inPods[a]:
		case p.workloads == nil || w.HostNetwork:
			host = append(host, e)
		case ok:
			missing[a] = true
		}
	}
	p.noteMissing(len(missing))
	return p.liveSource.SetTargets(host)
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
