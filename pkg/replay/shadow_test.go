package replay

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/shadowtap/shadowtap/pkg/httpstream"
	"golang.org/x/sys/unix"
)

const okEmpty = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"

// shadow is a server that does what a test says with each connection.
type shadow struct {
	addr  string
	l     net.Listener
	serve func(*peer)

	mu    sync.Mutex
	ended sync.Cond
	conns map[net.Conn]bool // being served
}

// peer is the server's end of a connection.
type peer struct {
	net.Conn
	br *bufio.Reader

	hangs chan struct{} // if not nil, closed by hang
}

// newShadow serves each connection with serve, in a goroutine of its own, and
// closes it when serve returns.
func newShadow(t testing.TB, serve func(*peer)) *shadow {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &shadow{addr: l.Addr().String(), l: l, serve: serve, conns: map[net.Conn]bool{}}
	s.ended.L = &s.mu
	var accepting sync.WaitGroup
	accepting.Go(s.accept)
	t.Cleanup(func() {
		_ = l.Close()
		accepting.Wait()
		s.mu.Lock()
		for c := range s.conns {
			_ = c.Close()
		}
		s.mu.Unlock()
		s.deserted()
	})
	return s
}

func (s *shadow) accept() {
	for {
		c, err := s.l.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		s.conns[c] = true
		s.mu.Unlock()
		go func() {
			s.serve(&peer{Conn: c, br: bufio.NewReader(c)})
			_ = c.Close()
			s.mu.Lock()
			defer s.mu.Unlock()
			delete(s.conns, c)
			s.ended.Broadcast()
		}()
	}
}

// deserted waits until no connection is left.
func (s *shadow) deserted() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.conns) > 0 {
		s.ended.Wait()
	}
}

func (s *shadow) endpoint() Endpoint { return Endpoint{Address: s.addr} }

// next reads a request with its body, and returns nil at the end.
func (p *peer) next() *http.Request {
	r, err := http.ReadRequest(p.br)
	if err != nil {
		return nil
	}
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return nil
	}
	return r
}

func (p *peer) say(s string) { _, _ = io.WriteString(p, s) }

// hang waits until the client goes away. If somebody wants to know, it says so
// once the client has read everything there is.
func (p *peer) hang() {
	if p.hangs != nil {
		for deadline := time.Now().Add(patience); p.unread() && time.Now().Before(deadline); {
			time.Sleep(time.Millisecond)
		}
		close(p.hangs)
	}
	_, _ = io.Copy(io.Discard, p.br)
}

// unread reports whether bytes of the peer's are on their way to the client, or
// wait for it (proc_pid_net(5), tx_queue and rx_queue of both ends).
func (p *peer) unread() bool {
	hex := func(a net.Addr) string {
		at := a.(*net.TCPAddr)
		return fmt.Sprintf("%08X:%04X", binary.NativeEndian.Uint32(at.IP.To4()), at.Port)
	}
	local, remote := hex(p.LocalAddr()), hex(p.RemoteAddr())
	table, err := os.ReadFile("/proc/thread-self/net/tcp")
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(table)) {
		f := strings.Fields(line)
		tx, rx, _ := strings.Cut(f[4], ":")
		switch {
		case f[1] == local && f[2] == remote && strings.Trim(tx, "0") != "",
			f[1] == remote && f[2] == local && strings.Trim(rx, "0") != "":
			return true
		}
	}
	return false
}

// await waits until something happened to a socket, without reading from it.
func await(t testing.TB, raw syscall.RawConn, events int16) {
	t.Helper()
	err := raw.Control(func(fd uintptr) {
		p := []unix.PollFd{{Fd: int32(fd), Events: events}}
		for {
			n, err := unix.Poll(p, 60_000)
			if err == unix.EINTR {
				continue
			}
			if n == 0 || err != nil {
				t.Errorf("waiting for events %#x: %d, %v", events, n, err)
			}
			return
		}
	})
	if err != nil {
		t.Errorf("waiting for events %#x: %v", events, err)
	}
}

// answering is a server that answers every request with the same bytes.
func answering(answer string) func(*peer) {
	return func(p *peer) {
		for p.next() != nil {
			p.say(answer)
		}
	}
}

// client is a mirror whose results arrive one by one.
type client struct {
	*Mirror
	t       testing.TB
	results chan Result
}

// newClient returns a mirror that is drained at the end of the test.
func newClient(t testing.TB, cfg Config) *client {
	t.Helper()
	c := &client{t: t, results: make(chan Result, 1<<16)}
	// On a slow machine dozens of handshakes at once take longer than what is
	// waited for by default.
	if cfg.Timeout == 0 {
		cfg.Timeout = 5 * time.Minute
	}
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = 5 * time.Minute
	}
	cfg.OnResult = func(r Result) {
		r.Request = nil
		c.results <- r
	}
	c.Mirror = New(cfg)
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		c.Drain(ctx)
		balanced(t, c.Stats())
		if s := c.Stats(); s.Pending != 0 || s.PendingBytes != 0 || s.Connections != 0 || s.Workers != 0 {
			t.Errorf("after Drain: %+v", s)
		}
	})
	return c
}

// do sends one copy and returns what became of it.
func (c *client) do(raw string) Result {
	c.t.Helper()
	c.submit(raw)
	return <-c.results
}

func (c *client) submit(raw string) {
	c.t.Helper()
	r := request(c.t, raw)
	defer r.Release()
	if got := c.Submit(r, verbatim{}); got != Accepted {
		c.t.Fatalf("Submit: %v", got)
	}
}

// settled waits until the last copy's connection is back in its pool.
func (c *client) settled() {
	c.t.Helper()
	eventually(c.t, "the end of all copies", func() bool { return c.Stats().Pending == 0 })
}

// patience bounds every wait for something that must happen.
const patience = 2 * time.Minute

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v", what, patience)
		}
	}
}

func want(t testing.TB, r Result, o Outcome) {
	t.Helper()
	if r.Outcome != o {
		t.Fatalf("outcome %v (status %d, error %v), want %v", r.Outcome, r.Status, r.Err, o)
	}
	if o.Answered() != (r.Err == nil) {
		t.Errorf("outcome %v with error %v", o, r.Err)
	}
}

// balanced checks that no copy is unaccounted for.
func balanced(t testing.TB, s Stats) {
	t.Helper()
	n := s.Pending
	for _, k := range s.Answered {
		n += k
	}
	for _, k := range s.Failed {
		n += k
	}
	if n != s.Accepted {
		t.Errorf("accepted %d, accounted for %d: %+v", s.Accepted, n, s)
	}
}

// wrapped dials connections that are no *net.TCPConn, so that exchanges go
// through net.Conn.
func wrapped(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := new(net.Dialer).DialContext(ctx, network, address)
	return struct{ net.Conn }{c}, err
}

// modes runs a test over both ways to do an exchange.
func modes(t *testing.T, f func(t *testing.T, cfg Config)) {
	t.Run("direct", func(t *testing.T) { f(t, Config{}) })
	t.Run("streamed", func(t *testing.T) { f(t, Config{Dial: wrapped}) })
}

// ledger is a budget that knows how much of it is held.
type ledger struct {
	mu   sync.Mutex
	held int
}

func (l *ledger) add(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held += n
}

func (l *ledger) pool() *httpstream.Pool {
	return httpstream.NewPool(func(n int) bool { l.add(n); return true }, func(n int) { l.add(-n) })
}

// frame is a httpstream.Handler that hands over one request.
type frame struct{ got *httpstream.Request }

func (f *frame) Seen()                            {}
func (f *frame) Request(r *httpstream.Request)    { f.got = r }
func (f *frame) Dropped(httpstream.Reason, error) {}
func (f *frame) Ignore(httpstream.Protocol)       {}
func (f *frame) Skipped(int64)                    {}

// pooled frames a request in memory from pool.
func pooled(t testing.TB, pool *httpstream.Pool, raw string) *httpstream.Request {
	t.Helper()
	var f frame
	var p httpstream.RequestParser
	p.Reset(httpstream.NewConfig(httpstream.Config{Pool: pool}), &f, true)
	p.Feed([]byte(raw), true, 0)
	if f.got == nil {
		t.Fatalf("no request in %q", raw)
	}
	return f.got
}
