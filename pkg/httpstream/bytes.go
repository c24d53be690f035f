package httpstream

import "bytes"

// Byte classes of RFC 9110 section 5.6.2 and RFC 3986 section 3.1, as tables:
// these run over every byte of every head.
const (
	isToken  uint8 = 1 << iota // tchar
	isValue                    // field-vchar, obs-text, SP, HTAB
	isTarget                   // what a request-target may hold: no CTL, no SP
	isScheme
)

var byteClass = func() (t [256]uint8) {
	for c := range 256 {
		b := byte(c)
		alpha := b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z'
		digit := b >= '0' && b <= '9'
		if alpha || digit {
			t[c] |= isToken | isScheme
		}
		if b >= 0x20 && b != 0x7f || b == '\t' {
			t[c] |= isValue
		}
		if b > 0x20 && b != 0x7f {
			t[c] |= isTarget
		}
	}
	for _, b := range []byte("!#$%&'*+-.^_`|~") {
		t[b] |= isToken
	}
	for _, b := range []byte("+-.") {
		t[b] |= isScheme
	}
	return t
}()

func isSchemeByte(c byte) bool { return byteClass[c]&isScheme != 0 }

// all reports whether every byte of b is of the class.
func all(b []byte, class uint8) bool {
	for _, c := range b {
		if byteClass[c]&class == 0 {
			return false
		}
	}
	return true
}

// equalFold compares ASCII letters without case. s must be of b's length.
func equalFold(b []byte, s string) bool {
	for i, c := range b {
		d := s[i]
		if c == d {
			continue
		}
		if c|0x20 != d|0x20 || c|0x20 < 'a' || c|0x20 > 'z' {
			return false
		}
	}
	return true
}

// hasListToken reports whether the comma-separated list v holds token,
// compared without case (RFC 9110 section 5.6.1).
func hasListToken(v []byte, token string) bool {
	for len(v) > 0 {
		item := v
		if i := bytes.IndexByte(v, ','); i >= 0 {
			item, v = v[:i], v[i+1:]
		} else {
			v = nil
		}
		item = trimOWS(item)
		if len(item) == len(token) && equalFold(item, token) {
			return true
		}
	}
	return false
}

// contains reports whether s, in lower case, is a part of v, compared without
// case.
func contains(v []byte, s string) bool {
	for ; len(v) >= len(s); v = v[1:] {
		if equalFold(v[:len(s)], s) {
			return true
		}
	}
	return false
}

// trimOWS removes optional whitespace (RFC 9110 section 5.6.3) at both ends.
func trimOWS(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	for len(b) > 0 && (b[len(b)-1] == ' ' || b[len(b)-1] == '\t') {
		b = b[:len(b)-1]
	}
	return b
}
