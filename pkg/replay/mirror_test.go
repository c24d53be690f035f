package replay

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// gate is a server that answers only when it is let.
type gate struct {
	*shadow
	arrived chan struct{} // one for every request
	open    chan struct{} // closed to let all pass
}

func newGate(t *testing.T) *gate {
	g := &gate{arrived: make(chan struct{}, 1000), open: make(chan struct{})}
	g.shadow = newShadow(t, func(p *peer) {
		for p.next() != nil {
			g.arrived <- struct{}{}
			<-g.open
			p.say(okEmpty)
		}
	})
	t.Cleanup(g.letPass) // before the server waits for its connections
	return g
}

func (g *gate) letPass() {
	select {
	case <-g.open:
	default:
		close(g.open)
	}
}

func TestQueueFull(t *testing.T) {
	g := newGate(t)
	c := newClient(t, Config{Endpoints: []Endpoint{g.endpoint()}, Queue: 2, InFlight: 1})
	c.submit(get)
	<-g.arrived
	c.submit(get)
	c.submit(get)
	r := request(t, get)
	defer r.Release()
	if got := c.Submit(r, verbatim{}); got != QueueFull {
		t.Fatalf("Submit: %v, want %v", got, QueueFull)
	}
	s := c.Stats()
	if s.Queued != 2 || s.InFlight != 1 || s.Pending != 3 || s.Refused["queue_full"] != 1 || s.PendingBytes != 3*int64(len(get)) {
		t.Errorf("%+v", s)
	}
	g.letPass()
	for range 3 {
		want(t, <-c.results, Answered2xx)
	}
}

func TestQueueBytes(t *testing.T) {
	g := newGate(t)
	c := newClient(t, Config{Endpoints: []Endpoint{g.endpoint()}, QueueBytes: 1000})
	c.submit(post(5000)) // alone, it may exceed the bound
	<-g.arrived
	r := request(t, get)
	defer r.Release()
	if got := c.Submit(r, verbatim{}); got != QueueFull {
		t.Fatalf("Submit: %v, want %v", got, QueueFull)
	}
	g.letPass()
	want(t, <-c.results, Answered2xx)
	c.settled()
	if got := c.Submit(r, verbatim{}); got != Accepted {
		t.Fatalf("Submit: %v, want %v", got, Accepted)
	}
	want(t, <-c.results, Answered2xx)
}

func TestNoEndpoints(t *testing.T) {
	g := newGate(t)
	c := newClient(t, Config{InFlight: 1})
	r := request(t, get)
	defer r.Release()
	if got := c.Submit(r, verbatim{}); got != NoEndpoints {
		t.Fatalf("Submit: %v, want %v", got, NoEndpoints)
	}
	if err := c.SubmitWait(t.Context(), r, verbatim{}); !errors.Is(err, ErrNoEndpoints) {
		t.Fatalf("SubmitWait: %v, want %v", err, ErrNoEndpoints)
	}
	c.SetEndpoints([]Endpoint{g.endpoint(), g.endpoint()})
	c.submit(get)
	<-g.arrived
	c.submit(get)
	c.SetEndpoints(nil)
	g.letPass()
	want(t, <-c.results, Answered2xx)
	want(t, <-c.results, NoEndpoint)
	c.settled()
	if s := c.Stats(); s.Refused["no_endpoints"] != 2 || s.Connections != 0 {
		t.Errorf("%+v", s)
	}
}

func TestSubmitWait(t *testing.T) {
	g := newGate(t)
	c := newClient(t, Config{Endpoints: []Endpoint{g.endpoint()}, Queue: 1, InFlight: 1})
	r := request(t, get)
	defer r.Release()
	c.submit(get)
	<-g.arrived
	c.submit(get)

	cause := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	if err := c.SubmitWait(ctx, r, verbatim{}); !errors.Is(err, cause) {
		t.Fatalf("SubmitWait: %v, want %v", err, cause)
	}
	const waiting = 10
	var wg sync.WaitGroup
	for range waiting {
		wg.Go(func() {
			if err := c.SubmitWait(t.Context(), r, verbatim{}); err != nil {
				t.Errorf("SubmitWait: %v", err)
			}
		})
	}
	g.letPass()
	wg.Wait()
	for range waiting + 2 {
		want(t, <-c.results, Answered2xx)
	}
	if n := c.Stats().Refused["queue_full"]; n != 1 {
		t.Errorf("%d refused, want 1", n)
	}
}

// TestSubmitWaitClosed: Drain releases everybody who waits.
func TestSubmitWaitClosed(t *testing.T) {
	g := newGate(t)
	c := newClient(t, Config{Endpoints: []Endpoint{g.endpoint()}, Queue: 1, InFlight: 1})
	r := request(t, get)
	defer r.Release()
	c.submit(get)
	<-g.arrived
	c.submit(get)
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() {
			if err := c.SubmitWait(t.Context(), r, verbatim{}); !errors.Is(err, ErrClosed) {
				t.Errorf("SubmitWait: %v, want %v", err, ErrClosed)
			}
		})
	}
	for waiters := 0; waiters < 5; {
		c.mu.Lock()
		waiters = c.waiters
		c.mu.Unlock()
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	c.Drain(ctx)
	wg.Wait()
	if got := c.Submit(r, verbatim{}); got != Closed {
		t.Errorf("Submit: %v, want %v", got, Closed)
	}
	if n := c.Stats().Refused["shutdown"]; n != 6 {
		t.Errorf("%d refused, want 6", n)
	}
}

// TestDrain: what was accepted is finished.
func TestDrain(t *testing.T) {
	s := newShadow(t, answering(okEmpty))
	c := newClient(t, Config{Endpoints: []Endpoint{s.endpoint()}, InFlight: 3})
	for range 100 {
		c.submit(get)
	}
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() { c.Drain(t.Context()) })
	}
	wg.Wait()
	if st := c.Stats(); st.Answered["2xx"] != 100 || st.Workers != 0 || st.Connections != 0 {
		t.Errorf("%+v", st)
	}
	s.deserted() // every connection is closed
}

// TestShutdown: what Drain cannot wait for fails, wherever it is: in flight,
// connecting, or queued.
func TestShutdown(t *testing.T) {
	modes(t, func(t *testing.T, cfg Config) {
		g := newGate(t)
		var budget ledger
		pool := budget.pool()
		cfg.Endpoints, cfg.InFlight = []Endpoint{g.endpoint()}, 2
		c := newClient(t, cfg)
		for range 10 {
			r := pooled(t, pool, get)
			if got := c.Submit(r, verbatim{}); got != Accepted {
				t.Fatal(got)
			}
			r.Release()
		}
		<-g.arrived
		<-g.arrived
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		c.Drain(ctx)
		if st := c.Stats(); st.Failed["shutdown"] != 10 {
			t.Errorf("%+v", st)
		}
		if budget.held != 0 {
			t.Errorf("%d bytes are still held", budget.held)
		}
	})
}

// TestSetEndpoints: under load, connections of endpoints that vanish are
// closed after their exchange, and no copy is lost.
func TestSetEndpoints(t *testing.T) {
	a, b := newShadow(t, answering(okEmpty)), newShadow(t, answering(okEmpty))
	c := newClient(t, Config{Endpoints: []Endpoint{a.endpoint()}, InFlight: 8})
	both := []Endpoint{a.endpoint(), b.endpoint()}
	r := request(t, get)
	defer r.Release()

	const copies = 3000
	var wg sync.WaitGroup
	wg.Go(func() {
		for range copies {
			if err := c.SubmitWait(t.Context(), r, verbatim{}); err != nil {
				t.Errorf("SubmitWait: %v", err)
			}
		}
	})
	to := map[string]int{}
	for i := range copies {
		res := <-c.results
		want(t, res, Answered2xx)
		to[res.Endpoint.Address]++
		switch i {
		case copies / 4:
			c.SetEndpoints(both)
		case copies / 2:
			c.SetEndpoints(both[1:])
		}
	}
	wg.Wait()
	c.settled()
	a.deserted() // its connections are closed though the mirror lives on
	if to[a.addr] < copies/4 || to[b.addr] < copies/4 {
		t.Errorf("copies by endpoint: %v", to)
	}
	if n := c.Stats().Connections; n == 0 {
		t.Error("no connection to the endpoint that stayed")
	}
}

// TestInvariant: the counts add up whenever they are read, and everything
// that was retained is released.
func TestInvariant(t *testing.T) {
	var n atomic.Int64
	s := newShadow(t, func(p *peer) {
		for p.next() != nil {
			switch n.Add(1) % 7 {
			case 0:
				return
			case 1:
				p.say("garbage\n")
			case 2:
				p.say("HTTP/1.1 404 x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
				return
			default:
				p.say(okEmpty)
			}
		}
	})
	var budget ledger
	pool := budget.pool()
	m := New(Config{
		Endpoints: []Endpoint{s.endpoint(), {Address: "127.0.0.1:1"}},
		Queue:     20, InFlight: 10,
	})
	done := make(chan struct{})
	var sampler, submitters sync.WaitGroup
	sampler.Go(func() {
		for {
			balanced(t, m.Stats())
			select {
			case <-done:
				return
			default:
			}
		}
	})
	for range 3 {
		submitters.Go(func() {
			for i := range 1000 {
				r := pooled(t, pool, post(i))
				if i%2 == 0 {
					m.Submit(r, verbatim{})
				} else if err := m.SubmitWait(t.Context(), r, verbatim{}); err != nil {
					t.Errorf("SubmitWait: %v", err)
				}
				r.Release()
			}
		})
	}
	submitters.Wait()
	m.Drain(t.Context())
	close(done)
	sampler.Wait()
	st := m.Stats()
	balanced(t, st)
	if st.Pending != 0 || st.Accepted+st.Refused["queue_full"] != 3000 {
		t.Errorf("%+v", st)
	}
	for _, o := range []Outcome{Reset, Protocol} {
		if st.Failed[o.String()] == 0 {
			t.Errorf("no copy failed as %v: %+v", o, st)
		}
	}
	if st.Latency.Count() != st.Answered["2xx"]+st.Answered["4xx"] {
		t.Errorf("%d latencies for %v", st.Latency.Count(), st.Answered)
	}
	if budget.held != 0 {
		t.Errorf("%d bytes are still held", budget.held)
	}
}

func TestStatsAdd(t *testing.T) {
	a := Stats{Accepted: 1, Answered: map[string]uint64{"2xx": 1}, Pending: 2, Latency: Histogram{Sum: time.Second}}
	a.Latency.Counts[3] = 4
	var sum Stats
	sum = sum.Add(a).Add(a)
	if sum.Accepted != 2 || sum.Answered["2xx"] != 2 || sum.Pending != 4 ||
		sum.Latency.Sum != 2*time.Second || sum.Latency.Counts[3] != 8 || a.Answered["2xx"] != 1 {
		t.Errorf("%+v, of %+v", sum, a)
	}
}

func TestHistogram(t *testing.T) {
	var h Histogram
	for _, d := range []time.Duration{0, 500 * time.Microsecond, 501 * time.Microsecond, 10 * time.Second, time.Minute} {
		h.observe(d)
	}
	want := Histogram{Sum: time.Minute + 10*time.Second + 1001*time.Microsecond}
	want.Counts[0], want.Counts[1], want.Counts[numBuckets-1], want.Counts[numBuckets] = 2, 1, 1, 1
	if h != want || h.Count() != 5 {
		t.Errorf("%+v, want %+v", h, want)
	}
	if b := LatencyBounds(); b[0] != 0.0005 || b[numBuckets-1] != 10 {
		t.Errorf("bounds %v", b)
	}
}

// TestNoAllocations: a copy costs no garbage.
func TestNoAllocations(t *testing.T) {
	s := newShadow(t, func(p *peer) {
		b := make([]byte, 4096)
		answer := []byte(benchResponse)
		for {
			if _, err := p.Read(b); err != nil {
				return
			}
			if _, err := p.Write(answer); err != nil {
				return
			}
		}
	})
	modes(t, func(t *testing.T, cfg Config) {
		answered := make(chan struct{}, 1)
		cfg.Endpoints = []Endpoint{s.endpoint()}
		cfg.OnResult = func(Result) { answered <- struct{}{} }
		m := New(cfg)
		defer m.Drain(t.Context())
		r := request(t, get)
		defer r.Release()
		n := testing.AllocsPerRun(500, func() {
			m.Submit(r, verbatim{})
			<-answered
		})
		if n > 0.5 {
			t.Errorf("%.2f allocations per copy, want none", n)
		}
	})
}
