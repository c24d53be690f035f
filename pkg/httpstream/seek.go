package httpstream

import "bytes"

// sniff decides from the first bytes of a connection whether it carries
// HTTP/1 at all. A request counts as seen only once its method is known to be
// one, so that other protocols do not show up as invalid requests; a method
// that is split between segments is taken on trust.
func (p *RequestParser) sniff(b []byte) int {
	if bytes.HasPrefix(b, []byte("PRI ")) {
		// Reserved so that no HTTP/1 request can begin with it (RFC 9113
		// section 11.5).
		p.ignore(HTTP2)
		return len(b)
	}
	if b[0] == '\r' || b[0] == '\n' {
		p.h.Skipped(1)
		return 1
	}
	i := 0
	for i < len(b) && byteClass[b[i]]&isToken != 0 {
		i++
	}
	if i < len(b) && (i == 0 || b[i] != ' ') {
		p.ignore(p.foreign(b[0]))
		return len(b)
	}
	p.open()
	return 0
}

// foreign names what a connection carries whose first byte is c and which is
// not HTTP.
func (p *RequestParser) foreign(c byte) Protocol {
	switch {
	case p.conn.h2c:
		return Upgrade
	case c == 0x16: // TLS handshake record
		return TLS
	}
	return NotHTTP
}

// seek looks for the start of a message where the boundary is unknown. Only
// the start of a burst of segments qualifies (reassembly.Stream says which do;
// the first one behind a gap does not), and only if it looks like a request
// line: a body could hold anything.
func (p *RequestParser) seek(b []byte, start bool) int {
	switch {
	case start && startsRequest(b):
		p.guessed = true
		p.open()
		return 0
	case start && p.fresh && isTLSData(b):
		p.ignore(TLS)
		return len(b)
	}
	p.fresh = false
	p.h.Skipped(int64(len(b)))
	return len(b)
}

// startsRequest reports whether b begins with a request line, or with as much
// of one as fits b.
func startsRequest(b []byte) bool {
	sp := bytes.IndexByte(b, ' ')
	if sp < 0 || sp == len(b)-1 || !familiar(b[:sp]) {
		return false
	}
	if i := bytes.IndexByte(b, '\n'); i > 0 {
		var r Request
		return b[i-1] == '\r' && r.parseRequestLine(b[:i-1]) == nil
	}
	// The request line is longer than the segment.
	return len(b) >= minLongLine && b[sp+1] == '/' && all(b[sp+1:], isTarget)
}

// familiar reports whether a method is believed without knowing that it is
// preceded by nothing. Where the loss ends inside a method, the rest of it is
// a token like any other ("OST" of POST, "SEARCH" of M-SEARCH), so only
// methods qualify that are not the end of another one in use (PATCH is that of
// PROPPATCH, but common). Requests with other methods are picked up again
// behind the next one that qualifies.
func familiar(method []byte) bool {
	switch string(method) {
	case "GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE",
		"PROPFIND", "REPORT", "MKCOL", "COPY", "MOVE", "PURGE":
		return true
	}
	return false
}

// minLongLine is the least length of a segment that holds only the first part
// of a request line; shorter ones are not worth the risk of a wrong guess.
const minLongLine = 256

// isTLSData reports whether b begins with an application data record
// (RFC 8446 section 5.1), as the first bytes of a connection that was already
// open do when it carries TLS.
func isTLSData(b []byte) bool {
	return len(b) >= 5 && b[0] == 0x17 && b[1] == 3 && b[2] <= 4
}
