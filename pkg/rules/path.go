package rules

import (
	"bytes"
	"fmt"
)

// Normalization says which form of the path rules are matched against and
// copies carry (Istio: MeshConfig.pathNormalization).
type Normalization uint8

// The forms of a path.
const (
	// NormalizeBase is Istio's default, BASE: dot segments are resolved, also
	// those written with %2E; "\" is "/"; escapes of letters, digits, "-",
	// "_", "." and "~" are undone, and bytes that a path cannot hold are
	// escaped. Double slashes and %2F stay, and so does the query.
	NormalizeBase Normalization = iota
	// NormalizeNone is the path as sent.
	NormalizeNone
	// NormalizeMergeSlashes is BASE with every run of slashes made one.
	NormalizeMergeSlashes
	// NormalizeDecodeAndMergeSlashes is MERGE_SLASHES with %2F and %5C
	// decoded before: the path a server behind sees may have more segments.
	NormalizeDecodeAndMergeSlashes
	// verbatim is the target as sent, even if it has no path. Nothing is
	// matched against it.
	verbatim
)

// What normalisation does with a byte of a path. Envoy normalises with
// Chromium's URL library, CanonicalizePath at the revision that Envoy pins;
// this is its table.
const (
	special    uint8 = 1 << iota // not just copied
	escape                       // to be written as an escape
	unreserved                   // not to be written as an escape
)

var pathClass = func() (t [256]uint8) {
	for c := range 256 {
		b := byte(c)
		switch {
		case b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9':
			t[c] = unreserved
		case b <= ' ' || b >= 0x7f:
			t[c] = special | escape
		}
	}
	for _, b := range []byte("-_~") {
		t[b] = unreserved
	}
	for _, b := range []byte("\"#<>?^`{|}") {
		t[b] = special | escape
	}
	for _, b := range []byte(`.%\`) {
		t[b] = special
	}
	return t
}()

// ParseNormalization reads a form as MeshConfig.pathNormalization spells it:
// BASE (also DEFAULT), NONE, MERGE_SLASHES or DECODE_AND_MERGE_SLASHES.
func ParseNormalization(s string) (Normalization, error) {
	switch s {
	case "BASE", "DEFAULT":
		return NormalizeBase, nil
	case "NONE":
		return NormalizeNone, nil
	case "MERGE_SLASHES":
		return NormalizeMergeSlashes, nil
	case "DECODE_AND_MERGE_SLASHES":
		return NormalizeDecodeAndMergeSlashes, nil
	}
	return 0, fmt.Errorf("%q: expected BASE, NONE, MERGE_SLASHES or DECODE_AND_MERGE_SLASHES", s)
}

// isNormal reports whether path certainly is in the form already.
func (n Normalization) isNormal(path []byte) bool {
	switch n {
	case NormalizeNone, verbatim:
		return true
	case NormalizeBase:
		return isNormal(path)
	}
	return isNormal(path) && !bytes.Contains(path, []byte("//"))
}

// appendNormalized appends path, which begins with "/" and has no query, to
// dst in the form n. ok is false if Envoy refuses the path.
func (n Normalization) appendNormalized(dst, path []byte) (_ []byte, ok bool) {
	start := len(dst)
	switch n {
	case NormalizeNone, verbatim:
		return append(dst, path...), true
	case NormalizeBase:
		return appendNormalized(dst, path)
	case NormalizeDecodeAndMergeSlashes:
		dst = appendDecodedSlashes(dst, path)
		decoded := dst[start:]
		if dst, ok = appendNormalized(dst, decoded); !ok {
			return dst, false
		}
		dst = append(dst[:start], dst[start+len(decoded):]...)
	default:
		if dst, ok = appendNormalized(dst, path); !ok {
			return dst, false
		}
	}
	return mergeSlashes(dst, start), true
}

// appendDecodedSlashes appends path with every escaped slash and backslash
// decoded (Envoy: PathUtil::unescapeSlashes).
func appendDecodedSlashes(dst, path []byte) []byte {
	for i := 0; i < len(path); i++ {
		if path[i] == '%' && i+2 < len(path) {
			if hi, lo := path[i+1], path[i+2]|0x20; hi == '2' && lo == 'f' || hi == '5' && lo == 'c' {
				dst = append(dst, unhex(hi)<<4|unhex(path[i+2]))
				i += 2
				continue
			}
		}
		dst = append(dst, path[i])
	}
	return dst
}

// mergeSlashes makes every run of slashes in dst[start:] one. A path of
// nothing but slashes becomes two (Envoy: PathUtil::mergeSlashes keeps the
// first and the last of a path and joins what is between).
func mergeSlashes(dst []byte, start int) []byte {
	path := dst[start:]
	if !bytes.Contains(path, []byte("//")) {
		return dst
	}
	out := path[:0]
	for i, c := range path {
		if c != '/' || i == 0 || path[i-1] != '/' {
			out = append(out, c)
		}
	}
	if len(out) == 1 && out[0] == '/' {
		out = append(out, '/')
	}
	return dst[:start+len(out)]
}

// isNormal reports whether path, which begins with "/", certainly is as
// appendNormalized would leave it. It runs over every path; what it is in
// doubt about is rare.
func isNormal(path []byte) bool {
	for i, c := range path {
		if pathClass[c]&special != 0 && (c != '.' || path[i-1] == '/') {
			return false
		}
	}
	return true
}

// appendNormalized appends path, which begins with "/" and has no query, to
// dst in its BASE form. ok is false if Envoy refuses the path: it holds a NUL.
func appendNormalized(dst, path []byte) (_ []byte, ok bool) {
	start := len(dst)
	badPercent := -4 // where dst has a "%" that begins no escape
	for i := 0; i < len(path); {
		c := path[i]
		if pathClass[c]&special == 0 {
			dst = append(dst, c)
			i++
			continue
		}
		if n := dotLen(path[i:]); n > 0 {
			i += n
			if len(dst) == start || dst[len(dst)-1] != '/' {
				dst = append(dst, '.')
				continue
			}
			switch up, n := dotSegment(path[i:]); {
			case n < 0:
				dst = append(dst, '.')
			case up:
				dst = parent(dst, start)
				i += n
			default:
				i += n
			}
			continue
		}
		i++
		switch {
		case c == '\\':
			dst = append(dst, '/')
		case c == 0:
			return dst, false
		case c != '%':
			dst = appendEscape(dst, c)
		case len(path) < i+2 || !isHex(path[i]) || !isHex(path[i+1]):
			badPercent = len(dst)
			dst = append(dst, '%')
		default:
			b := unhex(path[i])<<4 | unhex(path[i+1])
			if b == 0 {
				return dst, false
			}
			if pathClass[b]&unreserved == 0 {
				dst = append(dst, '%', path[i], path[i+1])
			} else if dst = append(dst, b); badPercent >= len(dst)-3 {
				dst = splitNested(dst, path[i+2:], badPercent)
			}
			i += 2
		}
	}
	return dst, true
}

// dotLen is the length of the dot, plain or escaped, that b begins with.
func dotLen(b []byte) int {
	switch {
	case b[0] == '.':
		return 1
	case len(b) >= 3 && b[0] == '%' && b[1] == '2' && b[2]|0x20 == 'e':
		return 3
	}
	return 0
}

// dotSegment says what a dot at the start of a segment is, from what follows
// it: the current directory, the parent, or with n < 0 just a dot. Otherwise n
// is the length of the rest of the segment with its slash.
func dotSegment(b []byte) (up bool, n int) {
	if len(b) == 0 || isSlash(b[0]) {
		return false, min(len(b), 1)
	}
	n = dotLen(b)
	switch {
	case n == 0:
		return false, -1
	case len(b) == n:
		return true, n
	case isSlash(b[n]):
		return true, n + 1
	}
	return false, -1
}

func isSlash(c byte) bool { return c == '/' || c == '\\' }

// parent removes the last segment of the path that begins at start and ends
// with a slash; that slash goes, the one before it stays.
func parent(dst []byte, start int) []byte {
	if len(dst)-1 == start {
		return dst
	}
	return dst[:start+bytes.LastIndexByte(dst[start:len(dst)-1], '/')+1]
}

// splitNested keeps a "%" that began no escape from beginning one now that
// something behind it was unescaped: "%%300" must not become "%00". dst ends
// with that "%" and one or two characters; next is the input still to come.
func splitNested(dst, next []byte, percent int) []byte {
	n := len(dst)
	last := dst[n-1]
	short := percent == n-2
	if short {
		if len(next) == 0 || next[0] >= 0x80 {
			return dst
		}
		dst = append(dst, next[0])
	}
	if !isHex(dst[percent+1]) || !isHex(dst[percent+2]) {
		return dst[:n]
	}
	if !short {
		dst = append(dst, dst[percent+1])
	}
	dst[percent+1], dst[percent+2] = '2', '5'
	return append(dst, last)
}

func appendEscape(dst []byte, c byte) []byte {
	const digits = "0123456789ABCDEF"
	return append(dst, '%', digits[c>>4], digits[c&15])
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'f'
}

// unhex is the value of a hexadecimal digit.
func unhex(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c | 0x20 - 'a' + 10
}

// splitPath splits a target without scheme and authority into the path, which
// is empty in "http://host", and the query with its "?". A fragment, which no
// request should have, is not part of either (Istio has Envoy strip it).
func splitPath(target []byte) (path, query []byte) {
	if i := bytes.IndexByte(target, '#'); i >= 0 {
		target = target[:i]
	}
	if i := bytes.IndexByte(target, '?'); i >= 0 {
		target, query = target[:i], target[i:]
	}
	return target, query
}
