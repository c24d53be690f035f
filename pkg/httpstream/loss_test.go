package httpstream

import (
	"strings"
	"testing"
	"unsafe"
)

// piece is a step of a stream with losses.
type piece struct {
	data  string
	start bool
	gap   int64 // used when data is empty
}

func TestLoss(t *testing.T) {
	const (
		get  = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
		post = "POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n"
		te   = "POST /t HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
	)
	long := "GET /" + strings.Repeat("x", 400)
	tests := []struct {
		name    string
		synced  bool
		pieces  []piece
		want    string
		skipped int64
	}{
		{"gap in a body of known length", true, []piece{{data: post + "123"}, {gap: 4}, {data: "890" + get}}, "dropped gap; request GET /", 0},
		{"gap to the end of a body", true, []piece{{data: post + "123"}, {gap: 7}, {data: get}}, "dropped gap; request GET /", 0},
		{"gap beyond a body", true, []piece{{data: post + "123"}, {gap: 8}, {data: "ET / HTTP/1.1\r\n\r\n"}, {data: get, start: true}}, "dropped gap; request GET /", 17},
		{"gap that ends inside a method", true, []piece{{data: get}, {gap: 1}, {data: "OST /p HTTP/1.1\r\nHost: a\r\n\r\n", start: true}, {data: get, start: true}}, "request GET /; request GET /", 28},
		{"joined inside a method", false, []piece{{data: "SEARCH * HTTP/1.1\r\n\r\n", start: true}, {data: get, start: true}}, "request GET /", 21},
		{"gap of unknown length", true, []piece{{data: post + "123"}, {gap: -1}, {data: get}, {data: get, start: true}}, "dropped gap; request GET /", 27},
		{"gap in a head", true, []piece{{data: "GET / HTT"}, {gap: 3}, {data: "x\r\n\r\n"}, {data: get, start: true}}, "dropped gap; request GET /", 5},
		{"gap in a chunk", true, []piece{{data: te + "a\r\n123"}, {gap: 7}, {data: "\r\n0\r\n\r\n" + get}}, "dropped gap; request GET /", 0},
		{"gap in chunk framing", true, []piece{{data: te + "a\r\n1234567890"}, {gap: 1}, {data: "\n0\r\n\r\n"}, {data: get, start: true}}, "dropped gap; request GET /", 6},
		{"two gaps in one body", true, []piece{{data: post}, {gap: 2}, {data: "345"}, {gap: 2}, {data: "890" + get}}, "dropped gap; request GET /", 0},
		{"gap between messages", true, []piece{{data: get}, {gap: 27}, {data: get, start: true}}, "request GET /; request GET /", 0},
		{"gap at the very start", true, []piece{{gap: 5}, {data: "x"}, {data: get, start: true}}, "request GET /", 1},
		{"gap after the flow was given up", true, []piece{{data: "\x16\x03\x01"}, {gap: 5}, {data: get, start: true}}, "ignore tls", 0},

		{"joined at a boundary", false, []piece{{data: get, start: true}, {data: get}}, "request GET /; request GET /", 0},
		{"joined inside a burst", false, []piece{{data: get}, {data: get, start: true}}, "request GET /", 27},
		{"joined inside a body", false, []piece{{data: "xx" + get, start: true}, {data: get, start: true}}, "request GET /", 29},
		{"joined at a long request line", false, []piece{{data: long, start: true}, {data: "yy HTTP/1.1\r\nHost: a\r\n\r\n"}}, "request " + long + "yy", 0},
		{"joined at something short", false, []piece{{data: "GET /xx", start: true}, {data: " HTTP/1.1\r\n\r\n"}}, "", 20},
		{"joined at a wrong guess", false, []piece{{data: "GET / HTTP/1.1\r\nno field\r\n\r\n", start: true}, {data: get, start: true}}, "dropped invalid; request GET /", 0},
		{"joined at TLS data", false, []piece{{data: "\x17\x03\x03\x00\x20aaaa", start: true}}, "ignore tls", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			rec := &recorder{}
			var p RequestParser
			p.Reset(NewConfig(Config{}), rec, tt.synced)
			for _, s := range tt.pieces {
				if s.data == "" {
					p.Gap(s.gap, 1)
				} else {
					p.Feed([]byte(s.data), s.start, 1)
				}
			}
			p.Close(Interrupted)
			if got := strings.Join(rec.events, "; "); got != strings.ReplaceAll(tt.want, "request "+long+"yy", "request GET /"+long[5:]+"yy") {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
			if tt.name != "joined at a wrong guess" && rec.skipped != tt.skipped {
				t.Errorf("skipped %d bytes, want %d", rec.skipped, tt.skipped)
			}
			if rec.seen != rec.ended {
				t.Errorf("%d seen, %d ended", rec.seen, rec.ended)
			}
			rec.release()
		})
	}
}

// TestMemoryRefused shows that a budget that runs out costs the message it
// runs out in, and nothing after it.
func TestMemoryRefused(t *testing.T) {
	const get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
	body := strings.Repeat("b", 10000)
	b := &budget{limit: 6000} // one small buffer and one of 4 KiB, no more
	rec := &recorder{}
	var p RequestParser
	p.Reset(NewConfig(Config{Pool: NewPool(b.reserve, b.release)}), rec, true)
	p.Feed([]byte("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10000\r\n\r\n"+body+get), false, 1)
	p.Feed([]byte("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"+chunked(body, "x")+"0\r\nA: b\r\n\r\n"), false, 1)
	if len(rec.reqs) != 1 {
		t.Fatalf("events: %q", rec.events)
	}
	rec.release()
	p.Feed([]byte(get), false, 1)
	want := "dropped memory; request GET /; dropped memory; request GET /"
	if got := strings.Join(rec.events, "; "); got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	rec.reqs[1].Release()
	if b.held != 0 {
		t.Errorf("%d bytes held", b.held)
	}
}

// failing is a handler with a defect.
type failing struct{ recorder }

func (*failing) Dropped(Reason, error) { panic("a defect") }

// TestAbandonOutgrown: a handler that fails when it is told of a head that is too
// large does not cost the budget what is kept to follow it.
func TestAbandonOutgrown(t *testing.T) {
	b := &budget{limit: 1 << 20}
	var p RequestParser
	p.Reset(NewConfig(Config{MaxHead: 60, Pool: NewPool(b.reserve, b.release)}), &failing{}, true)
	func() {
		defer func() {
			if recover() == nil {
				t.Error("nothing was dropped: the test tries nothing")
			}
		}()
		p.Feed([]byte("GET / HTTP/1.1\r\nA: "+strings.Repeat("a", 20)), false, 1)
		p.Feed([]byte(strings.Repeat("a", 60)), false, 1)
	}()
	p.Abandon()
	if b.held != 0 {
		t.Errorf("%d bytes held", b.held)
	}
}

// TestNoMemoryForAHead shows that without even a head the parser follows what
// comes in one piece, and looks for the next message behind a torn line instead
// of guessing.
func TestNoMemoryForAHead(t *testing.T) {
	const get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
	for unseen, want := range map[string]string{
		get: "dropped memory; request GET /; request GET /",
		"PUT / HTTP/1.1\r\nContent-Length: 27\r\n\r\n" + get: "dropped memory; request GET /; request GET /",
		"GET / HTT": "dropped memory; request GET /",
	} {
		refuse := true
		pool := NewPool(func(int) bool { return !refuse }, nil)
		rec := &recorder{}
		var p RequestParser
		p.Reset(NewConfig(Config{Pool: pool}), rec, true)
		p.Feed([]byte(unseen), true, 1)
		refuse = false
		p.Feed([]byte(get), false, 1)
		p.Feed([]byte(get), true, 1)
		if got := strings.Join(rec.events, "; "); got != want {
			t.Errorf("%q: got %q, want %q", unseen, got, want)
		}
		rec.release()
	}
}

// TestGiveUp takes the memory of a message away at every byte of a stream. The
// parser goes on behind the message if it can know where that is, and looks for
// the start of one if it cannot; nothing is held any more.
func TestGiveUp(t *testing.T) {
	const get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
	te := "POST /t HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
	for _, stream := range []string{
		"POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n1234567890",
		te + "a;x=y\r\n1234567890\r\n0\r\nT: v\r\n\r\n",
	} {
		bodyAt := strings.Index(stream, "\r\n\r\n") + 4
		for at := 1; at < len(stream); at++ {
			b := &budget{}
			rec := &recorder{}
			var p RequestParser
			p.Reset(NewConfig(Config{Pool: NewPool(b.reserve, b.release)}), rec, true)
			p.Feed([]byte(stream[:at]), true, 7)
			if n, since := p.Held(); n != b.held || n == 0 || since != 7 {
				t.Fatalf("%q: %d bytes are held since %d, want %d since 7", stream[:at], n, since, b.held)
			}
			p.GiveUp()
			if n, _ := p.Held(); n != 0 || b.held != 0 {
				t.Fatalf("%q: %d bytes are still held", stream[:at], n)
			}
			p.Feed([]byte(stream[at:]+get), false, 8)
			p.Feed([]byte(get), true, 9)
			// Where a line is torn, what comes next is only found by its start.
			torn := !strings.HasSuffix(stream[:at], "\n")
			if at >= bodyAt {
				torn = strings.HasPrefix(stream, te) && !boundary(stream, bodyAt, at)
			}
			want := "dropped memory; request GET /; request GET /"
			if torn {
				want = "dropped memory; request GET /"
			}
			if got := strings.Join(rec.events, "; "); got != want {
				t.Errorf("%q: got %q, want %q", stream[:at], got, want)
			}
			rec.release()
		}
	}
}

// boundary reports whether no line of the chunked body that begins at bodyAt is
// torn at at.
func boundary(stream string, bodyAt, at int) bool {
	data := bodyAt + len("a;x=y\r\n")
	return at == bodyAt || at >= data && at <= data+len("1234567890\r\n") || stream[at-1] == '\n'
}

// TestTornLinesAreInTheBudget: a message that is too large is followed for its
// framing, and what that needs is asked of the budget and given back.
func TestTornLinesAreInTheBudget(t *testing.T) {
	const get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
	trailer := "T: " + strings.Repeat("v", 5000) + "\r\n"
	for _, limit := range []int{20_000, 3000} {
		b := &budget{limit: limit}
		rec := &recorder{}
		var p RequestParser
		p.Reset(NewConfig(Config{MaxBody: 5, Pool: NewPool(b.reserve, b.release)}), rec, true)
		p.Feed([]byte("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"+chunked("too large")), false, 1)
		if b.held != 0 {
			t.Fatalf("%d bytes are held for a message that is dropped", b.held)
		}
		p.Feed([]byte("0\r\n"+trailer[:3000]), false, 2)
		if n, since := p.Held(); n != b.held || limit == 20_000 && (n < 3000 || since != 2) {
			t.Errorf("%d bytes are held since %d, %d of the budget", n, since, b.held)
		}
		p.Feed([]byte(trailer[3000:]+"\r\n"+get), false, 3)
		p.Feed([]byte(get), true, 4)
		want := "dropped body_too_large; request GET /; request GET /"
		if limit == 3000 { // where the trailers end is not known
			want = "dropped body_too_large; request GET /"
		}
		if got := strings.Join(rec.events, "; "); got != want {
			t.Errorf("within %d bytes: got %q, want %q", limit, got, want)
		}
		rec.release()
		if b.held != 0 {
			t.Errorf("%d bytes held in the end", b.held)
		}
	}
}

// TestFieldsAreInTheBudget: what many field lines take besides their bytes is
// asked of the budget, and if it refuses the message is dropped for that.
func TestFieldsAreInTheBudget(t *testing.T) {
	head := "GET / HTTP/1.1\r\n" + strings.Repeat("a:\r\n", 500)
	for limit, want := range map[int]string{0: "request GET /", 12_000: "dropped memory"} {
		b := &budget{limit: limit}
		rec := &recorder{}
		var p RequestParser
		p.Reset(NewConfig(Config{Pool: NewPool(b.reserve, b.release)}), rec, true)
		p.Feed([]byte(head), false, 1)
		if limit == 0 && b.held < 500*fieldSize+len(head) {
			t.Errorf("%d bytes are held for 500 fields", b.held)
		}
		p.Feed([]byte("\r\n"), false, 1)
		if got := strings.Join(rec.events, "; "); got != want {
			t.Errorf("within %d bytes: got %q, want %q", limit, got, want)
		}
		rec.release()
		if b.held != 0 {
			t.Errorf("%d bytes held in the end", b.held)
		}
	}
	if size := int(unsafe.Sizeof(field{})); size != fieldSize {
		t.Errorf("a field takes %d bytes, not %d", size, fieldSize)
	}
}
