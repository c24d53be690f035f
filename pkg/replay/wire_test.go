package replay

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const get = "GET /x HTTP/1.1\r\nHost: a\r\n\r\n"

// post is a request with n bytes of content.
func post(n int) string {
	return "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: " + itoa(n) + "\r\n\r\n" + strings.Repeat("0123456789abcdef", n/16+1)[:n]
}

func itoa(n int) string {
	if n < 10 {
		return string(rune('0' + n))
	}
	return itoa(n/10) + itoa(n%10)
}

// TestBytes: what the shadow receives is the head from the Shaper, Extra, and
// the body as it was captured.
func TestBytes(t *testing.T) {
	chunked := "5;ext=\"a;b\"\r\nhello\r\n0000A\r\n0123456789\r\n0\r\nX-Sum: 1\r\n\r\n"
	tests := map[string]struct{ head, body string }{
		"plain":      {"GET //a/../b?q=%2F HTTP/1.1\r\nhOsT: a\r\nX:  padded \r\n", ""},
		"length":     {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n", "h\x00\r\n!"},
		"length 0":   {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n", ""},
		"chunked":    {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n", chunked},
		"HTTP/1.0":   {"GET / HTTP/1.0\r\nConnection: keep-alive\r\n", ""},
		"HEAD":       {"HEAD / HTTP/1.1\r\nHost: a\r\n", ""},
		"expect":     {"PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n", "abc"},
		"joined":     {"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 16000\r\n", strings.Repeat("x", 16000)},
		"apart":      {"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 17000\r\n", strings.Repeat("y", 17000)},
		"large":      {"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 9000000\r\n", strings.Repeat("0123456789", 900000)},
		"large head": {"GET / HTTP/1.1\r\nHost: a\r\nCookie: " + strings.Repeat("c", 100000) + "\r\n", ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			modes(t, func(t *testing.T, cfg Config) {
				want := []byte(test.head + "x-shadowtap: me\r\n\r\n" + test.body)
				received := make(chan []byte, 1)
				s := newShadow(t, func(p *peer) {
					b := make([]byte, 2*len(want))
					for range 2 {
						if _, err := io.ReadFull(p, b[:len(want)]); err != nil {
							t.Errorf("reading the copy: %v", err)
						}
						if !bytes.Equal(b[:len(want)], want) {
							t.Errorf("received %.200q, want %.200q", b[:len(want)], want)
						}
						p.say("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n")
					}
					rest, err := io.ReadAll(p)
					if err != nil {
						t.Errorf("behind the copies: %v", err)
					}
					received <- rest
				})
				cfg.Endpoints = []Endpoint{s.endpoint()}
				cfg.Extra = []byte("x-shadowtap: me\r\n")
				c := newClient(t, cfg)
				for range 2 { // the second on the same connection
					r := c.do(test.head + "\r\n" + test.body)
					if r.Outcome != Answered2xx || r.Sent != int64(len(want)) || r.Unsent || r.Partial {
						t.Fatalf("%+v", r)
					}
					c.settled()
				}
				c.Drain(t.Context())
				if rest := <-received; len(rest) > 0 {
					t.Errorf("received more: %.200q", rest)
				}
				if s := c.Stats(); s.Dials != 1 || s.BytesSent != 2*uint64(len(want)) {
					t.Errorf("dials %d, want 1; sent %d, want %d", s.Dials, s.BytesSent, 2*len(want))
				}
			})
		})
	}
}

func TestInspect(t *testing.T) {
	body := "POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello"
	chunked := "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
	bare := "GET / HTTP/1.1\r\n\r\n"
	tests := []struct {
		name, head, of string
		want           outgoing
		err            error
	}{
		{"plain", "GET / HTTP/1.1\r\nHost: a\r\n", bare, outgoing{}, nil},
		{"no fields", "GET / HTTP/1.1\r\n", bare, outgoing{}, nil},
		{"HEAD", "HEAD / HTTP/1.1\r\n", bare, outgoing{toHEAD: true}, nil},
		{"a method like it", "HEADER / HTTP/1.1\r\n", bare, outgoing{}, nil},
		{"1.0", "GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n", bare, outgoing{http10: true, keepAlive: true}, nil},
		{"close", "GET / HTTP/1.1\r\ncOnnection:foo , CLOSE\r\n", bare, outgoing{close: true}, nil},
		{"length", "POST / HTTP/1.1\r\nContent-Length: 5 \r\n", body, outgoing{}, nil},
		{"coding", "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n", chunked, outgoing{}, nil},
		{"length of nothing", "GET / HTTP/1.1\r\nContent-Length: 0\r\n", bare, outgoing{}, nil},
		{"length removed", "POST / HTTP/1.1\r\n", body, outgoing{}, errHeadFraming},
		{"length changed", "POST / HTTP/1.1\r\nContent-Length: 4\r\n", body, outgoing{}, errHeadFraming},
		{"length twice", "POST / HTTP/1.1\r\nContent-Length: 4\r\nContent-Length: 5\r\n", body, outgoing{}, errHeadFraming},
		{"length mangled", "POST / HTTP/1.1\r\nContent-Length: x\r\n", body, outgoing{}, errHeadFraming},
		{"length invented", "GET / HTTP/1.1\r\nContent-Length: 1\r\n", bare, outgoing{}, errHeadFraming},
		{"coding removed", "POST / HTTP/1.1\r\n", chunked, outgoing{}, errHeadFraming},
		{"coding invented", "POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n", body, outgoing{}, errHeadFraming},
		{"empty", "", bare, outgoing{}, errNoLine},
		{"bare LF", "\n", bare, outgoing{}, errNoLine},
		{"no line end", "GET / HTTP/1.1", bare, outgoing{}, errNoLine},
		{"short lines", "GET / HTTP/1.1\r\nc:\nc\nt\n\n\r\n", bare, outgoing{}, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := request(t, test.of)
			defer r.Release()
			got, err := inspect([]byte(test.head), r)
			if err != test.err {
				t.Fatalf("error %v, want %v", err, test.err)
			}
			if err == nil {
				if d := cmp.Diff(test.want, got, cmp.AllowUnexported(outgoing{})); d != "" {
					t.Error(d)
				}
			}
		})
	}
}
