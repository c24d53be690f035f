package e2e

import (
	"fmt"
	"io"
	"net"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestUrgentData: TCP's urgent byte is not in the stream that v1 reads, so it
// must not be mirrored: the end of a body would be taken for the beginning of
// a request.
func TestUrgentData(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	v1, v2 := serve(t, l.v1, v4.v1At(), nil), serve(t, l.v2, v4.v2At(), nil)
	a := startAgent(t, l.node, "-f", rulesFile(t, seedRules(t, v4)))
	conn := l.clients(v4.v1At()).open()
	const head, body = "POST /httpbin/urgent HTTP/1.1\r\nHost: www.bookinfo.com\r\nContent-Length: %d\r\n\r\n", "beforebehind"
	send := func(b string, flags int) {
		t.Helper()
		must(t, control(conn.Conn, func(fd int) error { return syscall.Sendto(fd, []byte(b), flags|syscall.MSG_NOSIGNAL, nil) }))
		// What is sent next goes into another segment.
		eventually(t, "the server's acknowledgement", func() error {
			return control(conn.Conn, func(fd int) error {
				if n, err := unix.IoctlGetInt(fd, unix.SIOCOUTQ); err != nil || n > 0 {
					return fmt.Errorf("%d bytes on their way: %v", n, err)
				}
				return nil
			})
		})
	}
	send(fmt.Sprintf(head, len(body))+"before", 0)
	send("!", syscall.MSG_OOB)
	send("behind", 0)
	answer := make([]byte, len("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))
	_, err := io.ReadFull(conn.r, answer)
	must(t, err)
	must(t, conn.do(request{target: "/httpbin/behind"}))

	final := a.stop()
	got := v1.messages()
	if len(got) != 2 {
		t.Fatalf("v1 got %d requests, want 2", len(got))
	}
	if string(got[0].raw[got[0].head:]) != body {
		t.Fatalf("v1 got %s first, want the content %q", brief(got[0].raw), body)
	}
	checkCopies(t, got[1:], v2.messages(), seedRewrite, nil)
	final.expect(t, outcome{mirrored: 1, dropped: map[string]uint64{"gap": 1}})
}

// control calls f with the file descriptor of a connection.
func control(c net.Conn, f func(fd int) error) error {
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	if err := raw.Control(func(fd uintptr) { failed = f(int(fd)) }); err != nil {
		return err
	}
	return failed
}
