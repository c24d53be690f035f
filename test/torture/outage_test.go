package torture

import (
	"errors"
	"net/netip"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/shadowtap/shadowtap/pkg/netlab"
)

// outage is what happens to agents while production is busy. Production must
// not notice; no copy may be corrupt or come twice; and a request that was not
// mirrored must have been under way while nobody could see it.
type outage struct {
	name   string
	long   bool // not part of the short form
	quiet  bool // fewer clients
	routed bool // v1 is in a namespace of its own, behind the node
	sizes  sizes
	play   func(s *stage)
}

var outages = []outage{
	{name: "agent stopped, rings overflow", sizes: usual, play: stalled},
	{name: "agent stopped for longer than its heartbeat", long: true, sizes: usual, play: silent},
	{name: "agent starved of CPU", sizes: usual, play: starved},
	{name: "agent killed", sizes: usual, play: killed},
	{name: "agent killed for want of memory", sizes: sizes{body: 200_000, field: 2000}, play: outOfMemory},
	{name: "agent in a crash loop", sizes: usual, play: crashLoop},
	{name: "agent replaced by another", sizes: usual, play: upgraded},
	{name: "agent replaced, clsact, large bodies", sizes: sizes{body: 1 << 20, field: 2000}, play: upgradedClsact},
	{name: "successor killed while it takes over", sizes: usual, play: failedSuccession},
	{name: "successor breaks off", sizes: usual, play: brokenOff},
	{name: "starts and stops", sizes: usual, quiet: true, play: cycles},

	{name: "neighbours that count, everywhere", sizes: usual, play: beside},
	{name: "neighbour in front drops", sizes: usual, play: behindDrops},
	{name: "neighbour behind drops", sizes: usual, play: beforeDrops},
	{name: "neighbour in front redirects", sizes: usual, routed: true, play: behindRedirect},
	{name: "neighbour behind redirects", sizes: usual, routed: true, play: beforeRedirect},
	{name: "neighbour in front rewrites", sizes: usual, play: behindRewrite},
	{name: "interfaces come, go, flap and move", sizes: usual, play: churn},
}

// outageShare of all requests passes, at least, in each outage, in percent.
const outageShare = 2

// stage is where an outage takes place: clients in one namespace, agents and
// the shadow in another, and v1 there or behind it.
type stage struct {
	*testing.T
	client, node *netlab.Namespace
	server       netip.AddrPort // where clients connect to
	least        int            // requests to send
	ledger       ledger
	traffic      *traffic // since the first agent was ready
	begin        func()
	rules        string

	mu   sync.Mutex
	gate chan struct{} // while not nil, the shadow answers nothing until it is closed
	torn int           // copies that ended early

	bad      []period
	accounts []account // of agents that ended well
	lost     uint64    // packets, by the kernel's own count
	deaths   int
	peakMiB  int
}

func (o *outage) run(t *testing.T, n int, seed uint64) row {
	begin := time.Now()
	s := &stage{T: t, client: namespace(t, "client"), node: namespace(t, "node"), server: served4, least: n}
	v1 := s.node
	if o.routed {
		v1 = namespace(t, "v1")
		s.connectRouted(v1)
	} else {
		must(t, netlab.Connect(
			netlab.End{Namespace: s.client, Name: "eth0", Addresses: []netip.Prefix{netip.MustParsePrefix("10.99.0.1/24")}},
			netlab.End{Namespace: s.node, Name: "eth0", Addresses: []netip.Prefix{netip.PrefixFrom(served4.Addr(), 24)}},
		))
	}
	l, err := v1.Listen("tcp", served4.String())
	must(t, err)
	defer serveProduction(l).stop()
	l, err = s.node.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	shadow := serveShadow(l, s.arrived)
	defer shadow.stop()
	s.rules = rulesFor(t, l.Addr())

	alone := startTraffic(new(ledger), newGenerator(seed, o.sizes, false), s.client, served4, 3, 1)
	waitFor(t, "traffic without an agent", func() bool { return alone.sent() >= n/4 })
	alone.end()
	s.begin = sync.OnceFunc(func() {
		keepAlive := 3
		if o.quiet {
			keepAlive = 1
		}
		s.traffic = startTraffic(&s.ledger, newGenerator(seed+1, o.sizes, false), s.client, s.server, keepAlive, 1)
		t.Cleanup(s.traffic.end)
	})
	o.play(s)
	s.traffic.end()
	shadow.stop()
	return s.settle(row{name: o.name, p99: s.traffic.p99(), alone: alone.p99(), seconds: time.Since(begin).Seconds()})
}

// connectRouted lays client - node - v1.
func (s *stage) connectRouted(v1 *netlab.Namespace) {
	s.Helper()
	address := func(p string) []netip.Prefix { return []netip.Prefix{netip.MustParsePrefix(p)} }
	must(s, netlab.Connect(
		netlab.End{Namespace: s.client, Name: "eth0", Addresses: address("10.98.0.1/24")},
		netlab.End{Namespace: s.node, Name: "eth0", Addresses: address("10.98.0.254/24")}))
	must(s, netlab.Connect(
		netlab.End{Namespace: v1, Name: "eth0", Addresses: []netip.Prefix{netip.PrefixFrom(served4.Addr(), 24)}},
		netlab.End{Namespace: s.node, Name: "v1-0", Addresses: address("10.99.0.254/24")}))
	must(s, s.node.Forward())
	everywhere := netip.MustParsePrefix("0.0.0.0/0")
	must(s, s.client.Route(everywhere, netip.MustParseAddr("10.98.0.254")))
	must(s, v1.Route(everywhere, netip.MustParseAddr("10.99.0.254")))
}

// arrived takes a copy, or what is left of one whose agent was killed.
func (s *stage) arrived(a arrival) {
	s.mu.Lock()
	gate := s.gate
	if errors.Is(a.err, errTorn) || errors.Is(a.err, syscall.ECONNRESET) {
		s.torn++
		s.mu.Unlock()
		return
	}
	s.mu.Unlock()
	s.ledger.arrived(a)
	if gate != nil {
		<-gate
	}
}

// start starts an agent and waits until it captures. Traffic begins with the
// first one.
func (s *stage) start(args ...string) *agent {
	s.Helper()
	a := s.launch(args...)
	s.ready(a)
	s.begin()
	return a
}

func (s *stage) launch(args ...string) *agent {
	s.Helper()
	return startAgent(s, s.node.Start, nil, append([]string{"-f", s.rules, "--admin", "127.0.0.1:9901"}, args...)...)
}

func (s *stage) ready(a *agent) {
	s.Helper()
	ready(s, a, s.node)
}

// stop ends an agent as it should end.
func (s *stage) stop(a *agent) account {
	s.Helper()
	a.sample()
	must(s, a.cmd.Process.Signal(syscall.SIGTERM))
	acc, peak, err := a.ended()
	must(s, err)
	s.accounts, s.peakMiB = append(s.accounts, acc), max(s.peakMiB, peak)
	return acc
}

// kill ends an agent as it should not end.
func (s *stage) kill(a *agent) {
	_ = a.cmd.Process.Kill()
	s.died(a)
}

// died waits for a killed agent to be gone.
func (s *stage) died(a *agent) {
	s.Helper()
	select {
	case <-a.done:
	case <-time.After(patience):
		s.Fatal("shadowtap does not die")
	}
	var exit *exec.ExitError
	if !errors.As(a.exit, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		s.Fatalf("shadowtap ended by itself: %v\n%s", a.exit, a.log.String())
	}
	s.deaths++
}

// goOn returns when production has sent so many parts in 12 of all its
// requests.
func (s *stage) goOn(parts int) {
	s.Helper()
	until := s.traffic.sent() + max(20, s.least*parts/12)
	waitFor(s, "production going on", func() bool { return s.traffic.sent() >= until })
}

// times is how often an outage repeats what it does, in the short form and in a
// longer one.
func (s *stage) times(short, long int) int {
	if s.least > shortRequests*outageShare/100 {
		return long
	}
	return short
}

// settled returns a time before which every request has come that is not
// excused: just now, if the agent keeps up.
func (s *stage) settled() (at time.Time) {
	s.Helper()
	begin := time.Now()
	waitFor(s, "requests being mirrored", func() bool {
		at = s.traffic.settled(s.bad)
		return at.After(begin)
	})
	return at
}

// settle says what became of the requests, and fails the test if that cannot
// be explained.
func (s *stage) settle(r row) row {
	s.Helper()
	l := &s.ledger
	var faults []int
	excused := uint64(s.traffic.unmirrored(s.bad, func(id int, _ period) { faults = append(faults, id) }))
	for _, id := range faults {
		l.fault("request %d was not mirrored, for no reason", id)
	}
	r.requests, r.peakMiB, r.failures = s.traffic.sent(), s.peakMiB, len(s.traffic.failed)
	for _, err := range s.traffic.failed {
		s.Errorf("production failed: %v", err)
	}
	if s.torn > 0 && s.deaths == 0 {
		l.fault("%d copies ended early, although no agent was killed", s.torn)
	}

	var x [numFates]uint64
	for _, e := range l.entries {
		if e.arrivals > 0 {
			x[mirrored]++
		}
		if e.fate != mirrored && e.arrivals > 0 {
			l.fault("a request came that was never sent whole")
		}
	}
	var got, seen, dropped, lost, other uint64
	for _, a := range s.accounts {
		if err := a.closed(); err != nil {
			l.fault("%v", err)
		}
		d := a.Requests.Dropped
		got += a.Requests.Mirrored
		seen += a.Requests.Seen - d["handed_over"]
		lost += sum(a.Packets.Lost)
		x[gap] += d["gap"]
		x[incomplete] += d["incomplete"]
		x[unfinished] += d["shutdown"] + d["expired"]
		x[handedOver] += d["handed_over"]
		known := d["gap"] + d["incomplete"] + d["shutdown"] + d["expired"]
		dropped += known
		other += sum(d) - d["handed_over"] - known + a.Requests.Filtered + a.Requests.SampledOut + a.Requests.Looped +
			sum(a.Flows.Ignored) + a.Flows.Panics + sum(a.Shadow.Failed)
	}
	if other > 0 || seen > uint64(r.requests) {
		l.fault("%d requests or flows with another fate, %d seen: %+v", other, seen, s.accounts)
	}
	x[unseen] = excused + l.expected[incomplete] - min(excused+l.expected[incomplete], dropped)
	switch {
	case s.deaths == 0 && got != x[mirrored]:
		l.fault("%d copies arrived, %d are in the accounts", x[mirrored], got)
	case s.deaths == 0 && dropped > excused+l.expected[incomplete]:
		l.fault("%d requests are dropped, only %d were not mirrored", dropped, excused)
	case s.deaths == 0 && lost != s.lost:
		l.fault("%d packets lost, the kernel counted %d", lost, s.lost)
	}
	l.expected = x
	l.report(s.T)
	r.expected, r.unexplained = x, l.unexpl
	return r
}
