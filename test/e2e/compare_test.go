package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"strings"
	"testing"

	"github.com/shadowtap/shadowtap/pkg/compare"
)

// report reads what was compared once every pair is complete.
func (a *agent) report(pairs int) *compare.Report {
	a.t.Helper()
	var r *compare.Report
	eventually(a.t, fmt.Sprintf("%d pairs", pairs), func() error {
		r = new(compare.Report)
		text, err := a.get("/api/v1/report")
		if err != nil {
			return err
		}
		if err := json.Unmarshal(text, r); err != nil {
			return err
		}
		n := 0
		for _, m := range r.Mirrors {
			n += int(m.Pairs)
		}
		if n < pairs {
			return fmt.Errorf("%d pairs so far", n)
		}
		return nil
	})
	return r
}

// total is the sum over all mirrors.
type total struct {
	pairs, same, different uint64
	failed, missed         map[string]uint64
}

func totalOf(r *compare.Report) total {
	t := total{failed: map[string]uint64{}, missed: map[string]uint64{}}
	for _, m := range r.Mirrors {
		t.pairs += m.Pairs
		t.same += m.Same
		t.different += m.Different
		for why, n := range m.Failed {
			t.failed[why] += n
		}
		for why, n := range m.Missed {
			t.missed[why] += n
		}
	}
	return t
}

// TestCompareSame: where v2 answers as v1 does, every pair is the same,
// whatever was asked and wherever it was captured.
func TestCompareSame(t *testing.T) {
	t.Parallel()
	for _, family := range []addresses{v4, v6} {
		for _, where := range []string{"node", "v1"} {
			t.Run(family.name+"/agent on "+where, func(t *testing.T) {
				t.Parallel()
				l := newLab(t)
				serve(t, l.v1, family.v1At(), nil)
				v2 := serve(t, l.v2, family.v2At(), nil)
				ns := l.node
				if where == "v1" {
					ns = l.v1
				}
				a := startAgent(t, ns, "--compare", "-f", rulesFile(t, seedRules(t, family)))
				c := l.clients(family.v1At())
				keepAlive := c.open()
				for _, r := range variety() {
					must(t, keepAlive.do(r))
					must(t, c.open().do(r))
				}
				must(t, keepAlive.pipeline(variety()...))
				mirrored := 0
				for _, m := range c.messages() {
					if seedMirrors(m) {
						mirrored++
					}
				}
				v2.wait(t, mirrored)
				got := totalOf(a.report(mirrored))
				if got.same != uint64(mirrored) || got.pairs != got.same {
					t.Errorf("%d pairs expected: %+v", mirrored, got)
				}
				final := a.stop()
				final.expect(t, outcome{mirrored: mirrored, filtered: len(c.messages()) - mirrored})
			})
		}
	}
}

// TestCompareDifferent: what v2 does differently is found, and only that.
func TestCompareDifferent(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	reply := func(status, contentType, body string) func(net.Conn) error {
		return func(c net.Conn) error {
			_, err := fmt.Fprintf(c, "HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s", status, contentType, len(body), body)
			return err
		}
	}
	const (
		text, document = "text/plain", "application/json"
		perPath        = 10
	)
	large := strings.Repeat("0123456789", 50_000)
	v1 := map[string]func(net.Conn) error{
		"/same":   reply("200 OK", document, `{"a":1,"b":[1,2]}`),
		"/status": reply("200 OK", text, "x"),
		"/json":   reply("200 OK", document, `{"user":{"name":"v1"}}`),
		"/large":  reply("200 OK", text, large+"1"),
		"/fails":  reply("200 OK", text, "x"),
	}
	v2 := maps.Clone(v1)
	v2["/same"] = reply("200 OK", document, `{"b":[1,2], "a":1.0}`)
	v2["/status"] = reply("500 Internal Server Error", text, "x")
	v2["/json"] = reply("200 OK", document, `{"user":{"name":"v2"}}`)
	v2["/large"] = reply("200 OK", text, large+"2")
	v2["/fails"] = func(net.Conn) error { return net.ErrClosed }
	answer := func(prefix string, by map[string]func(net.Conn) error) func(net.Conn, message) error {
		return func(c net.Conn, m message) error { return by[strings.TrimPrefix(m.target(), prefix)](c) }
	}
	serve(t, l.v1, v4.v1At(), answer("/httpbin", v1))
	serve(t, l.v2, v4.v2At(), answer("/", v2))
	a := startAgent(t, l.node, "--compare", "-f", rulesFile(t, seedRules(t, v4)), "--max-failures", "1000000", "--ring-size", "16MiB")
	c := l.clients(v4.v1At())
	c.echoes = false
	client := c.open()
	for path := range v1 {
		for range perPath {
			must(t, client.do(request{target: "/httpbin" + path}))
		}
	}
	r := a.report(perPath * len(v1))
	got := totalOf(r)
	if got.same != perPath || got.different != 3*perPath || got.failed["reset"] != perPath || len(got.missed) > 0 {
		t.Errorf("%+v", got)
	}
	a.stop()
}

// TestComparePods: in the namespaces of pods, also where one of them asks the
// other, each pair is complete.
func TestComparePods(t *testing.T) {
	t.Parallel()
	for _, attach := range []string{"auto", "clsact"} {
		t.Run(attach, func(t *testing.T) {
			t.Parallel()
			p := newTwoPods(t)
			a := p.startAgent(t, "--compare", "--attach", attach)
			p.load(t, 20)
			const pairs = 80
			if got := totalOf(a.report(pairs)); got.same != pairs {
				t.Errorf("%d pairs expected: %+v", pairs, got)
			}
			a.stop().expect(t, outcome{mirrored: pairs})
		})
	}
}
