package e2e

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/shadowtap/shadowtap/pkg/netlab"
)

// clients is everything that talks to v1 in a test. It keeps what was sent.
type clients struct {
	t       testing.TB
	from    *netlab.Namespace
	address string
	echoes  bool // v1 answers with the request's id
	blind   bool // keeps the heads of requests only
	// behind, if not nil, has to have mirrored what was answered before the
	// next request is sent: of large ones its rings hold few.
	behind *agent

	mu   sync.Mutex
	sent []message
	n    int
}

// nextID gives an id that no other request of the test has.
func (c *clients) nextID() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n++
	return fmt.Sprint(c.n)
}

// messages returns what was sent and answered so far.
func (c *clients) messages() []message {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sent[:len(c.sent):len(c.sent)]
}

// connection is one connection to v1. Its methods return an error where
// production failed: where a request was not answered as it must be.
type connection struct {
	*clients
	net.Conn
	r *bufio.Reader
}

func (c *clients) dial() (*connection, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := c.from.Dial(ctx, "tcp", c.address)
	if err != nil {
		return nil, err
	}
	return &connection{clients: c, Conn: conn, r: bufio.NewReader(conn)}, nil
}

// open is dial for a test that cannot go on without; it closes at its end.
func (c *clients) open() *connection {
	c.t.Helper()
	conn, err := c.dial()
	must(c.t, err)
	c.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// parse reads back a request that a test made.
func parse(raw []byte) (message, error) {
	return readMessage(bufio.NewReaderSize(bytes.NewReader(raw), 64<<10), func() error { return nil })
}

// keepUp waits for the agent that is behind.
func (c *clients) keepUp() error {
	if c.behind == nil {
		return nil
	}
	answered := uint64(len(c.messages()))
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		acc, err := c.behind.read()
		if err == nil && acc.Requests.Mirrored >= answered {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the agent does not keep up with %d requests: %+v, %v", answered, acc, err)
		}
	}
}

// do sends a request and reads its answer.
func (c *connection) do(r request) error {
	return c.pipeline(r)
}

// pipeline sends several requests at once and then reads their answers.
func (c *connection) pipeline(requests ...request) error {
	var all []byte
	var messages []message
	for _, r := range requests {
		m, err := parse(r.bytes(c.nextID()))
		if err != nil {
			return err
		}
		messages, all = append(messages, m), append(all, m.raw...)
	}
	if err := c.keepUp(); err != nil {
		return err
	}
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	// A large request is written while an early answer is read.
	written := make(chan error, 1)
	go func() {
		_, err := c.Write(all)
		written <- err
	}()
	for _, m := range messages {
		if err := c.answered(m); err != nil {
			return err
		}
	}
	return <-written
}

// expectContinue sends a request in two parts, the body once v1 asks for it.
func (c *connection) expectContinue(r request) error {
	r.fields = append(r.fields, "Expect: 100-continue")
	m, err := parse(r.bytes(c.nextID()))
	if err != nil {
		return err
	}
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := c.Write(m.raw[:m.head]); err != nil {
		return err
	}
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		return fmt.Errorf("wait for 100 Continue: %w", err)
	}
	if resp.StatusCode != http.StatusContinue {
		return fmt.Errorf("answer %s, want 100 Continue", resp.Status)
	}
	if _, err := c.Write(m.raw[m.head:]); err != nil {
		return err
	}
	return c.answered(m)
}

// answered reads the answer to m, which must be 200.
func (c *connection) answered(m message) error {
	method, _, _ := m.requestLine()
	resp, err := http.ReadResponse(c.r, &http.Request{Method: method})
	if err != nil {
		return fmt.Errorf("request %s: %w", m.id(), err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return fmt.Errorf("request %s: %w", m.id(), err)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("request %s: answer %s", m.id(), resp.Status)
	}
	if c.echoes && method != "HEAD" && string(body) != m.id() {
		return fmt.Errorf("request %s: the answer is to request %q", m.id(), body)
	}
	if c.blind {
		m.raw = bytes.Clone(m.raw[:m.head])
	}
	c.mu.Lock()
	c.sent = append(c.sent, m)
	c.mu.Unlock()
	return nil
}

// load runs n clients at once, each on a connection of its own, each sending
// one request after the other until stop is closed or it has sent count (0 =
// no limit). The returned function waits for all; a failed request of
// production fails the test.
func (c *clients) load(n, count int, stop <-chan struct{}, what func(i int) request) (wait func()) {
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			conn, err := c.dial()
			if err != nil {
				c.t.Errorf("production failed: %v", err)
				return
			}
			defer conn.Close()
			for i := 0; count == 0 || i < count; i++ {
				select {
				case <-stop:
					return
				default:
				}
				if err := conn.do(what(i)); err != nil {
					c.t.Errorf("production failed: %v", err)
					return
				}
			}
		})
	}
	return wg.Wait
}

// plain is a request for load.
func plain(int) request { return request{} }
