package replay

import (
	"errors"
	"testing"
	"time"
)

// TestOutlier: an endpoint that answers badly is left out, and comes back.
func TestOutlier(t *testing.T) {
	const bad, gone = "HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 503 Gone\r\nContent-Length: 0\r\n\r\n"
	for _, tt := range []struct {
		name    string
		outlier Outlier
		answers []string // before it is looked at
		ejected bool
	}{
		{"enough errors", Outlier{Errors: 2, Ejection: time.Second, MaxPercent: 10}, []string{bad, gone}, true},
		{"too few errors", Outlier{Errors: 3, Ejection: time.Second, MaxPercent: 10}, []string{bad, bad}, false},
		{"not in a row", Outlier{Errors: 2, Ejection: time.Second, MaxPercent: 10}, []string{bad, okEmpty, bad}, false},
		{"gateway errors", Outlier{GatewayErrors: 2, Ejection: time.Second, MaxPercent: 10}, []string{gone, gone}, true},
		{"no gateway errors", Outlier{GatewayErrors: 2, Ejection: time.Second, MaxPercent: 10}, []string{gone, bad, gone}, false},
		{"none may be ejected", Outlier{Errors: 1, Ejection: time.Second}, []string{bad, bad}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			next := make(chan string, 1)
			s := newShadow(t, func(p *peer) {
				for p.next() != nil {
					p.say(<-next)
				}
			})
			clk := newClock()
			c := newClient(t, Config{Endpoints: []Endpoint{s.endpoint()}, InFlight: 1, Now: clk.Now, Outlier: &tt.outlier})
			for _, answer := range tt.answers {
				next <- answer
				c.do(get)
				c.settled()
			}
			if !tt.ejected {
				next <- okEmpty
				want(t, c.do(get), Answered2xx)
				return
			}
			r := c.do(get)
			want(t, r, CircuitOpen)
			if !errors.Is(r.Err, errEjected) {
				t.Errorf("error %v", r.Err)
			}
			c.settled()
			clk.advance(tt.outlier.Ejection)
			next <- okEmpty
			want(t, c.do(get), Answered2xx)
		})
	}
}

// TestOutlierOthers: copies go to the endpoints that are left.
func TestOutlierOthers(t *testing.T) {
	good := newShadow(t, answering(okEmpty))
	bad := newShadow(t, answering("HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n"))
	clk := newClock()
	c := newClient(t, Config{
		Endpoints: []Endpoint{good.endpoint(), bad.endpoint()}, InFlight: 1, Now: clk.Now,
		Outlier: &Outlier{Errors: 1, Ejection: time.Minute, MaxPercent: 50},
	})
	for ejected := false; !ejected; {
		ejected = c.do(get).Outcome == Answered5xx
		c.settled()
	}
	for range 50 {
		want(t, c.do(get), Answered2xx)
		c.settled()
	}
}

// TestRequestsPerConnection: a connection is closed after as many.
func TestRequestsPerConnection(t *testing.T) {
	modes(t, func(t *testing.T, cfg Config) {
		s := newShadow(t, answering(okEmpty))
		cfg.Endpoints, cfg.InFlight, cfg.RequestsPerConnection = []Endpoint{s.endpoint()}, 1, 2
		c := newClient(t, cfg)
		for range 5 {
			want(t, c.do(get), Answered2xx)
			c.settled()
		}
		if n := c.Stats().Dials; n != 3 {
			t.Errorf("%d connections for 5 copies, want 3", n)
		}
	})
}

// bounded is a Shaper with a timeout of its own.
type bounded struct {
	verbatim
	timeout time.Duration
}

func (b bounded) Timeout() time.Duration { return b.timeout }

// TestCopyTimeout: a copy's own timeout goes before the mirror's, either way.
func TestCopyTimeout(t *testing.T) {
	s := newShadow(t, func(p *peer) { p.hang() })
	clk := newClock()
	c := newClient(t, Config{Endpoints: []Endpoint{s.endpoint()}, Now: clk.Now, Timeout: time.Hour})
	r := request(t, get)
	defer r.Release()
	if got := c.Submit(r, bounded{timeout: 20 * time.Millisecond}); got != Accepted {
		t.Fatal(got)
	}
	// The deadline counts from when a worker has it. That connects in real time,
	// and may be at its end before anybody has seen it.
	eventually(t, "a worker taking the copy", func() bool { return c.Stats().InFlight > 0 || len(c.results) > 0 })
	clk.advance(20 * time.Millisecond)
	want(t, <-c.results, Timeout)
	c.settled()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.period > 20*time.Millisecond/8 {
		t.Errorf("overdue copies are looked for every %v", c.period)
	}
}
