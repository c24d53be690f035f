package attach

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// TestTCXBesideOthers checks that programs before and after ours go on
// running, and that one which ends the chain before ours is named.
func TestTCXBesideOthers(t *testing.T) {
	t.Parallel()
	enterLab(t)
	need(t, TCX)
	a, b := pair(t, "a0", "b0")
	c := newCounters(t)
	attachOther := func(name string, verdict int32, anchor link.Anchor) counter {
		other := newCounter(t, name, etherTest, verdict)
		l, err := link.AttachTCX(link.TCXOptions{Interface: a.Attrs().Index, Program: other.Program, Attach: tcxPoint(Ingress), Anchor: anchor})
		must(t, err)
		t.Cleanup(func() { l.Close() })
		return other
	}
	behind := attachOther("behind", 0, link.Head())
	f := follow(t, Options{Programs: c.programs(), Mode: TCX, Select: on("a0")})
	f.until("a0 ingress", "a0 egress")
	if s := f.log.String(); s != "" {
		t.Errorf("logged: %s", s)
	}
	ahead := attachOther("ahead", -1, link.Head())
	f.round()
	if f.log.lines("level=WARN", `tcx program \"ahead\"`) != 1 {
		t.Errorf("no warning:\n%s", f.log)
	}
	expectAttached(t, a, "ingress tcx ahead", "ingress tcx tap_ingress_eth", "ingress tcx behind", "egress tcx tap_egress_eth")
	send(t, b, 7)
	for name, c := range map[string]counter{"ours": c.ingressEth, "ahead": ahead, "behind": behind} {
		expectCount(t, name, c, 7)
	}
	f.stop()
	expectAttached(t, a, "ingress tcx ahead", "ingress tcx behind")
	send(t, b, 1)
	expectCount(t, "ahead", ahead, 8)
	expectCount(t, "behind", behind, 8)
	expectCount(t, "ours", c.ingressEth, 7)
}

func TestAppearVanishRename(t *testing.T) {
	modes(t, func(t *testing.T, m Mode) {
		c := newCounters(t)
		f := follow(t, Options{Programs: c.programs(), Mode: m, Select: on("a0", "a1")})
		f.until()
		a, _ := pair(t, "a0", "b0")
		f.until("a0 ingress", "a0 egress")
		since := f.Hooks()[0].Since
		before := attached(t, a)

		rename(t, a, "a1")
		f.until("a1 ingress", "a1 egress")
		if got := f.Hooks()[0].Since; !got.Equal(since) {
			t.Error("renaming attached anew")
		}
		expectAttached(t, a, before...)
		rename(t, a, "x1")
		f.until()
		expectAttached(t, a)
		rename(t, a, "a0")
		f.until("a0 ingress", "a0 egress")

		// The same index, another device.
		index := a.Attrs().Index
		must(t, netlink.LinkDel(a))
		must(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "a1", Index: index}, PeerName: "b0"}))
		f.until("a1 ingress", "a1 egress")
		a = linkUp(t, "a1")
		send(t, linkUp(t, "b0"), 2)
		expectCount(t, "ingress", c.ingressEth, 2)
		must(t, netlink.LinkDel(a))
		f.until()
	})
}

// rename renames l, which kernels before 6.2 only do while it is down.
func rename(t *testing.T, l netlink.Link, name string) {
	t.Helper()
	must(t, netlink.LinkSetDown(l))
	must(t, netlink.LinkSetName(l, name))
	must(t, netlink.LinkSetUp(l))
}

// TestMoveNamespace moves an interface away and back: programs do not follow
// it to where it is no business of ours.
func TestMoveNamespace(t *testing.T) {
	modes(t, func(t *testing.T, m Mode) {
		_, b := pair(t, "a0", "b0")
		c := newCounters(t)
		f := follow(t, Options{Programs: c.programs(), Mode: m, Select: on("a0")})
		f.until("a0 ingress", "a0 egress")

		home, err := openNamespace()
		must(t, err)
		defer home.Close()
		must(t, unix.Unshare(unix.CLONE_NEWNET)) // the test's thread; the follower stays
		away, err := openNamespace()
		must(t, err)
		defer away.Close()
		enter := func(ns *os.File) { must(t, unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)) }

		enter(home)
		a, err := netlink.LinkByName("a0")
		must(t, err)
		must(t, netlink.LinkSetNsFd(a, int(away.Fd())))
		f.until()
		enter(away)
		a = linkUp(t, "a0")
		eventually(t, "nothing is attached", func() bool { return len(attached(t, a)) == 0 })
		must(t, netlink.LinkSetNsFd(a, int(home.Fd())))
		f.until("a0 ingress", "a0 egress")
		enter(home)
		linkUp(t, "a0")
		send(t, b, 3)
		expectCount(t, "ingress", c.ingressEth, 3)
	})
}

// TestLayer3 sends a packet through a tun device, which has no Ethernet
// header, and then makes it another kind of device.
func TestLayer3(t *testing.T) {
	modes(t, func(t *testing.T, m Mode) {
		tun := &netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: "tun0"}, Mode: netlink.TUNTAP_MODE_TUN, Flags: netlink.TUNTAP_NO_PI, Queues: 1}
		if err := netlink.LinkAdd(tun); err != nil {
			t.Skipf("this kernel has no tun: %v", err)
		}
		queue := tun.Fds[0]
		defer queue.Close()
		l := linkUp(t, "tun0")
		c := newCounters(t)
		f := follow(t, Options{Programs: c.programs(), Mode: m, Select: func(l netlink.Link) Want { return Want{Ingress: l.Attrs().Name == "tun0"} }})
		f.until("tun0 ingress")
		packet := make([]byte, 20)
		packet[0], packet[3], packet[8], packet[9] = 0x45, 20, 64, 253
		_, err := queue.Write(packet)
		must(t, err)
		expectCount(t, "ingress L3", c.ingressL3, 1)
		since := f.Hooks()[0].Since

		setType := func(arphrd int) {
			t.Helper()
			must(t, netlink.LinkSetDown(l))
			must(t, unix.IoctlSetInt(int(queue.Fd()), unix.TUNSETLINK, arphrd))
			must(t, netlink.LinkSetUp(l))
		}
		setType(unix.ARPHRD_ETHER)
		eventually(t, "the program is exchanged", func() bool {
			h := f.Hooks()
			return len(h) == 1 && !h[0].Since.Equal(since)
		})
		if m == TCX {
			expectAttached(t, l, "ingress tcx tap_ingress_eth")
		}
		setType(unix.ARPHRD_INFINIBAND)
		f.until()
		expectAttached(t, l)
		f.round()
		if f.log.lines("level=ERROR", "interface=tun0", "infiniband", "not supported") != 1 {
			t.Errorf("log:\n%s", f.log)
		}
		setType(unix.ARPHRD_NONE)
		f.until("tun0 ingress")
	})
}

func TestResync(t *testing.T) {
	modes(t, func(t *testing.T, m Mode) {
		a, _ := pair(t, "a0", "b0")
		var want atomic.Pointer[Want]
		want.Store(new(Want))
		c := newCounters(t)
		f := follow(t, Options{Programs: c.programs(), Mode: m, Select: func(l netlink.Link) Want {
			if l.Attrs().Name == "a0" {
				return *want.Load()
			}
			return Want{}
		}})
		for _, step := range []struct {
			want  Want
			hooks []string
		}{
			{Want{Ingress: true}, []string{"a0 ingress"}},
			{Want{Ingress: true, Egress: true}, []string{"a0 ingress", "a0 egress"}},
			{Want{Egress: true}, []string{"a0 egress"}},
			{Want{}, nil},
			{Want{Egress: true}, []string{"a0 egress"}},
		} {
			want.Store(&step.want)
			for range 3 {
				f.Resync()
			}
			f.until(step.hooks...)
		}
		f.stop()
		expectAttached(t, a)
	})
}

// TestFailureIsContained gives no program for one direction: it is logged
// once per link and keeps nothing else from being attached.
func TestFailureIsContained(t *testing.T) {
	modes(t, func(t *testing.T, m Mode) {
		c := newCounters(t)
		p := c.programs()
		p.EgressEth = nil
		pair(t, "a0", "b0")
		f := follow(t, Options{Programs: p, Mode: m, Select: on("a0", "b0")})
		f.until("b0 ingress", "a0 ingress") // the peer has the lower index
		f.round()
		f.round()
		for _, name := range []string{"a0", "b0"} {
			if n := f.log.lines("level=ERROR", "interface="+name, "no program for egress"); n != 1 {
				t.Errorf("%d lines about %s:\n%s", n, name, f.log)
			}
		}
	})
}

// TestOverrun loses link messages and checks that the follower notices.
func TestOverrun(t *testing.T) {
	t.Parallel()
	enterLab(t)
	pair(t, "a0", "b0")
	c := newCounters(t)
	block := make(chan struct{})
	release := sync.OnceFunc(func() { close(block) })
	defer release()
	f := follow(t, Options{Programs: c.programs(), Select: func(l netlink.Link) Want {
		if l.Attrs().Name == "stop0" {
			<-block
		}
		return on("a0", "a1")(l)
	}})
	pair(t, "stop0", "stop1")
	// More messages than any buffer on the way holds.
	b, err := netlink.LinkByName("b0")
	must(t, err)
	for i := range 4000 {
		must(t, netlink.LinkSetMTU(b, 1000+i%2))
	}
	pair(t, "a1", "b1")
	release()
	f.until("a0 ingress", "a0 egress", "a1 ingress", "a1 egress")
	// On a slow machine it was the next regular look that found a1.
	eventually(t, "the subscription fails", func() bool { return f.log.lines("level=WARN", "subscription") > 0 })
	// And it follows again.
	pair(t, "c0", "c1")
	l, err := netlink.LinkByName("a1")
	must(t, err)
	must(t, netlink.LinkDel(l))
	f.until("a0 ingress", "a0 egress")
}

// TestChurn creates and deletes interfaces and checks that nothing remains of
// them. It does not run in parallel with others because it counts descriptors.
func TestChurn(t *testing.T) {
	for _, m := range []Mode{TCX, Clsact} {
		t.Run(m.String(), func(t *testing.T) {
			enterLab(t)
			need(t, m)
			c := newCounters(t)
			pair(t, "a0", "b0")
			f := follow(t, Options{Programs: c.programs(), Mode: m, Select: func(netlink.Link) Want { return Want{true, true} }})
			settled := []string{"lo ingress", "lo egress", "b0 ingress", "b0 egress", "a0 ingress", "a0 egress"}
			f.until(settled...)
			before := descriptors(t)
			for i := range 100 {
				pair(t, "x0", "y0")
				if i%10 == 0 { // otherwise whatever it gets done in the meantime
					eventually(t, "the new ones are attached to", func() bool { return len(f.Hooks()) == len(settled)+4 })
				}
				x, err := netlink.LinkByName("x0")
				must(t, err)
				must(t, netlink.LinkDel(x))
			}
			f.until(settled...)
			var after []string
			defer func() {
				if t.Failed() {
					t.Logf("before: %q\nafter: %q", before, after)
				}
			}()
			eventually(t, "no descriptors are left", func() bool {
				after = descriptors(t)
				return len(after) <= len(before)
			})
			if s := f.log.String(); s != "" {
				t.Errorf("logged: %s", s)
			}
			f.stop()
			if n := len(f.devices); n != 0 {
				t.Errorf("%d devices remembered", n)
			}
		})
	}
}

// descriptors lists what the process has open.
func descriptors(t *testing.T) []string {
	t.Helper()
	runtime.GC() // finalizers close what a failed call left
	entries, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	var all []string
	for _, e := range entries {
		if target, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%s", e.Name())); err == nil {
			all = append(all, target)
		}
	}
	slices.Sort(all)
	return all
}
