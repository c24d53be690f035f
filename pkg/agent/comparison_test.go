package agent

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestEarlyAnswerIsCompared: a shadow that answers before it has read all of the
// request has answered, and what it says counts.
func TestEarlyAnswerIsCompared(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	over, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		_ = conn.(*net.TCPConn).SetReadBuffer(4 << 10)
		for r := bufio.NewReaderSize(conn, 16); ; {
			if line, err := r.ReadString('\n'); err != nil || line == "\r\n" {
				break
			}
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n")
		<-over
	}()
	t.Cleanup(func() {
		close(over)
		_ = listener.Close()
		<-done
	})

	a := comparingAgentOf(t, listener.Addr().String())
	c := newTalk(a.shards[0], 40000)
	c.open()
	const size = 24 << 20 // more than the sockets take
	c.ask(fmt.Sprintf("POST /httpbin/a HTTP/1.1\r\nHost: www.bookinfo.com\r\nContent-Length: %d\r\n\r\n", size))
	for range size / (1 << 20) {
		c.ask(strings.Repeat("x", 1<<20))
	}
	c.answer(okFor("a"))
	c.finish()
	if diff := cmp.Diff(compared{Different: 1, Missed: map[string]int{}}, result(t, a)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
