package replay

import (
	"context"
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/shadowtap/shadowtap/pkg/httpstream"
)

// headless writes no head at all.
var headless = shaperFunc(func(dst []byte, _ *httpstream.Request) []byte { return dst })

// exploding is a connection that panics where it says.
type exploding struct {
	net.Conn
	onWrite, onRead bool
}

func (e exploding) Write(b []byte) (int, error) {
	if e.onWrite {
		panic("write")
	}
	return e.Conn.Write(b)
}

func (e exploding) Read(b []byte) (int, error) {
	if e.onRead {
		panic("read")
	}
	return e.Conn.Read(b)
}

// TestPanicCostsTheCopy: wherever a panic is met, it costs that copy and its
// connection; memory comes back, and the same worker serves the next copy.
func TestPanicCostsTheCopy(t *testing.T) {
	s := newShadow(t, answering(okEmpty))
	secure := httptest.NewUnstartedServer(nil)
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	defer secure.Close()
	dial := func(wrap exploding) func(context.Context, string, string) (net.Conn, error) {
		return func(ctx context.Context, network, address string) (net.Conn, error) {
			c, err := new(net.Dialer).DialContext(ctx, network, address)
			wrap.Conn = c
			return wrap, err
		}
	}
	panics := shaperFunc(func([]byte, *httpstream.Request) []byte { panic("shaper") })
	for name, test := range map[string]struct {
		cfg    Config
		shaper Shaper
		raw    string
		open   uint64 // connections afterwards
	}{
		"shaper":    {Config{}, panics, get, 0},
		"dialer":    {Config{Dial: func(context.Context, string, string) (net.Conn, error) { panic("dial") }}, verbatim{}, get, 0},
		"write":     {Config{Dial: dial(exploding{onWrite: true})}, verbatim{}, get, 0},
		"upload":    {Config{Dial: dial(exploding{onWrite: true})}, verbatim{}, post(1 << 20), 0},
		"read":      {Config{Dial: dial(exploding{onRead: true})}, verbatim{}, get, 0},
		"handshake": {Config{TLS: &tls.Config{InsecureSkipVerify: true, VerifyConnection: func(tls.ConnectionState) error { panic("verify") }}}, verbatim{}, get, 0},
	} {
		t.Run(name, func(t *testing.T) {
			var faults atomic.Int32
			var memory ledger
			pool := memory.pool()
			cfg := test.cfg
			cfg.Endpoints, cfg.InFlight = []Endpoint{s.endpoint()}, 1
			if cfg.TLS != nil {
				cfg.Endpoints = []Endpoint{{Address: secure.Listener.Addr().String(), TLS: true}}
			}
			cfg.OnPanic = func(fault any, stack []byte) {
				if fault == nil || len(stack) == 0 {
					t.Errorf("panic %v with the stack %q", fault, stack)
				}
				faults.Add(1)
			}
			c := newClient(t, cfg)
			for i := range int32(7) {
				r := pooled(t, pool, test.raw)
				if got := c.Submit(r, test.shaper); got != Accepted {
					t.Fatal(got)
				}
				r.Release()
				result := <-c.results
				want(t, result, Panic)
				if !strings.HasPrefix(result.Err.Error(), "panic: ") {
					t.Errorf("error %v", result.Err)
				}
				c.settled()
				if n := faults.Load(); n != i+1 {
					t.Fatalf("told of %d panics, want %d", n, i+1)
				}
			}
			st := c.Stats()
			if st.Failed["panic"] != 7 || st.Workers != 1 || st.Connections != 0 || memory.held != 0 {
				t.Errorf("%+v, %d bytes held", st, memory.held)
			}
			c.wantState(StateClosed)
			if test.cfg.Dial == nil && test.cfg.TLS == nil {
				want(t, c.do(get), Answered2xx)
			}
		})
	}
}

// TestPanicInOnResult: whoever looks at the results may fail, too. The copy is
// counted once, as the defect.
func TestPanicInOnResult(t *testing.T) {
	s := newShadow(t, answering(okEmpty))
	var memory ledger
	pool := memory.pool()
	m := New(Config{Endpoints: []Endpoint{s.endpoint()}, OnResult: func(Result) { panic("result") }})
	for range 10 {
		r := pooled(t, pool, get)
		if got := m.Submit(r, verbatim{}); got != Accepted {
			t.Fatal(got)
		}
		r.Release()
	}
	m.Drain(t.Context())
	st := m.Stats()
	balanced(t, st)
	if st.Failed["panic"] != 10 || st.Connections != 0 || memory.held != 0 {
		t.Errorf("%+v, %d bytes held", st, memory.held)
	}
}

// TestSweeperSurvives: a panic in the housekeeping ends one sweep.
func TestSweeperSurvives(t *testing.T) {
	s := newShadow(t, func(p *peer) { p.hang() })
	var armed atomic.Bool
	told := make(chan any, 1)
	c := newClient(t, Config{
		Endpoints: []Endpoint{s.endpoint()}, Timeout: 100 * time.Millisecond,
		Now: func() time.Time {
			if armed.CompareAndSwap(true, false) {
				panic("clock")
			}
			return time.Now()
		},
		OnPanic: func(fault any, _ []byte) { told <- fault },
	})
	armed.Store(true) // nobody else asks for the time now
	if fault := <-told; fault != "clock" {
		t.Fatal(fault)
	}
	want(t, c.do(get), Timeout)
}
