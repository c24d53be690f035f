package replay

import "bytes"

func isDigit(c byte) bool { return c >= '0' && c <= '9' }
func isSpace(c byte) bool { return c == ' ' || c == '\t' }

// trim cuts optional whitespace (RFC 9110 section 5.6.3) off both ends.
func trim(b []byte) []byte {
	for len(b) > 0 && isSpace(b[0]) {
		b = b[1:]
	}
	for len(b) > 0 && isSpace(b[len(b)-1]) {
		b = b[:len(b)-1]
	}
	return b
}

// equalFold compares without case; s consists of lower-case letters and
// hyphens.
func equalFold(b []byte, s string) bool {
	if len(b) != len(s) {
		return false
	}
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		if c != s[i] {
			return false
		}
	}
	return true
}

// parseLength takes a Content-Length value: digits only (RFC 9110
// section 8.6).
func parseLength(v []byte) (int64, bool) {
	if len(v) == 0 {
		return 0, false
	}
	var n int64
	for _, c := range v {
		if !isDigit(c) || n > (1<<63-1-9)/10 {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, true
}

// connectionOptions adds what a Connection field's value says about
// persistence (RFC 9110 section 7.6.1) to what earlier ones said.
func connectionOptions(value []byte, closing, keepAlive bool) (bool, bool) {
	for len(value) > 0 {
		option := value
		if i := bytes.IndexByte(value, ','); i >= 0 {
			option, value = value[:i], value[i+1:]
		} else {
			value = nil
		}
		option = trim(option)
		closing = closing || equalFold(option, "close")
		keepAlive = keepAlive || equalFold(option, "keep-alive")
	}
	return closing, keepAlive
}
