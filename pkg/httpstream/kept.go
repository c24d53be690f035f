package httpstream

import (
	"hash/maphash"
	"sync"
)

// Response is what is kept of one final response: its status, its field lines,
// the beginning of its content without transfer coding, and the length and a
// digest of all of the content. A ResponseFramer fills it in. Once it is
// complete it is immutable, until Release.
type Response struct {
	// Start and End are when the first and the last byte were seen, in
	// nanoseconds since the Unix epoch. They are filled in by whoever knows.
	Start, End int64

	pool   *ResponsePool
	source uint32 // whom the pool charges
	charge int    // bytes

	status   int
	raw      []byte // field lines, content, and trailers, without what frames them
	fields   []field
	trailers []field
	bodyAt   int // offset of the content
	bodyN    int // bytes of it that are kept
	length   int64
	digest   maphash.Hash
	refused  bool // not everything is there
}

// Status is the status code, 0 if the response has not got that far.
func (r *Response) Status() int { return r.status }

// NumFields is the number of header field lines.
func (r *Response) NumFields() int { return len(r.fields) }

// Field returns the name and value of header field line i, in the order sent.
// The name has its original case; the value is without surrounding whitespace,
// and a folded one (RFC 9112 section 5.2) in one piece.
func (r *Response) Field(i int) (name, value []byte) { return r.at(r.fields[i]) }

// NumTrailers is the number of trailer field lines.
func (r *Response) NumTrailers() int { return len(r.trailers) }

// Trailer returns trailer field line i, as Field does.
func (r *Response) Trailer(i int) (name, value []byte) { return r.at(r.trailers[i]) }

func (r *Response) at(f field) (name, value []byte) {
	return r.raw[f.start:f.nameEnd], r.raw[f.valueStart:f.valueEnd]
}

// Content is the beginning of the content, without transfer coding.
func (r *Response) Content() []byte { return r.raw[r.bodyAt : r.bodyAt+r.bodyN] }

// Length is how many bytes of content there were; Content may be shorter.
func (r *Response) Length() int64 { return r.length }

// Digest is a hash of the whole content. It is the same for the same content
// of any two responses of one ResponsePool, and of no others.
func (r *Response) Digest() uint64 { return r.digest.Sum64() }

// Whole reports whether everything was kept that was to be: it is false where
// the budget refused memory, or there were more than 1000 field lines.
func (r *Response) Whole() bool { return !r.refused }

// Size is how many bytes of the budget the response takes.
func (r *Response) Size() int { return r.charge }

// Release gives the response back. It must not be used any more.
func (r *Response) Release() { r.pool.put(r) }

// The rest is called by a ResponseFramer, which may have nothing to keep.

// restart begins a head; one before was that of an interim response.
func (r *Response) restart() {
	if r == nil {
		return
	}
	r.raw, r.fields = r.raw[:0], r.fields[:0]
}

// finalHead says that the head is complete.
func (r *Response) finalHead(status int) {
	if r == nil {
		return
	}
	r.status, r.bodyAt = status, len(r.raw)
}

// field keeps a field line, of which the name is colon bytes long.
func (r *Response) field(line []byte, colon int, trailer bool) {
	if r == nil || !r.grow(len(line)) {
		return
	}
	if len(r.fields)+len(r.trailers) == maxFields {
		r.refused = true
		return
	}
	value := trimOWS(line[colon+1:])
	at := uint32(len(r.raw))
	r.raw = append(append(r.raw, line[:colon]...), value...)
	end := uint32(len(r.raw))
	f := field{at, at + uint32(colon), at + uint32(colon), end}
	if trailer {
		r.trailers = append(r.trailers, f)
	} else {
		r.fields = append(r.fields, f)
	}
}

// fold continues the field line before (RFC 9112 section 5.2).
func (r *Response) fold(line []byte) {
	if r == nil || !r.grow(len(line)+1) {
		return
	}
	fields := r.fields
	if len(r.trailers) > 0 {
		fields = r.trailers
	}
	rest := trimOWS(line)
	if len(fields) == 0 || len(rest) == 0 {
		return
	}
	f := &fields[len(fields)-1]
	if f.valueEnd > f.valueStart {
		r.raw = append(r.raw, ' ')
	}
	r.raw = append(r.raw, rest...)
	f.valueEnd = uint32(len(r.raw))
}

// content keeps content, as far as it is to be kept.
func (r *Response) content(b []byte) {
	if r == nil {
		return
	}
	r.length += int64(len(b))
	_, _ = r.digest.Write(b) // which never fails
	k := min(len(b), r.pool.maxContent-r.bodyN)
	if k > 0 && r.grow(k) {
		r.raw = append(r.raw, b[:k]...)
		r.bodyN += k
	}
}

// grow makes room for n more bytes, or gives up what was kept.
func (r *Response) grow(n int) bool {
	if r.refused {
		return false
	}
	need := len(r.raw) + n
	if need <= cap(r.raw) {
		return true
	}
	size := cap(r.raw)
	for size < need {
		size *= 2
	}
	// The fields' places and the buffer that is copied from count, too.
	if !r.pool.reserve(r.source, r.charge, size) {
		r.refused = true
		return false
	}
	r.charge += size
	r.raw = append(make([]byte, 0, size), r.raw...)
	return true
}

// smallResponse is the size of the buffer that a Response begins with, in
// bytes, and what the budget is charged for one at the least: twice that.
const smallResponse = 2 << 10

// ResponsePool provides Responses, within a budget. It is safe for concurrent
// use.
type ResponsePool struct {
	maxContent int
	reserve    func(source uint32, held, n int) bool
	release    func(source uint32, n int)
	seed       maphash.Seed
	responses  sync.Pool
}

// NewResponsePool returns a pool of Responses that keep at most maxContent bytes
// of content each. reserve and release are as for NewFairPool; both may be nil
// for no bound.
func NewResponsePool(maxContent int, reserve func(source uint32, held, n int) bool, release func(source uint32, n int)) *ResponsePool {
	if reserve == nil {
		reserve = func(uint32, int, int) bool { return true }
	}
	if release == nil {
		release = func(uint32, int) {}
	}
	return &ResponsePool{maxContent: maxContent, reserve: reserve, release: release, seed: maphash.MakeSeed()}
}

// Get returns an empty Response that is charged to source, or nil if the
// budget refuses it.
func (p *ResponsePool) Get(source uint32) *Response {
	if !p.reserve(source, 0, 2*smallResponse) {
		return nil
	}
	r, _ := p.responses.Get().(*Response)
	if r == nil {
		r = &Response{raw: make([]byte, 0, smallResponse), fields: make([]field, 0, 24)}
		r.digest.SetSeed(p.seed)
	}
	r.pool, r.source, r.charge = p, source, 2*smallResponse
	return r
}

// For is Get for the source that r is charged to.
func (p *ResponsePool) For(r *Request) *Response { return p.Get(r.source) }

func (p *ResponsePool) put(r *Response) {
	p.release(r.source, r.charge)
	if cap(r.raw) > smallResponse {
		return
	}
	r.raw, r.fields, r.trailers = r.raw[:0], r.fields[:0], r.trailers[:0]
	r.Start, r.End, r.status, r.bodyAt, r.bodyN, r.length, r.refused = 0, 0, 0, 0, 0, 0, false
	r.digest.Reset()
	p.responses.Put(r)
}
