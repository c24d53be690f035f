package httpstream

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"strconv"
	"testing"
)

// FuzzParser feeds a stream in pieces and compares every request with what
// net/http makes of the same bytes: what we accept net/http accepts, with the
// same method, target, fields, content and trailers, and the next request
// begins where net/http finds it. (We refuse more than net/http does.)
func FuzzParser(f *testing.F) {
	for _, s := range []string{
		"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
		"POST /x?y HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhelloGET / HTTP/1.1\r\nHost: b\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nT: u\r\n\r\nGET / HTTP/1.0\r\n\r\n",
		"PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 0\r\n\r\n",
		"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET http://a:80/b HTTP/1.1\r\nHost: c\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\nPRI * HTTP/2.0\r\n\r\n",
	} {
		f.Add([]byte(s), uint8(3))
		f.Add([]byte(s), uint8(255))
	}
	f.Fuzz(func(t *testing.T, stream []byte, size uint8) {
		b := &budget{}
		rec := &recorder{}
		var p RequestParser
		p.Reset(NewConfig(Config{MaxBody: 1 << 20, Pool: NewPool(b.reserve, b.release)}), rec, true)
		for rest := stream; len(rest) > 0; {
			n := min(int(size)+1, len(rest))
			p.Feed(rest[:n], false, 1)
			rest = rest[n:]
		}
		p.Close(Incomplete)
		if rec.seen != rec.ended {
			t.Fatalf("%d seen, %d ended", rec.seen, rec.ended)
		}
		oracle := bufio.NewReader(bytes.NewReader(stream))
		for i, r := range rec.reqs {
			if rec.events[i][0] != 'r' {
				break // net/http does not go on behind what we drop
			}
			compareWithNetHTTP(t, r, oracle)
		}
		rec.release()
		if b.held != 0 {
			t.Fatalf("%d bytes held at the end", b.held)
		}
	})
}

func compareWithNetHTTP(t *testing.T, r *Request, oracle *bufio.Reader) {
	t.Helper()
	// net/http tolerates no empty lines before a request line; RFC 9112
	// section 2.2 does.
	for {
		c, err := oracle.Peek(1)
		if err != nil || c[0] != '\r' && c[0] != '\n' {
			break
		}
		_, _ = oracle.Discard(1)
	}
	want, err := http.ReadRequest(oracle)
	if err != nil {
		if oracleIsStricter(r) {
			t.Skip()
		}
		t.Fatalf("net/http refuses what we accept: %v\n%q", err, r.raw)
	}
	if string(r.Method()) != want.Method || string(r.Target()) != want.RequestURI {
		t.Fatalf("got %q %q, net/http %q %q", r.Method(), r.Target(), want.Method, want.RequestURI)
	}
	body, err := io.ReadAll(want.Body)
	if err != nil {
		t.Fatalf("net/http refuses the body of what we accept: %v\n%q", err, r.raw)
	}
	if got := r.AppendContent(nil); !bytes.Equal(got, body) || r.ContentLen() != int64(len(body)) {
		t.Fatalf("content %q (%d), net/http %q", got, r.ContentLen(), body)
	}
	fields := http.Header{}
	for i := range r.NumFields() {
		n, v := r.Field(i)
		fields.Add(string(n), string(v))
	}
	fields.Del("Host")
	fields.Del("Transfer-Encoding")
	fields.Del("Trailer")
	for name, values := range want.Header {
		if name == "Pragma" || name == "Cache-Control" || name == "Trailer" {
			continue // net/http adds Cache-Control to Pragma: no-cache
		}
		if len(fields[name]) != len(values) {
			t.Fatalf("field %s: %q, net/http %q", name, fields[name], values)
		}
		for i, v := range values {
			if fields[name][i] != v {
				t.Fatalf("field %s: %q, net/http %q", name, fields[name], values)
			}
		}
	}
	if r.Framing() == ContentLength && want.ContentLength >= 0 {
		v, _ := r.Get("Content-Length")
		if n, _ := strconv.ParseInt(string(v), 10, 64); n != want.ContentLength {
			t.Fatalf("Content-Length %q, net/http %d", v, want.ContentLength)
		}
	}
}

// oracleIsStricter lists what net/http refuses although it frames alike.
func oracleIsStricter(r *Request) bool {
	if r.minor > 1 {
		return true
	}
	for _, c := range r.Target() {
		// net/http parses the target as a URL, which a mirror has no need to.
		if c == '%' || c >= 0x80 || c == '#' || c == '[' || c == ']' {
			return true
		}
	}
	if t := r.Target(); t[0] != '/' && t[0] != '*' {
		return true // forms other than origin-form, and any authority net/url dislikes
	}
	for i := range r.NumFields() {
		// net/http looks into these, we carry them.
		if n, v := r.Field(i); len(n) == len("Trailer") && equalFold(n, "trailer") || len(n) == 4 && equalFold(n, "host") && !plainHost(v) {
			return true
		}
	}
	return false
}

func plainHost(v []byte) bool {
	for _, c := range v {
		if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '.') {
			return false
		}
	}
	return true
}

// FuzzLoss cuts a valid stream anywhere and removes bytes. Whatever is handed
// over must be one of the requests that were sent, and every seen request
// must end.
func FuzzLoss(f *testing.F) {
	f.Add(uint16(10), uint16(5), uint16(60), uint16(20), true)
	f.Add(uint16(100), uint16(500), uint16(0), uint16(0), false)
	f.Fuzz(func(t *testing.T, at1, len1, at2, len2 uint16, known bool) {
		sent := []string{
			"GET /one HTTP/1.1\r\nHost: a\r\n\r\n",
			"POST /two HTTP/1.1\r\nHost: a\r\nContent-Length: 300\r\n\r\n" + string(bytes.Repeat([]byte("0123456789"), 30)),
			"POST /three HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(string(bytes.Repeat([]byte("abc"), 50)), "d", "ef") + "0\r\nT: u\r\n\r\n",
			"GET /four HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n",
		}
		type seg struct {
			data  string
			start bool
		}
		var segs []seg
		for _, s := range sent {
			for at := 0; at < len(s); at += 50 {
				segs = append(segs, seg{s[at:min(at+50, len(s))], at == 0})
			}
		}
		rec := &recorder{}
		var p RequestParser
		p.Reset(NewConfig(Config{}), rec, true)
		pos, lost := 0, int64(0)
		for _, s := range segs {
			for i := 0; i < len(s.data); i++ {
				if pos >= int(at1) && pos < int(at1)+int(len1) || pos >= int(at2) && pos < int(at2)+int(len2) {
					lost++
				} else {
					if lost > 0 {
						n := lost
						if !known {
							n = -1
						}
						p.Gap(n, 1)
						lost = 0
					}
					p.Feed([]byte{s.data[i]}, s.start && i == 0, 1)
				}
				pos++
			}
		}
		p.Close(Incomplete)
		if rec.seen != rec.ended {
			t.Fatalf("%d seen, %d ended", rec.seen, rec.ended)
		}
		next := 0
		for _, r := range rec.reqs {
			found := false
			for ; next < len(sent) && !found; next++ {
				found = string(r.raw) == sent[next]
			}
			if !found {
				t.Fatalf("handed over what was never sent, or twice: %q", r.raw)
			}
		}
		rec.release()
	})
}
