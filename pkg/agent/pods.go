package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"github.com/shadowtap/shadowtap/pkg/capture"
	"github.com/shadowtap/shadowtap/pkg/capture/attach"
	"github.com/shadowtap/shadowtap/pkg/capture/netns"
)

const (
	// maxPods bounds the network namespaces captured in, and so the programs
	// in the kernel.
	maxPods = 1024
	// When a namespace is gone, its last segments may still be in a ring: a
	// reader that polls takes milliseconds to get there.
	lastSegments = time.Second
)

// podSource captures what goes to pods in their own network namespaces, and
// everything else from this host's interfaces.
//
// An endpoint is captured where its address is: in the namespaces that have it,
// or else on this host, unless the workloads of this node are known and it is
// none that uses the host's network.
type podSource struct {
	*liveSource
	watcher *netns.Watcher
	log     *slog.Logger
	// expel ends the flows of instances that are gone.
	expel  func(instances map[uint32]bool)
	panics *panics
	// left is called when a namespace has lost its addresses, or is gone; nil
	// if nobody wants to know.
	left  func()
	found chan struct{} // closed when all namespaces that were there are known
	ready chan struct{}
	// local are the addresses of instances that loopback ones stand for, kept
	// until expel was called for them.
	local   atomic.Pointer[map[uint32]podAddresses]
	current atomic.Pointer[podStatus]
	warn    *rate.Sometimes

	mu        sync.Mutex // guards what follows; held while the kernel is told
	started   bool
	ended     bool
	endpoints []netip.AddrPort
	workloads map[netip.Addr]Workload // nil: not known
	plan      plan                    // made of these
	pods      map[*netns.Namespace]*pod
	gone      map[uint32]bool // instances to expel
	expiry    *time.Timer
}

// pod is one network namespace.
type pod struct {
	addresses []netip.Addr
	instance  *capture.Instance // nil: nothing is captured there
	failure   string            // why not, as it was last logged
}

// podAddresses are the addresses of a pod that are captured.
type podAddresses struct{ v4, v6 netip.Addr }

// of returns the one that a loopback address stands for.
func (a podAddresses) of(loopback netip.Addr) netip.Addr {
	if loopback.Is4() && a.v4.IsValid() || !a.v6.IsValid() {
		return a.v4
	}
	return a.v6
}

// podStatus is what is reported of pods.
type podStatus struct {
	hooks    []hook
	captured int // namespaces
	missing  int // addresses of endpoints on this node that no namespace has
}

var _ source = (*podSource)(nil)

func openPods(cfg Config, panics *panics, expel func(map[uint32]bool), held bool) (source, error) {
	live, err := openLive(cfg, panics, held)
	if err != nil {
		return nil, err
	}
	p := &podSource{
		liveSource: live,
		log:        cfg.Logger,
		expel:      expel,
		panics:     panics,
		found:      make(chan struct{}),
		ready:      make(chan struct{}),
		warn:       &rate.Sometimes{First: 1, Interval: time.Minute},
		pods:       make(map[*netns.Namespace]*pod),
		gone:       make(map[uint32]bool),
	}
	p.local.Store(&map[uint32]podAddresses{})
	p.current.Store(&podStatus{})
	p.watcher, err = netns.New(netns.Options{Files: cfg.NetNS, Proc: cfg.NetNSProc, Guard: panics.in(inPods), Logger: cfg.Logger})
	if err != nil {
		return nil, errors.Join(err, live.Close())
	}
	return p, nil
}

// Run captures until ctx ends.
func (p *podSource) Run(ctx context.Context, sinks []capture.Sink) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	p.mu.Lock()
	p.started = true
	p.mu.Unlock()
	var group errgroup.Group
	group.Go(func() error {
		defer cancel() // to know of no more pods is not to capture
		return p.panics.try(inPods, func() error {
			return p.watcher.Run(ctx, p.changed, p.vanished, p.allFound)
		})
	})
	group.Go(func() error {
		for _, done := range []<-chan struct{}{p.found, p.liveSource.Ready()} {
			select {
			case <-done:
			case <-ctx.Done():
				return nil
			}
		}
		close(p.ready)
		return nil
	})
	err := p.liveSource.Run(ctx, sinks)
	cancel()
	err = errors.Join(err, group.Wait())
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
	p.publish()
	if p.expiry != nil {
		p.expiry.Stop()
	}
	return err
}

// Close releases what openPods got hold of, after Run if that was called.
func (p *podSource) Close() error {
	err := p.liveSource.Close()
	if !p.started {
		err = errors.Join(err, p.watcher.Close())
	}
	return err
}

// Ready is closed once traffic is being captured, in pods too.
func (p *podSource) Ready() <-chan struct{} { return p.ready }

// Hooks says where live capture is attached.
func (p *podSource) Hooks() []hook { return append(p.liveSource.Hooks(), p.current.Load().hooks...) }

// Namespaces returns in how many network namespaces is captured, and how many
// addresses of this node's endpoints none has.
func (p *podSource) Namespaces() (captured, missing int) {
	s := p.current.Load()
	return s.captured, s.missing
}

// Endpoint returns the endpoint that a flow goes to. To a loopback address a
// proxy in a pod hands on what came for the pod's.
func (p *podSource) Endpoint(f capture.Flow) netip.AddrPort {
	dst := f.Destination()
	if f.Instance == 0 || !dst.Addr().IsLoopback() {
		return dst
	}
	if a, ok := (*p.local.Load())[f.Instance]; ok {
		return netip.AddrPortFrom(a.of(dst.Addr()), dst.Port())
	}
	return dst
}

// SetTargets replaces the captured endpoints.
func (p *podSource) SetTargets(endpoints []netip.AddrPort) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.endpoints = endpoints
	return p.adapt()
}

// SetWorkloads replaces the captured endpoints, and says which workloads run on
// this node: an endpoint that is none of them is not captured, and one that has
// a network namespace of its own only there.
func (p *podSource) SetWorkloads(endpoints []netip.AddrPort, workloads []Workload) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.endpoints = endpoints
	p.workloads = make(map[netip.Addr]Workload)
	for _, w := range workloads {
		for _, a := range w.Addresses {
			p.workloads[a.Unmap()] = w
		}
	}
	return p.adapt()
}

// changed looks at a namespace that is new, or in which something happened.
func (p *podSource) changed(n *netns.Namespace) {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := p.pods[n]
	if at == nil {
		at = &pod{}
		p.pods[n] = at
	}
	moved := !slices.Equal(at.addresses, n.Addresses())
	at.addresses = n.Addresses()
	if moved { // first, or a request might be captured in both places
		p.settleHost()
		p.noteLeft()
	}
	p.settle(n, at, true)
	p.publish()
	if at.instance == nil && !p.foundAll() {
		p.clean(n)
	}
}

// clean removes what a killed agent left in a namespace that was there before
// this one, and that the rules do not concern any more: it would keep the rings
// of that agent in memory as long as the pod lives.
func (p *podSource) clean(n *netns.Namespace) {
	log := p.log.With("namespace", n.String())
	err := n.Enter(func() error { return attach.Clean(log) })
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		log.Warn("looking for filters of agents that are gone", "err", err)
	}
}

func (p *podSource) foundAll() bool {
	select {
	case <-p.found:
		return true
	default:
		return false
	}
}

// vanished forgets a namespace.
func (p *podSource) vanished(n *netns.Namespace) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if at := p.pods[n]; at != nil {
		p.leave(n, at)
		delete(p.pods, n)
		p.publish()
		p.settleHost()
		p.noteLeft()
	}
}

// noteLeft passes on that addresses may be gone.
func (p *podSource) noteLeft() {
	if p.left != nil {
		p.left()
	}
}

// inhabited are the addresses that namespaces have.
func (p *podSource) inhabited() map[netip.Addr]bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.inPods()
}

func (p *podSource) inPods() map[netip.Addr]bool {
	all := make(map[netip.Addr]bool)
	for _, at := range p.pods {
		for _, a := range at.addresses {
			all[a] = true
		}
	}
	return all
}

// allFound begins with the host, which waits until it is known which endpoints
// are in a pod: one must not be captured at both for a moment.
func (p *podSource) allFound() {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.found)
	p.settleHost()
}

func (p *podSource) settleHost() {
	if err := p.adaptHost(); err != nil {
		p.log.Error("setting the captured endpoints of this host", "error", err)
	}
}

// adapt makes what is captured what it should be everywhere: new endpoints
// come before old ones go.
func (p *podSource) adapt() error {
	p.plan = newPlan(p.endpoints, p.workloads)
	for n, at := range p.pods {
		if len(p.plan.targets(at.addresses)) > 0 {
			p.settle(n, at, false)
		}
	}
	err := p.adaptHost()
	for n, at := range p.pods {
		if len(p.plan.targets(at.addresses)) == 0 {
			p.settle(n, at, false)
		}
	}
	p.publish()
	return err
}

// settle makes what is captured in a namespace what it should be; look says
// that its interfaces may have changed. What fails is tried again when
// something changes there, and every few minutes.
func (p *podSource) settle(n *netns.Namespace, at *pod, look bool) {
	targets := p.plan.targets(at.addresses)
	if len(targets) == 0 || p.ended {
		p.leave(n, at)
		return
	}
	err := p.enter(n, at, targets, p.plan.proxied(at.addresses), look)
	switch {
	case err == nil:
		at.failure = ""
	case errors.Is(err, fs.ErrNotExist): // vanished will be called
	case errors.Is(err, capture.ErrClosed): // so will nothing more
	case err.Error() != at.failure:
		at.failure = err.Error()
		p.log.Error("not captured in a network namespace", "namespace", n.String(), "error", err)
	}
}

// enter captures targets in a namespace.
func (p *podSource) enter(n *netns.Namespace, at *pod, targets []capture.Target, proxied, look bool) (err error) {
	if at.instance == nil {
		if p.captured() >= maxPods {
			return fmt.Errorf("more than %d network namespaces", maxPods)
		}
		look = true
		if at.instance, err = p.NewInstance(capture.InstanceConfig{Name: n.String(), Enter: n.Enter}); err != nil {
			return err
		}
	}
	local := podAddresses{}
	for _, t := range targets {
		if t.Addr.Is4() {
			local.v4 = t.Addr
		} else {
			local.v6 = t.Addr
		}
	}
	p.setLocal(at.instance.ID(), local)
	if err := at.instance.SetTargets(targets, proxied); err != nil {
		return err
	}
	if look || at.failure != "" {
		return at.instance.Sync()
	}
	return nil
}

// leave ends the capture in a namespace.
func (p *podSource) leave(n *netns.Namespace, at *pod) {
	if at.instance == nil {
		return
	}
	if err := at.instance.Close(); err != nil {
		p.log.Error("leaving a network namespace", "namespace", n.String(), "error", err)
	}
	p.gone[at.instance.ID()] = true
	at.instance, at.failure = nil, ""
	if p.expiry == nil && !p.ended {
		p.expiry = time.AfterFunc(lastSegments, func() { _ = p.panics.guard(inPods, p.expelGone) })
	}
}

// expelGone forgets what is known of instances that are gone.
func (p *podSource) expelGone() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		return
	}
	p.expel(p.gone)
	next := make(map[uint32]podAddresses)
	for id, a := range *p.local.Load() {
		if !p.gone[id] {
			next[id] = a
		}
	}
	p.local.Store(&next)
	p.gone, p.expiry = make(map[uint32]bool), nil
}

// setLocal says what loopback addresses in an instance stand for.
func (p *podSource) setLocal(id uint32, a podAddresses) {
	last := *p.local.Load()
	if last[id] == a {
		return
	}
	next := make(map[uint32]podAddresses, len(last)+1)
	for id, a := range last {
		next[id] = a
	}
	next[id] = a
	p.local.Store(&next)
}

func (p *podSource) captured() (n int) {
	for _, at := range p.pods {
		if at.instance != nil {
			n++
		}
	}
	return n
}

// publish makes what is attached visible to others.
func (p *podSource) publish() {
	s := &podStatus{captured: p.captured(), missing: p.current.Load().missing}
	for n, at := range p.pods {
		if at.instance == nil {
			continue
		}
		for _, h := range at.instance.Hooks() {
			s.hooks = append(s.hooks, hook{h, n.String()})
		}
	}
	p.current.Store(s)
}
