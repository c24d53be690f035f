package e2e

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// idField tells the requests of a test apart, at v1 and at the shadow.
const idField = "X-Id"

// guard is the header field line that marks a copy.
const guard = "x-shadowtap: e2e\r\n"

// message is one HTTP/1 request as it came off the wire. Its framing is read
// by code that shares nothing with the program under test.
type message struct {
	conn int // number of the connection at the server
	raw  []byte
	head int // length of the head, with its empty line
}

// readMessage reads one request. expect is called after a head that asks for
// 100-continue.
func readMessage(r *bufio.Reader, expect func() error) (message, error) {
	var m message
	line := func() (string, error) {
		p, err := r.ReadSlice('\n')
		m.raw = append(m.raw, p...)
		for errors.Is(err, bufio.ErrBufferFull) {
			p, err = r.ReadSlice('\n')
			m.raw = append(m.raw, p...)
		}
		if err != nil && len(m.raw) > 0 {
			err = io.ErrUnexpectedEOF
		}
		return strings.TrimRight(string(p), "\r\n"), err
	}
	bytesOf := func(n int) error {
		at := len(m.raw)
		m.raw = append(m.raw, make([]byte, n)...)
		_, err := io.ReadFull(r, m.raw[at:])
		return err
	}
	for {
		l, err := line()
		if err != nil {
			return m, err
		}
		if l == "" {
			break
		}
	}
	m.head = len(m.raw)
	if strings.EqualFold(m.field("Expect"), "100-continue") {
		if err := expect(); err != nil {
			return m, err
		}
	}
	if !strings.EqualFold(m.field("Transfer-Encoding"), "chunked") {
		if length := m.field("Content-Length"); length != "" {
			n, err := strconv.Atoi(length)
			if err != nil {
				return m, err
			}
			return m, bytesOf(n)
		}
		return m, nil
	}
	for {
		l, err := line()
		if err != nil {
			return m, err
		}
		size, _, _ := strings.Cut(l, ";")
		n, err := strconv.ParseUint(size, 16, 31)
		if err != nil {
			return m, err
		}
		if n == 0 {
			break
		}
		if err := bytesOf(int(n) + 2); err != nil {
			return m, err
		}
	}
	for { // trailers
		if l, err := line(); err != nil || l == "" {
			return m, err
		}
	}
}

// lines are the lines of the head, without CRLF.
func (m message) lines() []string {
	return strings.Split(strings.TrimSuffix(string(m.raw[:m.head]), "\r\n\r\n"), "\r\n")
}

// requestLine returns method, target and version.
func (m message) requestLine() (method, target, version string) {
	part := strings.SplitN(m.lines()[0], " ", 3)
	return part[0], part[1], part[2]
}

func (m message) target() string { _, target, _ := m.requestLine(); return target }

// field is the value of the first field of that name, or "".
func (m message) field(name string) string {
	for _, l := range m.lines()[1:] {
		if n, v, ok := strings.Cut(l, ":"); ok && strings.EqualFold(n, name) {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

func (m message) id() string { return m.field(idField) }

// closes reports whether the connection ends after this request.
func (m message) closes() bool {
	_, _, version := m.requestLine()
	if version == "HTTP/1.0" {
		return !strings.EqualFold(m.field("Connection"), "keep-alive")
	}
	return strings.EqualFold(m.field("Connection"), "close")
}

// copyOf is what the shadow must receive for m, byte for byte: the same
// message with the rewritten target and the guard as its last field.
func copyOf(m message, target string) []byte {
	method, _, version := m.requestLine()
	_, rest, _ := bytes.Cut(m.raw, []byte("\r\n"))
	restHead := m.head - (len(m.raw) - len(rest)) - 2
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s %s\r\n%s%s\r\n%s", method, target, version, rest[:restHead], guard, rest[restHead+2:])
	return b.Bytes()
}

// same is the rewrite of a rule that has none.
func same(target string) string { return target }

// seedRewrite is the rewrite of the seed's rule: the prefix /httpbin to /. An
// absolute-form target keeps its form.
func seedRewrite(target string) string {
	authority, path := "", target
	if i := strings.Index(target, "/httpbin"); strings.HasPrefix(target, "http://") && i > 0 {
		authority, path = target[:i], target[i:]
	}
	return authority + "/" + strings.TrimPrefix(path, "/httpbin")
}

// seedMirrors reports whether the seed's rule takes a request.
func seedMirrors(m message) bool {
	host, _, _ := strings.Cut(strings.ToLower(m.field("Host")), ":")
	path := strings.TrimPrefix(m.target(), "http://www.bookinfo.com")
	return (host == "bookinfo.com" || host == "www.bookinfo.com") && strings.HasPrefix(path, "/httpbin")
}

// request describes a request that a test sends.
type request struct {
	method, target, version string // "" = GET, /httpbin/ID, HTTP/1.1
	host                    string // "" = www.bookinfo.com; "-" = no Host field
	fields                  []string
	body                    string
	chunks                  []string // sent with the chunked coding, each as one chunk
	trailers                []string
}

// bytes is the request on the wire.
func (r request) bytes(id string) []byte {
	or := func(s, without string) string {
		if s == "" {
			return without
		}
		return s
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s %s\r\n", or(r.method, "GET"), or(r.target, "/httpbin/"+id), or(r.version, "HTTP/1.1"))
	if r.host != "-" {
		fmt.Fprintf(&b, "Host: %s\r\n", or(r.host, "www.bookinfo.com"))
	}
	fmt.Fprintf(&b, "%s: %s\r\n", idField, id)
	for _, f := range r.fields {
		fmt.Fprintf(&b, "%s\r\n", f)
	}
	switch {
	case r.chunks != nil:
		b.WriteString("Transfer-Encoding: chunked\r\n\r\n")
		for _, c := range r.chunks {
			fmt.Fprintf(&b, "%x\r\n%s\r\n", len(c), c)
		}
		b.WriteString("0\r\n")
		for _, t := range r.trailers {
			fmt.Fprintf(&b, "%s\r\n", t)
		}
		b.WriteString("\r\n")
	case r.body != "" || r.method == "POST" || r.method == "PUT":
		fmt.Fprintf(&b, "Content-Length: %d\r\n\r\n%s", len(r.body), r.body)
	default:
		b.WriteString("\r\n")
	}
	return b.Bytes()
}
