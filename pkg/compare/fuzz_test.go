package compare

import (
	"bytes"
	"hash/maphash"
	"strings"
	"testing"
)

// FuzzAdd holds any two answers against what a comparison must be: an answer is
// the same as itself, with its fields in another order too; two answers differ
// whichever is production's; and the account adds up.
func FuzzAdd(f *testing.F) {
	for _, s := range []string{
		"Content-Type: application/json\n\n{\"a\":[1,{\"b\":\"x\"}]}", "Content-Type: text/html\n\n<i nonce=a1>",
		"Set-Cookie: a=b; Path=/; Expires=Mon, 23 Nov 2026 11:00:00 GMT\nSet-Cookie: c\n\n", "\n\n\x00\xff", "Location: http://h/\nExpires: 0\nVary: a\nVary: b\n\n[]",
		"Content-Encoding: gzip\n\n\x1f\x8b\x08\x00", "Content-Encoding: deflate\n\n\x78\x9c\x03", "Connection: X\nX: 1\n\n{",
	} {
		f.Add(s, s, uint8(200))
		f.Add(s, "Content-Type: application/json\n\n{\"a\":1}", uint8(3))
	}
	c := newComparer(f, Options{IgnorePaths: []string{"$..m", "$.x[].y"}, IgnoreValues: []string{`\d+`}, MaxInflated: 1 << 12})
	outcome := func(v1, v2 *Answer) string {
		x := c.pool.get(&c.policy)
		defer c.pool.put(x)
		p := pair(v1, v2)
		p.Request = 1
		x.answers(p)
		switch {
		case len(x.found) > 0:
			return "different"
		case x.undecided:
			return "undecided"
		}
		return "same"
	}
	f.Fuzz(func(t *testing.T, s1, s2 string, kept uint8) {
		v1, v2 := parseAnswer(s1, int(kept)), parseAnswer(s2, int(kept))
		reversed := *v1
		reversed.Header = nil
		for i := range v1.Header { // lines of different names, the other way round
			line := v1.Header[len(v1.Header)-1-i]
			for _, l := range v1.Header {
				if strings.EqualFold(l.Name, line.Name) && l != line {
					return
				}
			}
			reversed.Header = append(reversed.Header, line)
		}
		if got := outcome(v1, &reversed); got != "same" && v1.complete() {
			t.Errorf("an answer and itself are %s: %q", got, s1)
		}
		if a, b := outcome(v1, v2), outcome(v2, v1); a != b {
			t.Errorf("%s one way and %s the other:\n%q\n%q", a, b, s1, s2)
		}
		before := c.Report().Mirrors["m"]
		c.Add(pair(v1, v2))
		after := c.Report().Mirrors["m"]
		if !after.Balanced() || before != nil && after.Pairs != before.Pairs+1 {
			t.Errorf("%+v\n%+v", before, after)
		}
	})
}

// parseAnswer makes an answer of header lines, an empty line, and content of
// which some is kept.
func parseAnswer(s string, kept int) *Answer {
	head, body, _ := strings.Cut(s, "\n\n")
	a := &Answer{Status: 200, Body: []byte(body), Length: int64(len(body)), Digest: maphash.String(testSeed, body)}
	for line := range strings.Lines(head) {
		name, value, _ := strings.Cut(line, ":")
		a.Header = append(a.Header, Field{strings.TrimSpace(name), strings.TrimSpace(value)})
	}
	if kept < 200 {
		a.Body = bytes.Clone(a.Body[:min(kept, len(body))])
	}
	return a
}
