package httpstream

import "bytes"

// maxChunkLine bounds a chunk-size line with its extensions.
const maxChunkLine = 4096

// parseChunkLine reads a chunk-size line without its CRLF (RFC 9112
// section 7.1). Whitespace around the size, which some parsers skip and some
// do not, is refused; extensions are carried but may hold no control bytes.
func parseChunkLine(line []byte) (size int64, ok bool) {
	n := 0
	for n < len(line) {
		c := line[n]
		var d byte
		switch {
		case c >= '0' && c <= '9':
			d = c - '0'
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			d = c | 0x20 - 'a' + 10
		default:
			return size, n > 0 && c == ';' && all(line[n:], isValue)
		}
		if n == 15 { // one more digit might not fit an int64
			return 0, false
		}
		size = size<<4 | int64(d)
		n++
	}
	return size, n > 0
}

// appendDechunked appends the content of a body that the parser has accepted.
func appendDechunked(dst, body []byte) []byte {
	for {
		i := bytes.IndexByte(body, '\n')
		if i < 1 {
			return dst
		}
		size, _ := parseChunkLine(body[:i-1])
		if size == 0 || size+2 > int64(len(body)-i-1) {
			return dst
		}
		body = body[i+1:]
		dst = append(dst, body[:size]...)
		body = body[size+2:]
	}
}
