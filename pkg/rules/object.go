package rules

import (
	"fmt"
	"strings"
)

// DecodeObject decodes one object as an API server sends it, in JSON. It means
// the same as in a file, and what is wrong with it reads the same, without the
// line. The Snapshot holds the object, or nothing if it could not be
// identified, and refers to nothing of data.
func DecodeObject(data []byte) (*Snapshot, Problems) {
	s, problems := Decode("", escaped(data))
	for i := range problems {
		problems[i].Position = Position{}
	}
	s.metas(func(m *Meta) {
		// The text is one line, and its syntax tree is many times as large
		// as the object.
		m.Position, m.node = Position{}, nil
	})
	return s, problems
}

// escaped is JSON without the characters that may stand in a text of JSON and
// not in one of YAML, or that YAML takes for the end of a line there (YAML
// 1.2.2 section 5.1): as escapes both mean the same.
func escaped(data []byte) []byte {
	odd := func(r rune) bool {
		return r >= 0x7f && r < 0xa0 || r == '\u2028' || r == '\u2029' || r == '\ufeff' || r == '\ufffe' || r == '\uffff'
	}
	text := string(data)
	if !strings.ContainsFunc(text, odd) {
		return data
	}
	var out []byte
	for _, r := range text {
		if odd(r) {
			out = fmt.Appendf(out, "\\u%04x", r)
		} else {
			out = append(out, string(r)...)
		}
	}
	return out
}
