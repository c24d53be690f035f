package kube

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"

	"github.com/shadowtap/shadowtap/pkg/rules"
)

// Config is what a Source needs to know.
type Config struct {
	// Kubeconfig is the file that says how to reach the API server. Empty
	// means the service account of the Pod, or outside of one what kubectl
	// would use.
	Kubeconfig string
	// Pods, unless nil, is told of the Pods of the node called Node. Events are
	// reported in the name of Node, none without it.
	Node string
	Pods PodSink
	// GatewayStatus has the source write the status of the GatewayClasses of
	// ControllerName, of their Gateways and of the routes that name these.
	GatewayStatus bool
	// StartWithin is the time within which, at random, Run begins to ask: all
	// agents of a cluster may have been started at once. 0 is immediately.
	StartWithin time.Duration
	// Version of the program, for the log of the API server.
	Version string
	// Guard runs a step of the work. It may contain a panic of the step, which
	// it then returns as an error: an object that a panic is met with is left
	// out and reported, and whatever else was at it begins anew after a second.
	// If nil, a step is just run.
	Guard func(step func()) (fault error)
	// Logger is told of what is wrong and of what comes and goes; not nil.
	Logger *slog.Logger
}

// Source follows what the API server says about rules. Its methods may be
// called concurrently.
type Source struct {
	cfg     Config
	log     *slog.Logger
	quiet   logr.Logger // client-go's own remarks
	clients *clients
	creds   Credentials
	pace    pace
	wake    chan struct{} // holds one: Run has something to look at
	kinds   kindState
	reports reports
	spread  time.Duration // the longest wait before an Event is created

	statuses     statuses
	statusSpread time.Duration // see the constant

	mu      sync.Mutex
	release *string           // of the Gateway API, nil if it is not known
	served  map[string]string // version of each kind by definition; nil before the first discovery
	needs   rules.Needs
	needed  map[rules.ServiceName]bool
	planned bool // watches are those that served and needs ask for
	watches map[string]*running
	desired map[string]wanted // by key of watches
	changed bool              // since the last delivery
	ready   bool              // all that rules need was known once
	since   time.Time         // something is missing
	contact contact
}

// grace is how long changes wait for objects that rules came to need, once
// there was a complete set of rules.
const grace = 5 * time.Second

// New prepares a Source; nothing is asked of the API server before Run.
func New(cfg Config) (*Source, error) {
	rc, err := restConfig(cfg.Kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("kubeconfig: %w", err)
	}
	return newSource(cfg, rc)
}

func newSource(cfg Config, rc *rest.Config) (*Source, error) {
	if cfg.Guard == nil {
		cfg.Guard = func(step func()) error {
			step()
			return nil
		}
	}
	rc = rest.CopyConfig(rc)
	rc.UserAgent = userAgent(cfg.Version)
	c, err := newClients(rc)
	if err != nil {
		return nil, err
	}
	return &Source{
		cfg:     cfg,
		log:     cfg.Logger,
		quiet:   logr.FromSlogHandler(quiet{cfg.Logger.Handler()}),
		clients: c,
		creds:   credentialsOf(rc),
		pace:    pace{quick: 10 * time.Millisecond, settle: 100 * time.Millisecond, maxSettle: 500 * time.Millisecond, restFactor: 9},
		wake:    make(chan struct{}, 1),
		kinds:   kindState{changed: make(chan struct{}, 1)},
		reports: reports{wake: make(chan struct{}, 1)},
		spread:  reportSpread,

		statuses:     newStatuses(),
		statusSpread: statusSpread,

		watches: map[string]*running{},
		desired: map[string]wanted{},
	}, nil
}

// Credentials returns what Run will need of files and programs.
func (s *Source) Credentials() Credentials { return s.creds }

// Run follows the API server until ctx ends. It calls changed from this
// goroutine when Read would say something new, the first time when everything
// is known. Changes are gathered while changed runs, and for several times as
// long after it.
func (s *Source) Run(ctx context.Context, changed func()) {
	if s.cfg.StartWithin > 0 {
		select {
		case <-ctx.Done():
			return
		case <-time.After(rand.N(s.cfg.StartWithin)):
		}
	}
	ctx, cancel := context.WithCancel(klog.NewContext(ctx, s.quiet))
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel() // also by a panic
	wg.Go(func() { s.followKinds(ctx) })
	wg.Go(func() { s.runReports(ctx) })
	if s.cfg.GatewayStatus {
		wg.Go(func() { s.untilDone(ctx, func() { s.runStatuses(ctx) }) })
	}
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		next := faultPause // if the step ends in a panic
		_ = s.cfg.Guard(func() { next = s.step(ctx, time.Now(), changed) })
		timer.Reset(next)
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
		case <-timer.C:
		}
	}
}

const (
	// idle is how long Run sleeps if nothing wakes it.
	idle = time.Hour
	// faultPause is how long what met with a panic waits before it goes on.
	faultPause = time.Second
)

// step does what is due and says when to look again.
func (s *Source) step(ctx context.Context, now time.Time, changed func()) time.Duration {
	if wait := s.prepare(ctx, now); wait > 0 {
		return wait
	}
	begin := time.Now()
	changed()
	end := time.Now()
	s.pace.end(end, end.Sub(begin))
	s.signal() // for what changed meanwhile
	return idle
}

// prepare starts and stops watches, and says how long a delivery has to wait. If
// it need not, it has begun.
func (s *Source) prepare(ctx context.Context, now time.Time) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reconcile(ctx)
	if s.changed {
		s.changed = false
		s.pace.change(now)
	}
	wait := s.waitForMissing(now)
	at, waiting := s.pace.due()
	if !waiting || wait == idle {
		return idle
	}
	if delay := max(wait, at.Sub(now)); delay > 0 {
		return delay
	}
	s.pace.begin()
	return 0
}

// waitForMissing returns how much longer a delivery has to wait for what is
// missing, 0 if nothing is. The first complete set of rules is waited for as long
// as it takes, which is idle; any later one for grace. The lock is held.
func (s *Source) waitForMissing(now time.Time) time.Duration {
	if len(s.missing()) == 0 {
		s.since = time.Time{}
		return 0
	}
	if s.since.IsZero() {
		s.since = now
	}
	if !s.ready {
		return idle
	}
	return max(0, s.since.Add(grace).Sub(now))
}

// signal wakes Run.
func (s *Source) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// noteChange notes that Read would say something new. The lock is held.
func (s *Source) noteChange() {
	s.changed = true
	s.signal()
}

// Touch has changed called as if something had changed.
func (s *Source) Touch() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.noteChange()
}

// Read returns the objects as they are known now, and what was wrong with
// those that could not be decoded completely. It does not wait.
func (s *Source) Read() (*rules.Snapshot, rules.Problems) {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := &rules.Snapshot{}
	var problems rules.Problems
	// In an order of their own: rules that compete must not take turns.
	watches := slices.SortedFunc(maps.Values(s.watches), func(a, b *running) int {
		return cmp.Or(cmp.Compare(order(s.desired[a.key]), order(s.desired[b.key])), strings.Compare(a.key, b.key))
	})
	seen := map[string]map[string]bool{} // by class
	for _, w := range watches {
		if c := w.collected(); c != nil && c.synced {
			if seen[w.class] == nil {
				seen[w.class] = make(map[string]bool, len(c.objects))
			}
			c.add(out, &problems, seen[w.class])
		}
	}
	return out, problems
}

// order puts watches that are wanted before those whose place they take.
func order(w wanted) int {
	if w != 0 {
		return 0
	}
	return 1
}

// Need says what the rules were found to depend on. It reports whether all of
// that is known, or has been waited for long enough; if not, the compiled rules
// lack endpoints that there may be, and changed will be called once they are
// known.
func (s *Source) Need(n rules.Needs) (known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	known = s.need(n)
	s.ready = s.ready || known
	return known
}

// need is Need with the lock held.
func (s *Source) need(n rules.Needs) bool {
	if !n.Equal(s.needs) {
		s.needs, s.planned = n, false
		s.needed = make(map[rules.ServiceName]bool, len(n.Services))
		for _, name := range n.Services {
			s.needed[name] = true
		}
		// Endpoints that nobody needed may have changed since they were read.
		s.noteChange()
		if s.served != nil && s.covered() { // the same watches have it all
			s.planned = true
			return len(s.missing()) == 0
		}
		s.since = time.Time{}
		return false
	}
	return s.waitForMissing(time.Now()) == 0
}

// Status says how a Source is doing.
type Status struct {
	// Reached is whether the API server answered the last request.
	Reached bool
	// Failures counts requests that failed.
	Failures uint64
	// Missing are the kinds that were not listed yet.
	Missing []string
	// Watches is how many watches there are, Objects how many objects they
	// hold.
	Watches, Objects int
}

// Status returns how s is doing.
func (s *Source) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := Status{Reached: !s.contact.lost, Failures: s.contact.failures, Missing: s.missing(), Watches: len(s.watches)}
	for _, w := range s.watches {
		if c := w.collected(); c != nil {
			st.Objects += len(c.objects)
		}
	}
	return st
}
