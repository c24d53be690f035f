package httpstream

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"
)

// outcome of framing a response.
type framed struct {
	Status   int
	N        int  // bytes it consists of
	Complete bool // with the end of the stream, if Closed
	Closed   bool // only the end of the stream completed it
	Persists bool
	Err      error
}

// frameResponse parses b in pieces of the given size, as exchange does.
func frameResponse(b []byte, toHEAD bool, piece int) (f framed) {
	var p ResponseFramer
	p.Reset(toHEAD, nil)
	for have := 0; !p.Complete() && f.Err == nil; {
		if have == len(b) {
			f.Closed = true
			f.Complete = p.EOF()
			break
		}
		have = min(have+piece, len(b))
		var n int
		n, f.Err = p.Parse(b[f.N:have])
		f.N += n
	}
	if f.Err != nil {
		return framed{Err: f.Err}
	}
	f.Complete = p.Complete()
	if !f.Complete {
		return framed{}
	}
	f.Status, f.Persists = p.Status(), p.Persists()
	return f
}

func TestResponse(t *testing.T) {
	type is = framed
	whole := func(status int, persists bool) is { return is{Status: status, Complete: true, Persists: persists} }
	closed := func(status int) is { return is{Status: status, Complete: true, Closed: true} }
	const head = "HTTP/1.1 200 OK\r\n"
	tests := []struct {
		name, raw string
		want      framed // N: all of raw
	}{
		{"length", head + "Content-Length: 5\r\n\r\nhello", whole(200, true)},
		{"length 0", head + "Content-Length: 0\r\n\r\n", whole(200, true)},
		{"length twice", head + "Content-Length: 1\r\ncontent-length:1\r\n\r\nx", whole(200, true)},
		{"chunked", head + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n00a;x=\"y\"\r\n0123456789\r\n0\r\n\r\n", whole(200, true)},
		{"trailers", head + "Transfer-Encoding: Chunked\r\n\r\n1\r\nx\r\n000\r\nA: b\r\nC: d\r\n\r\n", whole(200, true)},
		{"chunked last", head + "Transfer-Encoding: gzip, chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n", whole(200, true)},
		{"chunked and length", head + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n", whole(200, false)},
		{"until close", head + "\r\nwhatever", closed(200)},
		{"until close, empty", head + "\r\n", closed(200)},
		{"other coding", head + "Transfer-Encoding: gzip\r\nContent-Length: 1\r\n\r\nwhatever", closed(200)},
		{"chunked not last", head + "Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n\r\nwhatever", closed(200)},
		{"1.0 coding", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n", closed(200)},
		{"1.0 coding and length", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\nx", whole(200, false)},
		{"204", "HTTP/1.1 204 No Content\r\nContent-Length: 9\r\n\r\n", whole(204, true)},
		{"304", "HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n", whole(304, true)},
		{"101", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", whole(101, false)},
		{"interim", "HTTP/1.1 100 Continue\r\nContent-Length: 4\r\n\r\nHTTP/1.1 103 Early\r\nConnection: close\r\n\r\n" + head + "Content-Length: 1\r\n\r\nx", whole(200, true)},
		{"no reason", "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", whole(200, true)},
		{"empty reason", "HTTP/1.1 599 \r\nContent-Length: 0\r\n\r\n", whole(599, true)},
		{"bare LF", "HTTP/1.1 200 OK\nContent-Length: 1\n\nx", whole(200, true)},
		{"close", head + "Connection: x, Close\r\nContent-Length: 0\r\n\r\n", whole(200, false)},
		{"close and keep-alive", head + "Connection: keep-alive\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", whole(200, false)},
		{"1.0", "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", whole(200, false)},
		{"1.0 keep-alive", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n", whole(200, true)},
		{"folded", head + "X: a\r\n b\r\nContent-Length: 0\r\n\r\n", whole(200, true)},

		{"cut in the status line", "HTTP/1.1 20", is{}},
		{"cut in the head", head + "Content-Length: 1\r\n", is{}},
		{"cut in the content", head + "Content-Length: 2\r\n\r\nx", is{}},
		{"cut in a chunk", head + "Transfer-Encoding: chunked\r\n\r\n2\r\nx", is{}},
		{"cut in the trailers", head + "Transfer-Encoding: chunked\r\n\r\n0\r\nA: b\r\n", is{}},
		{"only interim", "HTTP/1.1 100 Continue\r\n\r\n", is{}},

		{"garbage", "\x00\x01\x02\n", is{Err: errStatusLine}},
		{"SSH", "SSH-2.0-OpenSSH_9.2p1\r\n", is{Err: errStatusLine}},
		{"HTTP/2", "HTTP/2.0 200 OK\r\n\r\n", is{Err: errStatusLine}},
		{"status 99", "HTTP/1.1 099 OK\r\n\r\n", is{Err: errStatusLine}},
		{"status 2000", "HTTP/1.1 2000 OK\r\n\r\n", is{Err: errStatusLine}},
		{"blank line first", "\r\n" + head, is{Err: errStatusLine}},
		{"no colon", head + "garbage\r\n\r\n", is{Err: errResponseField}},
		{"no name", head + ": x\r\n\r\n", is{Err: errResponseField}},
		{"space in name", head + "Content-Length : 1\r\n\r\n", is{Err: errResponseField}},
		{"folded at once", head + " x\r\n\r\n", is{Err: errFolded}},
		{"folded length", head + "Content-Length: 1\r\n 2\r\n\r\n", is{Err: errFolded}},
		{"negative length", head + "Content-Length: -1\r\n\r\n", is{Err: errLength}},
		{"empty length", head + "Content-Length:\r\n\r\n", is{Err: errLength}},
		{"huge length", head + "Content-Length: 99999999999999999999\r\n\r\n", is{Err: errLength}},
		{"two lengths", head + "Content-Length: 1\r\nContent-Length: 2\r\n\r\n", is{Err: errLength}},
		{"chunk size", head + "Transfer-Encoding: chunked\r\n\r\nx\r\n", is{Err: errChunkSize}},
		{"no chunk size", head + "Transfer-Encoding: chunked\r\n\r\n\r\n", is{Err: errChunkSize}},
		{"huge chunk size", head + "Transfer-Encoding: chunked\r\n\r\n1000000000000000\r\n", is{Err: errChunkSize}},
		{"chunk size with LF", head + "Transfer-Encoding: chunked\r\n\r\n1\nx\r\n", is{Err: errResponseLine}},
		{"trailers with LF", head + "Transfer-Encoding: chunked\r\n\r\n0\r\nA: b\n\r\n", is{Err: errResponseLine}},
		{"chunk too long", head + "Transfer-Encoding: chunked\r\n\r\n1\r\nxy\r\n", is{Err: errChunkData}},
		{"endless line", "HTTP/1.1 200 " + strings.Repeat("x", MaxResponseHead), is{Err: errTooLarge}},
		{"endless head", head + strings.Repeat("A: b\r\n", MaxResponseHead/6), is{Err: errTooLarge}},
		{"endless interim", strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", MaxResponseHead/25+1), is{Err: errTooLarge}},
		{"endless extension", head + "Transfer-Encoding: chunked\r\n\r\n1;" + strings.Repeat("x", maxChunkLine), is{Err: errTooLarge}},
		{"endless trailers", head + "Transfer-Encoding: chunked\r\n\r\n0\r\n" + strings.Repeat("A: b\r\n", MaxResponseHead/6+1), is{Err: errTooLarge}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			want := test.want
			if want.Complete {
				want.N = len(test.raw)
			}
			for _, piece := range []int{1, 2, 7, 1 << 20} {
				if got := frameResponse([]byte(test.raw), false, piece); got != want {
					t.Errorf("in pieces of %d: %+v, want %+v", piece, got, want)
				}
			}
		})
	}
	t.Run("to HEAD", func(t *testing.T) {
		raw := head + "Content-Length: 5\r\n\r\n"
		want := whole(200, true)
		want.N = len(raw)
		if got := frameResponse([]byte(raw+"HTTP"), true, 1<<20); got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
	})
}

// oracle frames a response with net/http.
func oracle(b []byte, toHEAD bool) (f framed, keep bool, err error) {
	request := &http.Request{Method: "GET"}
	if toHEAD {
		request.Method = "HEAD"
	}
	src := bytes.NewReader(b)
	br := bufio.NewReader(src)
	for {
		r, err := http.ReadResponse(br, request)
		if err != nil {
			return framed{}, false, err
		}
		if r.StatusCode >= 100 && r.StatusCode < 200 && r.StatusCode != 101 {
			continue
		}
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return framed{}, false, err
		}
		return framed{Status: r.StatusCode, N: len(b) - src.Len() - br.Buffered()}, !r.Close, nil
	}
}

// FuzzResponse: how the bytes arrive makes no difference; and what we take for
// a complete response net/http does, too, with the same status and end, except
// where it is known to be stricter. We never keep a connection it would not.
func FuzzResponse(f *testing.F) {
	const head = "HTTP/1.1 200 OK\r\n"
	for _, s := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 12\r\n\r\nHello, world",
		head + "Transfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nA: b\r\n\r\nHTTP/1.1",
		head + "Connection: close\r\n\r\nrest",
		"HTTP/1.0 404 Not Found\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nxy",
		"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 304 x\r\n\r\n",
		head + "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
		head + "A: b\n c\r\nContent-Length: 3, 3\r\n\r\n",
	} {
		f.Add([]byte(s), false, uint8(3))
		f.Add([]byte(s), true, uint8(1))
	}
	f.Fuzz(func(t *testing.T, b []byte, toHEAD bool, piece uint8) {
		if len(b) > 1<<16 {
			return
		}
		got := frameResponse(b, toHEAD, 1<<20)
		if again := frameResponse(b, toHEAD, int(piece)+1); again != got {
			t.Fatalf("in pieces of %d: %+v; at once: %+v", int(piece)+1, again, got)
		}
		want, keep, err := oracle(b, toHEAD)
		if err != nil {
			if got.Complete && !stricter(err) {
				t.Fatalf("%+v, but net/http: %v", got, err)
			}
			return
		}
		if !got.Complete {
			if !lenient(b, got.Err) {
				t.Fatalf("%+v, but net/http: %+v", got, want)
			}
			return
		}
		if got.Status != want.Status || got.N != want.N {
			t.Fatalf("%+v, net/http: %+v", got, want)
		}
		if got.Persists && !keep {
			t.Fatalf("%+v, net/http closes", got)
		}
		if keep && !got.Persists && got.Status != 101 && !bytes.Contains(bytes.ToLower(b), []byte("transfer-encoding")) {
			t.Fatalf("%+v, net/http keeps the connection", got)
		}
	})
}

// stricter reports whether net/http refused something that does not matter to
// framing, or that RFC 9112 has a rule for.
func stricter(err error) bool {
	for _, s := range []string{
		"malformed MIME header",              // octets in names and values
		"unsupported transfer encoding",      // other than chunked alone: RFC 9112 section 6.3 rule 4
		"too many transfer encodings",        // the same
		"too much non-data",                  // MaxResponse bounds it here
		"suspiciously long trailer",          // it has to fit its buffer
		"invalid CR in chunked line",         // in an extension
		"bad trailer key", "invalid trailer", // only announced
		"bad Content-Length", // of what we do not need it for
	} {
		if strings.Contains(err.Error(), s) {
			return true
		}
	}
	return false
}

// lenient reports whether net/http accepts what we refuse for a reason.
func lenient(b []byte, err error) bool {
	switch err {
	case errStatusLine: // several spaces, HTTP/2.0, a status below 100
		return true
	case errResponseField: // space in or behind a name
		return true
	case errFolded: // of a field that frames
		return true
	case errResponseLine: // of a trailer
		return true
	case errTooLarge:
		return len(b) > maxChunkLine
	}
	return false
}
