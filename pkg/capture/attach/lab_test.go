package attach

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/rlimit"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	if ifname := os.Getenv(victimEnv); ifname != "" {
		victim(ifname)
	}
	goleak.VerifyTestMain(m)
}

// patience is how long the kernel may take for anything; waiting for less
// never fails a test.
const patience = 2 * time.Minute

// eventually waits until cond holds.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.After(patience)
	for !cond() {
		select {
		case <-deadline:
			t.Fatalf("waited in vain until %s", what)
		case <-time.After(time.Millisecond):
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// enterLab puts the test into a network namespace of its own. The thread, and
// with it the namespace, ends with the test.
func enterLab(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: creates network namespaces and attaches BPF programs")
	}
	must(t, rlimit.RemoveMemlock())
	runtime.LockOSThread() // and never unlock
	must(t, unix.Unshare(unix.CLONE_NEWNET))
	lo, err := netlink.LinkByName("lo")
	must(t, err)
	must(t, netlink.LinkSetUp(lo))
}

// modes runs f for every mode that the kernel has, in parallel, each in a
// namespace of its own.
func modes(t *testing.T, f func(t *testing.T, m Mode)) {
	for _, m := range []Mode{TCX, Clsact} {
		t.Run(m.String(), func(t *testing.T) {
			t.Parallel()
			enterLab(t)
			need(t, m)
			f(t, m)
		})
	}
}

// need skips the test if the kernel does not have m.
func need(t *testing.T, m Mode) {
	t.Helper()
	if m == TCX {
		c := newCounter(t, "probe", 0, -1)
		a, err := attachTCX(1, Ingress, c.Program)
		if errors.Is(err, ebpf.ErrNotSupported) {
			t.Skip("this kernel has no tcx")
		}
		must(t, err)
		must(t, a.detach())
		return
	}
	lo := clsactOf(1)
	if err := netlink.QdiscAdd(lo); errors.Is(err, unix.ENOENT) {
		t.Skip("this kernel has no sch_clsact")
	} else {
		must(t, err)
	}
	must(t, netlink.QdiscDel(lo))
}

// pair creates a veth pair that is up and returns both ends.
func pair(t *testing.T, a, b string) (netlink.Link, netlink.Link) {
	t.Helper()
	must(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: a}, PeerName: b}))
	return linkUp(t, a), linkUp(t, b)
}

func linkUp(t *testing.T, name string) netlink.Link {
	t.Helper()
	l, err := netlink.LinkByName(name)
	must(t, err)
	must(t, netlink.LinkSetUp(l))
	return l
}

// etherTest is an EtherType for experiments (IEEE 802, local experimental 1):
// whatever else the namespace sends is not counted.
const etherTest = 0x88b5

// send sends n frames from l, once the kernel is ready to.
func send(t *testing.T, l netlink.Link, n int) {
	t.Helper()
	eventually(t, l.Attrs().Name+" is operational", func() bool {
		now, err := netlink.LinkByIndex(l.Attrs().Index)
		must(t, err)
		return now.Attrs().OperState == netlink.OperUp
	})
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(fd)
	frame := make([]byte, 60)
	copy(frame, bytes.Repeat([]byte{0xff}, 6))
	copy(frame[6:], l.Attrs().HardwareAddr)
	frame[12], frame[13] = etherTest>>8, etherTest&0xff
	for range n {
		must(t, unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: l.Attrs().Index}))
	}
}

// counter is a program that counts packets.
type counter struct {
	*ebpf.Program
	packets *ebpf.Map
}

// newCounter loads a program that counts the packets of an EtherType (0 for
// all) and returns verdict.
func newCounter(t *testing.T, name string, ether uint16, verdict int32) counter {
	t.Helper()
	c, err := loadCounter(name, ether, verdict)
	must(t, err)
	t.Cleanup(func() {
		c.Close()
		c.packets.Close()
	})
	return c
}

func loadCounter(name string, ether uint16, verdict int32) (counter, error) {
	packets, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	if err != nil {
		return counter{}, err
	}
	var program asm.Instructions
	if ether != 0 {
		const protocol = 16 // offset in struct __sk_buff
		program = asm.Instructions{
			asm.LoadMem(asm.R2, asm.R1, protocol, asm.Word),
			asm.JNE.Imm(asm.R2, int32(nl.Swap16(ether)), "exit"),
		}
	}
	program = append(program,
		asm.StoreImm(asm.RFP, -4, 0, asm.Word),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, -4),
		asm.LoadMapPtr(asm.R1, packets.FD()),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "exit"),
		asm.Mov.Imm(asm.R1, 1),
		asm.AddAtomic.Mem(asm.R0, asm.R1, asm.DWord, 0),
		asm.Mov.Imm(asm.R0, verdict).WithSymbol("exit"),
		asm.Return(),
	)
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: name, Type: ebpf.SchedCLS, License: "Apache-2.0", Instructions: program})
	if err != nil {
		packets.Close()
		return counter{}, err
	}
	return counter{p, packets}, nil
}

func (c counter) count(t *testing.T) int {
	t.Helper()
	var n uint64
	must(t, c.packets.Lookup(uint32(0), &n))
	return int(n)
}

// counters are the programs given to a Follower.
type counters struct{ ingressEth, egressEth, ingressL3, egressL3 counter }

func newCounters(t *testing.T) counters {
	return counters{
		newCounter(t, "tap_ingress_eth", etherTest, -1), newCounter(t, "tap_egress_eth", etherTest, -1),
		newCounter(t, "tap_ingress_l3", 0, -1), newCounter(t, "tap_egress_l3", 0, -1),
	}
}

func (c counters) programs() Programs {
	return Programs{c.ingressEth.Program, c.egressEth.Program, c.ingressL3.Program, c.egressL3.Program}
}

// on selects the named interfaces for both directions.
func on(names ...string) func(netlink.Link) Want {
	return func(l netlink.Link) Want {
		for _, n := range names {
			if l.Attrs().Name == n {
				return Want{Ingress: true, Egress: true}
			}
		}
		return Want{}
	}
}

// running is a Follower at work.
type running struct {
	*Follower
	t     *testing.T
	log   *log
	looks atomic.Int64 // at lo
	stop  func()
}

// follow runs a Follower for the test's namespace, from a goroutine that is
// not in it, and waits until it is ready.
func follow(t *testing.T, o Options) *running {
	t.Helper()
	r := &running{t: t, log: new(log)}
	o.Logger = slog.New(slog.NewTextHandler(r.log, nil))
	answer := o.Select
	o.Select = func(l netlink.Link) Want {
		if l.Attrs().Name == "lo" {
			r.looks.Add(1)
		}
		return answer(l)
	}
	f, err := New(o)
	must(t, err)
	r.Follower = f
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		if hooks := f.Hooks(); len(hooks) != 0 {
			t.Errorf("hooks after Run: %+v", hooks)
		}
	})
	t.Cleanup(r.stop)
	select {
	case <-f.Ready():
	case err := <-done:
		done <- err
		t.Fatalf("Run: %v", err)
	case <-time.After(patience):
		t.Fatal("not ready")
	}
	return r
}

// until waits until the hooks are those given as "interface direction".
func (r *running) until(want ...string) {
	r.t.Helper()
	var got []string
	defer func() {
		if r.t.Failed() {
			r.t.Logf("hooks: %q, want %q; log:\n%s", got, want, r.log)
		}
	}()
	eventually(r.t, fmt.Sprintf("the hooks are %q", want), func() bool {
		got = nil
		for _, h := range r.Hooks() {
			got = append(got, h.Name+" "+h.Direction.String())
		}
		return fmt.Sprint(got) == fmt.Sprint(want)
	})
}

// round has all links looked at and waits until that is done. A look at lo
// marks the beginning of a round: the first one may belong to a round that
// was under way, the third one shows that the second round is complete.
func (r *running) round() {
	r.t.Helper()
	for range 3 {
		before := r.looks.Load()
		r.Resync()
		eventually(r.t, "all links were looked at", func() bool { return r.looks.Load() != before })
	}
}

// log collects what a Follower logs.
type log struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// lines is how many lines contain all parts.
func (l *log) lines(parts ...string) int {
	n := 0
	for line := range strings.Lines(l.String()) {
		all := true
		for _, p := range parts {
			all = all && strings.Contains(line, p)
		}
		if all {
			n++
		}
	}
	return n
}

// attached describes everything on both hooks of an interface: programs by
// name, filters, and the qdisc.
func attached(t *testing.T, l netlink.Link) []string {
	t.Helper()
	var all []string
	index := l.Attrs().Index
	kind, err := ingressQdisc(index)
	must(t, err)
	if kind != "" {
		all = append(all, "qdisc "+kind)
	}
	for _, d := range []Direction{Ingress, Egress} {
		programs, err := tcxPrograms(index, tcxPoint(d))
		if err != nil && !errors.Is(err, ebpf.ErrNotSupported) && !errors.Is(err, unix.EINVAL) {
			t.Fatal(err)
		}
		for _, p := range programs {
			all = append(all, fmt.Sprintf("%v tcx %s", d, nameOf(p.ID)))
		}
		found, err := filters(index, d)
		must(t, err)
		for _, f := range found {
			if f.handle != 0 {
				all = append(all, fmt.Sprintf("%v %s pref %d %s", d, f.kind, f.priority, strings.TrimSuffix(f.name[:min(len(f.name), len(markPrefix))], ":")))
			}
		}
	}
	return all
}

// expectAttached compares attached with want.
func expectAttached(t *testing.T, l netlink.Link, want ...string) {
	t.Helper()
	if got := attached(t, l); fmt.Sprintf("%q", got) != fmt.Sprintf("%q", want) {
		t.Errorf("attached to %s:\n got %q\nwant %q", l.Attrs().Name, got, want)
	}
}

// expectCount waits for n packets and fails if there are more.
func expectCount(t *testing.T, what string, c counter, n int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%s counts %d", what, n), func() bool { return c.count(t) >= n })
	if got := c.count(t); got != n {
		t.Errorf("%s counted %d packets, want %d", what, got, n)
	}
}
