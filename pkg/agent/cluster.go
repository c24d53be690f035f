package agent

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/shadowtap/shadowtap/pkg/kube"
	"github.com/shadowtap/shadowtap/pkg/rules"
)

// cluster is the API server as the source of the rules.
type cluster struct {
	source clusterSource
	creds  kube.Credentials
	synced chan struct{} // closed when the first rules are in use
	local  *localPods
}

// clusterSource is what the agent uses of a kube.Source.
type clusterSource interface {
	Run(ctx context.Context, changed func())
	Read() (*rules.Snapshot, rules.Problems)
	Need(rules.Needs) (known bool)
	Report(*rules.Snapshot, rules.Problems)
	Touch()
	Status() kube.Status
}

// startWithin spreads the first requests of the agents of a DaemonSet. It is
// short, since a Pod of this node may be waiting to be captured.
const startWithin = time.Second

func newCluster() *cluster {
	return &cluster{synced: make(chan struct{}), local: newLocalPods()}
}

// InPod reports whether this process runs in a Pod that may take its rules from
// the API server.
func InPod() bool { return kube.InPod() }

func (a *Agent) openCluster() error {
	c := newCluster()
	cfg := kube.Config{
		Kubeconfig: a.cfg.Kubeconfig, Version: a.cfg.Version, Guard: a.panics.in(inCluster), Logger: a.log,
		GatewayStatus: a.cfg.GatewayStatus,
	}
	if kube.InPod() {
		cfg.StartWithin = startWithin
	}
	if a.cfg.Node != "" {
		cfg.Node, cfg.Pods = a.cfg.Node, c.local
	}
	source, err := kube.New(cfg)
	if err != nil {
		return err
	}
	c.source, c.creds, a.cluster = source, source.Credentials(), c
	return nil
}

// followCluster applies what the API server says until ctx ends.
func (a *Agent) followCluster(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel() // also by a panic
	wg.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-a.reload:
				a.cluster.source.Touch()
			case <-a.cluster.local.changed:
				a.reloadSafely(a.retarget)
			}
		}
	})
	a.cluster.source.Run(ctx, func() { a.reloadSafely(a.reloadCluster) })
	return nil
}

// reloadCluster compiles what the API server said and applies it. Unlike a
// file, which somebody is about to mend, an object that is wrong is left out
// alone.
func (a *Agent) reloadCluster() {
	snapshot, problems := a.cluster.source.Read()
	options, local := a.cfg.Rules, a.cluster.local.namespaces()
	options.PodsAt = func(addr netip.Addr) []string { return local[addr] }
	program, more := rules.CompileEach(snapshot, options)
	problems = append(problems, more...)
	if program == nil {
		a.logProblems(problems)
		a.noteLoad(problems, true)
		return
	}
	if !a.cluster.source.Need(program.Needs()) {
		return // endpoints are on their way; this is called again
	}
	problems = append(problems, a.checkTLS(program)...)
	a.logProblems(problems)
	a.cluster.source.Report(snapshot, problems)
	if zone := zoneOf(snapshot, a.cfg.Node); zone != "" {
		a.mirrors.setZone(zone) // for good: a node does not move
	}
	if err := a.apply(program, problems); err != nil {
		a.log.Error("rules reloaded in part", "error", err)
	}
	select {
	case <-a.cluster.synced:
		a.log.Debug("rules reloaded", "targets", len(program.Targets()), "mirrors", len(program.Mirrors()))
	default:
		close(a.cluster.synced)
		a.log.Info("rules loaded from the cluster", "targets", len(program.Targets()), "mirrors", len(program.Mirrors()))
	}
}

// zoneOf is the zone of a node. It is known as soon as it matters: when an
// endpoint on the node is captured.
func zoneOf(s *rules.Snapshot, node string) string {
	for i := range s.EndpointSlices {
		for _, e := range s.EndpointSlices[i].Endpoints {
			if e.Node == node && node != "" && e.Zone != "" {
				return e.Zone
			}
		}
	}
	return ""
}

// logProblems logs the problems that are new. In a cluster rules are compiled
// anew whenever an endpoint comes or goes.
func (a *Agent) logProblems(problems rules.Problems) {
	known := map[rules.Problem]bool{}
	if last := a.loaded.Load(); last != nil {
		for _, p := range last.Problems {
			known[p] = true
		}
	}
	for _, p := range problems {
		if known[p] {
			continue
		}
		if p.Warning {
			a.log.Warn("rules", "problem", p.Error())
		} else {
			a.log.Error("rules: the object is left out", "problem", p.Error())
		}
	}
}

// targets are the endpoints to capture here. Those on other nodes are captured
// there: a request between two nodes must not be mirrored by both.
func (a *Agent) targets(g *generation) []netip.AddrPort {
	all := g.program.Targets()
	if a.cluster == nil || a.cfg.Node == "" {
		return all
	}
	here, local := a.cluster.local.addresses(), a.cluster.local.namespaces()
	out := slices.DeleteFunc(slices.Clone(all), func(t netip.AddrPort) bool {
		return !here[t.Addr()] || !g.program.MayCapture(t.Addr(), local[t.Addr()])
	})
	for addr, sibling := range g.known() {
		for _, t := range all {
			if t.Addr() == sibling {
				out = append(out, netip.AddrPortFrom(addr, t.Port()))
			}
		}
	}
	return out
}

// share leaves the other nodes their part of a program's limits.
func (a *Agent) share(p *rules.Program) {
	if a.cluster == nil || a.cfg.Node == "" {
		return
	}
	here := a.cluster.local.addresses()
	p.Share(func(addr netip.Addr) bool { return here[addr] })
}

// setTargets captures the endpoints of a generation.
func (a *Agent) setTargets(g *generation) error {
	if pods, ok := a.source.(*podSource); ok && a.cluster != nil && a.cfg.Node != "" {
		return pods.SetWorkloads(a.targets(g), a.cluster.local.workloads())
	}
	return a.source.SetTargets(a.targets(g))
}

// retarget captures at the Pods that this node has now, also at those that the
// rules do not know yet.
func (a *Agent) retarget() {
	a.applying.Lock()
	defer a.applying.Unlock()
	g := a.current.Load()
	a.findSiblings(g)
	a.share(g.program)
	if err := a.setTargets(g); err != nil {
		a.log.Error("setting the captured endpoints", "error", err)
	}
}

// findSiblings has g decide what arrives at Pods of this node that are new to
// its rules.
func (a *Agent) findSiblings(g *generation) {
	if a.cluster == nil || a.cfg.Node == "" {
		return
	}
	var inhabited map[netip.Addr]bool
	if pods, ok := a.source.(*podSource); ok {
		inhabited = pods.inhabited()
	}
	a.cluster.local.forget(inhabited)
	siblings := g.program.Siblings(a.cluster.local.described())
	g.siblings.Store(&siblings)
}
