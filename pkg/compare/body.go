package compare

import (
	"bytes"
	"fmt"
	"mime"
	"strings"
	"unicode"
)

// media is how content is compared.
type media uint8

const (
	binary media = iota
	text
	structured // JSON
)

// body compares the contents of two answers of one status.
func (x *comparison) body(v1, v2 *Answer) {
	c1, c2 := coding(v1.Header), coding(v2.Header)
	complete := v1.complete() && v2.complete()
	if c1 == c2 && v1.Length == v2.Length {
		if complete && bytes.Equal(v1.Body, v2.Body) || !complete && v1.Digest == v2.Digest {
			return
		}
	}
	a, allA, okA := x.content[0].decode(c1, v1.Body, x.inflated)
	b, allB, okB := x.content[1].decode(c2, v2.Body, x.inflated)
	if !okA || !okB {
		// The bytes are all there is to compare. If the codings differ that is
		// a difference of the header already, and the bytes say nothing.
		if c1 == c2 {
			x.bytes(v1.Body, v2.Body, complete)
		}
		return
	}
	allA, allB = allA && v1.complete(), allB && v2.complete()
	if allA && allB && bytes.Equal(a, b) {
		return
	}
	kind := min(mediaOf(v1.Header, a), mediaOf(v2.Header, b))
	switch {
	case !allA || !allB:
		if kind != binary && alike(a, b) {
			// As far as it was kept, what differs may be ignored or noise; that
			// takes all of the content to say.
			x.undecided = true
			return
		}
		// One content may be compressed in many ways.
		x.prefix(a, b, c1 == "" && c2 == "", allA, allB)
	case kind == structured && x.docs[0].parse(a) && x.docs[1].parse(b):
		x.json()
	case kind != binary:
		x.text(a, b)
	default:
		x.bytes(a, b, true)
	}
}

// mediaOf says how to compare content of a Content-Type. Content without one is
// looked at.
func mediaOf(header []Field, content []byte) media {
	for _, f := range header {
		if !equalFold(f.Name, "content-type") {
			continue
		}
		t, _, err := mime.ParseMediaType(f.Value)
		switch {
		case err != nil:
			return binary
		case t == "application/json" || t == "text/json" || strings.HasSuffix(t, "+json"):
			return structured
		case strings.HasPrefix(t, "text/"), strings.HasSuffix(t, "+xml"):
			return text
		}
		switch t {
		case "application/xml", "application/javascript", "application/x-www-form-urlencoded", "application/x-ndjson", "application/yaml":
			return text
		}
		return binary
	}
	start := bytes.TrimLeft(content, " \t\r\n")
	if len(start) > 0 && (start[0] == '{' || start[0] == '[') {
		return structured
	}
	return binary
}

func (x *comparison) text(a, b []byte) {
	if bytes.Equal(a, b) || x.ignoresValues(a, b) {
		return
	}
	change := ChangeForm
	if skeleton(a) == skeleton(b) {
		change = ChangeValue
	}
	if f := x.differ(PartBody, "text", change); f != nil {
		i := common(a, b)
		line := 1 + bytes.Count(a[:i], []byte("\n"))
		f.v1 = value{note: fmt.Sprintf("%d bytes, another from byte %d in line %d on", len(a), i, line)}
		f.v2 = value{note: fmt.Sprintf("%d bytes", len(b))}
		if change == ChangeValue {
			f.learn, f.evidence = true, hash(hashSeed, a)
		}
	}
}

// bytes compares content without a structure we know.
func (x *comparison) bytes(a, b []byte, complete bool) {
	if !complete {
		x.prefix(a, b, true, false, false)
		return
	}
	if bytes.Equal(a, b) {
		return
	}
	if f := x.differ(PartBody, "bytes", ChangeBytes); f != nil {
		f.v1 = value{note: fmt.Sprintf("%d bytes, another from byte %d on", len(a), common(a, b))}
		f.v2 = value{note: fmt.Sprintf("%d bytes", len(b))}
	}
}

// prefix compares what was kept of two contents that were not kept whole. allA and
// allB say which of them was, and differ that digest or length show a difference
// even if what was kept does not.
func (x *comparison) prefix(a, b []byte, differ, allA, allB bool) {
	i := common(a, b)
	change := ChangePrefix
	switch {
	case i < min(len(a), len(b)):
	case allA && len(a) < len(b), allB && len(b) < len(a): // one ends inside the other
	case differ:
		change = ChangeRest
	default:
		x.undecided = true
		return
	}
	if f := x.differ(PartBody, "content kept in part", change); f != nil {
		f.v1 = value{note: fmt.Sprintf("%d bytes kept, %d of them the same", len(a), i)}
		f.v2 = value{note: fmt.Sprintf("%d bytes kept", len(b))}
	}
}

// alike reports whether two beginnings of texts differ, but only in words with
// digits.
func alike(a, b []byte) bool {
	n := min(len(a), len(b))
	if common(a, b) == n {
		return false
	}
	v, w := wholeWords(a[:n]), wholeWords(b[:n])
	return len(v) > 0 && len(w) > 0 && skeleton(v) == skeleton(w)
}

// wholeWords leaves out a word at the end, which may be cut.
func wholeWords(s []byte) []byte {
	return s[:1+bytes.LastIndexFunc(s, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) && r != '-' && r != '_' })]
}

// common is how many bytes both begin with.
func common(a, b []byte) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}
