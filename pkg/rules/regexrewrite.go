package rules

import (
	"fmt"
	"regexp"
	"strings"

	networking "istio.io/api/networking/v1alpha3"
)

// regexRewrite replaces every match of an expression (RE2::GlobalReplace),
// none of which makes the path empty: for Envoy that is no rewrite.
type regexRewrite struct {
	re *regexp.Regexp
	to []byte // as regexp.Expand takes it

	text, groups int // of to: bytes of text at most, and references to groups
}

// apply rewrites the path at dst[at:]. Package regexp has no way to learn
// where an expression matches without allocating; where it does not match
// nothing is allocated.
func (x *regexRewrite) apply(dst []byte, at int) []byte {
	if !x.re.Match(dst[at:]) {
		return dst
	}
	out := x.re.ReplaceAll(dst[at:], x.to)
	if len(out) == 0 {
		return dst
	}
	return append(dst[:at], out...)
}

// regexRewrite compiles a RegexRewrite, nil if that is not possible.
func (c *compiler) regexRewrite(meta *Meta, in *networking.RegexRewrite, at *field) *regexRewrite {
	if in.Match == "" || len(in.Match) > maxRegex {
		c.errorf(meta, at.dot("match"), in.Match, "expected an expression of 1 to %d bytes", maxRegex)
		return nil
	}
	var re *regexp.Regexp
	ok, err := c.unfold(meta, in.Match, at.dot("match"))
	if ok {
		re, err = regexp.Compile(in.Match)
	}
	if err != nil {
		c.errorf(meta, at.dot("match"), in.Match, "expected an RE2 expression: %s",
			strings.TrimPrefix(err.Error(), "error parsing regexp: "))
	}
	if re == nil {
		return nil
	}
	f := at.dot("rewrite")
	if in.Rewrite == "" {
		c.errorf(meta, f, "", "is required")
		return nil
	}
	if badPath(in.Rewrite) {
		c.errorf(meta, f, in.Rewrite, "expected text without spaces and control characters")
		return nil
	}
	to, err := substitution(in.Rewrite, re.NumSubexp())
	if err != nil {
		c.errorf(meta, f, in.Rewrite, "%v", err)
		return nil
	}
	return &regexRewrite{re: re, to: []byte(to), text: len(in.Rewrite), groups: strings.Count(to, "${")}
}

// badPath reports whether s cannot be part of a request-target.
func badPath(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f })
}

// substitution translates an RE2 rewrite string: \0 to \9 are groups, \\ is
// a backslash, and a dollar sign is nothing special.
func substitution(s string, groups int) (string, error) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '$':
			b.WriteString("$$")
		case s[i] != '\\':
			b.WriteByte(s[i])
		case i+1 < len(s) && s[i+1] == '\\':
			b.WriteByte('\\')
			i++
		case i+1 < len(s) && s[i+1] >= '0' && s[i+1] <= '9':
			if n := int(s[i+1] - '0'); n > groups {
				return "", fmt.Errorf("refers to group %d, but the expression has %d", n, groups)
			}
			fmt.Fprintf(&b, "${%c}", s[i+1])
			i++
		default:
			return "", fmt.Errorf(`"\\" is followed by neither a digit nor "\\"`)
		}
	}
	return b.String(), nil
}
