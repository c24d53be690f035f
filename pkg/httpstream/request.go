package httpstream

import (
	"bytes"
	"net/netip"
	"sync/atomic"
)

// Framing says how the end of a message's body is found (RFC 9112 section 6).
type Framing uint8

// The framings a request can have.
const (
	// NoBody: neither Content-Length nor Transfer-Encoding.
	NoBody Framing = iota
	// ContentLength: as many bytes as the header says, possibly none.
	ContentLength
	// Chunked: the chunked transfer coding, with its extensions and trailers.
	Chunked
)

// Request is one HTTP/1.x request as it was on the wire. It is immutable once
// handed over; any number of goroutines may read it while they hold a
// reference (Retain, Release).
type Request struct {
	// Source and Destination are the client's and the captured endpoint's
	// addresses. They are filled in by whoever knows the connection.
	Source, Destination netip.AddrPort
	// Endpoint, if valid, is the endpoint that the Destination is to be taken
	// for: rules that were made before there was the one mean it as well. It is
	// filled in together with the Destination.
	Endpoint netip.AddrPort
	// Start and End are when the first and the last byte were captured, in
	// nanoseconds since the Unix epoch.
	Start, End int64

	pool   *Pool
	source uint32 // whom the pool charges
	refs   atomic.Int32

	raw     []byte // the whole message, request line to last byte of the body
	small   []byte // the request's own buffer of class 0, kept when raw outgrows it
	class   int8   // size class of raw in pool; 0 when raw is small
	fields  []field
	methodN uint32 // length of the method
	targetN uint32 // length of the request-target
	lineN   uint32 // length of the request line with its CRLF
	headN   uint32 // length of the head with its closing empty line
	framing Framing
	minor   uint8

	contentN  int64 // bytes of content, without chunk framing
	trailerAt int   // offset in raw of the first trailer field line; 0 if none
	trailers  []field
}

// field is one field line; offsets are into Request.raw.
type field struct {
	start, nameEnd, valueStart, valueEnd uint32
}

// Method is the request method, as sent. Methods are case-sensitive
// (RFC 9110 section 9.1).
func (r *Request) Method() []byte { return r.raw[:r.methodN] }

// Target is the request-target as sent: origin-form, absolute-form or
// asterisk-form (RFC 9112 section 3.2).
func (r *Request) Target() []byte { return r.raw[r.methodN+1 : r.methodN+1+r.targetN] }

// Version is the HTTP-version as sent, such as "HTTP/1.1".
func (r *Request) Version() []byte { return r.raw[r.methodN+r.targetN+2 : r.lineN-2] }

// HTTP11 reports whether the request is of HTTP/1.1 or a later minor version.
func (r *Request) HTTP11() bool { return r.minor >= 1 }

// NumFields is the number of header field lines.
func (r *Request) NumFields() int { return len(r.fields) }

// Field returns the name and value of header field line i, in the order sent.
// The name has its original case; the value is without surrounding whitespace.
func (r *Request) Field(i int) (name, value []byte) {
	f := r.fields[i]
	return r.raw[f.start:f.nameEnd], r.raw[f.valueStart:f.valueEnd]
}

// FieldLine returns header field line i as sent, with its CRLF.
func (r *Request) FieldLine(i int) []byte {
	end := r.headN - 2
	if i+1 < len(r.fields) {
		end = r.fields[i+1].start
	}
	return r.raw[r.fields[i].start:end]
}

// Get returns the value of the first header field called name, compared
// without case, and whether there is one.
func (r *Request) Get(name string) ([]byte, bool) {
	for i := range r.fields {
		n, v := r.Field(i)
		if len(n) == len(name) && equalFold(n, name) {
			return v, true
		}
	}
	return nil, false
}

// Host is what the request is addressed to, with its port if it has one: the
// authority of an absolute-form target, else the Host field (RFC 9112
// section 3.2.2). It is empty if there is neither.
func (r *Request) Host() []byte {
	if _, authority, _, ok := SplitAbsolute(r.Target()); ok {
		return authority
	}
	v, _ := r.Get("Host")
	return v
}

// SplitAbsolute splits an absolute-form request-target into scheme, authority
// and the rest (path and query, possibly empty). ok is false for any other
// form.
func SplitAbsolute(target []byte) (scheme, authority, rest []byte, ok bool) {
	if len(target) == 0 || target[0] == '/' || target[0] == '*' {
		return nil, nil, target, false
	}
	i := bytes.Index(target, []byte("://"))
	if i <= 0 {
		return nil, nil, target, false
	}
	for _, c := range target[:i] {
		if !isSchemeByte(c) {
			return nil, nil, target, false
		}
	}
	scheme, rest = target[:i], target[i+3:]
	end := bytes.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	authority, rest = rest[:end], rest[end:]
	if at := bytes.LastIndexByte(authority, '@'); at >= 0 {
		authority = authority[at+1:] // userinfo is no part of the host
	}
	return scheme, authority, rest, true
}

// HeaderBlock is every header field line as sent, each with its CRLF, without
// the empty line that ends the head.
func (r *Request) HeaderBlock() []byte { return r.raw[r.lineN : r.headN-2] }

// Body is the body as framed on the wire: for Chunked with chunk sizes,
// extensions, the last chunk, trailers and the final CRLF.
func (r *Request) Body() []byte { return r.raw[r.headN:] }

// Framing says how Body is delimited.
func (r *Request) Framing() Framing { return r.framing }

// ContentLen is the number of content bytes (RFC 9110 section 6.4), that is
// of the body without chunk framing and trailers.
func (r *Request) ContentLen() int64 { return r.contentN }

// AppendContent appends the content to dst: the body with any chunked coding
// removed.
func (r *Request) AppendContent(dst []byte) []byte {
	if r.framing != Chunked {
		return append(dst, r.Body()...)
	}
	return appendDechunked(dst, r.Body())
}

// NumTrailers is the number of trailer field lines.
func (r *Request) NumTrailers() int { return len(r.trailers) }

// Trailer returns the name and value of trailer field line i.
func (r *Request) Trailer(i int) (name, value []byte) {
	f := r.trailers[i]
	return r.raw[f.start:f.nameEnd], r.raw[f.valueStart:f.valueEnd]
}

// Size is the number of bytes the request had on the wire.
func (r *Request) Size() int { return len(r.raw) }

// Retain takes one more reference.
func (r *Request) Retain() { r.refs.Add(1) }

// Release gives a reference back. The request and every slice obtained from
// it must not be used afterwards; its memory is reused.
func (r *Request) Release() {
	switch n := r.refs.Add(-1); {
	case n == 0:
		r.pool.putRequest(r)
	case n < 0:
		panic("httpstream: Request released more often than retained")
	}
}
