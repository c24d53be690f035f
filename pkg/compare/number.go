package compare

import (
	"bytes"
	"strconv"
)

// equalNumbers reports whether two JSON numbers (RFC 8259 section 6) are the
// same, exactly, however they are written: 1, 1.0 and 10e-1 are, and
// 9007199254740993 and 9007199254740992 are not.
func equalNumbers(a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	x, y := readDecimal(a), readDecimal(b)
	if !x.ok || !y.ok || x.negative != y.negative || x.n != y.n || x.exponent != y.exponent {
		return false
	}
	i, j := x.first, y.first
	for range x.n {
		if a[i] == '.' {
			i++
		}
		if b[j] == '.' {
			j++
		}
		if a[i] != b[j] {
			return false
		}
		i++
		j++
	}
	return true
}

// decimal is a number as 0.ddd * 10^exponent, where the n digits begin at first
// and neither begin nor end with 0.
type decimal struct {
	negative bool
	first, n int
	exponent int64
	ok       bool
}

func readDecimal(s []byte) (d decimal) {
	digits, exponent := s, int64(0)
	if e := bytes.IndexAny(s, "eE"); e >= 0 {
		var err error
		if exponent, err = strconv.ParseInt(string(s[e+1:]), 10, 32); err != nil {
			return decimal{} // beyond 10^2^31 only what is written alike is the same
		}
		digits = s[:e]
	}
	d.ok = true
	point := bytes.IndexByte(digits, '.')
	if point < 0 {
		point = len(digits)
	}
	first, last := -1, -1
	for i, c := range digits {
		if c >= '1' && c <= '9' {
			if first < 0 {
				first = i
			}
			last = i
		}
	}
	if first < 0 {
		return d // zero has no sign
	}
	d.negative = s[0] == '-'
	d.first, d.n = first, last-first+1
	d.exponent = exponent + int64(point-first)
	if first > point {
		d.exponent++ // the point is in front of first and no digit
	} else if last > point {
		d.n--
	}
	return d
}
