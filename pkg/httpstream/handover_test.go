package httpstream

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

// FuzzHandover lets one parser go on where another one stopped, anywhere in
// any stream, and compares what becomes of it with what one parser alone says.
func FuzzHandover(f *testing.F) {
	get := "GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
	for _, stream := range []string{
		get + get + get,
		"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello" + get,
		"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked("ab", "cde") + get,
		"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nA: b\r\n\r\n" + get,
		"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"GET / HTTP/1.0\r\n\r\n\r\n" + get, "POST / HTTP/1.1\r\nConnection: close\r\nContent-Length: 300\r\n\r\n" + strings.Repeat("x", 300) + "\r\n" + get,
		"\r\n" + get + "\r\n" + get, "\x16\x03\x01", "SSH-2.0-x\r\n",
		"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 300\r\n\r\n" + strings.Repeat("x", 300) + get,
	} {
		for cut := range len(stream) + 1 {
			f.Add([]byte(stream), uint16(cut), true)
		}
		f.Add([]byte(stream), uint16(7), false)
	}
	cfg := Config{MaxBody: 200, MaxHead: 500}
	f.Fuzz(func(t *testing.T, stream []byte, cut uint16, synced bool) {
		cut %= uint16(len(stream) + 1)
		run := func(pieces ...[]byte) (*recorder, *budget) {
			b, rec := &budget{}, &recorder{}
			cfg := cfg
			cfg.Pool = NewPool(b.reserve, b.release)
			shared := NewConfig(cfg)
			p := new(RequestParser)
			p.Reset(shared, rec, synced)
			for i, piece := range pieces {
				if i > 0 {
					next := new(RequestParser)
					next.Reset(shared, rec, false)
					c := p.Continuation()
					if c.Place == PlaceUnknown && p.state != stSeek {
						p.Abandon()
						return nil, nil // the rest cannot be the same
					}
					c.Raw = bytes.Clone(c.Raw)
					if p.Pending() {
						rec.seen-- // it is seen again
					}
					p.Abandon()
					next.Resume(c)
					p = next
				}
				p.Feed(piece, i == 0, 1)
			}
			p.Close(Incomplete)
			return rec, b
		}
		two, held := run(stream[:cut], stream[cut:])
		if two == nil {
			return
		}
		var one recorder
		b := &budget{}
		alone := cfg
		alone.Pool = NewPool(b.reserve, b.release)
		var p RequestParser
		p.Reset(NewConfig(alone), &one, synced)
		p.Feed(stream[:cut], true, 1)
		p.Feed(stream[cut:], false, 1)
		p.Close(Incomplete)

		if !slices.Equal(one.events, two.events) || one.seen != two.seen || one.skipped != two.skipped {
			t.Errorf("cut at %d of %q:\n got %q, %d seen, %d skipped\nwant %q, %d seen, %d skipped", cut, stream,
				two.events, two.seen, two.skipped, one.events, one.seen, one.skipped)
		}
		for i := range min(len(one.reqs), len(two.reqs)) {
			if !bytes.Equal(one.reqs[i].raw, two.reqs[i].raw) {
				t.Errorf("cut at %d of %q: request %d is %q", cut, stream, i, two.reqs[i].raw)
			}
		}
		one.release()
		two.release()
		if b.held+held.held != 0 {
			t.Errorf("%d bytes of the budget were not given back", b.held+held.held)
		}
	})
}
