package replay

import (
	"errors"
	"sync"
)

// What a mirror holds besides requests, in bytes, asked of Config.Reserve. It
// is more than is needed on the whole: the bound must hold.
const (
	workerCost = 32 << 10 // stack, buffers as long as messages are small, a connection
	tlsCost    = 48 << 10 // a connection's state and the records it reads and writes
)

var errNoMemory = errors.New("the memory limit is reached")

// memory is a share of the budget, and where large buffers come from. It is
// safe for concurrent use.
type memory struct {
	reserve func(n int) bool
	release func(n int)
	large   sync.Pool // of *[maxRead]byte
}

func (m *memory) getLarge() []byte {
	if b, ok := m.large.Get().(*[maxRead]byte); ok {
		return b[:]
	}
	return make([]byte, maxRead)
}

func (m *memory) putLarge(b []byte) { m.large.Put((*[maxRead]byte)(b)) }

// hold reserves n more bytes for the exchange, until it is tidied up.
func (x *exchange) hold(n int) bool {
	if !x.memory.reserve(n) {
		return false
	}
	x.held += n
	return true
}

// space returns where to read to, or nil if there is no memory for it. It
// grows for a line that doesn't fit, which the bound of the head ends, and for
// content worth fewer system calls.
func (x *exchange) space() []byte {
	if x.r == x.w {
		x.r, x.w = 0, 0
		if len(x.in) < maxRead && x.resp.Wants() > int64(len(x.in)) && x.hold(maxRead) {
			x.letGo()
			x.in = x.memory.getLarge()
			x.grown = maxRead
		}
		return x.in
	}
	if x.w == len(x.in) {
		if x.r == 0 {
			n := len(x.in)
			if !x.hold(2 * n) {
				return nil
			}
			grown := make([]byte, 2*n)
			copy(grown, x.in)
			x.letGo()
			x.in = grown
			x.grown = 2 * n
		} else {
			x.w = copy(x.in, x.in[x.r:x.w])
			x.r = 0
		}
	}
	return x.in[x.w:]
}

// letGo gives back a buffer that grew.
func (x *exchange) letGo() {
	if len(x.in) == maxRead {
		x.memory.putLarge(x.in)
	}
	x.memory.release(x.grown)
	x.held -= x.grown
	x.grown, x.in = 0, x.small
}

// tidy gives back what an unusual exchange made the buffers grow to.
func (x *exchange) tidy() {
	x.c, x.body = nil, nil
	x.forget()
	if cap(x.out) > 2*maxJoined {
		x.out = make([]byte, 0, minRead)
	}
	x.letGo()
	x.memory.release(x.held)
	x.held = 0
}
