package e2e

import (
	"errors"
	"io"
	"net"
	"strings"
	"testing"
)

// errHangUp ends a connection.
var errHangUp = errors.New("hang up")

// TestBadShadows: whatever the shadow does, production does not notice, and
// every copy is accounted for under the right reason.
func TestBadShadows(t *testing.T) {
	t.Parallel()
	const n = 100
	write := func(answer string) func(net.Conn, message) error {
		return func(c net.Conn, _ message) error {
			_, _ = io.WriteString(c, answer)
			return errHangUp
		}
	}
	all := func(reason string) map[string]uint64 { return map[string]uint64{reason: n} }
	never := []string{"--max-failures", "1000"} // is it left alone
	for name, test := range map[string]struct {
		answer           func(c net.Conn, m message) error // nil = nobody listens
		args             []string
		edit             func(rules string) string
		answered, failed map[string]uint64
	}{
		"down": {failed: all("connect")},
		"in a silent network": {
			edit:   func(rules string) string { return strings.ReplaceAll(rules, v4.v2, "10.99.1.99") },
			args:   []string{"--connect-timeout", "100ms"},
			failed: all("connect"),
		},
		"silent": {
			answer: func(c net.Conn, _ message) error { _, err := io.Copy(io.Discard, c); return err },
			args:   []string{"--timeout", "300ms", never[0], never[1]},
			failed: all("timeout"),
		},
		"stuck within its answer": {
			answer: func(c net.Conn, _ message) error {
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
				_, err := io.Copy(io.Discard, c)
				return err
			},
			args:   []string{"--timeout", "300ms", never[0], never[1]},
			failed: all("timeout"),
		},
		"resetting": {
			answer: func(c net.Conn, _ message) error {
				_ = c.(*net.TCPConn).SetLinger(0)
				return errHangUp
			},
			args:   never,
			failed: all("reset"),
		},
		"hanging up":                   {answer: write(""), args: never, failed: all("reset")},
		"hanging up within its answer": {answer: write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"), args: never, failed: all("reset")},
		"no HTTP server":               {answer: write("220 mail.example.com ESMTP\r\n"), args: never, failed: all("protocol")},
		"failing":                      {answer: write("HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\n\r\n"), answered: all("5xx")},
		"redirecting": {
			answer: func(c net.Conn, _ message) error {
				_, err := io.WriteString(c, "HTTP/1.1 301 Moved\r\nLocation: /\r\nContent-Length: 0\r\n\r\n")
				return err
			},
			answered: all("3xx"),
		},
		"answering until it closes": {answer: write("HTTP/1.0 200 OK\r\n\r\nas long as it takes"), answered: all("2xx")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			v1 := serve(t, l.v1, v4.v1At(), nil)
			if test.answer != nil {
				serve(t, l.v2, v4.v2At(), test.answer)
			}
			rules := seedRules(t, v4)
			if test.edit != nil {
				rules = test.edit(rules)
			}
			a := startAgent(t, l.node, append(test.args, "-f", rulesFile(t, rules))...)
			c := l.clients(v4.v1At())
			c.load(4, n/4, nil, plain)()
			final := a.stop()
			checkReceived(t, c.messages(), v1.messages())
			// How many copies try a shadow that cannot be connected to, and
			// how many are not even tried, is a matter of time.
			if failed := final.Shadow.Failed; failed["connect"] > 0 {
				failed["connect"] += failed["circuit_open"]
				delete(failed, "circuit_open")
			}
			final.expect(t, outcome{mirrored: n, answered: test.answered, failed: test.failed})
		})
	}
}

// TestShadowComesBack: a shadow that was down is used again when it is up.
func TestShadowComesBack(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	serve(t, l.v1, v4.v1At(), nil)
	a := startAgent(t, l.node, "-f", rulesFile(t, seedRules(t, v4)))
	c := l.clients(v4.v1At())
	c.load(2, 20, nil, plain)()
	a.until("failed copies", func(acc account) bool { return sum(acc.Shadow.Failed) == 40 })

	v2 := serve(t, l.v2, v4.v2At(), nil)
	conn := c.open()
	eventually(t, "an answer of the shadow", func() error {
		must(t, conn.do(request{}))
		if len(v2.messages()) == 0 {
			return errNotYet
		}
		return nil
	})
	final := a.stop()
	if got, want := final.Shadow.Answered["2xx"], uint64(len(v2.messages())); got != want {
		t.Errorf("%d copies answered, want the %d that the shadow received", got, want)
	}
	if got := sum(final.Shadow.Answered) + final.Shadow.Failed["connect"] + final.Shadow.Failed["circuit_open"]; got != uint64(len(c.messages())) {
		t.Errorf("%+v: copies of %d requests", final.Shadow, len(c.messages()))
	}
}

// TestFullQueueDropsAndCounts: behind a stuck shadow the queue fills, and what
// does not fit is dropped and counted; nothing waits.
func TestFullQueueDropsAndCounts(t *testing.T) {
	t.Parallel()
	const n, queue, inFlight = 400, 10, 2
	l := newLab(t)
	v1 := serve(t, l.v1, v4.v1At(), nil)
	serve(t, l.v2, v4.v2At(), func(c net.Conn, _ message) error { _, err := io.Copy(io.Discard, c); return err })
	a := startAgent(t, l.node, "-f", rulesFile(t, seedRules(t, v4)),
		"--queue", "10", "--in-flight", "2", "--timeout", "1h", "--drain-timeout", "50ms")
	c := l.clients(v4.v1At())
	c.load(4, n/4, nil, plain)()
	final := a.stop()
	checkReceived(t, c.messages(), v1.messages())
	r, s := final.Requests, final.Shadow
	if r.Mirrored+r.Dropped["queue_full"] != n || r.Seen != n {
		t.Errorf("requests %+v: want %d, mirrored or dropped because the queue was full", r, n)
	}
	if r.Mirrored < queue || r.Mirrored > queue+inFlight {
		t.Errorf("%d requests mirrored, want the %d to %d that fit", r.Mirrored, queue, queue+inFlight)
	}
	if s.Sent != r.Mirrored || s.Failed["shutdown"] != s.Sent {
		t.Errorf("copies %+v, want %d, all given up in the end", s, r.Mirrored)
	}
}

// TestStopDoesNotWaitForAStuckShadow: --drain-timeout bounds a stop, and the
// account says what was given up.
func TestStopDoesNotWaitForAStuckShadow(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	serve(t, l.v1, v4.v1At(), nil)
	serve(t, l.v2, v4.v2At(), func(c net.Conn, _ message) error { _, err := io.Copy(io.Discard, c); return err })
	a := startAgent(t, l.node, "-f", rulesFile(t, seedRules(t, v4)),
		"--in-flight", "2", "--timeout", "1h", "--drain-timeout", "50ms")
	c := l.clients(v4.v1At())
	c.load(2, 10, nil, plain)()
	a.until("copies in flight", func(acc account) bool { return acc.Requests.Mirrored == 20 })
	a.stop().expect(t, outcome{mirrored: 20, failed: map[string]uint64{"shutdown": 20}})
}
