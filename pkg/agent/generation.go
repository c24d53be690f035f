package agent

import (
	"context"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/shadowtap/shadowtap/pkg/httpstream"
	"github.com/shadowtap/shadowtap/pkg/replay"
	"github.com/shadowtap/shadowtap/pkg/rules"
)

// generation is one loaded set of rules with the mirrors it sends to. A reload
// makes a new one; all that changes in one are the siblings.
type generation struct {
	agent   *Agent
	program *rules.Program
	mirrors []*replay.Mirror // by rules.Mirror.ID; nil in a dry run
	// siblings are, by the address of a Pod of this node that program does not
	// know, the address by which it decides. They are never changed in place.
	siblings atomic.Pointer[map[netip.Addr]netip.Addr]
}

// known is g.siblings, nil if there are none.
func (g *generation) known() map[netip.Addr]netip.Addr {
	if m := g.siblings.Load(); m != nil {
		return *m
	}
	return nil
}

// endpoint is the one that rules take dst for, not valid if that is dst itself.
func (g *generation) endpoint(dst netip.AddrPort) netip.AddrPort {
	if m := g.known(); len(m) > 0 {
		if sibling, ok := m[dst.Addr().Unmap()]; ok {
			return netip.AddrPortFrom(sibling, dst.Port())
		}
	}
	return netip.AddrPort{}
}

// mirror queues the copies of a request. ok is whether at least one was
// taken; if not, refused is the first reason.
// answers is what waits for the answers to the copies, if anything.
func (g *generation) mirror(r *httpstream.Request, d *rules.Decision, answers *comparison) (refused dropReason, ok bool) {
	a := g.agent
	if a.cfg.DryRun {
		if !g.print(r, d) {
			return dropQueueFull, false
		}
		return 0, true
	}
	for i, to := range d.Selected {
		reason, taken := g.copy(r, to, answers)
		if taken {
			ok = true
		} else if i == 0 {
			refused = reason
		}
	}
	if ok && a.printer != nil {
		g.print(r, d)
	}
	return refused, ok
}

// print queues the record of a request that is mirrored.
func (g *generation) print(r *httpstream.Request, d *rules.Decision) bool {
	// Bodies are copied as they are, fields into two strings each.
	size := int64(0)
	for _, to := range d.Selected {
		size += 2*int64(r.Size()+to.HeadBound(r)) + 2048
	}
	return g.agent.printer.print(size, func() *rules.Record { return rules.NewRecord(r, d) })
}

// copy queues one copy of a request.
func (g *generation) copy(r *httpstream.Request, to *rules.RouteMirror, answers *comparison) (refused dropReason, taken bool) {
	m := g.mirrors[to.Mirror.ID()]
	if g.agent.comparing == nil {
		return g.submit(r, to, m)
	}
	made := answers.copy(to)
	defer func() {
		if !taken { // also if it panics
			answers.notTaken()
		}
	}()
	return g.submit(r, made, m)
}

func (g *generation) submit(r *httpstream.Request, s replay.Shaper, m *replay.Mirror) (dropReason, bool) {
	if g.agent.offline() {
		// Nothing is waiting for a file's reader: wait for room instead of
		// dropping.
		if g.agent.submitWait(r, s, m) == nil {
			return 0, true
		}
		return dropReason(httpstream.Interrupted), false
	}
	switch m.Submit(r, s) {
	case replay.Accepted:
		return 0, true
	case replay.NoEndpoints:
		return dropNoEndpoints, false
	case replay.Closed:
		return dropReason(httpstream.Interrupted), false
	}
	return dropQueueFull, false
}

// submitWait is Mirror.SubmitWait that also waits for room for the answers.
func (a *Agent) submitWait(r *httpstream.Request, s replay.Shaper, m *replay.Mirror) error {
	if a.comparing == nil {
		return m.SubmitWait(a.drainCtx, r, s)
	}
	t := a.comparing.throttle
	t.wait(a.drainCtx, a.comparing.room)
	t.begin()
	taken := false
	defer func() {
		if !taken { // also if it panics
			t.end()
		}
	}()
	err := m.SubmitWait(a.drainCtx, r, s)
	taken = err == nil
	return err
}

// mirrorSet owns the mirrors across generations: one that a new generation
// still names keeps its queue and connections.
type mirrorSet struct {
	newMirror func(m *rules.Mirror) *replay.Mirror

	mu      sync.Mutex
	zone    string // where this agent is, empty if that is not known; endpoints there are preferred
	byKey   map[string]*replay.Mirror
	leaving map[*replay.Mirror]string // no longer named, still draining; by key
	retired replay.Stats              // what drained mirrors have done, all together
	drains  sync.WaitGroup
}

func newMirrorSet(newMirror func(m *rules.Mirror) *replay.Mirror) *mirrorSet {
	return &mirrorSet{
		newMirror: newMirror,
		byKey:     map[string]*replay.Mirror{},
		leaving:   map[*replay.Mirror]string{},
	}
}

// setZone says in which zone this agent is, for the generations to come.
func (s *mirrorSet) setZone(zone string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.zone = zone
}

// adopt returns the mirrors that p names, by ID, creating those that do not
// exist, and a function that retires those it no longer names. That is to be
// called once nothing submits to them any more.
func (s *mirrorSet) adopt(p *rules.Program) (mirrors []*replay.Mirror, retire func(context.Context)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	used := map[string]bool{}
	for _, r := range p.Mirrors() {
		key := r.Key()
		used[key] = true
		m := s.byKey[key]
		if m == nil {
			m = s.newMirror(r)
			s.byKey[key] = m
		} else {
			m.SetEndpoints(endpoints(r, s.zone))
		}
		mirrors = append(mirrors, m)
	}
	var gone []*replay.Mirror
	for key, m := range s.byKey {
		if !used[key] {
			delete(s.byKey, key)
			s.leaving[m] = key
			gone = append(gone, m)
		}
	}
	return mirrors, func(ctx context.Context) {
		for _, m := range gone {
			s.drains.Go(func() { s.retire(ctx, m) })
		}
	}
}

// retire drains a mirror and moves its counts to the retired ones in one step,
// so that the account never counts them twice or not at all.
func (s *mirrorSet) retire(ctx context.Context, m *replay.Mirror) {
	m.Drain(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.leaving, m)
	s.retired = s.retired.Add(m.Stats())
}

// drain waits until nothing is queued or in flight anywhere, or ctx ends.
func (s *mirrorSet) drain(ctx context.Context) {
	s.mu.Lock()
	var wg sync.WaitGroup
	for _, m := range s.byKey {
		wg.Go(func() { m.Drain(ctx) })
	}
	s.mu.Unlock()
	wg.Wait()
	s.drains.Wait()
}

// retiredMirrors is the name under which mirrors that are gone are counted. They
// share one, or rules that change often would make ever more of them.
const retiredMirrors = "retired"

// stats returns the counts of every mirror there is by key, and those of the
// ones there were.
func (s *mirrorSet) stats() map[string]replay.Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := map[string]replay.Stats{}
	if s.retired.Accepted > 0 || len(s.retired.Refused) > 0 {
		all[retiredMirrors] = s.retired
	}
	for m, key := range s.leaving {
		all[key] = all[key].Add(m.Stats())
	}
	for key, m := range s.byKey {
		all[key] = all[key].Add(m.Stats())
	}
	return all
}

// endpoints are those of m for an agent in a zone, empty if that is not known.
func endpoints(m *rules.Mirror, zone string) []replay.Endpoint {
	es := make([]replay.Endpoint, len(m.Endpoints))
	for i, e := range m.Endpoints {
		es[i] = replay.Endpoint{Address: e.Address, TLS: e.TLS, ServerName: e.ServerName, Near: zone != "" && e.Zone == zone}
	}
	return es
}
