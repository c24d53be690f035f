package httpstream

import (
	"bytes"
	"errors"
	"fmt"
)

// connectionFields are the facts of a head that decide framing and the fate
// of the connection.
type connectionFields struct {
	hosts, lengths, codings int
	length                  int64
	upgrade                 bool // an Upgrade field
	upgradeOption           bool // "upgrade" in Connection
	h2c                     bool // the only protocol asked for is h2c
	close, keepAlive        bool // in Connection
	last                    bool // the connection ends with this message
	connect                 bool // the method
	minor                   uint8
}

// What makes a message invalid. Each is worded for the log line that names
// the connection. Behind errValue and errFields the framing is as it would be
// without: a proxy may pass such a message on among those of other clients.
var (
	errNotHTTP       = errors.New("request line without an HTTP version")
	errRequestLine   = errors.New("malformed request line")
	errTarget        = errors.New("request target is neither a path, an absolute URI nor *")
	errVersion       = errors.New("unsupported HTTP version")
	errBareLF        = errors.New("line ends with LF, CRLF expected")
	errFieldLine     = errors.New("malformed field line")
	errValue         = errors.New("control character in a field value")
	errFolding       = errors.New("obsolete line folding")
	errFields        = fmt.Errorf("more than %d field lines", maxFields)
	errHosts         = errors.New("several Host fields")
	errLengthValue   = errors.New("malformed Content-Length")
	errLengths       = errors.New("several Content-Length fields")
	errLengthCoding  = errors.New("Content-Length and Transfer-Encoding together")
	errCoding        = errors.New("transfer coding other than a single chunked")
	errCodingVersion = errors.New("Transfer-Encoding in HTTP/1.0")
	errChunkLine     = errors.New("malformed chunk size")
	errChunkEnd      = errors.New("chunk data not followed by CRLF")
	errChunkOverhead = errors.New("more chunk framing than content")
	errTrailer       = errors.New("framing field in trailers")
	errBehindLast    = errors.New("bytes behind a request that closes the connection")
	errNoMemory      = errors.New("no memory for more fields") // not invalid
)

// line collects bytes up to and with the next LF. It returns the whole line
// once it is complete, how many bytes of b belong to it, and whether it
// exceeds max bytes. If the message cannot hold it the framing is lost.
func (p *RequestParser) line(b []byte, max int) (line []byte, n int, tooLong bool) {
	n = bytes.IndexByte(b, '\n') + 1
	complete := n > 0
	if !complete {
		n = len(b)
	}
	if p.lineLen+n > max {
		return nil, n, true
	}
	p.lineLen += n
	switch whole := complete && p.lineLen == n; {
	case p.req != nil && p.store(b[:n]):
		line = p.req.raw[p.lineAt:]
	case whole:
		line = b[:n]
	// Followed only for its framing: keep just what is split. What the
	// message could not hold is lost if it is a part of a line.
	case p.spill == nil && p.lineLen > n, !p.spillOver(b[:n]):
		p.state = stSeek
		return nil, n, false
	default:
		line = p.spill.raw
	}
	if !complete {
		return nil, n, false
	}
	p.lineLen = 0
	return line, n, false
}

// spillOver keeps a part of a line of a message that is not kept itself. It
// reports false if the budget refuses that.
func (p *RequestParser) spillOver(b []byte) bool {
	if p.spill == nil {
		p.spill = p.cfg.Pool.getRequest(p.source, p.now)
	}
	if p.spill == nil || !p.spill.append(b) {
		p.dropSpill()
		return false
	}
	return true
}

// endLine makes the next byte the first of a new line.
func (p *RequestParser) endLine() {
	p.dropSpill()
	if p.req != nil {
		p.lineAt = len(p.req.raw)
	}
}

// head consumes bytes of the request line and header section.
func (p *RequestParser) head(b []byte) int {
	line, n, tooLong := p.line(b, p.room(p.lineAt))
	if tooLong {
		return p.outgrown(n)
	}
	if line == nil {
		return n
	}
	if err := p.headLine(line); err != nil {
		switch {
		case err == errNoMemory:
			p.drop(NoMemory, nil)
			p.endLine()
		case err == errValue, err == errFields:
			p.drop(Invalid, err)
			p.endLine()
		case err == errNotHTTP && p.fresh && !p.guessed:
			p.drop(Invalid, err)
			p.ignore(NotHTTP)
		case bytes.HasPrefix(line, []byte("PRI ")):
			p.drop(Invalid, err)
			p.ignore(HTTP2)
		default:
			p.refuse(Invalid, err)
		}
		return n
	}
	p.endLine()
	return n
}

// maxFollowed is how long each line may be, in bytes, of a message that is
// followed for its framing alone: as long as all of a head that net/http's
// server takes by default, and with it the proxies that are made of it.
const maxFollowed = 1<<20 + 4<<10

// room is how long a line may be of a head or trailer section of which used
// bytes are there.
func (p *RequestParser) room(used int) int {
	if p.req == nil {
		return p.longest() // nothing is added up
	}
	return p.cfg.MaxHead - used
}

func (p *RequestParser) longest() int { return max(maxFollowed, p.cfg.MaxHead) }

// outgrown drops a message of which the next n bytes, up to the end of a line or
// of what has come, are more than the head or the trailer section may have. It
// is followed on if its lines are not too long each. outgrown returns how many
// of the bytes are done with.
func (p *RequestParser) outgrown(n int) int {
	r := p.req
	if r == nil || p.lineLen+n > p.longest() {
		p.refuse(HeadTooLarge, nil)
		return n
	}
	p.req, p.seen = nil, false
	if p.lineLen == 0 {
		r.Release()
	} else {
		r.raw = r.raw[:copy(r.raw, r.raw[p.lineAt:])]
		p.spill = r
	}
	p.h.Dropped(HeadTooLarge, nil) // last: what it panics on is given back by Abandon
	return 0
}

// headLine takes one complete line of the head.
func (p *RequestParser) headLine(line []byte) error {
	if len(line) < 2 || line[len(line)-2] != '\r' {
		if p.state == stLine && !bytes.Contains(line, []byte("HTTP/")) {
			return errNotHTTP
		}
		return errBareLF
	}
	if p.state == stLine {
		p.state = stHeader
		r := p.req
		if r == nil {
			r = new(Request)
		}
		if err := r.parseRequestLine(line[:len(line)-2]); err != nil {
			return err
		}
		p.conn.minor, p.conn.connect = r.minor, string(line[:r.methodN]) == "CONNECT"
		return nil
	}
	if len(line) == 2 {
		return p.endHead()
	}
	f, err := parseField(line[:len(line)-2], uint32(p.lineAt))
	if err != nil && err != errValue {
		return err
	}
	name, value := line[:f.nameEnd-f.start], line[f.nameEnd-f.start+1:len(line)-2]
	if err == errValue && frames(name, value) {
		return errFieldLine
	}
	if err := p.conn.note(name, value); err != nil {
		return err
	}
	switch {
	case p.req == nil:
		return nil
	case err != nil:
		return err
	case len(p.req.fields) == maxFields:
		return errFields
	case !p.req.addField(&p.req.fields, f):
		return errNoMemory
	}
	return nil
}

// frames reports whether a field decides anything about framing.
func frames(name, value []byte) bool {
	var c connectionFields
	return c.note(name, value) != nil || c != connectionFields{}
}

// parseRequestLine takes "method SP request-target SP HTTP-version"
// (RFC 9112 section 3) with exactly these spaces: a parser that accepts more
// whitespace splits the line elsewhere.
func (r *Request) parseRequestLine(line []byte) error {
	sp1 := bytes.IndexByte(line, ' ')
	sp2 := bytes.LastIndexByte(line, ' ')
	if sp2 < 0 || !bytes.HasPrefix(line[sp2+1:], []byte("HTTP/")) {
		return errNotHTTP
	}
	method := line[:sp1]
	if sp1 == 0 || !all(method, isToken) || sp2 <= sp1+1 || !all(line[sp1+1:sp2], isTarget) {
		return errRequestLine
	}
	if t := line[sp1+1 : sp2]; t[0] != '/' && string(method) != "CONNECT" && string(t) != "*" {
		if _, authority, _, ok := SplitAbsolute(t); !ok || len(authority) == 0 {
			return errTarget
		}
	}
	version := line[sp2+1:]
	if len(version) != len("HTTP/1.1") || version[5] != '1' || version[6] != '.' ||
		version[7] < '0' || version[7] > '9' {
		return errVersion
	}
	r.minor = version[7] - '0'
	r.methodN, r.targetN = uint32(sp1), uint32(sp2-sp1-1)
	r.lineN = uint32(len(line) + 2)
	return nil
}

// parseField takes a field line without its CRLF that begins at offset at of
// the message (RFC 9112 section 5). Together with errValue it returns the field,
// whose value is not valid but ends at no other place for any parser.
func parseField(line []byte, at uint32) (field, error) {
	if line[0] == ' ' || line[0] == '\t' {
		return field{}, errFolding
	}
	colon := 0
	for colon < len(line) && byteClass[line[colon]]&isToken != 0 {
		colon++
	}
	if colon == 0 || colon == len(line) || line[colon] != ':' {
		return field{}, errFieldLine
	}
	value := line[colon+1:]
	var err error
	if !all(value, isValue) {
		if bytes.IndexByte(value, 0) >= 0 || bytes.IndexByte(value, '\r') >= 0 {
			return field{}, errFieldLine
		}
		err = errValue
	}
	start, end := colon+1, len(line)
	for start < end && (line[start] == ' ' || line[start] == '\t') {
		start++
	}
	for end > start && (line[end-1] == ' ' || line[end-1] == '\t') {
		end--
	}
	return field{start: at, nameEnd: at + uint32(colon), valueStart: at + uint32(start), valueEnd: at + uint32(end)}, err
}

// note records the fields that decide framing. They are told apart by length
// first: most fields are none of them. value is what follows the colon. Around
// a length or coding only spaces are taken for whitespace: nginx does not know
// tabs there.
func (c *connectionFields) note(name, value []byte) error {
	switch len(name) {
	case len("Host"):
		if equalFold(name, "host") {
			if c.hosts++; c.hosts > 1 {
				return errHosts
			}
		}
	case len("Upgrade"):
		if equalFold(name, "upgrade") {
			value = trimOWS(value)
			c.h2c = !c.upgrade && len(value) == 3 && equalFold(value, "h2c")
			c.upgrade = true
		}
	case len("Connection"):
		if equalFold(name, "connection") {
			c.upgradeOption = c.upgradeOption || hasListToken(value, "upgrade")
			c.keepAlive = c.keepAlive || hasListToken(value, "keep-alive")
			c.close = c.close || contains(value, "close") // as nginx reads it
		}
	case len("Content-Length"):
		if equalFold(name, "content-length") {
			if c.lengths++; c.lengths > 1 {
				return errLengths
			}
			n, ok := parseLength(bytes.Trim(value, " "))
			if !ok {
				return errLengthValue
			}
			c.length = n
		}
	case len("Transfer-Encoding"):
		if equalFold(name, "transfer-encoding") {
			c.codings++
			value = bytes.Trim(value, " ")
			if c.codings > 1 || len(value) != len("chunked") || !equalFold(value, "chunked") {
				return errCoding
			}
		}
	}
	return nil
}

// parseLength takes a Content-Length value: digits only (RFC 9110
// section 8.6), up to an int64.
func parseLength(v []byte) (int64, bool) {
	if len(v) == 0 {
		return 0, false
	}
	var n int64
	for _, c := range v {
		if c < '0' || c > '9' || n > (1<<63-1-9)/10 {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, true
}

// endHead decides how the body is framed (RFC 9112 section 6.3) and whether
// the connection stays HTTP/1.
func (p *RequestParser) endHead() error {
	c := &p.conn
	switch {
	case c.codings > 0 && c.lengths > 0:
		return errLengthCoding
	case c.codings > 0 && c.minor == 0:
		return errCodingVersion
	}
	if c.connect {
		p.drop(Connect, nil)
		p.ignore(Upgrade)
		return nil
	}
	// RFC 9112 section 9.3. Of two requests sent together the server answers
	// only the first if that says so.
	c.last = c.close || c.minor == 0 && !c.keepAlive
	// An h2c offer (RFC 7540 section 3.2) is usually declined, and what
	// follows then is HTTP/1 again; whether it was is seen from the next
	// bytes. Any other protocol's bytes could be taken for a request.
	c.h2c = c.h2c && c.upgradeOption
	if c.upgrade && c.upgradeOption && !c.h2c {
		p.drop(Upgraded, nil)
		p.ignore(Upgrade)
		return nil
	}
	framing := NoBody
	switch {
	case c.codings > 0:
		framing = Chunked
	case c.lengths > 0:
		framing = ContentLength
	}
	if r := p.req; r != nil {
		r.headN, r.framing = uint32(len(r.raw)), framing
	}
	switch framing {
	case Chunked:
		p.state = stChunkLine
	case ContentLength:
		p.remaining, p.contentN = c.length, c.length
		p.state = stLength
		if c.length > p.cfg.MaxBody {
			p.drop(BodyTooLarge, nil)
		}
		p.bodyAdvanced()
	default:
		p.finish()
	}
	return nil
}
