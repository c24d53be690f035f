package replay

import (
	"crypto/tls"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/shadowtap/shadowtap/pkg/httpstream"
)

// budget is a bound on bytes that knows the most that was held.
type budget struct {
	mu          sync.Mutex
	limit, held int
	peak        int
}

func (b *budget) reserve(n int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.held+n > b.limit {
		return false
	}
	b.held += n
	b.peak = max(b.peak, b.held)
	return true
}

func (b *budget) release(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.held -= n
}

// TestMemoryIsBounded: large answers to many copies at once, large heads of
// copies and TLS take no more than there is. What finds none fails as that,
// and in the end everything is given back.
func TestMemoryIsBounded(t *testing.T) {
	const limit, inFlight = 4 << 20, 64
	large := "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 200<<10) + "\r\nContent-Length: 0\r\n\r\n"
	content := "HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n" + strings.Repeat("x", 300000)
	secure := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	defer secure.Close()
	for _, test := range []struct {
		name      string
		answer    string // "" over TLS
		raw       string
		limit     int
		mayStarve bool
	}{
		{"small", okEmpty, get, limit, false},
		{"large heads", large, get, limit, true},
		{"large content", content, get, limit, false}, // read in smaller pieces if need be
		{"large heads of copies", okEmpty, "GET / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("x", 100<<10) + "\r\n\r\n", limit, true},
		{"TLS", "", get, limit, true},
		{"nothing", okEmpty, get, 0, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			modes(t, func(t *testing.T, cfg Config) {
				b := budget{limit: test.limit}
				cfg.Reserve, cfg.Release, cfg.InFlight, cfg.MaxFailures = b.reserve, b.release, inFlight, 1000
				if test.answer == "" {
					cfg.Endpoints = []Endpoint{{Address: secure.Listener.Addr().String(), TLS: true}}
					cfg.TLS = &tls.Config{InsecureSkipVerify: true}
				} else {
					cfg.Endpoints = []Endpoint{newShadow(t, answering(test.answer)).endpoint()}
				}
				c := newClient(t, cfg)
				const copies = 2 * inFlight
				for range copies {
					c.submit(test.raw)
				}
				for range copies {
					if r := <-c.results; r.Outcome != Answered2xx && !(test.mayStarve && r.Outcome == Memory) {
						t.Errorf("outcome %v: %v", r.Outcome, r.Err)
					}
				}
				c.settled()
				answered := c.Stats().Answered["2xx"]
				c.Drain(t.Context())
				if b.held != 0 || b.peak > b.limit || answered == 0 {
					t.Errorf("%d of %d bytes were held, %d are still; %d answered", b.peak, b.limit, b.held, answered)
				}
			})
		})
	}
}

// TestQueueGrows: the order is kept while the queue grows to its bound.
func TestQueueGrows(t *testing.T) {
	const limit = 100
	q := ring{limit: limit}
	next, out, filled := int64(0), int64(0), false
	for round := 0; next < 5000; round++ {
		for range 1 + round%limit {
			if q.full() {
				filled = true
				break
			}
			q.push(task{size: next})
			next++
		}
		for range 1 + round%7 {
			if q.len == 0 {
				break
			}
			if got := q.pop().size; got != out {
				t.Fatalf("got %d, want %d", got, out)
			}
			out++
		}
		if len(q.tasks) > limit || q.len != int(next-out) {
			t.Fatalf("%d in %d places, want %d", q.len, len(q.tasks), next-out)
		}
	}
	if !filled {
		t.Error("the queue was never full, this test shows nothing")
	}
}

// growing is a Shaper that makes heads of a certain length.
type growing struct {
	verbatim
	length int
	asked  *atomic.Int64
}

func (g growing) HeadBound(*httpstream.Request) int { return g.length }

func (g growing) AppendHead(dst []byte, r *httpstream.Request) []byte {
	g.asked.Add(1)
	dst = g.verbatim.AppendHead(dst, r)
	return append(append(append(dst, "X: "...), strings.Repeat("x", g.length-len(dst)-5)...), "\r\n"...)
}

// TestLargeHeadOfARule: a head that a rule makes large is made only if there is
// memory for it.
func TestLargeHeadOfARule(t *testing.T) {
	modes(t, func(t *testing.T, cfg Config) {
		b := budget{limit: 1 << 20}
		cfg.Reserve, cfg.Release, cfg.MaxFailures = b.reserve, b.release, 1000
		cfg.Endpoints = []Endpoint{newShadow(t, answering(okEmpty)).endpoint()}
		c := newClient(t, cfg)
		for _, tt := range []struct {
			length int
			want   Outcome
			made   int64
		}{{1 << 10, Answered2xx, 1}, {100 << 10, Answered2xx, 1}, {1 << 20, Memory, 0}, {1 << 40, Memory, 0}, {1 << 10, Answered2xx, 1}} {
			var made atomic.Int64
			r := request(t, get)
			if got := c.Submit(r, growing{length: tt.length, asked: &made}); got != Accepted {
				t.Fatalf("Submit: %v", got)
			}
			r.Release()
			if got := <-c.results; got.Outcome != tt.want || made.Load() != tt.made {
				t.Errorf("%d bytes: %v, made %d times: %v", tt.length, got.Outcome, made.Load(), got.Err)
			}
		}
		c.Drain(t.Context())
		if b.held != 0 || b.peak > b.limit {
			t.Errorf("%d bytes were held, %d are still", b.peak, b.held)
		}
	})
}
