// Package attach keeps TC programs on the network interfaces of a network
// namespace while interfaces come, change, move and go, without disturbing
// whatever else is attached to them.
//
// Programs go in by tcx where the kernel has it (Linux 6.6) and as cls_bpf
// filters of a clsact qdisc where it does not. They must return TC_ACT_UNSPEC,
// which is also TCX_NEXT, so that being first hides no packet from anybody.
// Nothing that somebody else attached is ever replaced, moved or removed: a
// node's network depends on it.
//
// A tcx link is a file descriptor and vanishes with the process, however that
// ends. A filter stays; it carries the mark of its owner (see owner.go), by
// which the next Follower in the namespace recognises and removes what a dead
// one left, and leaves alone what a living one runs.
package attach

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
)

// DefaultPriority is the priority ("pref" in tc) of a clsact filter when
// Options names none. It leaves the first ones to the network plugin: Cilium
// replaces what it finds at priority 1 with its own program.
const DefaultPriority = 10

// Direction is the side of an interface a program is attached to.
type Direction uint8

const (
	// Ingress is for packets the interface receives.
	Ingress Direction = iota
	// Egress is for packets the interface sends.
	Egress
)

// String returns "ingress" or "egress".
func (d Direction) String() string {
	switch d {
	case Ingress:
		return "ingress"
	case Egress:
		return "egress"
	default:
		return fmt.Sprintf("Direction(%d)", uint8(d))
	}
}

// Mode is how programs are attached. The zero value is Auto. *Mode implements
// the Value interface of package flag and of pflag.
type Mode uint8

const (
	// Auto is TCX where the kernel has it and Clsact where it does not.
	Auto Mode = iota
	// TCX attaches by a tcx link, before all other programs (Linux 6.6).
	TCX
	// Clsact attaches a cls_bpf filter in direct-action mode to the clsact
	// qdisc of the interface, which is created if missing (Linux 4.5).
	Clsact
)

// ParseMode is the inverse of Mode.String.
func ParseMode(s string) (Mode, error) {
	for m := Auto; m <= Clsact; m++ {
		if s == m.String() {
			return m, nil
		}
	}
	return Auto, fmt.Errorf("attach mode %q: expected auto, tcx or clsact", s)
}

// String returns "auto", "tcx" or "clsact".
func (m Mode) String() string {
	switch m {
	case Auto:
		return "auto"
	case TCX:
		return "tcx"
	case Clsact:
		return "clsact"
	default:
		return fmt.Sprintf("Mode(%d)", uint8(m))
	}
}

// Set sets m to what ParseMode makes of s.
func (m *Mode) Set(s string) (err error) {
	*m, err = ParseMode(s)
	return err
}

// Type names the kind of value in a command's help.
func (*Mode) Type() string { return "mode" }

// Want is the set of directions to attach to on one interface.
type Want struct{ Ingress, Egress bool }

// on reports whether d is in the set.
func (w Want) on(d Direction) bool {
	if d == Ingress {
		return w.Ingress
	}
	return w.Egress
}

// Programs are the programs to attach, of type SchedCLS: one per direction
// for devices whose packets begin with an Ethernet header, one for those
// whose packets begin with the IP header. Those that Options.Select never
// asks for may be nil. They belong to the caller, who closes them after
// Follower.Run or Site.Detach returned.
type Programs struct{ IngressEth, EgressEth, IngressL3, EgressL3 *ebpf.Program }

// pick returns the program for a link of the given encapsulation.
func (p Programs) pick(encap string, d Direction) (*ebpf.Program, error) {
	var program *ebpf.Program
	switch layer(encap) {
	case 2:
		program = p.IngressEth
		if d == Egress {
			program = p.EgressEth
		}
	case 3:
		program = p.IngressL3
		if d == Egress {
			program = p.EgressL3
		}
	default:
		return nil, fmt.Errorf("links of type %q are not supported", encap)
	}
	if program == nil {
		return nil, fmt.Errorf("no program for %s on links of type %q", d, encap)
	}
	return program, nil
}

// layer returns the protocol layer a TC program finds at the beginning of a
// packet on a link of the given type (ARPHRD_*, as package netlink spells
// them): 2 for an Ethernet header, 3 for an IP header, 0 if that is not known.
// A guess would be worse than nothing: the program would read addresses and
// ports from the wrong place.
func layer(encap string) int {
	switch encap {
	case "ether", "loopback":
		return 2
	case "none", // tun, wireguard
		"ipip", "tunnel6", "sit", "gre", "ppp",
		"unknown519", // ARPHRD_RAWIP: cellular modems
		"unknown823": // ARPHRD_IP6GRE
		return 3
	default:
		return 0
	}
}

// Options configures a Follower or a Site.
type Options struct {
	// Programs are attached as Mode says.
	Programs Programs
	Mode     Mode
	// Priority is the preferred priority of clsact filters, 0 for
	// DefaultPriority. If somebody else's filter has it, the nearest lower
	// one that is free is taken: earlier hides nothing from others, later may
	// hide packets from us. Only if none is free, priority 1 not counted, it
	// is a higher one.
	Priority uint16
	// Select says what to attach to on a link. It is called from the
	// goroutine that runs Run or Sync, whenever something about the link may
	// have changed, and must be quick.
	Select func(l netlink.Link) Want
	// Guard runs a step of Run's or Sync's work. It may contain a panic of the
	// step, which it then returns as an error: all other links are looked at
	// nevertheless, and this one again when all are. If nil, a step is just run.
	Guard func(step func()) (fault error)
	// Logger is told what could not be attached and what may hide packets.
	// Nil discards it.
	Logger *slog.Logger
}

// Hook is one place a program is attached to.
type Hook struct {
	Ifindex   int    // of the interface, in its network namespace
	Name      string // of the interface, at present
	Direction Direction
	Mode      Mode      // TCX or Clsact
	Since     time.Time // when it was attached
}

// Follower attaches programs to the links of one network namespace. Its
// methods are safe for concurrent use.
type Follower struct {
	o       Options
	ns      *os.File // the namespace; open until Run ends
	started atomic.Bool
	ready   chan struct{}
	resync  chan struct{}
	hooks   atomic.Pointer[[]Hook]
	every   time.Duration // resyncInterval

	// What follows belongs to the goroutine of Run.
	nl      *netlink.Handle
	clsact  *clsact
	tcxGone bool // the kernel has no tcx
	devices map[int]*device
}

// New returns a Follower for the network namespace of the calling goroutine.
// A goroutine that is not in the namespace of the process must be locked to
// its thread (runtime.LockOSThread) while it calls New; Run may then be called
// from anywhere. Nothing is attached before Run.
func New(o Options) (*Follower, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	ns, err := openNamespace()
	if err != nil {
		return nil, fmt.Errorf("attach: %w", err)
	}
	f := newFollower(o)
	f.ns = ns
	return f, nil
}

func newFollower(o Options) *Follower {
	return &Follower{
		o:       o,
		ready:   make(chan struct{}),
		resync:  make(chan struct{}, 1),
		every:   resyncInterval,
		devices: make(map[int]*device),
	}
}

// complete checks the options and puts the defaults in.
func (o *Options) complete() error {
	switch {
	case o.Select == nil:
		return errors.New("attach: no Select function")
	case o.Programs == (Programs{}):
		return errors.New("attach: no programs")
	case o.Mode > Clsact:
		return fmt.Errorf("attach: unknown mode %v", o.Mode)
	}
	if o.Priority == 0 {
		o.Priority = DefaultPriority
	}
	if o.Guard == nil {
		o.Guard = func(step func()) error {
			step()
			return nil
		}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}

// Ready returns a channel that is closed once every link that existed when
// Run was called has been looked at.
func (f *Follower) Ready() <-chan struct{} { return f.ready }

// Resync has every link looked at again because Options.Select may answer
// differently now. It does not block; calls that come faster than the work
// are combined.
func (f *Follower) Resync() {
	select {
	case f.resync <- struct{}{}:
	default:
	}
}

// Hooks returns where programs are attached at present, ordered by interface
// index and direction.
func (f *Follower) Hooks() []Hook {
	if p := f.hooks.Load(); p != nil {
		return slices.Clone(*p)
	}
	return nil
}
