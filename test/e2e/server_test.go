package e2e

import (
	"bufio"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/shadowtap/shadowtap/pkg/netlab"
)

// server is an HTTP/1 server, v1 or a shadow, that keeps every request it
// receives and answers 200 with the request's id.
type server struct {
	listener net.Listener
	answer   func(c net.Conn, m message) error

	mu    sync.Mutex
	blind bool // keeps no requests
	got   []message
	open  map[net.Conn]struct{}
	conns int
	wg    sync.WaitGroup
}

// serve starts a server in a namespace. answer replaces the usual answer;
// an error from it ends the connection.
func serve(t testing.TB, n *netlab.Namespace, address string, answer func(c net.Conn, m message) error) *server {
	t.Helper()
	s := &server{listener: listen(t, n, address), answer: answer, open: map[net.Conn]struct{}{}}
	if answer == nil {
		s.answer = answerID
	}
	s.wg.Go(s.accept)
	t.Cleanup(s.close)
	return s
}

// answerID answers 200 with the request's id as the body.
func answerID(c net.Conn, m message) error {
	method, _, _ := m.requestLine()
	body := m.id()
	head := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", len(body))
	if method == "HEAD" {
		body = ""
	}
	_, err := c.Write([]byte(head + body))
	return err
}

func (s *server) accept() {
	for {
		c, err := s.listener.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		s.conns++
		number := s.conns
		s.open[c] = struct{}{}
		s.mu.Unlock()
		s.wg.Go(func() { s.converse(c, number) })
	}
}

func (s *server) converse(c net.Conn, number int) {
	defer func() {
		s.mu.Lock()
		delete(s.open, c)
		s.mu.Unlock()
		_ = c.Close()
	}()
	r := bufio.NewReaderSize(c, 64<<10)
	for {
		m, err := readMessage(r, func() error {
			_, err := c.Write([]byte("HTTP/1.1 100 Continue\r\n\r\n"))
			return err
		})
		if err != nil {
			return
		}
		m.conn = number
		s.mu.Lock()
		if !s.blind {
			s.got = append(s.got, m)
		}
		s.mu.Unlock()
		if s.answer(c, m) != nil || m.closes() {
			return
		}
	}
}

// messages returns the complete requests received so far.
func (s *server) messages() []message {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.got[:len(s.got):len(s.got)]
}

// keepNothing is for requests that are too large to keep them all.
func (s *server) keepNothing() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.blind = true
}

// connections is how many connections there have been.
func (s *server) connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conns
}

// wait returns the requests received once there are n.
func (s *server) wait(t testing.TB, n int) []message {
	t.Helper()
	var got []message
	eventually(t, fmt.Sprintf("%d requests at %s", n, s.listener.Addr()), func() error {
		if got = s.messages(); len(got) < n {
			return fmt.Errorf("%d so far", len(got))
		}
		return nil
	})
	return got
}

// closeConnections ends every connection from the server's side.
func (s *server) closeConnections() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.open {
		_ = c.SetDeadline(time.Now())
	}
}

func (s *server) close() {
	_ = s.listener.Close()
	s.closeConnections()
	s.wg.Wait()
}

// checkCopies compares what a shadow received with what production did: each
// request that mirrors accepts (nil: every one) exactly once, byte for byte,
// and nothing else.
func checkCopies(t testing.TB, production, shadow []message, rewrite func(target string) string, mirrors func(message) bool) {
	t.Helper()
	var mirrored []message
	copies := byID(shadow)
	for _, m := range production {
		if mirrors == nil || mirrors(m) {
			mirrored = append(mirrored, m)
		} else if n := len(copies[m.id()]); n > 0 {
			t.Errorf("request %s: the shadow got %d copies of a request that is not mirrored", m.id(), n)
		}
	}
	checkCopiesBy(t, mirrored, shadow, func(m message) string { return rewrite(m.target()) })
}

// checkCopiesBy is checkCopies where all of production is mirrored and the
// target of a copy depends on more than the target of the request.
func checkCopiesBy(t testing.TB, production, shadow []message, target func(message) string) {
	t.Helper()
	copies := byID(shadow)
	for _, m := range production {
		id := m.id()
		if n := len(copies[id]); n != 1 {
			t.Errorf("request %s: the shadow got %d copies, want 1", id, n)
		} else if got, want := copies[id][0].raw, copyOf(m, target(m)); string(got) != string(want) {
			t.Errorf("request %s: the shadow got\n%s, want\n%s", id, brief(got), brief(want))
		}
		if t.Failed() {
			return // one difference says it all
		}
	}
	if len(shadow) != len(production) {
		t.Errorf("the shadow got %d requests, want %d", len(shadow), len(production))
	}
}

func byID(list []message) map[string][]message {
	m := map[string][]message{}
	for _, one := range list {
		m[one.id()] = append(m[one.id()], one)
	}
	return m
}

// checkReceived compares what v1 received with what the clients sent.
func checkReceived(t testing.TB, sent, received []message) {
	t.Helper()
	at := map[string]message{}
	for _, m := range received {
		at[m.id()] = m
	}
	for _, m := range sent {
		if got := at[m.id()]; string(got.raw) != string(m.raw) {
			t.Fatalf("request %s: v1 received %s, want %s", m.id(), brief(got.raw), brief(m.raw))
		}
	}
	if len(received) != len(sent) {
		t.Errorf("v1 received %d requests, want %d", len(received), len(sent))
	}
}

func listen(t testing.TB, n *netlab.Namespace, address string) net.Listener {
	t.Helper()
	l, err := n.Listen("tcp", address)
	must(t, err)
	return l
}
