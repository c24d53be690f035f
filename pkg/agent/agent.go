// Package agent joins the parts: it takes segments from the kernel or a file
// through reassembly, HTTP framing and the rules to the mirrors, keeps the
// account of what became of every request, follows the rules files, and
// serves the admin API.
package agent

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"github.com/shadowtap/shadowtap/pkg/capture"
	"github.com/shadowtap/shadowtap/pkg/capture/netns"
	"github.com/shadowtap/shadowtap/pkg/httpstream"
)

// Agent is one run. Create it with New, then call Run once. Its other methods may
// be called concurrently, before, during and after Run.
type Agent struct {
	cfg    Config
	log    *slog.Logger
	since  time.Time
	memory *budget
	// disorder is the part of memory that is for bytes out of order.
	disorder *budget
	own      *ownBudget
	source   source
	shards   []*shard

	current atomic.Pointer[generation]
	mirrors *mirrorSet
	tls     *tls.Config
	printer *printer // nil if nothing is printed
	// comparing is nil if answers are not compared.
	comparing *comparing
	reload    chan struct{}
	cluster   *cluster // nil if the rules are not from one
	// applying is held while a generation takes over from another.
	applying sync.Mutex
	loaded   atomic.Pointer[loadState]
	// rulesSize is how many bytes the rules files had that were loaded last.
	rulesSize atomic.Int64
	// admin and metrics are nil if there is none.
	admin, metrics net.Listener
	final          atomic.Pointer[Account]

	tap         handoverTap   // nil unless capture is live
	user        int           // that started the process
	home        netns.ID      // the network namespace it started in
	predecessor *peer         // taken over from; nil if there is none
	successors  *seat         // nil if none can take over
	successor   *peer         // that has taken over, while this agent lingers
	established chan struct{} // closed once there is nobody left to take over from
	given       atomic.Bool   // the flows are another agent's now
	handing     sync.Mutex    // held while flows go from one agent to the other

	// drainCtx ends when what is queued or in flight must be given up.
	drainCtx  context.Context
	stopDrain context.CancelFunc
	panics    *panics
	// See occasionally.
	invalidLog, panicLog *rate.Sometimes
}

// occasionally bounds what is logged of what others do: whoever sends it must
// not be able to fill the log.
func occasionally() *rate.Sometimes {
	return &rate.Sometimes{First: 10, Interval: 10 * time.Second}
}

// New loads the rules and prepares capture; nothing is attached yet. Rules
// that do not compile are an error of type rules.Problems.
func New(cfg Config) (*Agent, error) {
	if cfg.Kube && cfg.Node != "" && !cfg.inPods() {
		cfg.NetNS = netns.DefaultFiles
	}
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.DryRun && cfg.Output == NoOutput {
		cfg.Output = JSONOutput
	}
	a := &Agent{
		cfg:        cfg,
		log:        cfg.Logger,
		since:      time.Now(),
		memory:     newBudget(cfg.MemoryLimit / 2),
		reload:     make(chan struct{}, 1),
		panics:     newPanics(cfg.Logger),
		invalidLog: occasionally(),
		panicLog:   occasionally(),

		established: make(chan struct{}),
		user:        os.Geteuid(),
	}
	a.disorder = newBudget(a.memory.limit / 4)
	a.own = &ownBudget{budget: a.memory}
	a.drainCtx, a.stopDrain = context.WithCancel(context.Background())
	a.mirrors = newMirrorSet(a.newMirror)
	if err := a.open(); err != nil {
		a.close()
		return nil, err
	}
	return a, nil
}

// open acquires what a run needs. What it got is released by close, also if it
// fails half-way.
func (a *Agent) open() (err error) {
	if a.cfg.Compare {
		if a.comparing, err = newComparing(&a.cfg, a.memory, a.panics); err != nil {
			return err
		}
	}
	if a.tls, err = tlsConfig(a.cfg); err != nil {
		return err
	}
	if a.cfg.Kube {
		if err := a.openCluster(); err != nil {
			return err
		}
	}
	program, problems := a.load()
	if err := problems.Err(); err != nil {
		return err
	}
	a.logProblems(problems)
	if !a.offline() && !a.cfg.DryRun {
		if a.home, err = netns.Own(); err != nil {
			return err
		}
		if err := a.meet(); err != nil {
			return err
		}
	}
	if err := a.listen(true); err != nil {
		return err
	}
	if a.source, err = openSource(a.cfg, a.panics, a.expel, a.predecessor != nil); err != nil {
		return err
	}
	a.tap, _ = a.source.(handoverTap)
	if pods, ok := a.source.(*podSource); ok && a.cluster != nil {
		pods.left = a.cluster.local.signal
	}
	for range a.source.Shards() {
		a.shards = append(a.shards, a.newShard())
	}
	if a.cfg.Output != NoOutput {
		a.printer = newPrinter(a.cfg.Stdout, a.cfg.Output, a.offline(), a.cfg.MemoryLimit/16, a.panics)
	}
	return a.apply(program, problems)
}

// expel ends the flows of captured network namespaces that are gone.
func (a *Agent) expel(instances map[uint32]bool) {
	for _, s := range a.shards {
		s.expel(instances)
	}
}

// offline reports whether the traffic comes from a file.
func (a *Agent) offline() bool { return a.cfg.PCAP != "" }

// Run captures and mirrors until ctx ends or the capture file does. It then
// detaches, lets what was captured run through, waits up to
// Config.DrainTimeout for copies under way, and closes the account.
func (a *Agent) Run(ctx context.Context) error {
	defer a.close()
	debug.SetMemoryLimit(a.cfg.MemoryLimit)
	// Services end when capture has: the admin API answers while the account
	// is being closed, and an ending file ends the watch of the rules.
	services, stopServices := context.WithCancel(context.Background())
	defer stopServices()
	following, stopFollowing := context.WithCancel(services)
	defer stopFollowing()
	var group errgroup.Group
	capturing, stopCapturing := context.WithCancel(ctx)
	defer stopCapturing()
	adminServed, metricsServed := false, false
	serve := func() { // what is not served yet
		if a.admin != nil && !adminServed {
			adminServed = true
			group.Go(func() error {
				defer stopCapturing()
				return a.serveAdmin(services)
			})
		}
		if a.metrics != nil && !metricsServed {
			metricsServed = true
			group.Go(func() error {
				defer stopCapturing()
				return a.serveMetrics(services)
			})
		}
	}
	serve()
	group.Go(func() error {
		if err := a.panics.try(inTakeover, func() error { return a.establish(capturing) }); err != nil {
			stopCapturing()
			return err
		}
		serve()
		return nil
	})
	if a.successors != nil {
		group.Go(func() error {
			// After a panic everything is as it was: for the next one to try.
			for a.panics.guard(inTakeover, func() { a.serveHandover(capturing, stopCapturing) }) != nil {
			}
			return nil
		})
	}
	group.Go(func() error {
		err := a.panics.try(inAgent, func() error { return a.followRules(following) })
		if err != nil {
			stopCapturing() // an agent that no longer follows its rules must not look like one that does
		}
		return err
	})
	group.Go(func() error {
		select {
		case <-a.source.Ready():
			a.log.Info("capturing", "targets", len(a.current.Load().program.Targets()), "hooks", len(a.source.Hooks()))
		case <-services.Done():
		}
		return nil
	})

	sinks := make([]capture.Sink, len(a.shards))
	for i, s := range a.shards {
		sinks[i] = s
	}
	err := a.capture(capturing, sinks)
	stopCapturing() // and with it a handover that has begun
	if a.successors != nil {
		_ = a.successors.Close() // nothing is captured any more: the next one need not wait
	}
	err = errors.Join(err, a.panics.guard(inAgent, func() { a.closeAccount(ctx) }))
	if a.given.Load() && a.successor != nil {
		stopFollowing()
		a.linger(ctx)
	}
	stopServices()
	err = errors.Join(err, group.Wait())
	final, accountErr := a.Account()
	a.final.Store(&final)
	return errors.Join(err, accountErr)
}

// capture runs the source. What live capture meets with is contained where it
// is met, since rings and programs must outlive whoever uses them.
func (a *Agent) capture(ctx context.Context, sinks []capture.Sink) error {
	if a.offline() {
		return a.panics.try(inAgent, func() error { return a.source.Run(ctx, sinks) })
	}
	return a.source.Run(ctx, sinks)
}

// closeAccount ends every flow and waits for the copies under way.
func (a *Agent) closeAccount(ctx context.Context) {
	a.handing.Lock()
	defer a.handing.Unlock()
	if a.given.Load() {
		for _, s := range a.shards {
			s.relinquish()
		}
		defer time.AfterFunc(a.cfg.DrainTimeout, a.stopDrain).Stop()
	}
	for _, s := range a.shards {
		s.close()
	}
	// A file's copies may take their time unless somebody wants to stop.
	stop := context.AfterFunc(ctx, func() {
		time.AfterFunc(a.cfg.DrainTimeout, a.stopDrain)
	})
	defer stop()
	a.mirrors.drain(a.drainCtx)
	if a.comparing != nil {
		a.comparing.close()
	}
}

// close releases everything that open got.
func (a *Agent) close() {
	a.stopDrain()
	a.closeListeners()
	if a.successors != nil {
		_ = a.successors.Close()
	}
	if a.predecessor != nil {
		a.predecessor.close()
	}
	if a.printer != nil {
		if err := a.printer.close(a.cfg.DrainTimeout); err != nil {
			a.log.Error("writing the output", "error", err)
		}
		a.printer = nil
	}
	if a.comparing != nil {
		a.comparing.close()
	}
	if a.source != nil {
		if err := a.source.Close(); err != nil {
			a.log.Warn("closing capture", "error", err)
		}
	}
}

// closeListeners lets go of the addresses of the admin API and the metrics.
func (a *Agent) closeListeners() {
	for _, l := range []net.Listener{a.admin, a.metrics} {
		if l != nil {
			_ = l.Close()
		}
	}
}

// logInvalid says what was wrong with a request, for the first ones and then
// now and again.
func (a *Agent) logInvalid(f capture.Flow, detail error) {
	a.invalidLog.Do(func() {
		a.log.Warn("invalid request", "source", f.Source(), "destination", f.Destination(), "error", detail)
	})
}

// Account returns the account as it stands; after Run, the final one. An error
// says that the kernel's counters could not be read, which the result lacks.
func (a *Agent) Account() (Account, error) {
	if final := a.final.Load(); final != nil {
		return *final, nil
	}
	acc := Account{Since: a.since.UTC()}
	var total tally
	for _, s := range a.shards {
		s.mu.Lock()
		t, st := s.tally, s.stats()
		s.mu.Unlock()
		total.add(&t)
		acc.Flows.Open += uint64(st.FlowsOpen)
		acc.Flows.Total += st.FlowsTotal
		acc.Flows.Gaps += st.Gaps
	}
	acc.Flows.Ignored = named(total.ignored[:], func(i int) string { return httpstream.Protocol(i).String() })
	acc.Flows.SkippedBytes, acc.Flows.Panics = total.skippedBytes, total.panics
	acc.Requests = total.requests()
	acc.Shadow = shadow(a.mirrors.stats())
	var err error
	if acc.Packets, err = a.source.Packets(); err != nil {
		return acc, fmt.Errorf("kernel counters: %w", err)
	}
	if live, ok := a.source.(interface{ Responses() (Packets, error) }); ok && a.comparing != nil {
		p, err := live.Responses()
		if err != nil {
			return acc, fmt.Errorf("kernel counters: %w", err)
		}
		acc.Responses = &p
	}
	return acc, nil
}
