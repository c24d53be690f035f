package compare

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// trail is the way from the root of a document to a value: as it is reported,
// with what differs from document to document folded, and as it is.
type trail struct {
	shown []byte
	steps []step
}

// step leads to an element of an array, if name is nil, or to a member.
type step struct {
	name   []byte
	before int // length of shown without it
}

func (t *trail) reset() { t.shown, t.steps = append(t.shown[:0], '$'), t.steps[:0] }

func (t *trail) element() {
	t.steps = append(t.steps, step{nil, len(t.shown)})
	show(t, "[]")
}

// member goes on to a member. Names that are ids are folded, or an object that
// has a member for each user would have a place for each.
func (t *trail) member(name []byte) {
	if name == nil {
		name = []byte{}
	}
	t.steps = append(t.steps, step{name, len(t.shown)})
	switch {
	case isID(name):
		show(t, ".*")
	case isPlain(name):
		show(t, ".")
		show(t, name)
	default:
		show(t, "[")
		show(t, strconv.Quote(string(name[:min(len(name), maxPath)])))
		show(t, "]")
	}
}

// show appends to what is shown. What is too long for that shares a place.
func show[T ~string | ~[]byte](t *trail, s T) {
	switch n := len(t.shown); {
	case n > 0 && t.shown[n-1] == '~':
	case n+len(s) <= maxPath:
		t.shown = append(t.shown, s...)
	default:
		t.shown = append(t.shown, '~')
	}
}

func (t *trail) back() {
	last := len(t.steps) - 1
	t.shown = t.shown[:t.steps[last].before]
	t.steps = t.steps[:last]
}

func isPlain(name []byte) bool {
	if len(name) == 0 {
		return false
	}
	for i, c := range name {
		if !isLetter(c) && c != '_' && (i == 0 || !isDigit(c) && c != '-') {
			return false
		}
	}
	return true
}

// isID reports whether a name is one of many alike: a number, a UUID, a hash, an
// address of mail.
func isID(name []byte) bool {
	digits, hexits := 0, 0
	for _, c := range name {
		switch {
		case isDigit(c):
			digits++
			hexits++
		case c|0x20 >= 'a' && c|0x20 <= 'f', c == '-':
			hexits++
		case c == '@':
			return true
		}
	}
	n := len(name)
	return n > 0 && digits == n || n >= 16 && hexits == n && digits > 0
}

func isLetter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }
func isDigit(c byte) bool  { return c >= '0' && c <= '9' }

// mask is a pattern of trails: blocks of steps that follow each other, each
// block at any depth below the one before it. The first one begins at the root.
type mask [][]maskStep

// maskStep matches one step.
type maskStep struct {
	name    string
	any     bool // any child
	element bool // an element of an array
}

// parseMask reads a pattern in a part of JSONPath (RFC 9535): $ and after it
// .name, ["name"], .*, [*], [] for the elements of an array, and ..name for any
// depth.
func parseMask(s string) (mask, error) {
	rest, ok := strings.CutPrefix(s, "$")
	if !ok || rest == "" {
		return nil, fmt.Errorf(`path %q: expected "$" and what is below it, as in $.items[].id`, s)
	}
	m := mask{nil}
	for rest != "" {
		if below, ok := strings.CutPrefix(rest, ".."); ok {
			m = append(m, nil)
			if rest = below; below == "" {
				return nil, fmt.Errorf("path %q: expected a name behind the dots", s)
			}
			if rest[0] != '[' {
				rest = "." + rest
			}
		}
		var st maskStep
		var err error
		if st, rest, err = parseStep(rest); err != nil {
			return nil, fmt.Errorf("path %q: %w", s, err)
		}
		m[len(m)-1] = append(m[len(m)-1], st)
	}
	return m, nil
}

func parseStep(s string) (st maskStep, rest string, err error) {
	switch {
	case strings.HasPrefix(s, "[]"):
		return maskStep{element: true}, s[2:], nil
	case strings.HasPrefix(s, "[*]"):
		return maskStep{any: true}, s[3:], nil
	case strings.HasPrefix(s, `["`):
		quoted, err := strconv.QuotedPrefix(s[1:])
		if err != nil || !strings.HasPrefix(s[1+len(quoted):], "]") {
			return st, "", fmt.Errorf(`at %q: expected ["name"]`, s)
		}
		name, err := strconv.Unquote(quoted)
		return maskStep{name: name}, s[2+len(quoted):], err
	case strings.HasPrefix(s, "["):
		return st, "", fmt.Errorf(`at %q: expected [], [*] or ["name"]; elements are not told apart`, s)
	case strings.HasPrefix(s, "."):
		end := strings.IndexAny(s[1:], ".[")
		if end < 0 {
			end = len(s) - 1
		}
		name := s[1 : 1+end]
		if name == "" || !utf8.ValidString(name) {
			return st, "", fmt.Errorf("at %q: expected a name", s)
		}
		return maskStep{name: name, any: name == "*"}, s[1+end:], nil
	}
	return st, "", fmt.Errorf("at %q: expected . or [", s)
}

// covers reports whether the trail leads to what the mask matches or to
// something below that.
func (m mask) covers(steps []step) bool {
	at := 0
	for i, block := range m {
		for !matchBlock(block, steps[at:]) {
			// The first block is not below anything. Of the others the first
			// match is as good as any, since what is behind a match is free.
			if at++; i == 0 || at > len(steps) {
				return false
			}
		}
		at += len(block)
	}
	return true
}

func matchBlock(block []maskStep, steps []step) bool {
	if len(steps) < len(block) {
		return false
	}
	for i, b := range block {
		s := steps[i]
		switch {
		case b.any:
		case b.element != (s.name == nil), !b.element && !bytes.Equal(s.name, []byte(b.name)):
			return false
		}
	}
	return true
}
