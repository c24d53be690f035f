package httpstream

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
)

// streams makes byte streams such as a hostile client sends: requests of which
// most parts are as they should be, and the others are what parsers were seen
// to disagree about. Every request has a target of its own, also those that
// are hidden in bodies.
type streams struct {
	*rand.Rand
	id int
	b  bytes.Buffer
}

// odd is usually the first of its arguments.
func (s *streams) odd(usual string, others ...string) string {
	if s.IntN(16) > 0 {
		return usual
	}
	return s.any(others...)
}

func (s *streams) any(of ...string) string { return of[s.IntN(len(of))] }

// next returns a stream.
func (s *streams) next() []byte {
	s.b.Reset()
	for range 1 + s.IntN(4) {
		s.request()
	}
	stream := bytes.Clone(s.b.Bytes())
	at := s.IntN(len(stream))
	switch s.IntN(16) {
	case 0:
		stream = stream[:at]
	case 1:
		stream = append(stream[:at], stream[at+1:]...)
	case 2:
		stream[at] = s.any("\r", "\n", "\x00", " ", "\t", ":", "0", "G", ",", "\x0b", "\x7f", "\x80")[0]
	case 3:
		stream = append(stream[:at+1], stream[at:]...)
	}
	return stream
}

func (s *streams) eol() string {
	return s.odd("\r\n", "\n", "\r", "\r\r\n", "\n\r", " \r\n", "\x00\r\n")
}

func (s *streams) put(parts ...string) {
	for _, p := range parts {
		s.b.WriteString(p)
	}
}

func (s *streams) request() {
	s.id++
	path := fmt.Sprintf("/%d", s.id)
	s.put(s.odd("", "\r\n", "\n", "\r", "\r\n\r\n\r\n", " ", "\t", "\x00", "x"))
	s.put(s.odd(s.any("GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD"), "BREW", "M-SEARCH", "get", "G T", "", "G\x00T", "TRACE", "CONNECT", "PRI"))
	s.put(s.odd(" ", "  ", "\t", "\x0b", "", " \r\n "))
	s.put(s.odd(path, path+"?a=b&c", "http://a"+path, "http://a", "http://a?"+path, "http://u@a"+path, "//a"+path, "*", "a:80", path+"#f",
		path+"%41", path+"%zz", path+"\x7f", path+"\xc3\xa4", path+"/../x", path+"\"<>\\^`{|}", path+" x", path+" HTTP/1.1", ""))
	s.put(s.odd(" ", "  ", "\t", ""))
	s.put(s.odd("HTTP/1.1", "HTTP/1.0", "HTTP/1.0", "HTTP/1.2", "HTTP/1.1 ", "HTTP/2.0", "HTTP/1", "HTTP/1.01", "http/1.1", "", "HTTP/0.9", "HTTP/11", "HTTP/1.x"), s.eol())
	s.put(s.odd("Host: a", "Host:a", "Host:\ta", "Host : a", "Host: a\r\nHost: a", "Host:", "HOST: a ", "Hos: a", "Host: a/b", "Host: a b"), s.eol())
	for range s.IntN(6) {
		s.put(s.odd(s.any("Accept: */*", "Cookie: a=b; c=d", "X-A: 1", "Connection: keep-alive"),
			"Connection: close", "connection: Close", "Connection: x-close", "Connection: close, keep-alive", "Connection: keep-alive\r\nConnection: close",
			"Connection: close\r\nConnection: keep-alive", "Connection:", "Connection: TE\r\nTE: trailers", "Connection: Content-Length", "Connection:\tclose",
			"Connection: Upgrade\r\nUpgrade: websocket", "Upgrade: websocket", "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk",
			"Expect: 100-continue", "Expect: x", "Trailer: T", "X-B:", "X-C : 1", ": x", "X D: 1", "X_E: 1", "X-F: a\x00b", "X-G: a\rb", "X-H: a\nX-I: b",
			"X-J: \x80\xff", "X-K: a\x01b", "X-L: a\x0bb", "NoColon", " folded: x", "\tfolded", "X-M: a\r\n folded", "Transfer_Encoding: chunked", "Content_Length: 5",
			"Content-Length: 0", "Transfer-Encoding: identity", "X-N: "+strings.Repeat("n", 900)), s.eol())
	}
	body := s.any("", "hello", "GET /in-a-body-"+path[1:]+" HTTP/1.1\r\nHost: a\r\n\r\n", "0\r\n\r\n", "\r\n")
	switch s.IntN(3) {
	case 0:
		s.put(s.eol())
	case 1:
		s.length(len(body))
		s.put(s.odd("", "Transfer-Encoding: chunked\r\n", "Transfer-Encoding: x\r\n", "Transfer-Encoding:\x0bchunked\r\n"), s.eol(), body)
	case 2:
		s.put(s.odd("", "Content-Length: 3\r\n", "Content-Length: 0\r\n"))
		s.put(s.odd("Transfer-Encoding", "transfer-encoding", "Transfer-Encoding ", "Transfer-Encoding\t", "Transfer_Encoding", "X: y\rTransfer-Encoding", "X: y\nTransfer-Encoding"), s.odd(": ", ":", ":\t", ":  ", ":\x0b", " : ", ":\r\n "))
		s.put(s.odd("chunked", "Chunked", "chunked ", "chunked\t", "xchunked", "chunkedx", "chunked, chunked", "gzip, chunked", "chunked, identity", "identity",
			"\"chunked\"", "chunked;q=1", "", "chunked\x00", "chunked,", ",chunked", "chunked\r\nTransfer-Encoding: chunked", "chunked\r\nTransfer-Encoding: identity"), s.eol(), s.eol())
		s.chunks(body)
	}
}

func (s *streams) length(n int) {
	d := fmt.Sprint(n)
	s.put(s.odd("Content-Length", "content-length", "Content-Length ", "Content-length\t", "Content_Length", "Content-Length\x00"), s.odd(": ", ":", ":\t", ":  ", " : ", ":\r\n "))
	s.put(s.odd(d, "+"+d, "-"+d, "0"+d, "0x"+d, d+" ", d+"\t", d+","+d, d+", "+d, d+" "+d, d+";", d+"\x00", d+".0", "",
		fmt.Sprint(n+1), fmt.Sprint(max(0, n-1)), "18446744073709551616", "9223372036854775807", "9223372036854775808", strings.Repeat("0", 30)+d), s.eol())
	s.put(s.odd("", "Content-Length: "+d+"\r\n", "Content-Length: 0\r\n", "Content-Length: 1000\r\n"))
}

func (s *streams) chunks(body string) {
	for len(body) > 0 {
		n := min(1+s.IntN(20), len(body))
		d := fmt.Sprintf("%x", n)
		s.put(s.odd(d, strings.ToUpper(d), "000"+d, strings.Repeat("0", 15)+d, strings.Repeat("0", 40)+d, d+";x=y", d+";x=\"\r\n\"", d+";\x00", d+" ", " "+d, d+"\t;x", "+"+d, "-"+d, "0x"+d,
			"1000000000000000"+d, "ffffffffffffffff", "7fffffffffffffff", d+",", "", d+";a\nb", d+"\x00"), s.eol())
		s.put(body[:n], s.odd("\r\n", "\n", "", "\r", "x\r\n", "\r\n\r\n"))
		body = body[n:]
	}
	s.put(s.odd("0", "00", "0;x", "0 ", "-0", "", "0x0"), s.eol())
	for range s.IntN(2) {
		s.put(s.odd("T: u", "Content-Length: 5", "Host: b", "Transfer-Encoding: chunked", " folded", "NoColon", "T : u", ": u", "X-A: a\x00b"), s.eol())
	}
	s.put(s.eol())
}
