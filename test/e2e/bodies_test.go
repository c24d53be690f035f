package e2e

import (
	"strings"
	"testing"

	"github.com/shadowtap/shadowtap/pkg/netlab"
)

// megabytes is a body in which every line is different, so that a piece that
// is missing, doubled or in the wrong place shows.
func megabytes(n int) string {
	var b strings.Builder
	b.Grow(n << 20)
	for i := 0; b.Len() < n<<20; i++ {
		b.WriteString(strings.Repeat(string(rune('a'+i%26)), i%97))
		b.WriteString("GET /httpbin/not-a-request HTTP/1.1\r\nHost: www.bookinfo.com\r\n\r\n")
		for v := i; v > 0; v /= 10 {
			b.WriteByte(byte('0' + v%10))
		}
	}
	return b.String()[:n<<20]
}

// chunked cuts a body into chunks of several sizes.
func chunked(body string) (chunks []string) {
	for size := 1; body != ""; size = size*3 + 1 {
		if size > 200_000 {
			size = 7
		}
		n := min(size, len(body))
		chunks, body = append(chunks, body[:n]), body[n:]
	}
	return chunks
}

func TestBodies(t *testing.T) {
	t.Parallel()
	big := megabytes(5)
	for name, send := range map[string]func(c *connection) error{
		"none":  func(c *connection) error { return c.do(request{}) },
		"0 B":   func(c *connection) error { return c.do(request{method: "POST"}) },
		"small": func(c *connection) error { return c.do(request{method: "POST", body: "hello=world"}) },
		"5 MB":  func(c *connection) error { return c.do(request{method: "POST", body: big}) },
		"5 MB chunked": func(c *connection) error {
			return c.do(request{method: "PUT", chunks: chunked(big), trailers: []string{"X-Checksum: 42", "X-Empty:"}})
		},
		"no chunk but the last": func(c *connection) error { return c.do(request{method: "PUT", chunks: []string{}}) },
		"100-continue": func(c *connection) error {
			return c.expectContinue(request{method: "POST", body: strings.Repeat("waited ", 5000)})
		},
		"100-continue chunked": func(c *connection) error {
			return c.expectContinue(request{method: "POST", chunks: []string{"waited", "twice"}})
		},
		"HEAD": func(c *connection) error { return c.do(request{method: "HEAD"}) },
		"pipelined": func(c *connection) error {
			return c.pipeline(request{}, request{method: "POST", body: "a body between"}, request{method: "HEAD"},
				request{method: "PUT", chunks: []string{"a", "b"}}, request{method: "POST", body: big[:300_000]}, request{})
		},
		"HTTP/1.0": func(c *connection) error { return c.do(request{version: "HTTP/1.0"}) },
		"HTTP/1.0 with a body": func(c *connection) error {
			return c.do(request{method: "POST", version: "HTTP/1.0", body: "old times"})
		},
		"HTTP/1.0 kept alive": keptAlive,
		"Connection: close":   func(c *connection) error { return c.do(request{fields: []string{"Connection: close"}}) },
		"many fields":         func(c *connection) error { return c.do(request{fields: manyFields()}) },
		"a head of many segments": func(c *connection) error {
			return c.do(request{fields: []string{"X-Long: " + strings.Repeat("long ", 12_000)}})
		},
		"bytes beyond ASCII": func(c *connection) error {
			return c.do(request{fields: []string{"X-Name: Zo\xeb \xe2\x82\xac"}, method: "POST", body: "\x00\xff\r\n\r\n\x00"})
		},
		"one byte in each segment": drip,
	} {
		for _, family := range []addresses{v4, v6} {
			t.Run(name+"/"+family.name, func(t *testing.T) {
				t.Parallel()
				l := newLab(t)
				v1, v2 := serve(t, l.v1, family.v1At(), nil), serve(t, l.v2, family.v2At(), nil)
				// However many CPUs there are, a ring holds all of it.
				a := startAgent(t, l.node, "-f", rulesFile(t, seedRules(t, family)), "--ring-size", "8MiB")
				c := l.clients(family.v1At())
				must(t, send(c.open()))
				final := a.stop()
				checkReceived(t, c.messages(), v1.messages())
				checkCopies(t, v1.messages(), v2.messages(), seedRewrite, nil)
				final.expect(t, outcome{mirrored: len(c.messages())})
			})
		}
	}
}

func keptAlive(c *connection) error {
	for range 3 {
		err := c.do(request{version: "HTTP/1.0", fields: []string{"Connection: keep-alive"}})
		if err != nil {
			return err
		}
	}
	return nil
}

func manyFields() (fields []string) {
	for i := range 100 {
		fields = append(fields, "X-Same: "+strings.Repeat("v", i))
	}
	return fields
}

// drip writes a request byte by byte. Nagle's algorithm is off by default, so
// that is one segment each.
func drip(c *connection) error {
	m, err := parse(request{method: "POST", chunks: []string{"drop", "by", "drop"}, trailers: []string{"X-Drops: 3"}}.bytes(c.nextID()))
	if err != nil {
		return err
	}
	for i := range m.raw {
		if _, err := c.Write(m.raw[i : i+1]); err != nil {
			return err
		}
	}
	return c.answered(m)
}

// TestLargeBodiesInWirePackets: with offloads, as in the other tests, packets
// inside one host are up to 64 KiB; without, they are what a wire carries.
func TestLargeBodiesInWirePackets(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	for _, end := range []struct {
		ns   *netlab.Namespace
		name string
	}{{l.client, "eth0"}, {l.node, "client0"}, {l.node, "v1-0"}, {l.v1, "eth0"}} {
		must(t, end.ns.SetOffload(end.name, false))
	}
	v1, v2 := serve(t, l.v1, v4.v1At(), nil), serve(t, l.v2, v4.v2At(), nil)
	a := startAgent(t, l.node, "-f", rulesFile(t, seedRules(t, v4)), "--ring-size", "8MiB")
	c := l.clients(v4.v1At())
	c.behind = a
	big := megabytes(5)
	conn := c.open()
	for range 3 {
		must(t, conn.do(request{method: "POST", body: big}))
		must(t, conn.do(request{method: "PUT", chunks: chunked(big)}))
	}
	final := a.stop()
	checkReceived(t, c.messages(), v1.messages())
	checkCopies(t, v1.messages(), v2.messages(), seedRewrite, nil)
	final.expect(t, outcome{mirrored: 6})
	if least := uint64(6 * len(big) / 1500); final.Packets.Copied < least {
		t.Errorf("%d packets copied, want at least %d: offloads were on", final.Packets.Copied, least)
	}
}

func TestBodyOverTheLimitIsDroppedAndCounted(t *testing.T) {
	t.Parallel()
	const limit = 64 << 10
	l := newLab(t)
	v1, v2 := serve(t, l.v1, v4.v1At(), nil), serve(t, l.v2, v4.v2At(), nil)
	a := startAgent(t, l.node, "-f", rulesFile(t, seedRules(t, v4)), "--max-body", "65536")
	c := l.clients(v4.v1At())
	conn := c.open()
	exact, over := strings.Repeat("x", limit), strings.Repeat("x", limit+1)
	for _, r := range []request{
		{method: "POST", body: exact},
		{method: "POST", body: over},
		{method: "POST", chunks: chunked(exact)},
		{method: "POST", chunks: chunked(over)},
		{}, // the connection goes on being mirrored
	} {
		must(t, conn.do(r))
	}
	final := a.stop()
	checkReceived(t, c.messages(), v1.messages())
	fits := func(m message) bool { return m.id() != "2" && m.id() != "4" }
	checkCopies(t, v1.messages(), v2.messages(), seedRewrite, fits)
	final.expect(t, outcome{mirrored: 3, dropped: map[string]uint64{"body_too_large": 2}})
}
