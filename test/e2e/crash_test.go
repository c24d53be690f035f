package e2e

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/vishvananda/netlink"

	"github.com/shadowtap/shadowtap/pkg/netlab"
)

// crash kills the agent while production is busy and returns when production
// has gone on for a while. Not one request of production may fail.
func crash(t *testing.T, a *agent, c *clients) {
	t.Helper()
	stop := make(chan struct{})
	wait := c.load(4, 0, stop, plain)
	a.until("mirroring", func(acc account) bool { return acc.Requests.Mirrored >= 300 })
	a.kill()
	n := len(c.messages())
	eventually(t, "production going on after the crash", func() error {
		if len(c.messages()) < n+500 && !t.Failed() {
			return errNotYet
		}
		return nil
	})
	close(stop)
	wait()
}

func TestKillNineLeavesNothingWithTCX(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	needTCX(t, l.node)
	v1 := serve(t, l.v1, v4.v1At(), nil)
	serve(t, l.v2, v4.v2At(), nil)
	a := startAgent(t, l.node, "-f", rulesFile(t, seedRules(t, v4)), "--attach", "tcx")
	programs := allTCXPrograms(t, l.node)
	if len(programs) == 0 {
		t.Fatal("no program is attached while the agent runs")
	}
	c := l.clients(v4.v1At())
	crash(t, a, c)
	checkReceived(t, c.messages(), v1.messages())

	if left := allTCXPrograms(t, l.node); len(left) != 0 {
		t.Errorf("programs %v are still attached after kill -9", left)
	}
	if left := filters(t, l.node); len(left) != 0 {
		t.Errorf("filters %v are left after kill -9", left)
	}
	for _, id := range programs {
		eventually(t, "the kernel forgetting the programs", func() error { return gone(id) })
	}
}

func TestGracefulStopLeavesNothing(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"tcx", "clsact"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			if mode == "tcx" {
				needTCX(t, l.node)
			}
			serve(t, l.v1, v4.v1At(), nil)
			v2 := serve(t, l.v2, v4.v2At(), nil)
			a := startAgent(t, l.node, "-f", rulesFile(t, seedRules(t, v4)), "--attach", mode)
			programs := append(allTCXPrograms(t, l.node), filterPrograms(filters(t, l.node))...)
			c := l.clients(v4.v1At())
			must(t, c.open().do(request{}))
			final := a.stop()
			checkCopies(t, c.messages(), v2.messages(), seedRewrite, nil)
			final.expect(t, outcome{mirrored: 1})
			if left := allTCXPrograms(t, l.node); len(left) != 0 {
				t.Errorf("programs %v are left", left)
			}
			if left := filters(t, l.node); len(left) != 0 {
				t.Errorf("filters %v are left", left)
			}
			if left := clsactQdiscs(t, l.node); len(left) != 0 {
				t.Errorf("clsact qdiscs are left on %v", left)
			}
			if len(programs) == 0 {
				t.Error("no program was attached")
			}
			for _, id := range programs {
				eventually(t, "the kernel forgetting the programs", func() error { return gone(id) })
			}
		})
	}
}

// TestKillNineWithClsact: filters outlive a killed agent. They must copy
// nothing any more, and the next agent removes them; what others attached
// stays through all of it.
func TestKillNineWithClsact(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	serve(t, l.v1, v4.v1At(), nil)
	v2 := serve(t, l.v2, v4.v2At(), nil)
	foreign := addForeignFilter(t, l.node, "v1-0")
	args := []string{"-f", rulesFile(t, seedRules(t, v4)), "--attach", "clsact"}

	a := startAgent(t, l.node, args...)
	c := l.clients(v4.v1At())
	crash(t, a, c)
	left := filters(t, l.node)
	if len(left) == 0 {
		t.Fatal("no filter is left after kill -9: this test shows nothing")
	}

	// Without a sign of life from the agent the filters turn inert.
	eventually(t, "orphaned filters going inert", func() error {
		paused := outcomes(t, left)[outcomePaused]
		if err := c.open().do(request{}); err != nil {
			t.Fatalf("production failed: %v", err)
		}
		if outcomes(t, left)[outcomePaused] == paused {
			return errNotYet
		}
		return nil
	})
	copied := outcomes(t, left)[outcomeCopied]
	for range 20 {
		must(t, c.open().do(request{}))
	}
	if now := outcomes(t, left)[outcomeCopied]; now != copied {
		t.Errorf("orphaned filters copied %d packets", now-copied)
	}

	// The next agent starts clean.
	seen := len(v2.messages())
	next := startAgent(t, l.node, args...)
	for _, id := range filterPrograms(left) {
		if err := gone(id); err != nil && slices.Contains(filterPrograms(filters(t, l.node)), id) {
			t.Errorf("program %d of the dead agent is still attached", id)
		}
	}
	after := l.clients(v4.v1At())
	after.n = 1_000_000
	for range 10 {
		must(t, after.open().do(request{}))
	}
	next.stop().expect(t, outcome{mirrored: 10})
	checkCopies(t, after.messages(), v2.messages()[seen:], seedRewrite, nil)
	if got := filters(t, l.node); len(got) != 0 {
		t.Errorf("filters %v are left", got)
	}
	if got := clsactQdiscs(t, l.node); !slices.Equal(got, []string{"v1-0"}) {
		t.Errorf("clsact qdiscs on %v, want only the foreign one on v1-0", got)
	}
	if err := gone(foreign); err == nil {
		t.Error("the foreign filter is gone")
	}
}

// TestKillNineInAPod: the filters of a killed agent go with the next one also
// from a pod that this one has no business in.
func TestKillNineInAPod(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	files := t.TempDir()
	file := filepath.Join(files, "pod")
	pod(t, l.v1, file)
	args := []string{"--netns", files + "/*", "--attach", "clsact"}
	a := startAgent(t, l.node, append(args, "-f", rulesFile(t, podRules(t, v4.v1)))...)
	must(t, a.attachedIn(file))
	a.kill()
	if len(filters(t, l.v1)) == 0 {
		t.Fatal("no filter is left after kill -9: this test shows nothing")
	}
	a = startAgent(t, l.node, append(args, "-f", rulesFile(t, podRules(t, "10.99.4.2")))...)
	eventually(t, "the pod being clean", func() error {
		if left, qdiscs := filters(t, l.v1), clsactQdiscs(t, l.v1); len(left)+len(qdiscs) > 0 {
			return fmt.Errorf("left are %v, and qdiscs on %v", left, qdiscs)
		}
		return nil
	})
	a.stop()
}

// filter is a TC filter of the program under test.
type filter struct {
	link, name string
	program    ebpf.ProgramID
}

func filterPrograms(list []filter) (ids []ebpf.ProgramID) {
	for _, f := range list {
		ids = append(ids, f.program)
	}
	return ids
}

// eachLink calls f inside a namespace for every interface of it.
func eachLink(t *testing.T, ns *netlab.Namespace, f func(l netlink.Link) error) {
	t.Helper()
	must(t, ns.Do(func() error {
		links, err := netlink.LinkList()
		for _, l := range links {
			err = errors.Join(err, f(l))
		}
		return err
	}))
}

// filters returns the program's filters in a namespace.
func filters(t *testing.T, ns *netlab.Namespace) (list []filter) {
	t.Helper()
	eachLink(t, ns, func(l netlink.Link) error {
		for _, parent := range []uint32{netlink.HANDLE_MIN_INGRESS, netlink.HANDLE_MIN_EGRESS} {
			found, err := netlink.FilterList(l, parent)
			if err != nil {
				return fmt.Errorf("filters of %s: %w", l.Attrs().Name, err)
			}
			for _, f := range found {
				if bpf, ok := f.(*netlink.BpfFilter); ok && strings.HasPrefix(bpf.Name, "shadowtap") {
					list = append(list, filter{l.Attrs().Name, bpf.Name, ebpf.ProgramID(bpf.Id)})
				}
			}
		}
		return nil
	})
	return list
}

// clsactQdiscs returns the names of the interfaces that have one.
func clsactQdiscs(t *testing.T, ns *netlab.Namespace) (names []string) {
	t.Helper()
	eachLink(t, ns, func(l netlink.Link) error {
		qdiscs, err := netlink.QdiscList(l)
		for _, q := range qdiscs {
			if q.Type() == "clsact" {
				names = append(names, l.Attrs().Name)
			}
		}
		return err
	})
	return names
}

// allTCXPrograms returns the programs on the tcx hooks of a namespace, none
// on kernels without tcx.
func allTCXPrograms(t *testing.T, ns *netlab.Namespace) (ids []ebpf.ProgramID) {
	t.Helper()
	var names []string
	must(t, ns.Do(func() error {
		interfaces, err := net.Interfaces()
		for _, i := range interfaces {
			names = append(names, i.Name)
		}
		return err
	}))
	for _, name := range names {
		found, err := tcxPrograms(ns, name)
		if err != nil && !errors.Is(err, ebpf.ErrNotSupported) {
			t.Fatal(err)
		}
		ids = append(ids, found...)
	}
	return ids
}

// gone returns nil if the kernel has no such program any more.
func gone(id ebpf.ProgramID) error {
	p, err := ebpf.NewProgramFromID(id)
	if err == nil {
		_ = p.Close()
		return fmt.Errorf("program %d still exists", id)
	}
	return nil
}

// addForeignFilter attaches a filter that is not ours, with a clsact qdisc
// that is not ours either, and returns its program.
func addForeignFilter(t *testing.T, ns *netlab.Namespace, name string) ebpf.ProgramID {
	t.Helper()
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type:         ebpf.SchedCLS,
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, -1), asm.Return()},
		License:      "GPL",
	})
	must(t, err)
	defer program.Close()
	info, err := program.Info()
	must(t, err)
	id, _ := info.ID()
	must(t, ns.Do(func() error {
		l, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		index := l.Attrs().Index
		err = netlink.QdiscAdd(&netlink.GenericQdisc{
			QdiscAttrs: netlink.QdiscAttrs{LinkIndex: index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT},
			QdiscType:  "clsact",
		})
		if err != nil {
			return err
		}
		return netlink.FilterAdd(&netlink.BpfFilter{
			FilterAttrs: netlink.FilterAttrs{
				LinkIndex: index, Parent: netlink.HANDLE_MIN_INGRESS, Handle: 1, Priority: 1, Protocol: 3, // ETH_P_ALL
			},
			Fd: program.FD(), Name: "foreign", DirectAction: true,
		})
	}))
	return id
}

// What the kernel program counts, of its enum outcome.
const (
	outcomeCopied = 0
	outcomePaused = 5
)

// outcomes sums up what the programs of filters have counted: they share the
// maps, so those of the first one are read.
func outcomes(t *testing.T, list []filter) map[uint32]uint64 {
	t.Helper()
	program, err := ebpf.NewProgramFromID(list[0].program)
	must(t, err)
	defer program.Close()
	info, err := program.Info()
	must(t, err)
	ids, _ := info.MapIDs()
	for _, id := range ids {
		m, err := ebpf.NewMapFromID(id)
		must(t, err)
		defer m.Close()
		if m.Type() != ebpf.PerCPUArray || m.ValueSize() != 2*4*8 { // of requests, and of responses
			continue
		}
		sums := map[uint32]uint64{}
		for key := range m.MaxEntries() {
			var perCPU [][2 * 4]uint64
			must(t, m.Lookup(key, &perCPU))
			for _, v := range perCPU {
				sums[key] += v[0]
			}
		}
		return sums
	}
	t.Fatal("the program has no map of counters")
	return nil
}
