package rules

import (
	"bytes"

	"go.yaml.in/yaml/v3"
)

// chunk is some documents of a file.
type chunk struct {
	text   []byte
	before int // lines of the file that go before it
}

// minChunk is the size from which documents are worth a chunk of their own.
const minChunk = 32 << 10

// split cuts a file where documents begin, so that the chunks can be decoded at
// the same time. A line that begins with "---" and a space or its end is always
// the start of a document (YAML 1.2.2 section 9.1.2), whatever stands around it.
// A text for which that is not all there is to know is one chunk.
// Each but the last has at least so many bytes.
func split(data []byte, least int) []chunk {
	if len(data) < 2*least || !plainLines(data) {
		return []chunk{{text: data}}
	}
	var out []chunk
	from, before, line := 0, 0, 0
	for at := 0; at < len(data); {
		if at-from >= least && startsDocument(data[at:]) {
			out = append(out, chunk{data[from:at], before})
			from, before = at, line
		}
		n := bytes.IndexByte(data[at:], '\n')
		if n < 0 {
			break
		}
		at += n + 1
		line++
	}
	return append(out, chunk{data[from:], before})
}

// startsDocument reports whether a line does.
func startsDocument(line []byte) bool {
	rest, ok := bytes.CutPrefix(line, []byte("---"))
	return ok && (len(rest) == 0 || bytes.IndexByte([]byte(" \t\r\n"), rest[0]) >= 0)
}

// plainLines reports whether a text is UTF-8 whose lines end with "\n" or
// "\r\n" alone, without directives, which would be for the document behind
// the next "---", and without anchors, which the decoder knows in later
// documents too.
func plainLines(data []byte) bool {
	for _, odd := range []string{"\x00", "\u0085", "\u2028", "\u2029", "\n%", "&"} {
		if bytes.Contains(data, []byte(odd)) {
			return false
		}
	}
	return (len(data) == 0 || data[0] != '%') && !bytes.HasPrefix(data, []byte("\ufeff")) && !bytes.HasPrefix(data, []byte("\xff\xfe")) &&
		!bytes.HasPrefix(data, []byte("\xfe\xff")) && bytes.Count(data, []byte("\r")) == bytes.Count(data, []byte("\r\n"))
}

// lower moves nodes down by some lines.
func lower(n *yaml.Node, lines int) {
	if lines == 0 {
		return
	}
	n.Line += lines
	for _, child := range n.Content { // an alias has none
		lower(child, lines)
	}
}
