package httpstream

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"
)

// discard is a Handler that gives every request back at once.
type discard struct{ n int }

func (d *discard) Seen()                 {}
func (d *discard) Request(r *Request)    { d.n++; r.Release() }
func (d *discard) Dropped(Reason, error) {}
func (d *discard) Ignore(Protocol)       {}
func (d *discard) Skipped(int64)         {}

// typical is a request as a browser sends it behind a proxy.
var typical = []byte("GET /api/v1/products/42/reviews?page=3&sort=newest HTTP/1.1\r\n" +
	"Host: www.bookinfo.com\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n" +
	"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\nAccept-Language: en-US,en;q=0.5\r\n" +
	"Accept-Encoding: gzip, deflate, br\r\nCookie: session=9f86d081884c7d659a2feaa0c55ad015; theme=dark\r\n" +
	"X-Request-Id: 7d3e1c1e-4f53-4c1e-9d7d-0a6b7c5f2e11\r\nX-Forwarded-For: 203.0.113.7\r\nX-Forwarded-Proto: https\r\nConnection: keep-alive\r\n\r\n")

func TestNoAllocations(t *testing.T) {
	var p RequestParser
	p.Reset(NewConfig(Config{}), &discard{}, true)
	if n := testing.AllocsPerRun(1000, func() { p.Feed(typical, true, 1) }); n > 0.1 {
		t.Errorf("%.2f allocations per request, want none", n)
	}
}

func BenchmarkParser(b *testing.B) {
	for name, body := range map[string]int{"get": 0, "post1K": 1 << 10, "post64K": 64 << 10} {
		b.Run(name, func(b *testing.B) {
			raw := typical
			if body > 0 {
				raw = []byte("POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: " + itoa(body) + "\r\n\r\n" + strings.Repeat("x", body))
			}
			var p RequestParser
			d := &discard{}
			p.Reset(NewConfig(Config{}), d, true)
			b.ReportAllocs()
			b.SetBytes(int64(len(raw)))
			for b.Loop() {
				p.Feed(raw, true, 1)
			}
			if d.n == 0 {
				b.Fatal("nothing was parsed")
			}
		})
	}
}

// BenchmarkNetHTTP is the standard library on the same bytes.
func BenchmarkNetHTTP(b *testing.B) {
	src := bytes.NewReader(typical)
	br := bufio.NewReader(src)
	b.ReportAllocs()
	b.SetBytes(int64(len(typical)))
	for b.Loop() {
		src.Reset(typical)
		br.Reset(src)
		r, err := http.ReadRequest(br)
		if err != nil {
			b.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, r.Body)
	}
}

func itoa(n int) string {
	var s []byte
	for ; n > 0; n /= 10 {
		s = append([]byte{byte('0' + n%10)}, s...)
	}
	return string(s)
}
