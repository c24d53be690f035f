package compare

import (
	"bytes"
	"time"
)

// sameForm reports whether two different values look as if one source had made
// them: two UUIDs, two times, two tokens of about one length, or texts that
// differ only in words with digits in them. Of a value that varies by itself
// this is what can still be expected, so only a difference within one form can
// be noise; an id that became empty, or an error, cannot.
func sameForm(a, b []byte) bool {
	f := formOf(a)
	if f != formOf(b) {
		return false
	}
	switch f {
	case formToken:
		d := len(a) - len(b)
		return 10*max(d, -d) <= max(len(a), len(b), 20)
	case formText:
		return skeleton(a) == skeleton(b)
	}
	return true
}

type form uint8

const (
	formEmpty form = iota
	formNumber
	formUUID
	formTime
	formToken
	formText
)

func formOf(s []byte) form {
	letters, digits, points, others := 0, 0, 0, 0
	for _, c := range s {
		switch {
		case isLetter(c):
			letters++
		case isDigit(c):
			digits++
		case c == '.':
			points++
		case c == '-' || c == '_' || c == '~' || c == '+' || c == '/' || c == '=':
		default:
			others++
		}
	}
	switch {
	case len(s) == 0:
		return formEmpty
	case isUUID(s):
		return formUUID
	case digits > 0 && points <= 1 && (digits+points == len(s) || digits+points+1 == len(s) && s[0] == '-'):
		return formNumber
	case isTime(s):
		return formTime
	case others == 0 && len(s) >= 8 && (letters > 0 && digits > 0 || len(s) >= 20):
		return formToken
	}
	return formText
}

func isUUID(s []byte) bool {
	if len(s) != 36 {
		return false
	}
	for i, c := range s {
		switch i {
		case 8, 13, 18, 23:
			if c != '-' {
				return false
			}
		default:
			if !isDigit(c) && (c|0x20 < 'a' || c|0x20 > 'f') {
				return false
			}
		}
	}
	return true
}

// timeLayouts are the ways in which answers write times: RFC 3339 and close to
// it, and the three of RFC 9110 section 5.6.7, with those of cookies.
var timeLayouts = [...]string{
	time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05.999999999",
	"Mon, 02 Jan 2006 15:04:05 GMT", time.RFC850, time.ANSIC, "Mon, 02-Jan-2006 15:04:05 MST",
}

func timeOf(s []byte) (time.Time, bool) {
	if len(s) < len("2006-01-02T15:04:05") || len(s) > 40 || bytes.Count(s, []byte(":")) < 2 {
		return time.Time{}, false
	}
	for _, layout := range timeLayouts {
		if t, err := time.Parse(layout, string(s)); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}

func isTime(s []byte) bool {
	_, ok := timeOf(s)
	return ok
}

// skeleton digests a text in which all words with a digit are alike.
func skeleton(s []byte) uint64 {
	h := hashSeed
	for i := 0; i < len(s); {
		end, digit := i, false
		for end < len(s) && (isLetter(s[end]) || isDigit(s[end]) || s[end] == '_' || s[end] == '-') {
			digit = digit || isDigit(s[end])
			end++
		}
		switch {
		case digit:
			h = (h ^ '0') * hashPrime
		case end > i:
			for _, c := range s[i:end] {
				h = (h ^ uint64(c)) * hashPrime
			}
		default:
			h = (h ^ uint64(s[i])) * hashPrime
			end++
		}
		i = end
	}
	return mix(h)
}
