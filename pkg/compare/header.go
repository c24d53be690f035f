package compare

import (
	"cmp"
	"mime"
	"slices"
	"strings"
	"time"
)

// clockSkew is by how much the times of two answers to one request may differ
// that say when something expires: the shadow answers later.
const clockSkew = 2 * time.Minute

// line is a field line and its place among the others.
type line struct {
	Field
	index int
}

// header compares field lines by name, whatever the case and order of names.
// The order of the lines of one name counts (RFC 9110 section 5.3).
func (x *comparison) header(part string, p *Pair, v1, v2 []Field) {
	x.gather(0, p, v1)
	x.gather(1, p, v2)
	a, b := x.lines[0], x.lines[1]
	for (len(a) > 0 || len(b) > 0) && !x.more {
		order := 0
		switch {
		case len(a) == 0:
			order = 1
		case len(b) == 0:
			order = -1
		default:
			order = compareFold(a[0].Name, b[0].Name)
		}
		var m, n []line
		if order <= 0 {
			m, a = sameName(a)
		}
		if order >= 0 {
			n, b = sameName(b)
		}
		x.field(part, p, m, n)
	}
}

// gather sorts the lines of a side that are to be compared.
func (x *comparison) gather(side int, p *Pair, fields []Field) {
	var listed names // RFC 9110 section 7.6.1
	for _, f := range fields {
		if has(hopByHop[:1], f.Name) {
			for option := range strings.SplitSeq(strings.ToLower(f.Value), ",") {
				listed = append(listed, strings.TrimSpace(option))
			}
		}
	}
	content := p.Method != "HEAD" && p.Production.Status != 304
	lines := x.lines[side][:0]
	for i, f := range fields {
		if x.ignoresField(f.Name, content) || listed != nil && has(listed, f.Name) {
			continue
		}
		lines = append(lines, line{f, i})
	}
	slices.SortFunc(lines, func(l, m line) int {
		if c := compareFold(l.Name, m.Name); c != 0 {
			return c
		}
		return cmp.Compare(l.index, m.index)
	})
	x.lines[side] = lines
}

// sameName splits off the lines with the name of the first.
func sameName(lines []line) (same, rest []line) {
	n := 1
	for n < len(lines) && compareFold(lines[n].Name, lines[0].Name) == 0 {
		n++
	}
	return lines[:n], lines[n:]
}

// field compares the lines of one name. One side may have none.
func (x *comparison) field(part string, p *Pair, m, n []line) {
	switch {
	case len(m) == 0 && equalFold(n[0].Name, "set-cookie"), len(m) > 0 && equalFold(m[0].Name, "set-cookie"):
		x.setCookie(part, m, n)
		return
	case len(m) == 0:
		x.fieldDiffers(part, n[0].Name, ChangeAdded, nil, n)
		return
	case len(n) == 0:
		x.fieldDiffers(part, m[0].Name, ChangeMissing, m, nil)
		return
	}
	if len(m) == 1 && len(n) == 1 && m[0].Value == n[0].Value {
		return
	}
	a, b := joined(m), joined(n)
	if sameFieldValue(p, m[0].Name, a, b) {
		return
	}
	if x.ignoresValues([]byte(a), []byte(b)) {
		return
	}
	change := ChangeForm
	if sameForm([]byte(a), []byte(b)) {
		change = ChangeValue
	}
	x.fieldDiffers(part, m[0].Name, change, m, n)
}

func sameFieldValue(p *Pair, name, a, b string) bool {
	if a == b {
		return true
	}
	switch {
	case equalFold(name, "content-type"):
		return sameMedia(a, b)
	case equalFold(name, "location"), equalFold(name, "content-location"):
		return ownPath(p, a) == ownPath(p, b)
	case equalFold(name, "expires"):
		return sameMoment(a, b)
	}
	return spaced(a) == spaced(b)
}

func (x *comparison) fieldDiffers(part, name, change string, m, n []line) {
	f := x.differ(part, clip(strings.ToLower(name)), change)
	if f == nil {
		return
	}
	f.v1, f.v2 = fieldValue(m), fieldValue(n)
	if change == ChangeValue {
		f.learn, f.evidence = true, hash(hashSeed, f.v1.text)
	}
}

func fieldValue(lines []line) value {
	if lines == nil {
		return value{note: "-"}
	}
	return value{kind: isString, text: []byte(joined(lines))}
}

// joined is the value of several lines of one name (RFC 9110 section 5.3).
func joined(lines []line) string {
	if len(lines) == 1 {
		return lines[0].Value
	}
	var b strings.Builder
	for i, l := range lines {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(l.Value)
	}
	return b.String()
}

// spaced is a list without optional whitespace beside its commas, unless there
// is a quoted string in it.
func spaced(list string) string {
	if strings.Contains(list, `"`) {
		return list
	}
	parts := strings.Split(list, ",")
	for i := range parts {
		parts[i] = strings.Trim(parts[i], " \t")
	}
	return strings.Join(parts, ",")
}

// sameMedia compares media types (RFC 9110 section 8.3.1).
func sameMedia(a, b string) bool {
	s, p, err := mime.ParseMediaType(a)
	t, q, err2 := mime.ParseMediaType(b)
	if err != nil || err2 != nil || s != t || len(p) != len(q) {
		return false
	}
	for name, v := range p {
		w, ok := q[name]
		if !ok || v != w && (name != "charset" || !strings.EqualFold(v, w)) {
			return false
		}
	}
	return true
}

// ownPath is a reference without scheme and authority if these are those of the
// request, or those that Envoy gives its copy.
func ownPath(p *Pair, ref string) string {
	_, rest, ok := strings.Cut(ref, "://")
	if !ok {
		return ref
	}
	authority, path := rest, "/"
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		authority, path = rest[:i], rest[i:]
	}
	if strings.EqualFold(authority, p.Host) || strings.EqualFold(authority, shadowed(p.Host)) {
		return path
	}
	return ref
}

// shadowed is the host as Envoy writes it into a mirrored request.
func shadowed(host string) string {
	if i := strings.LastIndexByte(host, ':'); i >= 0 && !strings.HasSuffix(host, "]") {
		return host[:i] + "-shadow" + host[i:]
	}
	return host + "-shadow"
}

func sameMoment(a, b string) bool {
	s, ok := timeOf([]byte(a))
	t, ok2 := timeOf([]byte(b))
	return ok && ok2 && s.Sub(t).Abs() <= clockSkew
}

func compareFold(a, b string) int {
	for i := range min(len(a), len(b)) {
		if c := cmp.Compare(lower(a[i]), lower(b[i])); c != 0 {
			return c
		}
	}
	return cmp.Compare(len(a), len(b))
}
