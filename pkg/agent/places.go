package agent

import (
	"net/netip"
	"slices"

	"github.com/shadowtap/shadowtap/pkg/capture/netns"
)

// netPlace is a network namespace that an agent captures in, as it tells another
// one that takes over or is taken over from.
type netPlace struct {
	// Instance is the number it has there, in the flows that follow.
	Instance  uint32
	Namespace netns.ID
	// Endpoints are captured in it, if it is a pod's.
	Endpoints []netip.AddrPort
	// Inside are the ports of them whose requests are taken behind a proxy.
	Inside []uint16
}

// uncovered returns those of the pods among places that others lack: the
// namespace, an endpoint in it, or the side from which requests are taken.
func uncovered(places, others []netPlace) (lacking []netPlace) {
	by := make(map[netns.ID]netPlace, len(others))
	for _, o := range others {
		by[o.Namespace] = o
	}
	for _, p := range places {
		o, ok := by[p.Namespace]
		if len(p.Endpoints) > 0 && !(ok && within(p.Endpoints, o.Endpoints) && within(p.Inside, o.Inside)) {
			lacking = append(lacking, p)
		}
	}
	return lacking
}

// within reports whether all of some are among all.
func within[T comparable](some, all []T) bool {
	for _, s := range some {
		if !slices.Contains(all, s) {
			return false
		}
	}
	return true
}

// Capture of one namespace has one place, which both agents are in.

func (l *liveSource) hold() (release func()) { return func() {} }

func (l *liveSource) places() ([]netPlace, error) { return []netPlace{{Namespace: l.own}}, nil }

func (l *liveSource) assume([]netPlace) error { return nil }

func (l *liveSource) instanceOf(p netPlace) (uint32, bool) { return 0, p.Namespace == l.own }

// hold keeps what is captured where from changing.
func (p *podSource) hold() (release func()) {
	p.mu.Lock()
	return p.mu.Unlock
}

// places returns where is captured; it is called on hold.
func (p *podSource) places() ([]netPlace, error) {
	all := []netPlace{{Namespace: p.own}}
	for n, at := range p.pods {
		if at.instance == nil || at.failure != "" {
			continue
		}
		here := netPlace{Instance: at.instance.ID(), Namespace: n.ID()}
		for _, t := range p.plan.targets(at.addresses) {
			here.Endpoints = append(here.Endpoints, netip.AddrPortFrom(t.Addr, t.Port))
		}
		var err error
		if here.Inside, err = at.instance.Inside(); err != nil {
			return nil, err
		}
		all = append(all, here)
	}
	return all, nil
}

// assume takes requests to the ports of pods from the side that the other agent
// does, where that has found out that there is a proxy; it is called on hold.
func (p *podSource) assume(theirs []netPlace) error {
	for _, their := range theirs {
		if at := p.at(their.Namespace); at != nil && len(their.Inside) > 0 {
			if err := at.instance.TakeInside(their.Inside); err != nil {
				return err
			}
		}
	}
	return nil
}

// instanceOf returns the number that the other agent's place has here, if it
// is captured in; it is called on hold.
func (p *podSource) instanceOf(their netPlace) (uint32, bool) {
	if their.Namespace == p.own {
		return 0, true
	}
	if at := p.at(their.Namespace); at != nil {
		return at.instance.ID(), true
	}
	return 0, false
}

// at returns the pod of a namespace, nil unless it is captured in.
func (p *podSource) at(id netns.ID) *pod {
	for n, at := range p.pods {
		if at.instance != nil && n.ID() == id {
			return at
		}
	}
	return nil
}
