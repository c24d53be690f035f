package compare

import (
	"cmp"
	"slices"
	"strings"
)

// cookie is a Set-Cookie line (RFC 6265 section 4.1.1).
type cookie struct {
	name, value string
	attributes  string // with what separates them
	index       int
}

func parseCookie(l line) cookie {
	pair, attributes, _ := strings.Cut(l.Value, ";")
	name, value, _ := strings.Cut(pair, "=")
	return cookie{strings.TrimSpace(name), strings.TrimSpace(value), attributes, l.index}
}

// setCookie compares cookies by name, whatever their order, and then their
// values and attributes.
func (x *comparison) setCookie(part string, m, n []line) {
	a, b := x.sortCookies(0, m), x.sortCookies(1, n)
	for (len(a) > 0 || len(b) > 0) && !x.more {
		order := 0
		switch {
		case len(a) == 0:
			order = 1
		case len(b) == 0:
			order = -1
		default:
			order = strings.Compare(a[0].name, b[0].name)
		}
		switch {
		case order < 0:
			x.cookieDiffers(part, a[0].name, "", ChangeMissing, a[0].value, "")
			a = a[1:]
		case order > 0:
			x.cookieDiffers(part, b[0].name, "", ChangeAdded, "", b[0].value)
			b = b[1:]
		default:
			x.cookie(part, &a[0], &b[0])
			a, b = a[1:], b[1:]
		}
	}
}

func (x *comparison) sortCookies(side int, lines []line) []cookie {
	all := x.cookies[side][:0]
	for _, l := range lines {
		all = append(all, parseCookie(l))
	}
	slices.SortFunc(all, func(c, d cookie) int {
		return cmp.Or(strings.Compare(c.name, d.name), cmp.Compare(c.index, d.index))
	})
	x.cookies[side] = all
	return all
}

func (x *comparison) cookie(part string, c, d *cookie) {
	if c.value != d.value && !x.ignoresValues([]byte(c.value), []byte(d.value)) {
		change := ChangeForm
		if sameForm([]byte(c.value), []byte(d.value)) {
			change = ChangeValue
		}
		x.cookieDiffers(part, c.name, "", change, c.value, d.value)
	}
	if c.attributes == d.attributes {
		return
	}
	for _, name := range cookieAttributes {
		v, ok := c.attribute(name)
		w, ok2 := d.attribute(name)
		switch {
		case v == w && ok == ok2, name == "expires" && ok && ok2 && sameMoment(v, w), x.ignoresValues([]byte(v), []byte(w)):
		case !ok:
			x.cookieDiffers(part, c.name, name, ChangeAdded, "", w)
		case !ok2:
			x.cookieDiffers(part, c.name, name, ChangeMissing, v, "")
		default:
			x.cookieDiffers(part, c.name, name, ChangeForm, v, w)
		}
	}
}

// cookieAttributes are those that user agents know. An unknown one decides
// nothing.
var cookieAttributes = [...]string{"expires", "max-age", "domain", "path", "secure", "httponly", "samesite", "partitioned"}

// attribute returns the last attribute of a name, which is the one that counts
// (RFC 6265 section 5.3).
func (c *cookie) attribute(name string) (value string, ok bool) {
	for a := range strings.SplitSeq(c.attributes, ";") {
		n, v, _ := strings.Cut(strings.TrimSpace(a), "=")
		if equalFold(n, name) {
			value, ok = strings.TrimSpace(v), true
		}
	}
	switch name {
	case "domain", "samesite":
		value = strings.ToLower(value)
	}
	return value, ok
}

func (x *comparison) cookieDiffers(part, name, attribute, change, v1, v2 string) {
	path := "set-cookie " + clip(name)
	if attribute != "" {
		path += "; " + attribute
	}
	f := x.differ(part, path, change)
	if f == nil {
		return
	}
	f.v1, f.v2 = value{kind: isString, text: []byte(v1)}, value{kind: isString, text: []byte(v2)}
	switch change {
	case ChangeValue:
		f.learn, f.evidence = true, hash(hashSeed, v1)
	case ChangeMissing:
		f.v2 = value{note: "-"}
	case ChangeAdded:
		f.v1 = value{note: "-"}
	}
}
