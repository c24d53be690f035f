package attach

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// addFilter attaches c the way another tool would.
func addFilter(t *testing.T, l netlink.Link, d Direction, priority uint16, name string, c counter) *netlink.BpfFilter {
	t.Helper()
	f := &netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{
			LinkIndex: l.Attrs().Index, Parent: parentOf(d), Handle: 1, Priority: priority, Protocol: unix.ETH_P_ALL,
		},
		Fd: c.FD(), Name: name, DirectAction: true,
	}
	must(t, netlink.FilterAdd(f))
	return f
}

func clsactLab(t *testing.T) (a, b netlink.Link, c counters) {
	t.Helper()
	t.Parallel()
	enterLab(t)
	need(t, Clsact)
	a, b = pair(t, "a0", "b0")
	return a, b, newCounters(t)
}

func TestClsactBesideOthers(t *testing.T) {
	a, b, c := clsactLab(t)
	first, same := newCounter(t, "first", etherTest, -1), newCounter(t, "same", etherTest, 0)
	must(t, netlink.QdiscAdd(clsactOf(a.Attrs().Index)))
	addFilter(t, a, Ingress, 1, "cni", first)
	addFilter(t, a, Ingress, DefaultPriority, "other", same)
	err := netlink.FilterAdd(&netlink.U32{
		FilterAttrs: netlink.FilterAttrs{LinkIndex: a.Attrs().Index, Parent: parentOf(Egress), Priority: 9, Protocol: unix.ETH_P_ALL},
		ClassId:     1,
	})
	if !errors.Is(err, unix.ENOENT) { // the kernel has no cls_u32
		must(t, err)
	}
	before := attached(t, a)

	f := follow(t, Options{Programs: c.programs(), Mode: Clsact, Select: on("a0")})
	f.until("a0 ingress", "a0 egress")
	found, err := filters(a.Attrs().Index, Ingress)
	must(t, err)
	want := map[string]uint16{"cni": 1, "other": DefaultPriority, f.clsact.owner.mark(false): DefaultPriority - 1}
	for _, f := range found {
		if f.handle != 0 && want[f.name] != f.priority {
			t.Errorf("filter %v, want %v", f, want)
		}
		delete(want, f.name)
	}
	if delete(want, ""); len(want) != 0 {
		t.Errorf("missing filters %v", want)
	}
	if f.log.lines("level=WARN", `ahead="bpf filter pref 1 handle 0x1 \"cni\"`, "direction=ingress") != 1 {
		t.Errorf("the filter ahead is not named once:\n%s", f.log)
	}
	send(t, b, 5)
	for name, c := range map[string]counter{"ours": c.ingressEth, "the first": first, "the one at our priority": same} {
		expectCount(t, name, c, 5)
	}
	f.round()
	if n := f.log.lines("level=WARN", "direction=ingress"); n != 1 {
		t.Errorf("%d warnings:\n%s", n, f.log)
	}
	f.stop()
	expectAttached(t, a, before...)
	send(t, b, 1)
	expectCount(t, "the first", first, 6)
	expectCount(t, "the one at our priority", same, 6)
}

// TestClsactBehindTerminating checks that a filter which ends the chain
// before ours, now or later, is named.
func TestClsactBehindTerminating(t *testing.T) {
	a, b, c := clsactLab(t)
	f := follow(t, Options{Programs: c.programs(), Mode: Clsact, Select: on("a0")})
	f.until("a0 ingress", "a0 egress")
	send(t, b, 1)
	expectCount(t, "ours", c.ingressEth, 1)
	other := newCounter(t, "other", etherTest, 0)
	addFilter(t, a, Ingress, 2, "other", other)
	f.round()
	if f.log.lines("level=WARN", "other", "pref 2") != 1 {
		t.Errorf("no warning:\n%s", f.log)
	}
	send(t, b, 2)
	expectCount(t, "the other", other, 2)
	expectCount(t, "ours", c.ingressEth, 1)
	f.stop()
	// The qdisc was ours; the other filter keeps it.
	expectAttached(t, a, "qdisc clsact", "ingress bpf pref 2 other")
}

func TestClsactKeepsForeignQdisc(t *testing.T) {
	a, _, c := clsactLab(t)
	must(t, netlink.QdiscAdd(clsactOf(a.Attrs().Index)))
	f := follow(t, Options{Programs: c.programs(), Mode: Clsact, Select: on("a0")})
	f.until("a0 ingress", "a0 egress")
	f.stop()
	expectAttached(t, a, "qdisc clsact")
}

// TestClsactIngressQdisc checks the predecessor of clsact, which takes filters
// for egress and runs them on ingress.
func TestClsactIngressQdisc(t *testing.T) {
	a, b, c := clsactLab(t)
	must(t, netlink.QdiscAdd(&netlink.Ingress{QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: a.Attrs().Index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_INGRESS}}))
	f := follow(t, Options{Programs: c.programs(), Mode: Clsact, Select: on("a0")})
	f.until("a0 ingress")
	if f.log.lines("level=ERROR", "not attached", "direction=egress", `qdisc of kind`) != 1 {
		t.Errorf("no error for egress:\n%s", f.log)
	}
	send(t, b, 1)
	expectCount(t, "ingress", c.ingressEth, 1)
	if n := c.egressEth.count(t); n != 0 {
		t.Errorf("the egress program saw %d packets on ingress", n)
	}
	f.stop()
	expectAttached(t, a, "qdisc ingress")
}

func TestClsactTwoAgents(t *testing.T) {
	a, b, c := clsactLab(t)
	o := Options{Programs: c.programs(), Mode: Clsact, Select: on("a0")}
	one := follow(t, o)
	one.until("a0 ingress", "a0 egress")
	c2 := newCounters(t)
	o.Programs = c2.programs()
	two := follow(t, o)
	two.until("a0 ingress", "a0 egress")
	expectAttached(t, a, "qdisc clsact",
		"ingress bpf pref 9 shadowtap", "ingress bpf pref 10 shadowtap",
		"egress bpf pref 9 shadowtap", "egress bpf pref 10 shadowtap")
	one.round()
	two.round()
	send(t, b, 4)
	expectCount(t, "one", c.ingressEth, 4)
	expectCount(t, "two", c2.ingressEth, 4)
	one.stop()
	expectAttached(t, a, "qdisc clsact", "ingress bpf pref 9 shadowtap", "egress bpf pref 9 shadowtap")
	send(t, b, 1)
	expectCount(t, "two", c2.ingressEth, 5)
	if s := one.log.String() + two.log.String(); s != "" {
		t.Errorf("logged: %s", s)
	}
	two.stop() // did not make the qdisc, but knows that an agent did
	expectAttached(t, a)
}

// TestClsactRace attaches many times to one interface at once: nobody may end
// up at somebody else's priority.
func TestClsactRace(t *testing.T) {
	a, b, _ := clsactLab(t)
	const agents = 8
	var all [agents]*running
	var cs [agents]counters
	start := make(chan struct{})
	for i := range all {
		cs[i] = newCounters(t)
		armed := false
		all[i] = follow(t, Options{Programs: cs[i].programs(), Mode: Clsact, Select: func(l netlink.Link) Want {
			if l.Attrs().Name != "a0" {
				return Want{}
			}
			if !armed { // the round before Ready
				armed = true
				return Want{}
			}
			<-start
			return Want{Ingress: true}
		}})
		all[i].Resync()
	}
	close(start)
	for _, f := range all {
		f.until("a0 ingress")
	}
	found, err := filters(a.Attrs().Index, Ingress)
	must(t, err)
	priorities := map[uint16]int{}
	for _, f := range found {
		if f.handle != 0 {
			priorities[f.priority]++
		}
	}
	if len(priorities) != agents {
		t.Errorf("%d agents have these numbers of filters per priority: %v", agents, priorities)
	}
	send(t, b, 1)
	for i := range cs {
		expectCount(t, "each", cs[i].ingressEth, 1)
	}
	all[agents-1].round() // notices who made the qdisc
	for _, f := range all {
		f.stop()
	}
	expectAttached(t, a)
}

// TestClsactRemovedByOthers checks that a hook somebody removed is found out,
// and that what replaced it is not taken for ours.
func TestClsactRemovedByOthers(t *testing.T) {
	a, b, c := clsactLab(t)
	// The follower is held while others are at work, or it might be between
	// the removal of the qdisc and the addition of theirs.
	var hold atomic.Bool
	held, release := make(chan struct{}), make(chan struct{})
	f := follow(t, Options{Programs: c.programs(), Mode: Clsact, Select: func(l netlink.Link) Want {
		if l.Attrs().Name == "a0" && hold.CompareAndSwap(true, false) {
			held <- struct{}{}
			<-release
		}
		return on("a0")(l)
	}})
	f.until("a0 ingress", "a0 egress")
	hold.Store(true)
	f.Resync()
	<-held
	must(t, netlink.QdiscDel(clsactOf(a.Attrs().Index)))
	must(t, netlink.QdiscAdd(clsactOf(a.Attrs().Index)))
	release <- struct{}{}
	f.round()
	f.until("a0 ingress", "a0 egress")
	send(t, b, 1)
	expectCount(t, "ours", c.ingressEth, 1)
	if f.log.lines("level=WARN", "removed by somebody else") != 2 {
		t.Errorf("log:\n%s", f.log)
	}
	f.stop()
	expectAttached(t, a, "qdisc clsact") // theirs
}

// TestClsactNoticesRemovals: a qdisc that somebody removed is made again without
// waiting for the next regular look.
func TestClsactNoticesRemovals(t *testing.T) {
	a, b, c := clsactLab(t)
	f, err := New(Options{Programs: c.programs(), Mode: Clsact, Select: on("a0")})
	must(t, err)
	f.every = 24 * time.Hour
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		must(t, <-done)
	})
	whole := func() bool {
		return slices.Equal(attached(t, a), []string{"qdisc clsact", "ingress bpf pref 10 shadowtap", "egress bpf pref 10 shadowtap"})
	}
	eventually(t, "the filters are there", whole)
	must(t, netlink.QdiscDel(clsactOf(a.Attrs().Index)))
	eventually(t, "they are there again", whole)
	all, err := filters(a.Attrs().Index, Egress)
	must(t, err)
	for _, f := range all {
		if f.handle != 0 {
			must(t, netlink.FilterDel(&netlink.BpfFilter{FilterAttrs: f.attrs(), Fd: -1}))
		}
	}
	eventually(t, "the one that was removed is there again", whole)
	send(t, b, 1)
	expectCount(t, "ours", c.ingressEth, 1)
}

// TestClsactNothingLeftToRemove stops after somebody removed everything.
func TestClsactNothingLeftToRemove(t *testing.T) {
	a, _, c := clsactLab(t)
	f := follow(t, Options{Programs: c.programs(), Mode: Clsact, Select: on("a0")})
	f.until("a0 ingress", "a0 egress")
	must(t, netlink.QdiscDel(clsactOf(a.Attrs().Index)))
	f.stop()
	expectAttached(t, a)
}

// victimEnv makes the test binary an agent on the named interface, to be
// killed.
const victimEnv = "SHADOWTAP_TEST_ATTACH_TO"

func victim(ifname string) {
	c, err := loadCounter("tap_eth", etherTest, -1)
	if err == nil {
		err = runVictim(Options{
			Programs: Programs{IngressEth: c.Program, EgressEth: c.Program},
			Mode:     Clsact,
			Select:   on(ifname),
		})
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func runVictim(o Options) error {
	f, err := New(o)
	if err != nil {
		return err
	}
	go func() {
		<-f.Ready()
		fmt.Println(len(f.Hooks()))
	}()
	return f.Run(context.Background())
}

// TestClsactCrash kills an agent and checks that the next one removes what it
// left, not before it is dead and nothing else.
func TestClsactCrash(t *testing.T) {
	a, b, c := clsactLab(t)
	foreign := newCounter(t, "foreign", etherTest, -1)

	// The child inherits the namespace of this thread.
	child := exec.Command("/proc/self/exe")
	child.Env = append(os.Environ(), victimEnv+"=a0")
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	must(t, err)
	must(t, child.Start())
	t.Cleanup(func() {
		child.Process.Kill()
		child.Wait()
	})
	var hooks int
	_, err = fmt.Fscanln(out, &hooks)
	must(t, err)
	if hooks != 2 {
		t.Fatalf("the child has %d hooks", hooks)
	}
	alive := []string{"qdisc clsact", "ingress bpf pref 10 shadowtap", "egress bpf pref 10 shadowtap"}
	expectAttached(t, a, alive...)
	o := Options{Programs: c.programs(), Mode: Clsact, Select: on("nothing")}
	follow(t, o).stop()
	expectAttached(t, a, alive...)

	must(t, child.Process.Kill())
	child.Wait()
	expectAttached(t, a, alive...) // that is why all this
	addFilter(t, a, Egress, 11, "foreign", foreign)
	o.Select = on("a0")
	f := follow(t, o)
	f.until("a0 ingress", "a0 egress")
	expectAttached(t, a, "qdisc clsact", "ingress bpf pref 10 shadowtap", "egress bpf pref 10 shadowtap", "egress bpf pref 11 foreign")
	if f.log.lines("level=INFO", "agent that is gone") != 2 {
		t.Errorf("log:\n%s", f.log)
	}
	send(t, b, 2)
	send(t, a, 3)
	expectCount(t, "ingress", c.ingressEth, 2)
	expectCount(t, "foreign", foreign, 3)
	f.stop()
	expectAttached(t, a, "qdisc clsact", "egress bpf pref 11 foreign")
}

func TestFreePriority(t *testing.T) {
	everything := make([]filter, 0, math.MaxUint16)
	for p := range uint16(math.MaxUint16) {
		everything = append(everything, filter{priority: p + 1})
	}
	used := func(priorities ...uint16) (all []filter) {
		for _, p := range priorities {
			all = append(all, filter{priority: p})
		}
		return all
	}
	tests := []struct {
		name      string
		used      []filter
		preferred uint16
		skip      int
		want      uint16
	}{
		{"free", nil, 10, 0, 10},
		{"nearest lower", used(10, 9, 7), 10, 0, 8},
		{"next but one", used(10, 9, 7), 10, 1, 6},
		{"not the first", used(10, 9, 8, 7, 6, 5, 4, 3, 2), 10, 0, 11},
		{"below, then above", used(10, 8, 7, 6, 5, 4, 3, 2, 12), 10, 2, 13},
		{"the first if asked for", nil, 1, 0, 1},
		{"the first is taken", used(1), 1, 0, 2},
		{"the last is taken", used(65535), 65535, 0, 65534},
		{"skipping too many", everything[:65534], 10, 7, 65535},
		{"only the first is left", everything[1:], 65535, 0, 0},
		{"none", everything, 10, 0, 0},
	}
	for _, tt := range tests {
		got, err := freePriority(tt.used, tt.preferred, tt.skip)
		if got != tt.want || (err == nil) != (tt.want != 0) {
			t.Errorf("%s: %d, %v; want %d", tt.name, got, err, tt.want)
		}
	}
}

func TestMark(t *testing.T) {
	o := owner{id: "0123456789abcdef"}
	for _, qdisc := range []bool{false, true} {
		id, q, ok := parseMark(o.mark(qdisc))
		if id != o.id || q != qdisc || !ok {
			t.Errorf("parseMark(%q) = %q, %t, %t", o.mark(qdisc), id, q, ok)
		}
	}
	for _, name := range []string{"", "shadowtap", "shadowtap:", "shadowtap:0123456789abcde", "shadowtap:0123456789abcdefg",
		"shadowtap:0123456789abcdef:", "shadowtap:0123456789abcdef:x", "shadowtap:0123456789ABCDEF", "shadowtap:0123456789abcdef0f:q",
		"Shadowtap:0123456789abcdef", "shadowtap.o:[tap_ingress_eth]"} {
		if id, _, ok := parseMark(name); ok {
			t.Errorf("parseMark(%q) = %q", name, id)
		}
	}
}

func TestOwner(t *testing.T) {
	enterLab(t)
	o, err := newOwner()
	must(t, err)
	for range 2 { // asking does not change the answer
		if lives, err := alive(o.id); !lives || err != nil {
			t.Errorf("alive: %t, %v", lives, err)
		}
	}
	o.close()
	if lives, err := alive(o.id); lives || err != nil {
		t.Errorf("alive after close: %t, %v", lives, err)
	}
}
