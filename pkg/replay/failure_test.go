package replay

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/shadowtap/shadowtap/pkg/httpstream"
	"golang.org/x/sys/unix"
)

// TestAnswers: what becomes of a copy and its connection, for everything a
// server may do once it has the request.
func TestAnswers(t *testing.T) {
	tests := []struct {
		name    string
		request string
		answer  func(*peer) // then the connection is closed
		outcome Outcome
		status  int
		partial bool
		keep    bool // the connection is used again
	}{
		{"2xx", get, func(p *peer) { p.say(okEmpty); p.hang() }, Answered2xx, 200, false, true},
		{"3xx", get, func(p *peer) { p.say("HTTP/1.1 301 x\r\nContent-Length: 1\r\n\r\nx"); p.hang() }, Answered3xx, 301, false, true},
		{"4xx", get, func(p *peer) { p.say("HTTP/1.1 404 x\r\nContent-Length: 0\r\n\r\n"); p.hang() }, Answered4xx, 404, false, true},
		{"5xx", get, func(p *peer) { p.say("HTTP/1.1 503 x\r\nContent-Length: 0\r\n\r\n"); p.hang() }, Answered5xx, 503, false, true},
		{"beyond", get, func(p *peer) { p.say("HTTP/1.1 999 x\r\nContent-Length: 0\r\n\r\n"); p.hang() }, Answered5xx, 999, false, true},
		{"101", get, func(p *peer) { p.say("HTTP/1.1 101 x\r\nUpgrade: y\r\n\r\n"); p.hang() }, Answered1xx, 101, false, false},
		{"byte by byte", get, func(p *peer) {
			for _, c := range []byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nA: b\r\n\r\n") {
				p.say(string(c))
			}
			p.hang()
		}, Answered2xx, 200, false, true},
		{"large", get, func(p *peer) {
			p.say("HTTP/1.1 200 OK\r\nContent-Length: 500000\r\n\r\n" + strings.Repeat("x", 500000))
			p.hang()
		}, Answered2xx, 200, false, true},
		{"large head", get, func(p *peer) {
			p.say("HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 200000) + "\r\nContent-Length: 1\r\n\r\ny")
			p.hang()
		}, Answered2xx, 200, false, true},
		{"HEAD", "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", func(p *peer) { p.say("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"); p.hang() }, Answered2xx, 200, false, true},
		{"until close", get, func(p *peer) { p.say("HTTP/1.1 200 OK\r\n\r\nhello") }, Answered2xx, 200, false, false},
		{"says close", get, func(p *peer) { p.say("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"); p.hang() }, Answered2xx, 200, false, false},
		{"asked to close", "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", func(p *peer) { p.say(okEmpty); p.hang() }, Answered2xx, 200, false, false},
		{"1.0", "GET / HTTP/1.0\r\n\r\n", func(p *peer) { p.say(okEmpty); p.hang() }, Answered2xx, 200, false, false},
		{"1.0, kept by one side", "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", func(p *peer) { p.say(okEmpty); p.hang() }, Answered2xx, 200, false, false},
		{"more than the answer", get, func(p *peer) { p.say(okEmpty + "HTTP/1.1 408 x\r\n\r\n"); p.hang() }, Answered2xx, 200, false, false},
		{"endless", get, func(p *peer) {
			p.say("HTTP/1.1 200 OK\r\n\r\n")
			_, _ = io.Copy(p, endless{})
		}, Answered2xx, 200, true, false},
		{"closed at once", get, func(p *peer) {}, Reset, 0, false, false},
		{"closed in the head", get, func(p *peer) { p.say("HTTP/1.1 200 OK\r\nContent-") }, Reset, 0, false, false},
		{"closed in the content", get, func(p *peer) { p.say("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell") }, Reset, 200, false, false},
		{"reset in the content", get, func(p *peer) {
			p.say("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell")
			_ = p.Conn.(*net.TCPConn).SetLinger(0)
		}, Reset, 200, false, false},
		{"garbage", get, func(p *peer) { p.say("\x16\x03\x01\x00\n"); p.hang() }, Protocol, 0, false, false},
		{"endless head", get, func(p *peer) {
			p.say("HTTP/1.1 200 ")
			_, _ = io.Copy(p, endless{})
		}, Protocol, 0, false, false},
		{"silent", get, func(p *peer) { p.hang() }, Timeout, 0, false, false},
		{"silent in the content", get, func(p *peer) { p.say("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell"); p.hang() }, Timeout, 200, false, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			modes(t, func(t *testing.T, cfg Config) {
				hangs, clk := make(chan struct{}), newClock()
				s := newShadow(t, func(p *peer) {
					if test.outcome == Timeout {
						p.hangs = hangs
					}
					if p.next() != nil {
						test.answer(p)
					}
				})
				cfg.Endpoints = []Endpoint{s.endpoint()}
				cfg.MaxResponse = 1 << 20
				if test.outcome == Timeout {
					cfg.Timeout, cfg.Now = time.Hour, clk.Now
				}
				c := newClient(t, cfg)
				c.submit(test.request)
				if test.outcome == Timeout {
					<-hangs
					clk.advance(time.Hour)
					c.sweep(clk.Now())
				}
				r := <-c.results
				want(t, r, test.outcome)
				if r.Status != test.status || r.Partial != test.partial || r.Unsent {
					t.Errorf("status %d, partial %v, unsent %v; want %d, %v, false", r.Status, r.Partial, r.Unsent, test.status, test.partial)
				}
				if r.Endpoint != s.endpoint() || r.Sent != int64(len(test.request)) {
					t.Errorf("to %v, sent %d, want %v, %d", r.Endpoint, r.Sent, s.endpoint(), len(test.request))
				}
				c.settled()
				if open := c.Stats().Connections; (open == 1) != test.keep {
					t.Errorf("%d connections are open, want it kept: %v", open, test.keep)
				}
			})
		})
	}
}

// endless is a reader without end.
type endless struct{}

func (endless) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = 'x'
	}
	return len(b), nil
}

// TestEarlyAnswer: an answer that comes while the body is still being sent is
// the answer, whether or not the server goes on reading.
func TestEarlyAnswer(t *testing.T) {
	const tooLarge = "HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n"
	raw := post(16 << 20)
	for name, closes := range map[string]bool{"and reads no more": false, "and closes": true} {
		t.Run(name, func(t *testing.T) {
			modes(t, func(t *testing.T, cfg Config) {
				answered := make(chan struct{})
				s := newShadow(t, func(p *peer) {
					if _, err := http.ReadRequest(p.br); err == nil {
						p.say(tooLarge)
						if !closes {
							<-answered
						}
					}
				})
				cfg.Endpoints = []Endpoint{s.endpoint()}
				cfg.QueueBytes = 1 << 30
				c := newClient(t, cfg)
				r := c.do(raw)
				close(answered)
				want(t, r, Answered4xx)
				if !r.Unsent || r.Partial || r.Sent >= int64(len(raw)) {
					t.Errorf("unsent %v, partial %v, sent %d of %d", r.Unsent, r.Partial, r.Sent, len(raw))
				}
				c.settled()
				if n := c.Stats().Connections; n != 0 {
					t.Errorf("%d connections are open, want none", n)
				}
			})
		})
	}
}

// TestSlowUpload: a body larger than any buffer arrives in spite of a server
// that starts to answer before it reads.
func TestSlowUpload(t *testing.T) {
	raw := post(8 << 20)
	modes(t, func(t *testing.T, cfg Config) {
		s := newShadow(t, func(p *peer) {
			p.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nx")
			if p.next() != nil {
				p.say("y")
				p.hang()
			}
		})
		cfg.Endpoints = []Endpoint{s.endpoint()}
		c := newClient(t, cfg)
		r := c.do(raw)
		want(t, r, Answered2xx)
		if r.Sent != int64(len(raw)) || r.Partial || r.Unsent {
			t.Errorf("sent %d of %d, partial %v, unsent %v", r.Sent, len(raw), r.Partial, r.Unsent)
		}
		c.settled()
		if n := c.Stats().Connections; n != 1 {
			t.Errorf("%d connections are open, want 1", n)
		}
	})
}

// TestHeadContradictsBody: a copy that would be understood as something else
// is not sent.
func TestHeadContradictsBody(t *testing.T) {
	s := newShadow(t, answering(okEmpty))
	c := newClient(t, Config{Endpoints: []Endpoint{s.endpoint()}})
	r := request(t, post(10))
	defer r.Release()
	if got := c.Submit(r, shaperFunc(func(dst []byte, _ *httpstream.Request) []byte {
		return append(dst, "POST / HTTP/1.1\r\nHost: a\r\n"...)
	})); got != Accepted {
		t.Fatal(got)
	}
	res := <-c.results
	want(t, res, Protocol)
	if !errors.Is(res.Err, errHeadFraming) || res.Sent != 0 {
		t.Errorf("error %v, sent %d", res.Err, res.Sent)
	}
	c.settled()
	if d := c.Stats().Dials; d != 0 {
		t.Errorf("%d dials, want none", d)
	}
	want(t, c.do(get), Answered2xx)
}

type shaperFunc func([]byte, *httpstream.Request) []byte

func (f shaperFunc) AppendHead(dst []byte, r *httpstream.Request) []byte { return f(dst, r) }

// TestStale: a connection that the server closed, or said something on, while
// it was idle is not used; the copy goes out on a new one, exactly once.
func TestStale(t *testing.T) {
	for name, then := range map[string]func(*peer){
		"closed":    func(p *peer) {},
		"reset":     func(p *peer) { _ = p.Conn.(*net.TCPConn).SetLinger(0) },
		"unasked":   func(p *peer) { p.say("HTTP/1.1 408 x\r\nConnection: close\r\n\r\n"); p.hang() },
		"half-open": func(p *peer) { _ = p.Conn.(*net.TCPConn).CloseWrite(); p.hang() },
	} {
		t.Run(name, func(t *testing.T) {
			modes(t, func(t *testing.T, cfg Config) {
				if cfg.Dial != nil { // hide the type, not the descriptor
					cfg.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
						c, err := new(net.Dialer).DialContext(ctx, network, address)
						if err != nil {
							return nil, err
						}
						return struct{ *net.TCPConn }{c.(*net.TCPConn)}, nil
					}
				}
				var requests atomic.Int32
				answered := make(chan struct{})
				s := newShadow(t, func(p *peer) {
					for p.next() != nil {
						n := requests.Add(1) // before the client can know of it
						p.say(okEmpty)
						if n == 1 {
							<-answered
							then(p)
							return
						}
					}
				})
				cfg.Endpoints = []Endpoint{s.endpoint()}
				c := newClient(t, cfg)
				want(t, c.do(get), Answered2xx)
				c.settled()
				close(answered)
				c.mu.Lock()
				idle := c.endpoints[0].idle[0]
				c.mu.Unlock()
				await(t, idle.raw, unix.POLLIN|unix.POLLRDHUP)
				want(t, c.do(get), Answered2xx)
				c.settled()
				if st := c.Stats(); st.Dials != 2 || st.Connections != 1 || requests.Load() != 2 {
					t.Errorf("%d dials, %d connections, %d requests; want 2, 1, 2", st.Dials, st.Connections, requests.Load())
				}
			})
		})
	}
}

// TestNoRetry: a copy whose connection breaks is not sent again.
func TestNoRetry(t *testing.T) {
	modes(t, func(t *testing.T, cfg Config) {
		var requests atomic.Int32
		s := newShadow(t, func(p *peer) {
			for p.next() != nil {
				if requests.Add(1) == 2 {
					return
				}
				p.say(okEmpty)
			}
		})
		cfg.Endpoints = []Endpoint{s.endpoint()}
		c := newClient(t, cfg)
		want(t, c.do(get), Answered2xx)
		want(t, c.do(get), Reset)
		want(t, c.do(get), Answered2xx)
		if n := requests.Load(); n != 3 {
			t.Errorf("%d requests arrived, want 3", n)
		}
	})
}
