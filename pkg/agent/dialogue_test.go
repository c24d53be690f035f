package agent

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/shadowtap/shadowtap/pkg/capture"
)

// talk is a connection to 10.99.0.2:80 as the tap sees it.
type talk struct {
	shard  *shard
	flow   capture.Flow
	now    int64
	client uint32 // next sequence number
	server uint32
	// lose, if set, says of each segment whether the tap lost it.
	lose               func() bool
	missedUp, missedDn bool // say so with the next
}

func newTalk(s *shard, port uint16) *talk {
	client, server := netip.MustParseAddr("10.99.0.1").As16(), netip.MustParseAddr("10.99.0.2").As16()
	return &talk{
		shard: s, now: time.Date(2026, 11, 23, 3, 0, 0, 0, time.UTC).UnixNano(),
		flow:   capture.Flow{SrcIP: client, DstIP: server, SrcPort: port, DstPort: 80},
		client: 0xfffffff0, server: 0xffffff80, // both cross the wrap
	}
}

func (c *talk) segment(flags capture.Flags, seq, ack uint32, payload string) {
	c.now += int64(time.Millisecond)
	c.shard.Begin(c.now)
	c.shard.Segment(&capture.Segment{Flow: c.flow, Seq: seq, Ack: ack, Flags: flags, Time: c.now, Payload: []byte(payload)})
	c.shard.End()
}

func (c *talk) open() {
	c.segment(capture.FlagSYN, c.client-1, 0, "")
	c.segment(capture.FlagSYN|capture.FlagACK|capture.FlagResponse, c.server-1, c.client, "")
}

func (c *talk) ask(parts ...string) {
	for _, p := range parts {
		flags := capture.FlagACK
		switch {
		case c.lose != nil && c.lose():
			c.missedUp = true
		default:
			if c.missedUp {
				flags |= capture.FlagLost
				c.missedUp = false
			}
			c.segment(flags, c.client, c.server, p)
		}
		c.client += uint32(len(p))
	}
}

func (c *talk) answer(parts ...string) {
	for _, p := range parts {
		flags := capture.FlagACK | capture.FlagResponse
		switch {
		case c.lose != nil && c.lose():
			c.missedDn = true
		default:
			if c.missedDn {
				flags |= capture.FlagLost
				c.missedDn = false
			}
			c.segment(flags, c.server, c.client, p)
		}
		c.server += uint32(len(p))
	}
}

func (c *talk) finish() {
	c.segment(capture.FlagACK|capture.FlagFIN, c.client, c.server, "")
	c.segment(capture.FlagACK|capture.FlagFIN|capture.FlagResponse, c.server, c.client+1, "")
}

// lost says that the tap lost n bytes of what the server sent.
func (c *talk) lost(n int) {
	c.server += uint32(n)
	c.missedDn = true
}

// compared is what the report says.
type compared struct {
	Same, Different, Failed int
	Missed                  map[string]int
}

// comparingAgent is an agent whose shadow answers with the path it was asked
// for, and that is fed by hand.
func comparingAgent(t *testing.T) *Agent {
	t.Helper()
	shadow := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "text/plain")
		_, _ = fmt.Fprint(w, r.URL.Path)
	}))
	t.Cleanup(shadow.Close)
	cfg := testConfig(t, strings.Replace(shadowRules(shadow.Listener.Addr().String()), "rewrite: {uri: /}", "rewrite: {uri: /httpbin}", 1), writePCAP(t))
	cfg.Compare, cfg.Timeout = true, time.Minute
	a, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.close)
	return a
}

// result ends everything and returns what was compared.
func result(t *testing.T, a *Agent) compared {
	t.Helper()
	a.closeAccount(t.Context())
	account, err := a.Account()
	if err != nil {
		t.Fatal(err)
	}
	if !account.Requests.Balanced() || !account.Shadow.Balanced() {
		t.Errorf("account: %+v", account)
	}
	for i, s := range a.shards {
		if n := len(s.dialogues); n > 0 {
			t.Errorf("shard %d: %d dialogues are left", i, n)
		}
	}
	if used := a.memory.used.Load(); used != 0 {
		t.Errorf("%d bytes of the budget are left in use", used)
	}
	c := compared{Missed: map[string]int{}}
	pairs := 0
	for _, m := range a.comparing.comparer.Report().Mirrors {
		pairs += int(m.Pairs)
		c.Same += int(m.Same)
		c.Different += int(m.Different)
		for _, n := range m.Failed {
			c.Failed += int(n)
		}
		for why, n := range m.Missed {
			c.Missed[why] += int(n)
		}
	}
	if pairs != int(account.Shadow.Sent) {
		t.Errorf("%d pairs of %d copies", pairs, account.Shadow.Sent)
	}
	return c
}

func getFor(path string) string {
	return "GET /httpbin/" + path + " HTTP/1.1\r\nHost: www.bookinfo.com\r\n\r\n"
}

func okFor(path string) string {
	return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n/httpbin/%s", len("/httpbin/")+len(path), path)
}

func bytewise(s string) []string { return strings.Split(s, "") }

func TestDialogue(t *testing.T) {
	same := func(n int) compared { return compared{Same: n, Missed: map[string]int{}} }
	missed := func(same int, why string, n int) compared {
		return compared{Same: same, Missed: map[string]int{why: n}}
	}
	const head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
	tests := []struct {
		name string
		run  func(c *talk)
		want compared
	}{
		{"one", func(c *talk) { c.open(); c.ask(getFor("a")); c.answer(okFor("a")); c.finish() }, same(1)},
		{"another answer", func(c *talk) { c.open(); c.ask(getFor("a")); c.answer(okFor("b")); c.finish() },
			compared{Different: 1, Missed: map[string]int{}}},
		{"byte by byte", func(c *talk) {
			c.open()
			for _, p := range []string{"a", "b"} {
				c.ask(bytewise(getFor(p))...)
				c.answer(bytewise(okFor(p))...)
			}
			c.finish()
		}, same(2)},
		{"chunked", func(c *talk) {
			c.open()
			c.ask(getFor("a"))
			c.answer(head, "Transfer-Encoding: chunked\r\n\r\n5\r\n/htt", "p\r\n5\r", "\nbin/a\r\n0\r\n\r\n")
			c.finish()
		}, same(1)},
		{"until close", func(c *talk) { c.open(); c.ask(getFor("a")); c.answer(head+"\r\n", "/httpbin/a"); c.finish() }, same(1)},
		{"until reset", func(c *talk) {
			c.open()
			c.ask(getFor("a"))
			c.answer(head+"\r\n", "/httpbin/a")
			c.segment(capture.FlagRST|capture.FlagResponse, c.server, 0, "")
			c.finish()
		}, missed(0, "incomplete", 1)},
		{"interim", func(c *talk) {
			c.open()
			c.ask("POST /httpbin/a HTTP/1.1\r\nHost: www.bookinfo.com\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
			c.answer("HTTP/1.1 100 Continue\r\n\r\n")
			c.ask("xy")
			c.answer(okFor("a"))
			c.finish()
		}, same(1)},
		{"pipelined", func(c *talk) {
			c.open()
			c.ask(getFor("a")+getFor("b"), getFor("c"))
			c.answer(okFor("a") + okFor("b") + okFor("c"))
			c.finish()
		}, same(3)},
		{"not mirrored in between", func(c *talk) {
			c.open()
			c.ask(getFor("a") + "GET /else HTTP/1.1\r\nHost: www.bookinfo.com\r\n\r\n" + getFor("b"))
			c.answer(okFor("a") + okFor("else") + okFor("b"))
			c.finish()
		}, same(2)},
		{"HEAD, not mirrored, in between", func(c *talk) {
			c.open()
			c.ask("HEAD /else HTTP/1.1\r\nHost: www.bookinfo.com\r\n\r\n")
			c.answer(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", len(okFor("a"))))
			for _, p := range []string{"a", "b"} {
				c.ask(getFor(p))
				c.answer(okFor(p))
			}
			c.finish()
		}, same(2)},
		{"HEAD, partly lost", func(c *talk) {
			c.open()
			c.ask("HEAD /httpbin/x HTTP/1.1\r\nHost: www.book")
			c.client, c.missedUp = c.client+8, true
			c.ask("\r\n\r\n")
			c.answer(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", len(okFor("a"))))
			for _, p := range []string{"a", "b"} {
				c.ask(getFor(p))
				c.answer(okFor(p))
			}
			c.finish()
		}, same(2)},
		{"HEAD, invalid", func(c *talk) {
			c.open()
			c.ask("HEAD /httpbin/x HTTP/1.1\r\nHost: www.bookinfo.com\r\nX: \x01\r\n\r\n")
			c.answer(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", len(okFor("a"))))
			for _, p := range []string{"a", "b"} {
				c.ask(getFor(p))
				c.answer(okFor(p))
			}
			c.finish()
		}, same(2)},
		{"HEAD, too large", func(c *talk) {
			c.open()
			c.ask("HEAD /httpbin/x HTTP/1.1\r\nHost: www.bookinfo.com\r\nContent-Length: 11000000\r\n\r\n" + strings.Repeat("b", 11000000))
			c.answer(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", len(okFor("a"))))
			for _, p := range []string{"a", "b"} {
				c.ask(getFor(p))
				c.answer(okFor(p))
			}
			c.finish()
		}, same(2)},
		{"answered early", func(c *talk) {
			c.open()
			c.ask("POST /httpbin/a HTTP/1.1\r\nHost: www.bookinfo.com\r\nContent-Length: 2\r\n\r\n")
			c.answer(okFor("a"))
			c.ask("xy", getFor("b"))
			c.answer(okFor("b"))
			c.finish()
		}, same(2)},
		{"client sends no more", func(c *talk) {
			c.open()
			c.ask(getFor("a"))
			c.segment(capture.FlagACK|capture.FlagFIN, c.client, c.server, "")
			c.client++
			c.answer(okFor("a"))
			c.segment(capture.FlagACK|capture.FlagFIN|capture.FlagResponse, c.server, c.client, "")
		}, same(1)},
		{"picked up", func(c *talk) {
			c.ask(getFor("a"))
			c.answer(okFor("a"))
			c.ask(getFor("b"))
			c.answer(okFor("b"))
			c.finish()
		}, same(2)},
		{"picked up inside an answer", func(c *talk) {
			c.answer("/httpbin/", okFor("forged"))
			c.ask(getFor("a"))
			c.answer(okFor("a"))
			c.finish()
		}, same(1)},
		{"picked up, pipelined", func(c *talk) {
			c.ask(getFor("a"), getFor("b"))
			c.answer(okFor("a"), okFor("b"))
			c.finish()
		}, missed(0, "gap", 2)},
		{"pipelined, a request lost", func(c *talk) {
			c.open()
			c.ask(getFor("a"), getFor("b"))
			c.client += uint32(len(getFor("c")))
			c.missedUp = true
			c.answer(okFor("a"))
			c.ask(getFor("d")) // behind a gap, not believed
			c.answer(okFor("b"))
			c.ask(getFor("e"))
			c.answer(okFor("c"), okFor("d"), okFor("e"))
			c.finish()
		}, missed(1, "gap", 2)},
		{"pipelined, more than is remembered", func(c *talk) {
			c.open()
			c.ask(strings.Repeat(getFor("a"), maxAsked+1))
			c.answer(strings.Repeat(okFor("a"), maxAsked+1))
			c.finish()
		}, missed(0, "gap", maxAsked+1)},
		{"lost in content", func(c *talk) {
			c.open()
			c.ask(getFor("a"))
			c.answer(head + "Content-Length: 10\r\n\r\n/http")
			c.lost(4)
			c.answer("a")
			c.ask(getFor("b"))
			c.answer(okFor("b"))
			c.finish()
		}, missed(1, "gap", 1)},
		{"lost in a head", func(c *talk) {
			c.open()
			c.ask(getFor("a"))
			c.answer(head + "Content-Le")
			c.lost(8)
			c.answer("\r\n\r\n/httpbin/a")
			c.ask(getFor("b"))
			c.answer(okFor("b"))
			c.finish()
		}, missed(1, "gap", 1)},
		{"a whole answer lost", func(c *talk) {
			c.open()
			c.ask(getFor("a"))
			c.lost(len(okFor("a")))
			c.ask(getFor("b"))
			c.answer(okFor("b"))
			c.ask(getFor("c"))
			c.answer(okFor("c"))
			c.finish()
		}, missed(1, "gap", 2)},
		{"never answered", func(c *talk) { c.open(); c.ask(getFor("a")); c.finish() }, missed(0, "incomplete", 1)},
		{"no answers captured", func(c *talk) {
			c.segment(capture.FlagSYN, c.client-1, 0, "")
			c.ask(getFor("a"), getFor("b"))
			c.segment(capture.FlagACK|capture.FlagFIN, c.client, c.server, "")
		}, missed(0, "no_production_answer", 2)},
		{"no HTTP", func(c *talk) { c.open(); c.ask(getFor("a")); c.answer("hello\r\n"); c.finish() },
			missed(0, "no_production_answer", 1)},
		{"addresses and ports used again", func(c *talk) {
			c.open()
			c.ask(getFor("a"))
			c.answer(okFor("a"))
			c.client, c.server = 5000, 7_000_000
			c.open()
			for _, p := range []string{"b", "c"} {
				c.ask(getFor(p))
				c.answer(okFor(p))
			}
			c.finish()
		}, same(3)},
		{"stopped", func(c *talk) { c.open(); c.ask(getFor("a")) }, missed(0, "shutdown", 1)},
		{"invalid", func(c *talk) {
			c.open()
			c.ask(getFor("a") + "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
			c.answer(okFor("a"))
			c.finish()
		}, missed(0, "incomplete", 1)},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			a := comparingAgent(t)
			test.run(newTalk(a.shards[0], 40000))
			if diff := cmp.Diff(test.want, result(t, a)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// TestDialogueLossy: whatever is lost, no request is compared with the answer
// to another one.
func TestDialogueLossy(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			a := comparingAgent(t)
			random := rand.New(rand.NewPCG(seed, 7))
			for i := range 20 {
				c := newTalk(a.shards[0], uint16(40000+i))
				c.lose = func() bool { return random.IntN(8) == 0 }
				if random.IntN(2) == 0 {
					c.open()
				}
				for j := range 20 {
					path := fmt.Sprintf("%d/%d", i, j)
					request, answer := getFor(path), okFor(path)
					cut := 1 + random.IntN(len(request)-1)
					c.ask(request[:cut], request[cut:])
					cut = 1 + random.IntN(len(answer)-1)
					c.answer(answer[:cut], answer[cut:])
				}
				c.lose = nil
				c.finish()
			}
			got := result(t, a)
			if got.Different > 0 || got.Failed > 0 {
				t.Errorf("compared with the answer to another request: %+v", got)
			}
			if got.Same == 0 || got.Missed["gap"] == 0 {
				t.Errorf("nothing was tried: %+v", got)
			}
		})
	}
}
