package replay

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"
)

// conn is a connection to an endpoint. One worker uses it at a time; idle it
// is owned by the mirror.
type conn struct {
	net.Conn          // what is written to and read from
	socket   net.Conn // what lies under TLS, else the same

	raw    syscall.RawConn // of the socket; nil if it has none
	direct bool            // Conn is a plain TCP connection: system calls may bypass it
	used   bool            // it carried an exchange
	turns  int             // how many

	memory *memory
	cost   int // bytes of it

	idleSince time.Time
	quiet     bool // result of peek
	peek      func(fd uintptr)
}

func newConn(socket, c net.Conn) *conn {
	n := &conn{Conn: c, socket: socket}
	if s, ok := socket.(syscall.Conn); ok {
		if raw, err := s.SyscallConn(); err == nil {
			n.raw = raw
			n.peek = func(fd uintptr) { n.quiet = quiet(fd) }
		}
	}
	_, tcp := c.(*net.TCPConn)
	n.direct = tcp && n.raw != nil
	return n
}

// quiet reports whether there is nothing to read from a socket: no data, no
// end of stream, no error.
//
// A server may close a connection that is idle, and a copy written to it then
// is lost; it cannot be sent again, because nobody knows whether the server
// acted on it. So each connection is looked at immediately before it is used
// again. What remains is the time a close needs to cross the network: copies
// lost to that are counted as Reset.
func quiet(fd uintptr) bool {
	var b [1]byte
	_, errno := recv(fd, b[:], syscall.MSG_PEEK)
	return errno == syscall.EAGAIN
}

// alive reports whether an idle connection can be used again: anything that
// arrived meanwhile is the end, or no answer to anything. On TLS it may also
// be a session ticket, for which a connection is given up needlessly.
func (c *conn) alive() bool {
	if c.raw == nil {
		return true
	}
	return c.raw.Control(c.peek) == nil && c.quiet
}

// interrupt makes everything that waits for the connection fail.
func (c *conn) interrupt() { _ = c.SetDeadline(time.Unix(1, 0)) }

// discard makes closing the connection discard what is not sent yet. The
// kernel would else keep megabytes for a shadow that doesn't read.
func (c *conn) discard() {
	if s, ok := c.socket.(interface{ SetLinger(sec int) error }); ok {
		_ = s.SetLinger(0)
	}
}

// abandon closes the connection without the farewell of TLS, which could wait
// for a peer that doesn't read.
func (c *conn) abandon() {
	_ = c.socket.Close()
	c.giveBack()
}

// Close closes the connection.
func (c *conn) Close() error {
	err := c.Conn.Close()
	c.giveBack()
	return err
}

// giveBack releases what the connection's memory was reserved as.
func (c *conn) giveBack() {
	c.memory.release(c.cost)
	c.cost = 0
}

// closeAll closes idle connections.
func closeAll(idle []*conn) {
	for _, c := range idle {
		_ = c.Close()
	}
}

// connect makes a connection to an endpoint, within limit.
func (m *Mirror) connect(ep *endpoint, limit time.Duration) (made *conn, failed Outcome, err error) {
	timeout := m.cfg.ConnectTimeout
	late := Connect
	if limit <= timeout {
		timeout, late = limit, Timeout
	}
	ctx, cancel := context.WithTimeout(m.ctx, timeout)
	defer cancel()

	cost := 0
	if ep.tls != nil {
		cost = tlsCost
	}
	if cost > 0 && !m.memory.reserve(cost) {
		return nil, Memory, errNoMemory
	}
	var socket net.Conn
	defer func() {
		if made != nil {
			made.memory, made.cost = &m.memory, cost
			return
		}
		// Also where there was a panic: verifying a certificate may call
		// what others wrote.
		if socket != nil {
			_ = socket.Close()
		}
		m.memory.release(cost)
	}()
	failed = Connect
	dialled, err := m.cfg.Dial(ctx, "tcp", ep.Address)
	if err == nil {
		socket = dialled
		if ep.tls == nil {
			return newConn(socket, socket), 0, nil
		}
		c := tls.Client(socket, ep.tls)
		if err = c.HandshakeContext(ctx); err == nil {
			return newConn(socket, c), 0, nil
		}
		failed = TLSFailed
	}
	var e net.Error
	var dns *net.DNSError
	switch {
	case m.ctx.Err() != nil:
		failed = Shutdown
	case errors.As(err, &dns):
		failed = Resolve
	case ctx.Err() != nil, errors.As(err, &e) && e.Timeout():
		failed = late
	}
	return nil, failed, fmt.Errorf("connecting to %s of %s: %w", ep.Address, m.cfg.Name, err)
}
