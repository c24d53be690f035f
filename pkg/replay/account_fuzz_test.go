package replay

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// whims decides, from a seed, what a shadow does that nobody can rely on. It
// is safe for concurrent use.
type whims struct {
	mu sync.Mutex
	*rand.Rand
}

func (w *whims) of(n int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.IntN(n)
}

// dial connects, fails, hangs or panics.
func (w *whims) dial(ctx context.Context, _, address string) (net.Conn, error) {
	switch w.of(12) {
	case 0:
		return nil, errors.New("refused")
	case 1:
		return nil, &net.DNSError{Err: "no such host", Name: address}
	case 2:
		<-ctx.Done()
		return nil, ctx.Err()
	case 3:
		panic("dial")
	}
	c := &whimsical{whims: w}
	c.changed.L = &c.mu
	return c, nil
}

// whimsical is a connection whose other end does as it likes with each request.
type whimsical struct {
	net.Conn // nil: what isn't expected panics, which would show
	whims    *whims

	mu      sync.Mutex
	changed sync.Cond
	answer  []byte
	ended   bool // by the other end
	closed  bool
	expired bool
}

func (c *whimsical) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed:
		return 0, net.ErrClosed
	case c.expired:
		return 0, os.ErrDeadlineExceeded
	}
	switch c.whims.of(16) {
	default:
		c.answer = []byte(okEmpty)
	case 0:
		c.answer = []byte("HTTP/1.1 503 x\r\nContent-Length: 0\r\n\r\n")
	case 1:
		c.answer, c.ended = []byte("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"), true
	case 2:
		c.answer = []byte("nonsense\r\n")
	case 3:
		c.answer = []byte("HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 20<<10))
	case 4:
		c.ended = true
	case 5:
		c.answer, c.ended = []byte(okEmpty), true
	case 6: // silence
	case 7:
		return len(b) / 2, errors.New("reset")
	case 8:
		panic("write")
	}
	c.changed.Broadcast()
	return len(b), nil
}

func (c *whimsical) Read(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		switch {
		case c.closed:
			return 0, net.ErrClosed
		case c.expired:
			return 0, os.ErrDeadlineExceeded
		case len(c.answer) > 0:
			n := copy(b, c.answer)
			c.answer = c.answer[n:]
			return n, nil
		case c.ended:
			return 0, io.EOF
		}
		c.changed.Wait()
	}
}

func (c *whimsical) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	c.changed.Broadcast()
	return nil
}

// SetDeadline knows two times: none and the past.
func (c *whimsical) SetDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.expired = !t.IsZero()
	c.changed.Broadcast()
	return nil
}

func (c *whimsical) SetWriteDeadline(time.Time) error { return nil }

// FuzzAccount: whatever shadows do, and whatever is done to a mirror meanwhile,
// its account balances whenever it is read, each accepted copy has exactly one
// result, which is the one that is counted, and in the end nothing is held.
func FuzzAccount(f *testing.F) {
	f.Add(uint64(1), []byte("ssssssssssssccss"))
	f.Add(uint64(2), []byte("s0s1s2s3sss0sss"))           // endpoints come and go
	f.Add(uint64(3), []byte("sssscscscscscsssccccss"))    // time passes
	f.Add(uint64(4), []byte("ssssssssssssssssssssssssD")) // stop while all is under way
	f.Add(uint64(5), []byte("ssss0DsssG"))                // what comes later is refused
	f.Add(uint64(6), []byte("sssssssssssssssss0ccc3ssss0cccccsssD"))
	f.Add(uint64(7), []byte("lllllsllslslscclslslsG")) // large ones
	all := []Endpoint{{Address: "a:1"}, {Address: "b:1"}, {Address: "c:1"}}
	small, large := request(f, get), request(f, post(100<<10))
	f.Fuzz(func(t *testing.T, seed uint64, ops []byte) {
		w := &whims{Rand: rand.New(rand.NewPCG(seed, 0))}
		clk, b := newClock(), &budget{limit: 1 << 20}
		var mu sync.Mutex
		results := map[string]uint64{}
		m := New(Config{
			Endpoints: all, Queue: 8, QueueBytes: 250 << 10, InFlight: 1 + int(seed%5),
			Timeout: time.Minute, MaxFailures: 1 + int(seed%3), Now: clk.Now, Dial: w.dial,
			RequestsPerConnection: int(seed % 4), Reserve: b.reserve, Release: b.release,
			Outlier: &Outlier{Errors: 2, Ejection: time.Second, MaxPercent: 50},
			OnResult: func(r Result) {
				if w.of(20) == 0 {
					panic("result") // it counts as the copy's fate then
				}
				mu.Lock()
				defer mu.Unlock()
				results[r.Outcome.String()]++
			},
		})
		refused, accepted := uint64(0), uint64(0)
		submit := func(raw string) {
			r := small
			if raw == "l" {
				r = large
			}
			if m.Submit(r, verbatim{}) == Accepted {
				accepted++
			} else {
				refused++
			}
		}
		var drains sync.WaitGroup
		abort, giveUp := context.WithCancel(context.Background())
		defer giveUp()
		for _, op := range ops[:min(len(ops), 300)] {
			switch op {
			case 's', 'l':
				submit(string(op))
			case '0', '1', '2', '3':
				m.SetEndpoints(all[:op-'0'])
			case 'c':
				clk.advance(time.Duration(1+w.of(40)) * time.Second)
				m.sweep(clk.Now())
			case 'G':
				drains.Go(func() { m.Drain(abort) })
			case 'D':
				giveUp()
				drains.Go(func() { m.Drain(abort) })
			}
			balanced(t, m.Stats())
			m.Endpoints()
		}
		giveUp()
		m.Drain(abort)
		drains.Wait()
		st := m.Stats()
		balanced(t, st)
		if st.Accepted != accepted || st.Pending != 0 || st.PendingBytes != 0 || st.Connections != 0 || st.Workers != 0 || b.held != 0 {
			t.Errorf("%d accepted, %d bytes held: %+v", accepted, b.held, st)
		}
		n := uint64(0)
		for _, k := range st.Refused {
			n += k
		}
		if n != refused {
			t.Errorf("%d refused: %+v", refused, st)
		}
		for _, counted := range []map[string]uint64{st.Answered, st.Failed} {
			for o, n := range counted {
				// A copy whose result made its taker panic is counted as that.
				if results[o] > n || o != "panic" && results[o] != n {
					t.Errorf("%d results of %v, %d counted: %v, %+v", results[o], o, n, results, st)
				}
			}
		}
	})
	small.Release()
	large.Release()
}
