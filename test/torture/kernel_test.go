package torture

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"

	"github.com/shadowtap/shadowtap/pkg/netlab"
)

// tapPrograms returns the agents' programs on the tcx hooks of an interface,
// in the order they run. The test is skipped on kernels without tcx.
func tapPrograms(t testing.TB, ns *netlab.Namespace, name string) (ids []ebpf.ProgramID) {
	t.Helper()
	must(t, ns.Do(func() error {
		device, err := net.InterfaceByName(name)
		if err != nil {
			return err
		}
		for _, hook := range []ebpf.AttachType{ebpf.AttachTCXIngress, ebpf.AttachTCXEgress} {
			found, err := link.QueryPrograms(link.QueryOptions{Target: device.Index, Attach: hook})
			if errors.Is(err, ebpf.ErrNotSupported) {
				t.Skipf("this kernel has no tcx: %v", err)
			}
			if err != nil {
				return err
			}
			for _, p := range found.Programs {
				if strings.HasPrefix(programName(p.ID), "tap_") {
					ids = append(ids, p.ID)
				}
			}
		}
		return nil
	}))
	return ids
}

// programName is empty if there is no such program any more.
func programName(id ebpf.ProgramID) string {
	p, err := ebpf.NewProgramFromID(id)
	if err != nil {
		return ""
	}
	defer p.Close()
	info, err := p.Info()
	if err != nil {
		return ""
	}
	return info.Name
}

// Outcomes of the kernel program, of its enum outcome.
const (
	outcomePaused     = 5
	outcomeRingFull   = 9
	outcomeUnreadable = 10
	outcomes          = 11

	// tallies is how many numbers there are for each outcome: four of packets
	// to a target, of which the first is how many, and four of what comes back.
	tallies = 8
)

// counters is the map in which a kernel program counts packets. It can be
// read whatever the agent is doing.
type counters struct{ *ebpf.Map }

func countersOf(t testing.TB, id ebpf.ProgramID) counters {
	t.Helper()
	program, err := ebpf.NewProgramFromID(id)
	must(t, err)
	defer program.Close()
	info, err := program.Info()
	must(t, err)
	maps, _ := info.MapIDs()
	for _, id := range maps {
		m, err := ebpf.NewMapFromID(id)
		must(t, err)
		if m.Type() == ebpf.PerCPUArray && m.ValueSize() == tallies*8 {
			if m.MaxEntries() != outcomes {
				t.Fatalf("the kernel program knows %d outcomes, this test %d", m.MaxEntries(), outcomes)
			}
			t.Cleanup(func() { _ = m.Close() })
			return counters{m}
		}
		_ = m.Close()
	}
	t.Fatal("the program has no map of counters")
	return counters{}
}

// missed is how many packets the program did not hand over although it should
// have: lost, or seen while no agent gave a sign of life.
func (c counters) missed() (lost, paused uint64, err error) {
	for _, outcome := range []uint32{outcomeRingFull, outcomeUnreadable, outcomePaused} {
		var perCPU [][tallies]uint64
		if err := c.Lookup(outcome, &perCPU); err != nil {
			return 0, 0, fmt.Errorf("read the kernel's counters: %w", err)
		}
		for _, v := range perCPU {
			if outcome == outcomePaused {
				paused += v[0]
			} else {
				lost += v[0]
			}
		}
	}
	return lost, paused, nil
}

// seen is how many packets to a target, and fragments, the program was given.
func (c counters) seen() (n uint64, err error) {
	for outcome := range c.MaxEntries() {
		var perCPU [][tallies]uint64
		if err := c.Lookup(outcome, &perCPU); err != nil {
			return 0, fmt.Errorf("read the kernel's counters: %w", err)
		}
		for _, v := range perCPU {
			n += v[0]
		}
	}
	return n, nil
}

// watch notes the periods in which packets were missed.
type watch struct {
	counters counters
	since    time.Time
	paused   bool // what was seen while the program was paused is missed, too
	stop     chan struct{}
	done     sync.WaitGroup
	periods  []period
	lost     uint64
	err      error
}

// startWatch is for an agent that was started at since: packets may be missed
// before anybody watches.
func startWatch(c counters, since time.Time) *watch {
	return (&watch{counters: c, since: since, paused: true}).start()
}

// startLossWatch is for an agent that runs since then. What passes while it is
// paused is another one's.
func startLossWatch(c counters, since time.Time) *watch {
	return (&watch{counters: c, since: since}).start()
}

func (w *watch) start() *watch {
	w.stop = make(chan struct{})
	w.done.Go(w.run)
	return w
}

func (w *watch) run() {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	from, before := w.since, uint64(0)
	for last := false; ; {
		at := time.Now()
		lost, paused, err := w.counters.missed()
		if err != nil {
			w.err = err
			return
		}
		missed := lost
		if w.paused {
			missed += paused
		}
		if missed > before {
			w.periods = append(w.periods, period{from, time.Now()})
		}
		from, before, w.lost = at, missed, lost
		if last {
			return
		}
		select {
		case <-w.stop:
			last = true
		case <-tick.C:
		}
	}
}

// end returns the periods and how many packets were lost.
func (w *watch) end(t testing.TB) ([]period, uint64) {
	t.Helper()
	close(w.stop)
	w.done.Wait()
	must(t, w.err)
	return w.periods, w.lost
}

// tapFilters returns the names of the agents' filters on an interface.
func tapFilters(t testing.TB, ns *netlab.Namespace, name string) (names []string) {
	t.Helper()
	must(t, ns.Do(func() error {
		l, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		for _, parent := range []uint32{netlink.HANDLE_MIN_INGRESS, netlink.HANDLE_MIN_EGRESS} {
			found, err := netlink.FilterList(l, parent)
			if err != nil {
				return err
			}
			for _, f := range found {
				if bpf, ok := f.(*netlink.BpfFilter); ok && strings.HasPrefix(bpf.Name, "shadowtap:") {
					names = append(names, bpf.Name)
				}
			}
		}
		return nil
	}))
	return names
}
