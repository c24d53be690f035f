package replay

import (
	"bytes"
	"errors"

	"github.com/shadowtap/shadowtap/pkg/httpstream"
)

var (
	errNoLine      = errors.New("copy without a request line")
	errHeadFraming = errors.New("the copy's head does not announce the body that follows it")
)

// outgoing is what must be known of a copy to understand the answer and the
// fate of the connection.
type outgoing struct {
	toHEAD    bool // the response has no content whatever it announces
	http10    bool
	close     bool // options of Connection
	keepAlive bool
}

// inspect reads a copy's head. Rules may have changed any of it, so it also
// makes sure that the head still announces the body: one that is announced
// short would be taken for the next request, one announced long would make
// the shadow wait for it.
func inspect(head []byte, r *httpstream.Request) (o outgoing, err error) {
	end := bytes.IndexByte(head, '\n')
	if end < len("\r") || !bytes.HasSuffix(head, []byte("\r\n")) {
		return o, errNoLine
	}
	line := head[:end-1]
	o.toHEAD = bytes.HasPrefix(line, []byte("HEAD "))
	o.http10 = bytes.HasSuffix(line, []byte(" HTTP/1.0"))

	var length int64
	lengths, chunked, sane := 0, false, true
	for head = head[end+1:]; len(head) > 0; head = head[end+1:] {
		end = bytes.IndexByte(head, '\n')
		if c := head[0] | 0x20; c != 'c' && c != 't' {
			continue
		}
		colon := bytes.IndexByte(head[:end], ':')
		if colon < 0 {
			continue
		}
		name, value := head[:colon], bytes.TrimSuffix(head[colon+1:end], []byte("\r"))
		switch {
		case equalFold(name, "connection"):
			o.close, o.keepAlive = connectionOptions(value, o.close, o.keepAlive)
		case equalFold(name, "content-length"):
			length, sane = parseLength(trim(value))
			lengths++
		case equalFold(name, "transfer-encoding"):
			chunked = true
		}
	}
	want := int64(0)
	if r.Framing() == httpstream.ContentLength {
		want = r.ContentLen()
	}
	if !sane || lengths > 1 || length != want || chunked != (r.Framing() == httpstream.Chunked) {
		return o, errHeadFraming
	}
	return o, nil
}

// persists reports whether the connection may carry another exchange after
// this request and a response (RFC 9112 section 9.3). A server may close
// after an HTTP/1.0 request without saying so, unless it says keep-alive.
func (o *outgoing) persists(p *httpstream.ResponseFramer) bool {
	if o.close || o.http10 && !(o.keepAlive && p.KeepAlive()) {
		return false
	}
	return p.Persists()
}
