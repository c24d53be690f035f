package replay

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"testing"
	"time"
)

// circuitOf is a look at the circuit of the only endpoint.
func (c *client) circuitOf() circuit {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.endpoints[0].circuit
}

func (c *client) wantState(want State) {
	c.t.Helper()
	if got := c.Endpoints()[0].State; got != want {
		c.t.Fatalf("the endpoint is %v, want %v", got, want)
	}
}

// TestCircuitOpens: what opens the circuit of an endpoint, and what does not.
func TestCircuitOpens(t *testing.T) {
	const oops = "HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n"
	hangUp := func(*peer) {}
	for _, test := range []struct {
		name  string
		turns []func(*peer) // what becomes of each copy
		opens bool
	}{
		{"no answers", []func(*peer){hangUp, hangUp, hangUp}, true},
		{"no HTTP", []func(*peer){func(p *peer) { p.say("SSH-2.0-x\r\n") }, hangUp, hangUp}, true},
		{"too few", []func(*peer){hangUp, hangUp}, false},
		{"not in a row", []func(*peer){hangUp, hangUp, func(p *peer) { p.say(okEmpty) }, hangUp, hangUp}, false},
		{"errors are answers", []func(*peer){hangUp, hangUp, func(p *peer) { p.say(oops) }, hangUp}, false},
		{"so is the head of one", []func(*peer){hangUp, hangUp, func(p *peer) { p.say(okEmpty[:len(okEmpty)-5] + "9\r\n\r\n") }, hangUp}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			modes(t, func(t *testing.T, cfg Config) {
				var turn atomic.Int32
				s := newShadow(t, func(p *peer) {
					if p.next() != nil {
						test.turns[turn.Add(1)-1](p)
					}
				})
				cfg.Endpoints, cfg.InFlight, cfg.MaxFailures = []Endpoint{s.endpoint()}, 1, 3
				cfg.MaxBackoff = time.Hour
				cfg.Now = newClock().Now
				c := newClient(t, cfg)
				for range test.turns {
					c.wantState(StateClosed)
					c.do(get)
					c.settled()
				}
				if !test.opens {
					c.wantState(StateClosed)
					return
				}
				c.wantState(StateOpen)
				r := c.do(get)
				want(t, r, CircuitOpen)
				if !errors.Is(r.Err, c.circuitOf().err) {
					t.Errorf("error %v does not say why", r.Err)
				}
				if n := turn.Load(); int(n) != len(test.turns) {
					t.Errorf("%d copies arrived, want %d", n, len(test.turns))
				}
			})
		})
	}
}

// TestBackoff: a dead endpoint costs few dials, ever fewer, and one that came
// back is found again.
func TestBackoff(t *testing.T) {
	s := newShadow(t, answering(okEmpty))
	clk := newClock()
	down := errors.New("down")
	dead := true
	c := newClient(t, Config{
		Endpoints: []Endpoint{s.endpoint()}, InFlight: 1, Now: clk.Now,
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			if dead {
				return nil, down
			}
			return new(net.Dialer).DialContext(ctx, network, address)
		},
	})
	dials := uint64(0)
	fails := func(how Outcome) {
		t.Helper()
		r := c.do(get)
		want(t, r, how)
		if !errors.Is(r.Err, down) {
			t.Errorf("error %v does not say why", r.Err)
		}
		if how == Connect {
			dials++
		}
		c.settled()
		if got := c.Stats().Dials; got != dials {
			t.Fatalf("%d dials, want %d", got, dials)
		}
		c.wantState(StateOpen)
	}
	fails(Connect)
	for backoff := minBackoff; ; backoff *= 2 {
		backoff = min(backoff, c.cfg.MaxBackoff)
		wait := c.circuitOf().until.Sub(clk.Now())
		if wait > backoff || wait < backoff*3/4 {
			t.Fatalf("the next one tries after %v, want %v or up to a quarter less", wait, backoff)
		}
		fails(CircuitOpen)
		clk.advance(wait - 1)
		fails(CircuitOpen)
		clk.advance(1)
		fails(Connect)
		if backoff == c.cfg.MaxBackoff {
			break
		}
	}
	clk.advance(c.cfg.MaxBackoff)
	dead = false
	want(t, c.do(get), Answered2xx)
	c.settled()
	c.wantState(StateClosed)
}

// TestOneTrial: while one copy tries whether a silent endpoint answers again,
// which is more than that it can be connected to, the others fail at once
// instead of waiting with it.
func TestOneTrial(t *testing.T) {
	modes(t, func(t *testing.T, cfg Config) {
		clk := newClock()
		trying, answer := make(chan struct{}), make(chan string)
		var conns atomic.Int32
		s := newShadow(t, func(p *peer) {
			if conns.Add(1) == 1 {
				return
			}
			for p.next() != nil {
				trying <- struct{}{}
				p.say(<-answer)
			}
		})
		cfg.Endpoints, cfg.Now, cfg.MaxFailures = []Endpoint{s.endpoint()}, clk.Now, 1
		c := newClient(t, cfg)
		want(t, c.do(get), Reset)
		c.settled()
		for _, test := range []struct {
			answer string
			want   Outcome
			state  State
		}{{"no HTTP\r\n", Protocol, StateOpen}, {okEmpty, Answered2xx, StateClosed}} {
			clk.advance(c.cfg.MaxBackoff)
			c.submit(get)
			<-trying
			c.wantState(StateHalfOpen)
			for range 3 {
				want(t, c.do(get), CircuitOpen)
			}
			answer <- test.answer
			want(t, <-c.results, test.want)
			c.settled()
			c.wantState(test.state)
		}
		if n := conns.Load(); n != 3 {
			t.Errorf("%d connections, want 3", n)
		}
	})
}

// TestCircuitLeavesNothingBehind: the connections to an endpoint that went
// silent are given up, those to others are not, and they get the copies.
func TestCircuitLeavesNothingBehind(t *testing.T) {
	both := make(chan struct{})
	var waiting atomic.Int32
	silent := make(chan struct{})
	s := newShadow(t, func(p *peer) {
		for p.next() != nil {
			if waiting.Add(1) == 2 {
				close(both)
			}
			<-both
			select {
			case <-silent:
				return
			default:
				p.say(okEmpty)
			}
		}
	})
	c := newClient(t, Config{Endpoints: []Endpoint{s.endpoint()}, MaxFailures: 1, Now: newClock().Now})
	c.submit(get)
	c.submit(get)
	want(t, <-c.results, Answered2xx)
	want(t, <-c.results, Answered2xx)
	c.settled()
	if n := c.Stats().Connections; n != 2 {
		t.Fatalf("%d connections, want 2", n)
	}
	close(silent)
	want(t, c.do(get), Reset)
	c.settled()
	c.wantState(StateOpen)
	if n := c.Stats().Connections; n != 0 {
		t.Errorf("%d connections, want none", n)
	}
	other := newShadow(t, answering(okEmpty))
	c.SetEndpoints([]Endpoint{s.endpoint(), other.endpoint()})
	for range 20 {
		r := c.do(get)
		want(t, r, Answered2xx)
		if r.Endpoint != other.endpoint() {
			t.Fatalf("answered by %v", r.Endpoint)
		}
	}
}

// TestTrialThatIsNone: a copy that was to try an endpoint and fails for
// another reason leaves that to the next one.
func TestTrialThatIsNone(t *testing.T) {
	clk := newClock()
	first := true
	s := newShadow(t, answering(okEmpty))
	c := newClient(t, Config{
		Endpoints: []Endpoint{s.endpoint()}, Now: clk.Now,
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			if first {
				first = false
				return nil, errors.New("down")
			}
			return new(net.Dialer).DialContext(ctx, network, address)
		},
	})
	want(t, c.do(get), Connect)
	c.settled()
	clk.advance(c.cfg.MaxBackoff)
	r := request(t, post(10))
	defer r.Release()
	if got := c.Submit(r, headless); got != Accepted {
		t.Fatal(got)
	}
	want(t, <-c.results, Protocol)
	c.settled()
	c.wantState(StateOpen)
	want(t, c.do(get), Answered2xx)
	c.settled()
	c.wantState(StateClosed)
}
