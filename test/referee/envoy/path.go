package envoy

import "strings"

// normalize is Istio's path normalisation BASE, that is Envoy's
// normalize_path: "\" counts as "/", escapes of unreserved characters (RFC
// 3986 section 2.3) are undone, then dot segments are removed (section 5.2.4).
// Double slashes and all other escapes stay. ok is false for a path that Envoy
// answers with 400.
func normalize(path string) (_ string, ok bool) {
	path = strings.ReplaceAll(path, `\`, "/")
	var plain strings.Builder
	for i := 0; i < len(path); i++ {
		switch c, escaped := unescape(path[i:]); {
		case escaped && c == 0 || path[i] == 0:
			return "", false
		case escaped && isUnreserved(c):
			plain.WriteByte(c)
			i += 2
		default:
			plain.WriteByte(path[i])
		}
	}
	segments := strings.Split(plain.String()[1:], "/")
	kept := []string{}
	for i, s := range segments {
		dots := s == "." || s == ".."
		if s == ".." && len(kept) > 0 {
			kept = kept[:len(kept)-1]
		}
		switch {
		case !dots:
			kept = append(kept, s)
		case i == len(segments)-1:
			kept = append(kept, "") // the directory keeps its slash
		}
	}
	return "/" + strings.Join(kept, "/"), true
}

// unescape is the byte of the escape that s begins with.
func unescape(s string) (c byte, ok bool) {
	if len(s) < 3 || s[0] != '%' {
		return 0, false
	}
	for _, d := range []byte(s[1:3]) {
		v := strings.IndexByte("0123456789abcdef", lower(d))
		if v < 0 {
			return 0, false
		}
		c = c<<4 | byte(v)
	}
	return c, true
}

func lower(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

func isUnreserved(c byte) bool {
	c = lower(c)
	return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || strings.IndexByte("-._~", c) >= 0
}
