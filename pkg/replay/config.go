package replay

import (
	"context"
	"crypto/tls"
	"net"
	"time"

	"github.com/shadowtap/shadowtap/pkg/httpstream"
)

// A Shaper writes the head of a copy: request line and header field lines,
// each with CRLF, without the empty line that ends the head. It appends to dst
// and returns the result. The head must announce the body of r as it is, and
// ask for no change of protocol. It is called by workers, concurrently.
type Shaper interface {
	AppendHead(dst []byte, r *httpstream.Request) []byte
}

// Bounded is implemented by a Shaper whose copies have a timeout of their own.
type Bounded interface {
	// Timeout is what takes the place of Config.Timeout, unless it is 0.
	Timeout() time.Duration
}

// Growing is implemented by a Shaper whose heads may be much longer than those
// of the requests.
type Growing interface {
	// HeadBound is a bound of how much AppendHead appends for r, in bytes.
	// Memory is reserved for it before AppendHead is called.
	HeadBound(r *httpstream.Request) int
}

// Config describes a Mirror. It must not be changed after New.
type Config struct {
	// Name is what the destination is called in errors.
	Name string
	// Endpoints may be changed later by SetEndpoints.
	Endpoints []Endpoint

	// Queue is how many copies may wait. Default 1024, as Envoy's
	// max_pending_requests.
	Queue int
	// QueueBytes is how large the requests of all pending copies, waiting or
	// in flight, may be together. A single one may exceed it. Default 64 MiB.
	QueueBytes int64
	// InFlight is how many exchanges, and so workers and connections in use,
	// there may be at a time. Default 128. A worker costs about 16 KiB, up
	// to 100 KiB once it met large messages.
	InFlight int

	// Timeout bounds an exchange from the moment a worker takes the copy,
	// connecting included. It is enforced up to a sixteenth late. Default
	// 15 s, as Envoy's route timeout.
	Timeout time.Duration
	// ConnectTimeout bounds connecting, the TLS handshake included. Default
	// 10 s, as Istio's connectionPool.tcp.connectTimeout.
	ConnectTimeout time.Duration
	// IdleTimeout is how long a connection is kept without an exchange, at
	// least 1 s. Default 1 h, as Istio's connectionPool.http.idleTimeout.
	IdleTimeout time.Duration

	// RequestsPerConnection is after how many exchanges a connection is
	// closed. Default 0: never.
	RequestsPerConnection int
	// MaxFailures is after how many copies in a row without an answer an
	// endpoint gets no more of them, but for one at a time that tries whether
	// it answers again; the others go to other endpoints or fail at once as
	// CircuitOpen. A failure to connect has that effect at once. Default 5.
	MaxFailures int
	// MaxBackoff bounds how long after a failure the next one tries: 50 ms at
	// first, doubled each time, less up to a quarter. Default 1 s.
	MaxBackoff time.Duration
	// Outlier says when endpoints are left out because of what they answer;
	// nil: never.
	Outlier *Outlier

	// Extra is appended to the head of every copy: field lines, each with
	// CRLF.
	Extra []byte
	// MaxResponse is how many bytes of a response are read. What exceeds it
	// counts as answered, but its connection is closed. Default 64 MiB.
	// Heads are bounded to 256 KiB apart from it.
	MaxResponse int64

	// Reserve asks for n bytes of a budget shared with others, which Release
	// gives back, before memory is taken for workers, connections, and
	// messages larger than their buffers. Where it refuses there are fewer
	// workers, but always one, and copies that need more fail as Memory.
	// Either both are set or none. They are called with locks held.
	Reserve func(n int) bool
	Release func(n int)

	// TLS is what the configuration for endpoints with TLS starts from.
	TLS *tls.Config
	// Dial connects. The connections must obey their deadlines, and Dial its
	// context. Default: a net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Keep, if set, is where Result.Response comes from.
	Keep *httpstream.ResponsePool
	// OnResult, if set, is called once for every accepted copy, by the worker
	// that has it: concurrently, and while it runs the copy is pending and
	// the worker occupied. It must not call the mirror's Drain.
	OnResult func(Result)
	// OnPanic, if set, is told of panics that were contained, which are
	// defects: in a worker, at the cost of its copy, or in the mirror's
	// housekeeping. It is called from several goroutines.
	OnPanic func(fault any, stack []byte)
	// Now is the clock. Default time.Now.
	Now func() time.Time
}

func (c Config) withDefaults() Config {
	positive(&c.Queue, 1024)
	positive(&c.QueueBytes, 64<<20)
	positive(&c.InFlight, 128)
	positive(&c.Timeout, 15*time.Second)
	positive(&c.ConnectTimeout, 10*time.Second)
	positive(&c.IdleTimeout, time.Hour)
	positive(&c.MaxResponse, 64<<20)
	positive(&c.MaxFailures, 5)
	positive(&c.MaxBackoff, time.Second)
	if c.Reserve == nil || c.Release == nil {
		c.Reserve = func(int) bool { return true }
		c.Release = func(int) {}
	}
	if c.Dial == nil {
		c.Dial = new(net.Dialer).DialContext
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return c
}

// positive gives *v its default unless it is positive.
func positive[T int | int64 | time.Duration](v *T, def T) {
	if *v <= 0 {
		*v = def
	}
}
