package capture

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"

	"github.com/shadowtap/shadowtap/pkg/capture/attach"
)

// Config says what a Tap attaches to and what it may use. The zero value is a
// good start.
type Config struct {
	// Interfaces are names or globs (path.Match). None: every interface that
	// can carry packets to the targets.
	Interfaces []string
	// Attach is how to attach: tcx, clsact, or whichever the kernel has.
	Attach attach.Mode
	// Priority is the tc priority wanted with clsact; 0 leaves it to attach.
	Priority uint16
	// RingBytes is the size of one ring buffer and Shards their number, both
	// powers of two. 0: as many shards as processors, up to 16, of 4 to 16
	// MiB, together at most 64 MiB of locked kernel memory.
	RingBytes, Shards int
	// MaxBytesPerSecond bounds what the kernel program copies, over all CPUs
	// and with a credit of 125 ms; at least 64 KiB/s. 0: no bound.
	MaxBytesPerSecond uint64
	// Poll is how often a ring is looked at while there is traffic, at most
	// 400 ms; 0: 4 ms. It is the price of not waking a reader per packet: so
	// much latency at most for the copies, none for production.
	Poll time.Duration
	// Held attaches a tap that copies nothing before Copy and delivers nothing
	// before Deliver: one that takes over from another.
	Held bool
	// Responses has the segments that come from the targets captured, too,
	// with FlagResponse.
	Responses bool
	// Instances says that NewInstance will be called.
	Instances bool
	// Guard runs a step of the work of a Part. It may contain a panic of the
	// step, which it then returns as an error: the Part goes on with what is
	// left. If nil, a step is just run.
	Guard func(p Part, step func()) (fault error)
	// Logger receives what goes wrong in the background; nil: nobody.
	Logger *slog.Logger
}

// Part is what a Tap does in the background.
type Part uint8

// The parts of a Tap.
const (
	Rings      Part = iota // reading them
	Interfaces             // following them, and their addresses
)

func unguarded(_ Part, step func()) error {
	step()
	return nil
}

const defaultPoll = 4 * time.Millisecond

// ErrClosed is what the methods of a Tap and an Instance return after their
// end.
var ErrClosed = errors.New("tap is closed")

var (
	errRan         = errors.New("tap has run before")
	errNoInstances = errors.New("tap was not opened for instances")
)

// follower attaches the program to interfaces as they come and go.
type follower interface {
	Run(ctx context.Context) error
	Ready() <-chan struct{}
	Resync()
	Hooks() []attach.Hook
}

// Tap is the capture of one network namespace, the one of the thread that
// called Open, and of those of its Instances. Its methods may be called
// concurrently, except Close and Pause.
type Tap struct {
	config   Config
	log      *slog.Logger
	spec     *ebpf.CollectionSpec
	shardKey shardKey
	objs     *objects
	loader   *instanceLoader // nil without Config.Instances
	ringMaps []*ebpf.Map
	rings    []*ring
	control  *controlPage
	clock    clock
	addrs    *addrWatcher
	follower follower

	selection atomic.Pointer[selection]

	delivering chan struct{} // closed when readers may begin
	deliver    func()

	ending context.Context // done when Close is called
	end    context.CancelFunc
	runs   sync.WaitGroup

	mu      sync.Mutex // guards what follows
	ran     bool
	readers []*reader // while Run runs
	closed  bool
	ended   bool // no more instances
	host    hostAddrs
	targets []Target
	table   targetTable
	ports   *targetPorts
	// Instances are numbered from 1 on, and no number is used again: a late
	// packet of one is not taken for another's.
	lastInstance uint32
	instances    map[*Instance]struct{}
}

// Open loads the kernel program and allocates its rings. It attaches nothing
// yet. It needs Linux 5.10 and root, or the capabilities an error names; when
// the kernel's verifier refuses the program, the error carries the end of its
// log.
func Open(cfg Config) (tap *Tap, err error) {
	if err := checkPatterns(cfg.Interfaces); err != nil {
		return nil, err
	}
	shards, ringBytes, err := ringLayout(cfg.Shards, cfg.RingBytes)
	if err != nil {
		return nil, err
	}
	if cfg.Poll == 0 {
		cfg.Poll = defaultPoll
	}
	if cfg.Guard == nil {
		cfg.Guard = unguarded
	}
	if cfg.Poll < 0 || cfg.Poll > sleepMax {
		return nil, fmt.Errorf("poll interval of %v: must be at most %v", cfg.Poll, sleepMax)
	}
	t := &Tap{config: cfg, log: cfg.Logger, instances: make(map[*Instance]struct{})}
	if t.log == nil {
		t.log = slog.New(slog.DiscardHandler)
	}
	t.ending, t.end = context.WithCancel(context.Background())
	t.delivering = make(chan struct{})
	t.deliver = sync.OnceFunc(func() { close(t.delivering) })
	defer func() {
		if err != nil {
			t.end()
			_ = t.release()
		}
	}()

	if t.clock, err = newClock(); err != nil {
		return nil, err
	}
	if t.spec, err = newSpec(shards, ringBytes, cfg.MaxBytesPerSecond, cfg.Responses); err != nil {
		return nil, err
	}
	if err = t.spec.Variables[tapVarShardKey].Get(&t.shardKey); err != nil {
		return nil, fmt.Errorf("read %s: %w", tapVarShardKey, err)
	}
	if t.objs, t.ringMaps, err = load(t.spec); err != nil {
		return nil, err
	}
	if cfg.Instances {
		if t.loader, err = newInstanceLoader(t.spec, &t.objs.tapMaps, cfg.Responses); err != nil {
			return nil, err
		}
	}
	if t.control, err = mapControl(t.objs.Control); err != nil {
		return nil, err
	}
	mono, _ := t.clock.read()
	t.control.beat(mono)
	t.control.pause(cfg.Held)
	if !cfg.Held {
		t.deliver()
	}
	for _, m := range t.ringMaps {
		r, err := mapRing(m)
		if err != nil {
			return nil, err
		}
		t.rings = append(t.rings, r)
	}
	t.ports = newTargetPorts(t.control)
	t.table = newTargetTable(t.objs.Targets, t.ports)
	if t.addrs, err = newAddrWatcher(t.guardInterfaces, t.log); err != nil {
		return nil, err
	}
	if t.host, err = t.addrs.list(); err != nil {
		return nil, err
	}
	t.selection.Store(newSelection(cfg.Interfaces, cfg.Responses, nil, t.host))
	t.follower, err = attach.New(attach.Options{
		Programs: attach.Programs{
			IngressEth: t.objs.TapIngressEth,
			EgressEth:  t.objs.TapEgressEth,
			IngressL3:  t.objs.TapIngressL3,
			EgressL3:   t.objs.TapEgressL3,
		},
		Mode:     cfg.Attach,
		Priority: cfg.Priority,
		Select:   func(l netlink.Link) attach.Want { return t.selection.Load().wantLink(l) },
		Guard:    t.guardInterfaces,
		Logger:   t.log,
	})
	if err != nil {
		return nil, fmt.Errorf("prepare attaching: %w", err)
	}
	return t, nil
}

func (t *Tap) guardInterfaces(step func()) error { return t.config.Guard(Interfaces, step) }

// Shards returns how many rings, and so Sinks, there are.
func (t *Tap) Shards() int { return len(t.rings) }

// Ready is closed once Run has been through all interfaces for the first time.
func (t *Tap) Ready() <-chan struct{} { return t.follower.Ready() }

// Hooks returns where the program is attached now.
func (t *Tap) Hooks() []attach.Hook { return t.follower.Hooks() }

// Counters returns what the kernel program did since Open with the packets
// towards targets.
func (t *Tap) Counters() (Counters, error) {
	requests, _, err := readCounters(t.objs.Counters)
	return requests, err
}

// ResponseCounters returns what the kernel program did since Open with the
// packets that came from targets; nothing without Config.Responses. They are
// not among those of Counters.
func (t *Tap) ResponseCounters() (Counters, error) {
	_, responses, err := readCounters(t.objs.Counters)
	return responses, err
}

// SetTargets replaces the endpoints whose packets are captured. New ones are
// added before old ones are removed. It may be called before and during Run.
func (t *Tap) SetTargets(targets []Target) error {
	for _, target := range targets {
		if target.Port == 0 {
			return fmt.Errorf("target %v has no port", target)
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return ErrClosed
	}
	return t.retarget(slices.Clone(targets), t.host)
}

// setHost takes over new addresses of this host.
func (t *Tap) setHost(host hostAddrs) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.host = host
	if err := t.retarget(t.targets, host); err != nil {
		t.log.Error("cannot adapt the targets to this host's new addresses", "error", err)
	}
}

// retarget is called with the lock held.
func (t *Tap) retarget(targets []Target, host hostAddrs) error {
	next, last := newSelection(t.config.Interfaces, t.config.Responses, targets, host), t.selection.Load()
	if err := t.table.replace(next.keys); err != nil {
		return err
	}
	t.targets = targets
	t.selection.Store(next)
	if next.local != last.local || next.remote != last.remote {
		t.follower.Resync()
	}
	return nil
}

// Ignore makes the kernel program stop copying a flow, requests and responses,
// until a new connection with the same addresses and ports begins. Segments
// already in a ring still arrive. It is one system call, and may be called from
// a Sink.
func (t *Tap) Ignore(f Flow) error {
	key := (*tapFlow)(unsafe.Pointer(&f))
	if err := t.objs.Flows.Put(key, &tapFlowState{Ignored: 1}); err != nil {
		return fmt.Errorf("ignore %v to %v: %w", f.Source(), f.Destination(), err)
	}
	return nil
}

// Close ends Run, if it is running, and releases everything. It may be called
// more than once; no other method may be called afterwards, or concurrently
// except Run.
func (t *Tap) Close() error {
	t.mu.Lock()
	closed := t.closed
	t.closed = true
	t.mu.Unlock()
	t.end()
	t.runs.Wait()
	if closed {
		return nil
	}
	return errors.Join(t.closeInstances(), t.release())
}

// release frees whatever Open got hold of.
func (t *Tap) release() error {
	var errs []error
	for _, r := range t.rings {
		errs = append(errs, r.close())
	}
	if t.control != nil {
		errs = append(errs, t.control.close())
	}
	for _, m := range t.ringMaps {
		errs = append(errs, m.Close())
	}
	if t.loader != nil {
		errs = append(errs, t.loader.close())
	}
	if t.objs != nil {
		errs = append(errs, t.objs.Close())
	}
	if t.addrs != nil {
		errs = append(errs, t.addrs.close())
	}
	return errors.Join(errs...)
}
