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
	reserve  func(Claim) bool
	release  func(source uint32, n int)
}

// Claim is what a message asks of the budget of a fair Pool.
type Claim struct {
	// Source is what the parser was told by Charge.
	Source uint32
	// Held is what the message, or its copy under way to a larger buffer,
	// holds so far, and N what it needs on top, in bytes.
	Held, N int
	// Since is when the message began, in nanoseconds since the Unix epoch.
	Since int64
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
		func(c Claim) bool { return reserve(c.N) },
		func(_ uint32, n int) { release(n) },
	)
}

// NewFairPool returns a Pool whose budget can tell who asks. reserve is called
// by the goroutine that feeds the parser, and may make room by GiveUp of other
// parsers; release is called by whoever holds the last reference.
func NewFairPool(reserve func(Claim) bool, release func(source uint32, n int)) *Pool {
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

// getRequest returns an empty request that begins at since, with a buffer of
// the smallest class, or nil if the budget refuses it.
func (p *Pool) getRequest(source uint32, since int64) *Request {
	r, _ := p.requests.Get().(*Request)
	if r == nil {
		r = &Request{small: make([]byte, 0, classSize(0)), fields: make([]field, 0, baseFields)}
	}
	if !p.reserve(Claim{Source: source, N: r.cost(), Since: since}) {
		p.requests.Put(r)
		return nil
	}
	*r = Request{pool: p, source: source, Start: since, raw: r.small, small: r.small, fields: r.fields[:0], trailers: r.trailers[:0]}
	r.refs.Store(1)
	return r
}

func (p *Pool) putRequest(r *Request) {
	if r.class > 0 {
		p.putBuffer(r, r.raw, int(r.class))
	}
	r.raw, r.class = nil, 0
	p.release(r.source, r.cost())
	if cap(r.fields) > keptFields || cap(r.trailers) > keptFields {
		return // the next one would have to be charged for it
	}
	p.requests.Put(r)
}

const (
	// baseFields is how many field lines there is room for in any request;
	// keptFields how many in one that is kept for reuse.
	baseFields = 24
	keptFields = 96
	fieldSize  = 16 // bytes, of a field
)

// cost is what r holds of the budget, in bytes: the room for field lines
// beyond the first few may be many times what they are on the wire.
func (r *Request) cost() int {
	n := classSize(0) + fieldSize*(max(0, cap(r.fields)-baseFields)+cap(r.trailers))
	if r.class > 0 {
		n += classSize(int(r.class))
	}
	return n
}

// addField appends f to r.fields or r.trailers. It reports false, leaving them
// as they were, if the budget refuses that.
func (r *Request) addField(to *[]field, f field) bool {
	if have := cap(*to); len(*to) == have {
		more := max(have, 8)
		if !r.pool.reserve(Claim{Source: r.source, Held: r.cost(), N: fieldSize * more, Since: r.Start}) {
			return false
		}
		grown := make([]field, have, have+more)
		copy(grown, *to)
		*to = grown
	}
	*to = append(*to, f)
	return true
}

// getBuffer returns an empty buffer of a class for r, or nil if the budget
// refuses.
func (p *Pool) getBuffer(r *Request, class int) []byte {
	n := classSize(class)
	if !p.reserve(Claim{Source: r.source, Held: r.cost(), N: n, Since: r.Start}) {
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
