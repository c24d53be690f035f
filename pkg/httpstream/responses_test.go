package httpstream

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// listener collects what a ResponseParser finds.
type listener struct {
	pool  *ResponsePool
	heads []bool // what was asked: HEAD or not
	got   []string
}

func (l *listener) Begin() (bool, *Response, bool) {
	if len(l.heads) == 0 {
		return false, nil, false
	}
	head := l.heads[0]
	l.heads = l.heads[1:]
	return head, l.pool.Get(0), true
}

func (l *listener) End(kept *Response, whole bool) {
	l.got = append(l.got, describe(kept, whole))
	if kept != nil {
		kept.Release()
	}
}

func (l *listener) Lost(why Reason) { l.got = append(l.got, "lost: "+why.String()) }

// describe writes a response on one line.
func describe(r *Response, whole bool) string {
	if r == nil {
		return "not kept"
	}
	var b strings.Builder
	fmt.Fprint(&b, r.Status())
	for i := range r.NumFields() {
		name, value := r.Field(i)
		fmt.Fprintf(&b, " %s=%s", name, value)
	}
	fmt.Fprintf(&b, " %q of %d", r.Content(), r.Length())
	for i := range r.NumTrailers() {
		name, value := r.Trailer(i)
		fmt.Fprintf(&b, " %s=%s", name, value)
	}
	if !whole {
		b.WriteString(" with a hole")
	}
	if !r.Whole() {
		b.WriteString(" refused")
	}
	return b.String()
}

// account is a budget that must be balanced in the end.
type account struct{ limit, used int }

func (a *account) reserve(_ uint32, _, n int) bool {
	if a.used+n > a.limit {
		return false
	}
	a.used += n
	return true
}

func (a *account) release(_ uint32, n int) { a.used -= n }

func TestResponseParser(t *testing.T) {
	const small = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
	const smallIs = `200 Content-Length=2 "ok" of 2`
	const hole = "\x00" // in stream: 3 bytes are lost
	tests := []struct {
		name   string
		asked  int
		stream string
		memory int // default: enough
		want   []string
	}{
		{name: "two", asked: 2, stream: small + small, want: []string{smallIs, smallIs}},
		{name: "empty line between", asked: 2, stream: small + "\r\n" + small, want: []string{smallIs, smallIs}},
		{name: "nothing asked", asked: 1, stream: small + small, want: []string{smallIs}},
		{name: "fields", asked: 1, stream: "HTTP/1.1 404 Not Found\r\nSet-Cookie: a=b\r\nset-cookie:  c \r\nX: 1\r\n\t2\r\nY:\r\nContent-Length: 0\r\n\r\n",
			want: []string{`404 Set-Cookie=a=b set-cookie=c X=1 2 Y= Content-Length=0 "" of 0`}},
		{name: "interim", asked: 1, stream: "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + small, want: []string{smallIs}},
		{name: "chunked", asked: 1, stream: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nSum: 1\r\n 2\r\n\r\n",
			want: []string{`200 Transfer-Encoding=chunked "abcde" of 5 Sum=1 2`}},
		{name: "longer than kept", asked: 1, stream: "HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n0123456789ab",
			want: []string{`200 Content-Length=12 "01234567" of 12`}},
		{name: "until close", asked: 1, stream: "HTTP/1.0 200 OK\r\n\r\nall", want: []string{`200 "all" of 3`}},
		{name: "switching", asked: 2, stream: "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n" + small, want: []string{`101 Upgrade=x "" of 0`}},
		{name: "cut off", asked: 1, stream: small[:30], want: []string{"lost: incomplete"}},
		{name: "garbage", asked: 2, stream: "SSH-2.0\r\n" + small, want: []string{"lost: invalid"}},
		{name: "hole in content", asked: 2, stream: "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n01" + hole + "567" + small,
			want: []string{`200 Content-Length=8 "01567" of 5 with a hole`, smallIs}},
		{name: "hole at the end", asked: 2, stream: "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n" + hole + small,
			want: []string{`200 Content-Length=3 "" of 0 with a hole`, smallIs}},
		{name: "hole in a head", asked: 2, stream: "HTTP/1.1 200 OK\r\nCon" + hole + "t-Length: 0\r\n\r\n" + small, want: []string{"lost: gap"}},
		{name: "hole between", asked: 2, stream: small + hole + small, want: []string{smallIs, "lost: gap"}},
		{name: "no memory", asked: 1, stream: small, memory: 3 << 10, want: []string{"not kept"}},
		{name: "no memory for all", asked: 1, stream: "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 3000) + "\r\nContent-Length: 0\r\n\r\n", memory: 9 << 10,
			want: []string{`200 "" of 0 refused`}},
		{name: "no memory for a line", asked: 1, stream: "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 3000) + "\r\nContent-Length: 0\r\n\r\n", memory: 5 << 10,
			want: []string{"lost: memory"}},
	}
	for _, test := range tests {
		for _, piece := range []int{1, 3, 1 << 20} {
			if strings.HasPrefix(test.name, "no memory for") && piece != 3 {
				continue // what has to be held depends on it
			}
			t.Run(fmt.Sprintf("%s/%d", test.name, piece), func(t *testing.T) {
				budget := &account{limit: test.memory}
				if budget.limit == 0 {
					budget.limit = 1 << 20
				}
				l := &listener{pool: NewResponsePool(8, budget.reserve, budget.release), heads: make([]bool, test.asked)}
				var p ResponseParser
				p.Reset(l.pool, 0, l, true)
				for i, part := range strings.Split(test.stream, hole) {
					if i > 0 {
						p.Gap(3, 0)
					}
					for b := range slices.Chunk([]byte(part), piece) {
						p.Feed(b, 0)
					}
				}
				p.Close(Incomplete, true, 0)
				got := slices.DeleteFunc(l.got, func(s string) bool { return s == "lost: incomplete" && len(l.got) > 1 })
				if diff := cmp.Diff(test.want, got); diff != "" {
					t.Errorf("-want +got:\n%s", diff)
				}
				if budget.used != 0 {
					t.Errorf("%d bytes are still reserved", budget.used)
				}
			})
		}
	}
}

// TestResponseDigest: it is of the content, however that was framed, also of
// what was not kept.
func TestResponseDigest(t *testing.T) {
	pool := NewResponsePool(1, nil, nil)
	digest := func(raw string) uint64 {
		r := pool.Get(0)
		defer r.Release()
		var p ResponseFramer
		p.Reset(false, r)
		if n, err := p.Parse([]byte(raw)); err != nil || n != len(raw) || !p.Complete() {
			t.Fatalf("%q: %d, %v", raw, n, err)
		}
		return r.Digest()
	}
	plain := digest("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabcd")
	if d := digest("HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n3\r\nbcd\r\n0\r\n\r\n"); d != plain {
		t.Error("another digest of the same content")
	}
	if d := digest("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabce"); d == plain {
		t.Error("the same digest of other content")
	}
}

// FuzzResponseParser: how the bytes arrive makes no difference, and what is kept
// is what net/http reads.
func FuzzResponseParser(f *testing.F) {
	for _, s := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 204 No Content\r\n\r\n",
		"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nT: x\r\n\r\nHTTP/1.0 200 OK\r\n\r\nrest",
		"HTTP/1.1 200 OK\r\nA: b\r\n c\r\nA: d\r\nContent-Length: 0\r\n\r\n",
	} {
		f.Add([]byte(s), uint8(1), false)
		f.Add([]byte(s), uint8(7), true)
	}
	f.Fuzz(func(t *testing.T, stream []byte, piece uint8, head bool) {
		if len(stream) > 1<<15 {
			return
		}
		run := func(piece int) []string {
			budget := &account{limit: 1 << 30}
			l := &listener{pool: NewResponsePool(1<<20, budget.reserve, budget.release), heads: slices.Repeat([]bool{head}, 100)}
			var p ResponseParser
			p.Reset(l.pool, 0, l, true)
			for b := range slices.Chunk(stream, piece) {
				p.Feed(b, 0)
			}
			p.Close(Incomplete, true, 0)
			if budget.used != 0 {
				t.Errorf("%d bytes are still reserved", budget.used)
			}
			return l.got
		}
		whole := run(max(len(stream), 1))
		if diff := cmp.Diff(whole, run(int(piece)+1)); diff != "" {
			t.Fatalf("in one piece, in pieces of %d:\n%s", int(piece)+1, diff)
		}
		if want, ok := readResponse(stream, head); ok && len(whole) > 0 && !strings.HasPrefix(whole[0], "lost") && !strings.EqualFold(whole[0], want) {
			t.Fatalf("got  %s\nwant %s", whole[0], want)
		}
	})
}

// readResponse describes the first response of a stream as net/http reads it.
// net/http forgets the order of fields and the case of names, so ok is only
// true where there is at most one; to be compared without case.
func readResponse(stream []byte, head bool) (s string, ok bool) {
	if lower := bytes.ToLower(stream); bytes.Contains(lower, []byte("transfer-encoding")) || bytes.Contains(lower, []byte("trailer")) {
		return "", false // net/http takes them out of the header
	}
	method := http.MethodGet
	if head {
		method = http.MethodHead
	}
	br := bufio.NewReader(bytes.NewReader(stream))
	for {
		r, err := http.ReadResponse(br, &http.Request{Method: method})
		if err != nil {
			return "", false
		}
		if r.StatusCode < 200 && r.StatusCode != 101 {
			continue
		}
		body, err := io.ReadAll(r.Body)
		if err != nil && !errors.Is(err, io.EOF) {
			return "", false
		}
		if len(r.Header) > 1 {
			return "", false // their order is lost
		}
		var b strings.Builder
		fmt.Fprint(&b, r.StatusCode)
		for name, values := range r.Header {
			if len(values) > 1 {
				return "", false
			}
			fmt.Fprintf(&b, " %s=%s", name, values[0])
		}
		fmt.Fprintf(&b, " %q of %d", body, len(body))
		return b.String(), true
	}
}
