package torture

import (
	"math/rand/v2"
	"slices"
	"syscall"
	"time"
)

// overflows is how many packets must be lost for a test to show anything.
const overflows = 50

// tightly runs an agent with small rings, and disturb beside it until packets
// were lost; three times.
func tightly(s *stage, disturb, recover func(a *agent)) {
	from := time.Now()
	a := s.start("--ring-size", "64KiB", "--attach", "tcx")
	w := startWatch(countersOf(s, tapPrograms(s, s.node, "eth0")[0]), from)
	for range 3 {
		s.goOn(2)
		before, _, err := w.counters.missed()
		must(s, err)
		disturb(a)
		waitFor(s, "lost packets", func() bool {
			now, _, err := w.counters.missed()
			must(s, err)
			return now >= before+overflows
		})
		recover(a)
		s.goOn(2)
	}
	s.traffic.end()
	s.lose(w)
	s.stop(a)
}

// stalled: what the agent does not read in time is lost, and nothing else.
func stalled(s *stage) {
	send := func(sig syscall.Signal) func(*agent) {
		return func(a *agent) { must(s, a.cmd.Process.Signal(sig)) }
	}
	tightly(s, send(syscall.SIGSTOP), send(syscall.SIGCONT))
}

// silent: an agent that gives no sign of life is taken for dead, and nothing is
// copied for it until it gives one.
func silent(s *stage) {
	from := time.Now()
	a := s.start("--attach", "tcx")
	w := startWatch(countersOf(s, tapPrograms(s, s.node, "eth0")[0]), from)
	s.goOn(2)
	must(s, a.cmd.Process.Signal(syscall.SIGSTOP))
	waitFor(s, "packets that are not copied", func() bool {
		_, paused, err := w.counters.missed()
		must(s, err)
		return paused >= overflows
	})
	must(s, a.cmd.Process.Signal(syscall.SIGCONT))
	s.goOn(6)
	s.traffic.end()
	s.lose(w)
	s.stop(a)
}

// starved: what it gets no time to read is lost, too.
func starved(s *stage) {
	g := newCgroup(s, "cpu")
	tightly(s, func(a *agent) {
		g.add(s, a.cmd.Process.Pid)
		g.limitCPU(s, 1)
	}, func(*agent) { g.freeCPU(s) })
}

// killed: kill -9 again and again. With the agent goes what it had not sent.
func killed(s *stage) {
	a := s.start()
	for range 3 {
		s.goOn(2)
		from := s.settled()
		s.kill(a)
		s.goOn(1)
		a = s.start()
		s.bad = append(s.bad, period{from, time.Now()})
	}
	s.goOn(2)
	s.traffic.end()
	s.stop(a)
}

// outOfMemory: the shadow stalls, copies pile up, and the agent's control
// group has less memory than the agent was told it may use.
func outOfMemory(s *stage) {
	g := newCgroup(s, "memory")
	a := s.start()
	s.goOn(2)
	from := s.settled()
	gate := make(chan struct{})
	s.mu.Lock()
	s.gate = gate
	s.mu.Unlock()
	g.limitMemory(s, 8<<20)
	g.add(s, a.cmd.Process.Pid)
	s.died(a)
	if g.oomKills(s) == 0 {
		s.Error("the agent was killed, but not for want of memory")
	}
	s.mu.Lock()
	s.gate = nil
	s.mu.Unlock()
	close(gate)
	s.goOn(1)
	a = s.start()
	s.bad = append(s.bad, period{from, time.Now()})
	s.goOn(4)
	s.traffic.end()
	s.stop(a)
}

// crashLoop: agents that do not live long, killed wherever they are, with
// filters that outlive them. The last one finds nothing in its way.
func crashLoop(s *stage) {
	a := s.start("--attach", "clsact")
	s.goOn(2)
	from := s.settled()
	s.kill(a)
	lives := s.times(6, 40)
	for range lives {
		a = s.launch("--attach", "clsact")
		select {
		case <-time.After(rand.N(200 * time.Millisecond)):
		case <-a.done:
		}
		s.kill(a)
	}
	a = s.start("--attach", "clsact")
	s.bad = append(s.bad, period{from, time.Now()})
	owners := tapFilters(s, s.node, "eth0")
	slices.Sort(owners)
	if owners = slices.Compact(owners); len(owners) != 1 {
		s.Errorf("filters %v on eth0, want those of the agent that lives", owners)
	}
	s.goOn(4)
	s.traffic.end()
	s.stop(a)
	if left := tapFilters(s, s.node, "eth0"); len(left) != 0 {
		s.Errorf("filters %v are left", left)
	}
}
