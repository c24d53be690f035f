package httpstream

import (
	"bytes"
	"errors"
)

// MaxResponseHead bounds all heads of one response, interim ones (1xx)
// included, and apart from them its trailer section, in bytes.
const MaxResponseHead = 256 << 10

// What makes a response unusable.
var (
	errStatusLine    = errors.New("malformed status line")
	errResponseField = errors.New("malformed field line in the response")
	errFolded        = errors.New("folded framing field in the response")
	errLength        = errors.New("malformed or contradictory Content-Length in the response")
	errResponseLine  = errors.New("line of the chunked coding without CRLF in the response")
	errChunkSize     = errors.New("malformed chunk size in the response")
	errChunkData     = errors.New("chunk data not followed by CRLF in the response")
	errTooLarge      = errors.New("head or trailers of the response exceed the bound")
)

type responseState uint8

const (
	inStatusLine responseState = iota
	inFields
	inLength  // content of known length
	inClose   // content that the end of the connection ends
	inSize    // chunk size line
	inChunk   // chunk data
	inEnd     // the CRLF behind chunk data
	inTrailer // trailer section
	complete
)

// ResponseFramer frames the final response to one request (RFC 9112
// section 6.3). It keeps nothing of what it reads, unless it is given a
// Response to keep it in. Interim responses (1xx) are skipped. Where leniency
// costs nothing it is lenient, like other clients: a bare LF ends a line of a
// head, and field values are not looked at unless they frame.
type ResponseFramer struct {
	status int
	minor  byte
	state  responseState
	toHEAD bool      // the request was HEAD
	keep   *Response // what is kept, if anything

	close, keepAlive   bool // options of Connection
	coded, chunked     bool // any transfer coding; the final one is chunked
	sized              bool // Content-Length was seen
	foldable           bool // the field before may be folded: it doesn't matter
	length             int64
	remaining          int64 // of the content or chunk
	headN              int   // bytes of heads or trailers so far
	scanned            int   // bytes of the incomplete line known to hold no LF
	delimitedByClosing bool
}

// Reset prepares for the response to a request; toHEAD: its method is HEAD, so
// that the response has no content. What is kept of it goes to keep, unless
// that is nil.
func (p *ResponseFramer) Reset(toHEAD bool, keep *Response) {
	*p = ResponseFramer{toHEAD: toHEAD, keep: keep}
}

// Status is the final status code, once Final.
func (p *ResponseFramer) Status() int { return p.status }

// Complete reports whether the end of the response was found.
func (p *ResponseFramer) Complete() bool { return p.state == complete }

// KeepAlive reports whether Connection has the option keep-alive.
func (p *ResponseFramer) KeepAlive() bool { return p.keepAlive }

// Parse takes what was received and returns how much of it is used up. What
// is left is an incomplete line, to be presented again with more behind it,
// or lies behind the end of the response.
func (p *ResponseFramer) Parse(b []byte) (n int, err error) {
	for p.state != complete {
		switch p.state {
		case inLength, inChunk:
			k := min(p.remaining, int64(len(b)-n))
			p.keep.content(b[n : n+int(k)])
			n += int(k)
			if p.remaining -= k; p.remaining > 0 {
				return n, nil
			}
			p.contentEnd()
		case inClose:
			p.keep.content(b[n:])
			return len(b), nil
		default:
			line, k, err := p.line(b[n:])
			if k == 0 || err != nil {
				return n, err
			}
			n += k
			if err := p.take(line); err != nil {
				return n, err
			}
		}
	}
	return n, nil
}

// Skip says that n bytes of the response are missing, an unknown number if n is
// negative. It reports whether that is no matter to the framing: they are
// content. The response is then framed on, but what is kept of it is not whole.
func (p *ResponseFramer) Skip(n int64) bool {
	if p.state != inLength && p.state != inChunk || n < 0 || n > p.remaining {
		return false
	}
	if p.remaining -= n; p.remaining == 0 {
		p.contentEnd()
	}
	return true
}

// EOF says that the connection ended, and reports whether the response is
// complete by that.
func (p *ResponseFramer) EOF() bool {
	if p.state == inClose {
		p.state = complete
	}
	return p.state == complete
}

// Final reports whether the final status is known: the head is complete.
func (p *ResponseFramer) Final() bool { return p.state >= inLength }

// Wants is how many more bytes of content are known to come.
func (p *ResponseFramer) Wants() int64 {
	if p.state == inLength || p.state == inChunk {
		return p.remaining
	}
	return 0
}

// Persists reports whether the connection may carry another exchange, as far
// as the complete response says (RFC 9112 section 9.3). Where the framing was
// dubious it says no.
func (p *ResponseFramer) Persists() bool {
	switch {
	case p.close, p.delimitedByClosing, p.status == 101, p.coded && p.sized:
		return false
	case p.minor == 0:
		return p.keepAlive && !p.coded
	}
	return true
}

// line cuts the next line off b. It returns the line without its end, and its
// length with it, or 0 if it is incomplete.
func (p *ResponseFramer) line(b []byte) (line []byte, n int, err error) {
	limit := MaxResponseHead - p.headN
	framing := p.state == inSize || p.state == inEnd
	if framing {
		limit = maxChunkLine
	}
	i := bytes.IndexByte(b[p.scanned:], '\n')
	if i < 0 {
		if p.scanned = len(b); p.scanned >= limit {
			return nil, 0, errTooLarge
		}
		return nil, 0, nil
	}
	i += p.scanned
	p.scanned = 0
	if i >= limit {
		return nil, 0, errTooLarge
	}
	line, n = b[:i], i+1
	if i > 0 && line[i-1] == '\r' {
		line = line[:i-1]
	} else if p.state >= inSize {
		// Only heads may end lines with a bare LF (RFC 9112 sections 2.2 and
		// 7.1).
		return nil, 0, errResponseLine
	}
	if !framing {
		p.headN += n
	}
	return line, n, nil
}

// take uses one line.
func (p *ResponseFramer) take(line []byte) error {
	switch p.state {
	case inStatusLine:
		return p.statusLine(line)
	case inFields:
		if len(line) == 0 {
			p.headEnd()
			return nil
		}
		return p.field(line)
	case inSize:
		return p.chunkSize(line)
	case inEnd:
		if len(line) != 0 {
			return errChunkData
		}
		p.state = inSize
	case inTrailer:
		switch colon := bytes.IndexByte(line, ':'); {
		case len(line) == 0:
			p.state = complete
		case line[0] == ' ', line[0] == '\t':
			p.keep.fold(line)
		case colon <= 0:
			return errResponseField
		default:
			p.keep.field(line, colon, true)
		}
	}
	return nil
}

// statusLine takes "HTTP/1.x SP status-code [SP reason]" (RFC 9112 section 4;
// the last space is often missing).
func (p *ResponseFramer) statusLine(line []byte) error {
	const prefix = "HTTP/1."
	if len(line) < len("HTTP/1.1 200") || string(line[:len(prefix)]) != prefix ||
		!isDigit(line[7]) || line[8] != ' ' ||
		line[9] < '1' || line[9] > '9' || !isDigit(line[10]) || !isDigit(line[11]) ||
		len(line) > 12 && line[12] != ' ' {
		return errStatusLine
	}
	p.keep.restart()
	p.minor = line[7] - '0'
	p.status = int(line[9]-'0')*100 + int(line[10]-'0')*10 + int(line[11]-'0')
	p.state = inFields
	return nil
}

// field takes a field line. Fields are told apart by length first: most are
// none of those that matter.
func (p *ResponseFramer) field(line []byte) error {
	if line[0] == ' ' || line[0] == '\t' {
		if !p.foldable {
			return errFolded
		}
		p.keep.fold(line)
		return nil
	}
	p.foldable = true
	colon := bytes.IndexByte(line, ':')
	if colon <= 0 || line[colon-1] == ' ' || line[colon-1] == '\t' {
		return errResponseField
	}
	p.keep.field(line, colon, false)
	switch name := line[:colon]; colon {
	case len("Connection"):
		if equalFold(name, "connection") {
			p.foldable = false
			p.close = p.close || hasListToken(line[colon+1:], "close")
			p.keepAlive = p.keepAlive || hasListToken(line[colon+1:], "keep-alive")
		}
	case len("Content-Length"):
		if equalFold(name, "content-length") {
			p.foldable = false
			n, ok := parseLength(trimOWS(line[colon+1:]))
			if !ok || p.sized && n != p.length {
				return errLength
			}
			p.sized, p.length = true, n
		}
	case len("Transfer-Encoding"):
		if equalFold(name, "transfer-encoding") {
			p.foldable = false
			p.coded = true
			value := line[colon+1:]
			p.chunked = isChunked(trimOWS(value[bytes.LastIndexByte(value, ',')+1:]))
		}
	}
	return nil
}

// headEnd decides how the content is delimited, in the order of RFC 9112
// section 6.3.
func (p *ResponseFramer) headEnd() {
	if p.status < 200 && p.status != 101 {
		// Interim. The bound of the head holds for all of them together.
		*p = ResponseFramer{toHEAD: p.toHEAD, keep: p.keep, headN: p.headN}
		return
	}
	p.keep.finalHead(p.status)
	switch {
	case p.toHEAD, p.status == 101, p.status == 204, p.status == 304:
		p.state = complete
	case p.coded && p.minor >= 1:
		p.state = inSize
		if !p.chunked {
			p.untilClose()
		}
	case p.sized:
		p.state, p.remaining = inLength, p.length
	default:
		p.untilClose()
	}
}

func (p *ResponseFramer) untilClose() {
	p.state, p.delimitedByClosing = inClose, true
}

// contentEnd moves on behind content or chunk data.
func (p *ResponseFramer) contentEnd() {
	if p.state == inChunk {
		p.state = inEnd
		return
	}
	p.state = complete
}

// chunkSize takes "chunk-size [chunk-ext]" (RFC 9112 section 7.1).
func (p *ResponseFramer) chunkSize(line []byte) error {
	if i := bytes.IndexByte(line, ';'); i >= 0 {
		line = line[:i]
	}
	line = bytes.TrimRight(line, " \t")
	if len(line) == 0 || len(line) > 15 { // fits an int64
		return errChunkSize
	}
	var n int64
	for _, c := range line {
		switch {
		case isDigit(c):
			c -= '0'
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			c = c | 0x20 - 'a' + 10
		default:
			return errChunkSize
		}
		n = n<<4 | int64(c)
	}
	p.state, p.remaining = inChunk, n
	if n == 0 {
		p.state, p.headN = inTrailer, 0
	}
	return nil
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// isChunked reports whether a transfer coding is chunked, without case.
func isChunked(coding []byte) bool {
	return len(coding) == len("chunked") && equalFold(coding, "chunked")
}
