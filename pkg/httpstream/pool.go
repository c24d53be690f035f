package httpstream

import (
	"math/bits"
	"sync"
)

// Message buffers come in powers of two. The smallest holds nearly every
// request without a body.
const (
	minClassBits = 11 // 2 KiB
	numClasses   = 16 // up to 64 MiB; a larger buffer is not pooled
)

// Pool provides the memory of requests, within a budget. A Pool may be shared
// by any number of parsers; all methods are safe for concurrent use.
type Pool struct {
	requests sync.Pool
	buffers  [numClasses]sync.Pool
	reserve  func(source uint32, held, n int) bool
	release  func(source uint32, n int)
}

// NewPool returns a Pool. reserve is asked before n more bytes are held and
// may refuse; release gives them back. Both may be nil for no bound.
func NewPool(reserve func(n int) bool, release func(n int)) *Pool {
	if reserve == nil {
		reserve = func(int) bool { return true }
	}
	if release == nil {
		release = func(int) {}
	}
	return NewFairPool(
		func(_ uint32, _, n int) bool { return reserve(n) },
		func(_ uint32, n int) { release(n) },
	)
}

// NewFairPool returns a Pool whose budget can tell who asks: source is what
// the parser was told by Charge, and held what the message, or its copy under
// way to a larger buffer, holds so far.
func NewFairPool(reserve func(source uint32, held, n int) bool, release func(source uint32, n int)) *Pool {
	return &Pool{reserve: reserve, release: release}
}

// classFor is the smallest class that holds n bytes.
func classFor(n int) int {
	if n <= 1<<minClassBits {
		return 0
	}
	return bits.Len(uint(n-1)) - minClassBits
}

func classSize(class int) int { return 1 << (class + minClassBits) }

// getRequest returns an empty request with a buffer of the smallest class, or
// nil if the budget refuses it.
func (p *Pool) getRequest(source uint32) *Request {
	if !p.reserve(source, 0, classSize(0)) {
		return nil
	}
	r, _ := p.requests.Get().(*Request)
	if r == nil {
		r = &Request{small: make([]byte, 0, classSize(0)), fields: make([]field, 0, 24)}
	}
	*r = Request{pool: p, source: source, raw: r.small, small: r.small, fields: r.fields[:0], trailers: r.trailers[:0]}
	r.refs.Store(1)
	return r
}

func (p *Pool) putRequest(r *Request) {
	if r.class > 0 {
		p.putBuffer(r, r.raw, int(r.class))
	}
	r.raw, r.class = nil, 0
	p.release(r.source, classSize(0))
	p.requests.Put(r)
}

// getBuffer returns an empty buffer of a class for r, or nil if the budget
// refuses.
func (p *Pool) getBuffer(r *Request, class int) []byte {
	n, held := classSize(class), classSize(0)
	if r.class > 0 {
		held += classSize(int(r.class))
	}
	if !p.reserve(r.source, held, n) {
		return nil
	}
	if class < numClasses {
		if b, _ := p.buffers[class].Get().(*[]byte); b != nil {
			return (*b)[:0]
		}
	}
	return make([]byte, 0, n)
}

func (p *Pool) putBuffer(r *Request, b []byte, class int) {
	p.release(r.source, classSize(class))
	if class < numClasses {
		p.buffers[class].Put(&b)
	}
}

// append adds b to r's bytes, moving them to a larger buffer where needed. It
// reports false, leaving r as it was, if the budget refuses that.
func (r *Request) append(b []byte) bool {
	need := len(r.raw) + len(b)
	if need <= cap(r.raw) {
		r.raw = append(r.raw, b...)
		return true
	}
	class := classFor(need)
	grown := r.pool.getBuffer(r, class)
	if grown == nil {
		return false
	}
	grown = append(grown, r.raw...)
	if r.class > 0 {
		r.pool.putBuffer(r, r.raw, int(r.class))
	}
	r.raw, r.class = append(grown, b...), int8(class)
	return true
}
