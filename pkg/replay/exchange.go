package replay

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime/debug"
	"slices"
	"syscall"
	"time"

	"github.com/shadowtap/shadowtap/pkg/httpstream"
)

// Sizes of a worker's buffers, in bytes.
const (
	// maxJoined is up to where head and body are joined to be written at
	// once. It fits a socket's send buffer (tcp_wmem).
	maxJoined = 16 << 10
	minRead   = 4 << 10
	maxRead   = 64 << 10 // for content; a longer line of a head gets more, once

	// maxReads is after how many reads in a row, which may all succeed at
	// once, the deadline is looked at again.
	maxReads = 64
)

// exchange is one request and its response on one connection. Its buffers are
// used again for the next one.
type exchange struct {
	out   []byte // the copy, or its head if the body is sent from where it is
	body  []byte
	about outgoing

	in    []byte // in[r:w] is what was read and not used up
	small []byte // in, unless that had to grow
	r, w  int
	resp  httpstream.ResponseFramer
	keep  *httpstream.ResponsePool // nil: nothing is kept
	kept  *httpstream.Response
	limit int64                 // of received
	step  func(fd uintptr) bool // direct, bound once

	memory *memory
	held   int // bytes of it
	grown  int // bytes of those for in

	// of the connection in use
	c              *conn
	begun, again   bool
	up             *upload
	sent, received int64
	stale          bool // the connection was not usable; nothing was sent
	partial        bool // not everything was sent, or not everything read
	failed         bool
	outcome        Outcome // if failed
	err            error   // if failed
}

// init makes the exchange ready for its first use, whatever it was.
func (x *exchange) init(m *memory, limit int64, keep *httpstream.ResponsePool) {
	*x = exchange{small: make([]byte, minRead), limit: limit, memory: m, keep: keep}
	x.in = x.small
	x.step = x.direct
}

// compose writes the copy of r.
func (x *exchange) compose(r *httpstream.Request, s Shaper, extra []byte) error {
	n := len(r.HeaderBlock())
	if g, ok := s.(Growing); ok {
		n = g.HeadBound(r)
	}
	if n > maxJoined && !x.hold(2*n) {
		return errNoMemory
	}
	x.out = s.AppendHead(x.out[:0], r)
	var err error
	if x.about, err = inspect(x.out, r); err != nil {
		return err
	}
	x.out = append(x.out, extra...)
	x.out = append(x.out, '\r', '\n')
	x.body = r.Body()
	if len(x.out)+len(x.body) <= maxJoined {
		x.out, x.body = append(x.out, x.body...), nil
	}
	return nil
}

// clear forgets the exchange before.
func (x *exchange) clear() {
	x.c, x.begun, x.stale, x.partial = nil, false, false, false
	x.failed, x.outcome, x.err = false, 0, nil
	x.sent, x.received, x.r, x.w = 0, 0, 0, 0
	x.resp.Reset(false, nil)
}

// apart reports whether the copy is too large to be written at once.
func (x *exchange) apart() bool { return len(x.out)+len(x.body) > maxJoined }

// run does the exchange on c. It may be called again, for another connection,
// if c turns out to be stale.
func (x *exchange) run(c *conn, r *httpstream.Request) {
	x.c, x.begun, x.stale = c, false, false
	x.forget()
	if x.keep != nil {
		x.kept = x.keep.For(r)
	}
	x.resp.Reset(x.about.toHEAD, x.kept)
	if c.direct {
		for x.again = true; x.again; {
			x.again = false
			if err := c.raw.Read(x.step); err != nil {
				x.fail(Reset, err)
			}
		}
	} else {
		x.streamed()
	}
	x.endUpload()
	c.used = true
	c.turns++
}

// forget gives up what is kept of a response.
func (x *exchange) forget() {
	if x.kept != nil {
		x.kept.Release()
		x.kept = nil
	}
}

// reusable reports whether the connection can carry another exchange.
func (x *exchange) reusable() bool {
	return !x.failed && !x.partial && x.r == x.w && x.about.persists(&x.resp)
}

func (x *exchange) fail(o Outcome, err error) {
	if !x.failed {
		x.failed, x.outcome, x.err = true, o, err
	}
}

// direct does the exchange with system calls of its own, as the callback of
// RawConn.Read. It is called with the descriptor whenever it became readable,
// and returns whether it is done.
//
// Writing inside the wait for reading, and knowing from the peek that there
// was nothing to read before, saves the read that net.Conn would try in vain
// before it waits: one of four system calls. That the readiness of the
// descriptor is forgotten before the callback runs for the first time makes
// it safe: whatever arrives after the peek is waited for.
func (x *exchange) direct(fd uintptr) bool {
	if !x.begun {
		x.begun = true
		if x.c.used && !quiet(fd) {
			x.stale = true
			return true
		}
		if x.write(fd) && x.c.used {
			return false
		}
		// On a new connection the answer may have come before the question
		// (503 and closed). If writing failed there may be an answer still.
	}
	for range maxReads {
		b := x.space()
		if b == nil {
			x.fail(Memory, errNoMemory)
			return true
		}
		n, errno := recv(fd, b, 0)
		switch {
		case errno == syscall.EAGAIN:
			return false
		case errno == syscall.EINTR:
			continue
		case errno != 0:
			x.fail(Reset, errno)
			return true
		}
		if x.got(n, n == 0) {
			return true
		}
	}
	x.again = true
	return true
}

// write sends the copy as far as the socket takes it at once, and leaves the
// rest to an upload. It reports whether there is an answer to wait for.
func (x *exchange) write(fd uintptr) bool {
	if x.apart() {
		x.startUpload(x.out, x.body)
		return true
	}
	n, errno := send(fd, x.out)
	x.sent = int64(n)
	switch {
	case n == len(x.out):
	case errno == 0, errno == syscall.EAGAIN, errno == syscall.EINTR:
		x.startUpload(x.out[n:])
	default:
		x.partial = true
		return false
	}
	return true
}

// streamed does the exchange through net.Conn: TLS, or a connection that a
// dialer wrapped.
func (x *exchange) streamed() {
	if x.c.used && !x.c.alive() {
		x.stale = true
		return
	}
	if x.apart() {
		x.startUpload(x.out, x.body)
	} else {
		n, err := x.c.Write(x.out)
		x.sent, x.partial = int64(n), err != nil
	}
	for {
		b := x.space()
		if b == nil {
			x.fail(Memory, errNoMemory)
			return
		}
		n, err := x.c.Read(b)
		if n > 0 && x.got(n, false) {
			return
		}
		switch {
		case errors.Is(err, io.EOF):
			if x.got(0, true) {
				return
			}
		case err != nil:
			x.fail(readFailure(err), err)
			return
		}
	}
}

// readFailure tells a refusal of TLS, which may come with the first bytes
// after the handshake (RFC 8446 section 4.4.2.4), from a lost connection.
func readFailure(err error) Outcome {
	var alert tls.AlertError
	var record tls.RecordHeaderError
	if errors.As(err, &alert) || errors.As(err, &record) {
		return TLSFailed
	}
	return Reset
}

// got uses n bytes read into space, or the end of the stream. It returns
// whether the exchange is done.
func (x *exchange) got(n int, eof bool) (done bool) {
	if eof {
		if !x.resp.EOF() {
			x.fail(Reset, io.ErrUnexpectedEOF)
		}
		return true
	}
	x.w += n
	x.received += int64(n)
	k, err := x.resp.Parse(x.in[x.r:x.w])
	x.r += k
	switch {
	case err != nil:
		x.fail(Protocol, err)
		return true
	case x.resp.Complete():
		return true
	case x.received > x.limit && x.resp.Final():
		x.partial = true
		return true
	}
	return false
}

// upload is a goroutine that writes what the socket does not take at once, so
// that an answer that comes early (413, or just a fast server) is read, and
// neither side waits for the other.
type upload struct {
	done  chan struct{}
	n     int64
	err   error
	fault any // of a panic
}

func (x *exchange) startUpload(parts ...[]byte) {
	// An empty part at the end would make a write out of nothing, which could
	// fail when everything is sent.
	parts = slices.DeleteFunc(parts, func(b []byte) bool { return len(b) == 0 })
	u, c, buffers := &upload{done: make(chan struct{})}, x.c.Conn, net.Buffers(parts)
	x.up = u
	go func() {
		defer close(u.done)
		defer func() {
			if u.fault = recover(); u.fault != nil {
				u.fault = fmt.Sprintf("%v\n%s", u.fault, debug.Stack())
				_ = c.Close() // nobody waits for an answer to half a request
			}
		}()
		u.n, u.err = buffers.WriteTo(c)
	}()
}

// endUpload waits for the upload, which the end of the exchange ends: until
// then the bytes are in use.
func (x *exchange) endUpload() {
	u := x.up
	if u == nil {
		return
	}
	x.up = nil
	select {
	case <-u.done:
	default:
		_ = x.c.SetWriteDeadline(time.Unix(1, 0))
		<-u.done
		if u.err == nil { // it had been about to say so
			_ = x.c.SetWriteDeadline(time.Time{})
		}
	}
	if u.fault != nil {
		panic(u.fault) // where it is contained
	}
	x.sent += u.n
	if u.err != nil {
		x.partial = true
		x.c.discard()
	}
}
