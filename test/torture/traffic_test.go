package torture

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/shadowtap/shadowtap/pkg/netlab"
)

// period is a stretch of time.
type period struct{ from, to time.Time }

func (p period) meets(o period) bool { return !p.to.Before(o.from) && !o.to.Before(p.from) }

// exchange is what a client sent without waiting and the answers to it: whole
// requests, and the time in which all of their bytes passed the tap.
type exchange struct {
	first, last int // ids of its requests
	period
	// plain is set where a tap that has lost its place must recognise the
	// first of them; see recognisable.
	plain bool
}

// flow is a connection and what has passed on it so far.
type flow struct {
	dial      period
	exchanges []exchange
}

// traffic is clients that send requests until they are told to stop, over
// connections that carry many of them and over connections that carry one.
type traffic struct {
	ledger *ledger
	client *netlab.Namespace
	server netip.AddrPort

	stop chan struct{}
	once sync.Once
	done sync.WaitGroup

	mu        sync.Mutex
	generator *generator
	id        int // of the next request
	flows     []*flow
	failed    []error // of production
	latencies []time.Duration
}

// think is how long a client waits between exchanges, at most.
const think = 2 * time.Millisecond

// startTraffic sends from keepAlive + short clients at the same time.
func startTraffic(l *ledger, g *generator, from *netlab.Namespace, to netip.AddrPort, keepAlive, short int) *traffic {
	f := &traffic{ledger: l, client: from, server: to, generator: g, stop: make(chan struct{})}
	for i := range keepAlive + short {
		most := 1
		if i < keepAlive {
			most = 60
		}
		f.done.Go(func() {
			for {
				select {
				case <-f.stop:
					return
				default:
					f.connect(most)
				}
			}
		})
	}
	return f
}

// end stops the clients once their connections are at their end.
func (f *traffic) end() {
	f.once.Do(func() { close(f.stop) })
	f.done.Wait()
}

// connect makes a connection of up to most requests and sends them.
func (f *traffic) connect(most int) {
	f.mu.Lock()
	n := network{cut: wholePackets, pipeline: 3, messages: most}
	c := f.generator.connection(&n, client(0), f.id, most, byFIN)
	c.packets, c.end = nil, byFIN // as in live_test.go
	f.id += len(c.messages)
	f.ledger.sent(c)
	now := time.Now()
	flow := &flow{dial: period{now, now}}
	f.flows = append(f.flows, flow)
	f.mu.Unlock()

	from, whole := 0, true // where a burst begins, and whether a request does there
	c.onBurst = func(to int, p period) {
		f.mu.Lock()
		p.to = time.Now() // not before anybody who asks could know
		if from == 0 {
			flow.dial.to = p.from
		}
		if whole {
			i, _ := slices.BinarySearch(c.starts, from)
			flow.exchanges = append(flow.exchanges, exchange{first: c.messages[i].id, period: p,
				plain: recognisable(c.messages[i], c.stream[from:min(to, from+1400)])})
		}
		x := &flow.exchanges[len(flow.exchanges)-1]
		i, starts := slices.BinarySearch(c.starts, to)
		x.last, x.to = c.messages[i-1].id, p.to
		from, whole = to, starts
		f.latencies = append(f.latencies, p.to.Sub(p.from))
		f.mu.Unlock()
		time.Sleep(rand.N(think))
	}
	if err := c.send(f.client, f.server); err != nil {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.failed = append(f.failed, err)
	}
}

// sent is how many requests there are so far.
func (f *traffic) sent() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.id
}

// p99 is the time that all but one in a hundred bursts took to be answered.
func (f *traffic) p99() time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.latencies) == 0 {
		return 0
	}
	slices.Sort(f.latencies)
	return f.latencies[len(f.latencies)*99/100]
}

// unmirrored goes through the requests that were answered and have not come,
// and calls unexplained for those that nothing excuses: a request is excused
// if its bytes passed in one of the bad periods, or if it passed after one on
// the same connection, before one by which a tap must find its place again: a
// plain one that is not the first to pass since. It returns how many are
// excused.
func (f *traffic) unmirrored(bad []period, unexplained func(id int, p period)) (excused int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ledger.mu.Lock()
	defer f.ledger.mu.Unlock()
	met := func(p period) bool { return slices.ContainsFunc(bad, p.meets) }
	for _, flow := range f.flows {
		lost := met(flow.dial)
		passed := true
		for _, x := range flow.exchanges {
			hit := met(x.period)
			if !hit && passed && x.plain {
				lost = false
			}
			for id := x.first; id <= x.last; id++ {
				switch e := f.ledger.entries[id]; {
				case e.arrivals > 0 || e.fate != mirrored:
				case hit || lost:
					excused++
				default:
					unexplained(id, x.period)
				}
			}
			lost, passed = lost || hit, !hit
		}
	}
	return excused
}

// mirroredSince reports whether a request has come that was sent after a time.
func (f *traffic) mirroredSince(at time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ledger.mu.Lock()
	defer f.ledger.mu.Unlock()
	for _, flow := range f.flows {
		for _, x := range flow.exchanges {
			if x.from.After(at) && f.ledger.entries[x.first].arrivals > 0 {
				return true
			}
		}
	}
	return false
}

// settled is a time before which every answered request has come that nothing
// excuses.
func (f *traffic) settled(bad []period) time.Time {
	at := time.Now()
	f.unmirrored(bad, func(_ int, p period) {
		if p.from.Before(at) {
			at = p.from
		}
	})
	return at
}

// waitFor waits for a condition that must come true.
func waitFor(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}
