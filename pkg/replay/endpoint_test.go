package replay

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// clock is a time that only moves when told to.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Unix(1_800_000_000, 0)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// TestRefused: nobody listens.
func TestRefused(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	_ = l.Close()
	c := newClient(t, Config{Endpoints: []Endpoint{{Address: address}}, Name: "ratings"})
	want(t, c.do(get), Connect)
}

// TestConnectTimeouts: which limit it was that a dial exceeded.
func TestConnectTimeouts(t *testing.T) {
	silent := func(ctx context.Context, _, _ string) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	for _, test := range []struct {
		name           string
		connect, total time.Duration
		want           Outcome
	}{
		{"connect", 20 * time.Millisecond, time.Hour, Connect},
		{"total", time.Hour, 20 * time.Millisecond, Timeout},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := newClient(t, Config{
				Endpoints: []Endpoint{{Address: "a:1"}}, Dial: silent,
				ConnectTimeout: test.connect, Timeout: test.total,
			})
			want(t, c.do(get), test.want)
		})
	}
	t.Run("shutdown", func(t *testing.T) {
		dialling := make(chan struct{})
		c := newClient(t, Config{
			Endpoints: []Endpoint{{Address: "a:1"}},
			Dial: func(ctx context.Context, n, a string) (net.Conn, error) {
				close(dialling)
				return silent(ctx, n, a)
			},
		})
		c.submit(get)
		<-dialling
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		c.Drain(ctx)
		want(t, <-c.results, Shutdown)
	})
}

func TestPick(t *testing.T) {
	now := time.Now()
	busy := func(n int) *endpoint { return &endpoint{active: n} }
	out := func() *endpoint { return &endpoint{circuit: circuit{opened: 1, until: now.Add(time.Second)}} }
	probed := func() *endpoint { return &endpoint{circuit: circuit{opened: 1, trial: true}} }
	pooled := func() *endpoint {
		return &endpoint{active: 9, circuit: circuit{opened: 1, trial: true}, idle: []*conn{{}}}
	}
	for name, test := range map[string]struct {
		endpoints []*endpoint
		want      map[int]bool
	}{
		"only one":                     {[]*endpoint{out()}, map[int]bool{0: true}},
		"less busy":                    {[]*endpoint{busy(2), busy(1)}, map[int]bool{1: true}},
		"equally busy":                 {[]*endpoint{busy(1), busy(1)}, map[int]bool{0: true, 1: true}},
		"never the busiest":            {[]*endpoint{busy(1), busy(2), busy(3)}, map[int]bool{0: true, 1: true}},
		"backing off":                  {[]*endpoint{busy(9), out()}, map[int]bool{0: true}},
		"being probed":                 {[]*endpoint{probed(), busy(9)}, map[int]bool{1: true}},
		"connected though backing off": {[]*endpoint{probed(), pooled()}, map[int]bool{1: true}},
		"the last that is left":        {[]*endpoint{out(), out(), out(), busy(9)}, map[int]bool{3: true}},
	} {
		t.Run(name, func(t *testing.T) {
			m := &Mirror{endpoints: test.endpoints}
			got := map[int]bool{}
			for range 1000 {
				ep := m.pick(now)
				for i := range test.endpoints {
					if test.endpoints[i] == ep {
						got[i] = true
					}
				}
			}
			if len(got) != len(test.want) {
				t.Fatalf("picked %v, want %v", got, test.want)
			}
			for i := range got {
				if !test.want[i] {
					t.Fatalf("picked %v, want %v", got, test.want)
				}
			}
		})
	}
}

// TestSweep: connections idle for too long, connections the server closed, and
// workers with nothing to do go away by themselves.
func TestSweep(t *testing.T) {
	clk := newClock()
	hangUp := make(chan struct{})
	s := newShadow(t, func(p *peer) {
		if p.next() != nil {
			p.say(okEmpty)
			select {
			case <-hangUp:
			default:
				p.hang()
			}
		}
	})
	c := newClient(t, Config{Endpoints: []Endpoint{s.endpoint()}, Now: clk.Now})
	conns := func(want uint64) {
		t.Helper()
		if n := c.Stats().Connections; n != want {
			t.Fatalf("%d connections, want %d", n, want)
		}
	}
	want(t, c.do(get), Answered2xx)
	c.settled()
	c.sweep(clk.Now().Add(time.Hour - 1))
	conns(1)
	c.sweep(clk.Now().Add(time.Hour))
	conns(0)

	close(hangUp)
	want(t, c.do(get), Answered2xx)
	c.settled()
	c.mu.Lock()
	idle := c.endpoints[0].idle[0]
	c.mu.Unlock()
	await(t, idle.raw, unix.POLLIN|unix.POLLRDHUP)
	c.sweep(clk.Now()) // in use a moment ago: not looked at
	conns(1)
	c.sweep(clk.Now().Add(time.Second))
	conns(0)

	c.sweep(clk.Now().Add(workerIdle - 1))
	if n := c.Stats().Workers; n != 1 {
		t.Fatalf("%d workers, want 1", n)
	}
	c.sweep(clk.Now().Add(workerIdle))
	c.group.Wait()
	if n := c.Stats().Workers; n != 0 {
		t.Fatalf("%d workers, want none", n)
	}
	want(t, c.do(get), Answered2xx)
}

func TestTLS(t *testing.T) {
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if r.ProtoMajor != 1 || r.Host != "a" {
			w.WriteHeader(http.StatusTeapot)
		}
	})
	s := httptest.NewUnstartedServer(handler)
	s.EnableHTTP2 = true // offered, and not to be taken
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	defer s.Close()
	plain := newShadow(t, func(p *peer) { p.say("SSH-2.0-x\r\n"); p.hang() })
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	good := &tls.Config{RootCAs: roots}
	address := s.Listener.Addr().String()

	for _, test := range []struct {
		name string
		ep   Endpoint
		base *tls.Config
		want Outcome
	}{
		{"by address", Endpoint{Address: address, TLS: true}, good, Answered2xx},
		{"by name", Endpoint{Address: address, TLS: true, ServerName: "example.com"}, good, Answered2xx},
		{"name of the base", Endpoint{Address: address, TLS: true}, &tls.Config{RootCAs: roots, ServerName: "example.com"}, Answered2xx},
		{"wrong name", Endpoint{Address: address, TLS: true, ServerName: "example.net"}, good, TLSFailed},
		{"unknown authority", Endpoint{Address: address, TLS: true}, nil, TLSFailed},
		{"not verified on purpose", Endpoint{Address: address, TLS: true, ServerName: "example.net"}, &tls.Config{InsecureSkipVerify: true}, Answered2xx},
		{"not TLS", Endpoint{Address: plain.addr, TLS: true}, good, TLSFailed},
		{"plain to TLS", Endpoint{Address: address, TLS: false}, good, Answered4xx},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := newClient(t, Config{Endpoints: []Endpoint{test.ep}, TLS: test.base})
			for i, raw := range []string{get, post(1 << 20), get} {
				if i > 0 && test.want != Answered2xx {
					break
				}
				want(t, c.do(raw), test.want)
				c.settled()
			}
			if st := c.Stats(); test.want == Answered2xx && st.Dials != 1 {
				t.Errorf("%d dials, want 1", st.Dials)
			}
		})
	}
}

// TestTLSSilent: a handshake nobody answers is bounded like any connecting.
func TestTLSSilent(t *testing.T) {
	s := newShadow(t, func(p *peer) { p.hang() })
	c := newClient(t, Config{
		Endpoints: []Endpoint{{Address: s.addr, TLS: true}}, ConnectTimeout: 20 * time.Millisecond,
	})
	want(t, c.do(get), Connect)
}
