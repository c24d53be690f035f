package compare

import (
	"fmt"
	"hash/maphash"
	"strconv"
	"strings"
)

// maxShown bounds a value in an example, in bytes.
const maxShown = 80

// harmless are the fields whose values are no secrets.
var harmless = names{
	"accept-ranges", "access-control-*", "allow", "cache-control", "connection", "content-encoding",
	"content-language", "content-length", "content-security-policy", "content-type", "cross-origin-*",
	"expires", "last-modified", "referrer-policy", "retry-after", "server", "strict-transport-security",
	"vary", "x-content-type-options", "x-frame-options", "x-powered-by", "x-xss-protection",
}

// redactor writes values for people who must not learn secrets: the type, the
// length and a hash, by which one agent's values can be told apart.
type redactor struct {
	show bool
	seed maphash.Seed
}

func (r *redactor) value(f *difference, v *value) string {
	switch {
	case v.note != "":
		return v.note
	case v.kind == isNull:
		return "null"
	case v.kind == isArray:
		return fmt.Sprintf("array of %d", v.size)
	case v.kind == isObject:
		return fmt.Sprintf("object of %d", v.size)
	case r.show || (f.part == PartHeader || f.part == PartTrailer) && has(harmless, f.path):
		return shown(v)
	}
	tag := maphash.Bytes(r.seed, v.text) & 0xffffff
	if v.kind == isString || v.kind == isText {
		return fmt.Sprintf("%s of %d #%06x", kindNames[v.kind], len(v.text), tag)
	}
	return fmt.Sprintf("%s #%06x", kindNames[v.kind], tag)
}

func shown(v *value) string {
	text := v.text[:min(len(v.text), maxShown)]
	s := string(text)
	if v.kind == isString || v.kind == isText {
		s = strconv.Quote(s)
	}
	if len(text) < len(v.text) {
		s += fmt.Sprintf("... (%d bytes)", len(v.text))
	}
	return s
}

// target is a request target without the values of its query.
func (r *redactor) target(target string) string {
	path, query, ok := strings.Cut(target, "?")
	if !ok || r.show {
		return clip(target)
	}
	var b strings.Builder
	b.WriteString(path)
	sep := byte('?')
	for pair := range strings.SplitSeq(query, "&") {
		name, _, hasValue := strings.Cut(pair, "=")
		b.WriteByte(sep)
		sep = '&'
		if hasValue {
			b.WriteString(name + "=*")
		} else {
			b.WriteByte('*')
		}
		if b.Len() > maxName {
			break
		}
	}
	return clip(b.String())
}
