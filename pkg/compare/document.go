package compare

import (
	"encoding/json"
	"unicode/utf16"
	"unicode/utf8"
)

// Bounds of a JSON document. What is nested deeper is compared as text, and so
// is a document with more values.
const (
	maxDepth = 256
	maxNodes = 1 << 17
)

// kind is what a JSON value is.
type kind uint8

const (
	isNull kind = iota
	isBool
	isNumber
	isString
	isArray
	isObject
	isText // a container below maxDepth: its bytes
)

var kindNames = [...]string{"null", "bool", "number", "string", "array", "object", "text"}

// node is one value of a document, or the name of a member.
type node struct {
	kind       kind
	inExtra    bool  // the text is in extra
	start, end int32 // of the text; without the quotes of a string
	next       int32 // the node behind this one and all below it
	size       int32 // elements of an array, members of an object
}

// document is a JSON text (RFC 8259) as a flat list of its values, a container
// before what is in it. It is used again for the next one, so that nothing is
// allocated.
type document struct {
	src   []byte
	extra []byte // strings whose escapes were resolved
	nodes []node
	open  []int32
}

// parse reads a JSON text. It reports false if it is none, or too large.
func (d *document) parse(src []byte) bool {
	if len(src) > 1<<30 || !json.Valid(src) {
		return false
	}
	d.src, d.extra, d.nodes, d.open = src, d.extra[:0], d.nodes[:0], d.open[:0]
	for i := 0; i < len(src); {
		switch src[i] {
		case ' ', '\t', '\n', '\r', ',', ':':
			i++
		case ']', '}':
			i++
			d.leave(i)
		default:
			if len(d.nodes) == maxNodes {
				return false
			}
			i = d.add(i)
		}
	}
	return true
}

// add appends the node of what begins at i, and returns where to read on: behind
// a scalar, or inside a container.
func (d *document) add(i int) int {
	if len(d.open) > 0 {
		d.nodes[d.open[len(d.open)-1]].size++
	}
	n := node{start: int32(i), next: int32(len(d.nodes) + 1)}
	switch c := d.src[i]; c {
	case '[', '{':
		if len(d.open) < maxDepth {
			n.kind = isArray
			if c == '{' {
				n.kind = isObject
			}
			d.open = append(d.open, int32(len(d.nodes)))
			d.nodes = append(d.nodes, n)
			return i + 1
		}
		n.kind, i = isText, skipContainer(d.src, i)
	case '"':
		var escaped bool
		i, escaped = skipString(d.src, i)
		n.kind, n.start, n.end = isString, n.start+1, int32(i-1)
		if escaped {
			text := d.src[n.start:n.end]
			n.inExtra, n.start = true, int32(len(d.extra))
			d.extra = unescape(d.extra, text)
			n.end = int32(len(d.extra))
		}
		d.nodes = append(d.nodes, n)
		return i
	case 't':
		n.kind, i = isBool, i+len("true")
	case 'f':
		n.kind, i = isBool, i+len("false")
	case 'n':
		n.kind, i = isNull, i+len("null")
	default:
		n.kind, i = isNumber, skipNumber(d.src, i)
	}
	n.end = int32(i)
	d.nodes = append(d.nodes, n)
	return i
}

// leave completes the innermost open container, which ends in front of i.
func (d *document) leave(i int) {
	last := len(d.open) - 1
	n := &d.nodes[d.open[last]]
	d.open = d.open[:last]
	n.end, n.next = int32(i), int32(len(d.nodes))
	if n.kind == isObject {
		n.size /= 2 // a name and a value each
	}
}

// text returns the bytes of a node: of a string what it stands for, of anything
// else as it is written.
func (d *document) text(i int32) []byte {
	n := &d.nodes[i]
	if n.inExtra {
		return d.extra[n.start:n.end]
	}
	return d.src[n.start:n.end]
}

// skipString returns where the string that begins at i ends, and whether there
// is an escape in it. The text is known to be valid.
func skipString(src []byte, i int) (end int, escaped bool) {
	for i++; src[i] != '"'; i++ {
		if src[i] == '\\' {
			escaped = true
			i++
		}
	}
	return i + 1, escaped
}

// skipNumber returns where the number that begins at i ends.
func skipNumber(src []byte, i int) int {
	for i < len(src) && (src[i] >= '0' && src[i] <= '9' || src[i] == '-' || src[i] == '+' || src[i] == '.' || src[i]|0x20 == 'e') {
		i++
	}
	return i
}

// skipContainer returns where the container that begins at i ends.
func skipContainer(src []byte, i int) int {
	for depth := 0; ; {
		switch src[i] {
		case '"':
			i, _ = skipString(src, i)
			continue
		case '[', '{':
			depth++
		case ']', '}':
			if depth--; depth == 0 {
				return i + 1
			}
		}
		i++
	}
}

// unescape appends what the inside of a valid JSON string stands for (RFC 8259
// section 7). A surrogate without its other half becomes U+FFFD, as in
// encoding/json.
func unescape(to, s []byte) []byte {
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			to = append(to, s[i])
			continue
		}
		i++
		switch s[i] {
		case 'b':
			to = append(to, '\b')
		case 'f':
			to = append(to, '\f')
		case 'n':
			to = append(to, '\n')
		case 'r':
			to = append(to, '\r')
		case 't':
			to = append(to, '\t')
		case 'u':
			r := hex4(s[i+1:])
			i += 4
			if utf16.IsSurrogate(r) {
				pair := utf8.RuneError
				if i+6 < len(s) && s[i+1] == '\\' && s[i+2] == 'u' {
					pair = utf16.DecodeRune(r, hex4(s[i+3:]))
				}
				if pair != utf8.RuneError {
					i += 6
				}
				r = pair
			}
			to = utf8.AppendRune(to, r)
		default: // " \ /
			to = append(to, s[i])
		}
	}
	return to
}

func hex4(s []byte) (r rune) {
	for _, c := range s[:4] {
		r <<= 4
		switch {
		case c <= '9':
			r |= rune(c - '0')
		default:
			r |= rune(c|0x20-'a') + 10
		}
	}
	return r
}
