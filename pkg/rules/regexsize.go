package rules

import (
	"fmt"
	"regexp/syntax"
	"strings"
)

// A kilobyte of an expression may unfold to hundreds of megabytes, by counted
// repetitions and classes such as \pL, which no bound on its length shows.
const (
	// maxProgram is the largest program of an expression that Istio has Envoy
	// accept (re2.max_program_size.error_level).
	maxProgram = 32768
	// maxUnfolded is how much the expressions of one namespace may unfold to
	// beyond what they are as text: about 40 MiB of memory.
	maxUnfolded = 1 << 20
)

// regex compiles a regular expression, which is one of RE2 and has to match the
// whole value.
func (c *compiler) regex(meta *Meta, expr string, at *field) text {
	t := text{kind: regex, value: expr}
	ok, err := c.unfold(meta, expr, at)
	if ok {
		t, err = regexText(expr)
	}
	if err != nil {
		c.errorf(meta, at, expr, "expected an RE2 expression: %s", strings.TrimPrefix(err.Error(), "error parsing regexp: "))
	}
	return t
}

// unfold reports whether expr may be compiled. err is what is wrong with it; that
// there is no room for it has been reported.
func (c *compiler) unfold(meta *Meta, expr string, at *field) (ok bool, err error) {
	re, err := syntax.Parse(expr, syntax.Perl)
	if err != nil {
		return false, err
	}
	size := programSize(re)
	if size > maxProgram {
		return false, fmt.Errorf("its program has more than %d instructions, which Envoy refuses", maxProgram)
	}
	unfolded := max(0, size-2*len(expr))
	meta, at = meta.blamed(at)
	if c.unfolded[meta.Namespace] += unfolded; c.unfolded[meta.Namespace] > maxUnfolded {
		c.errorf(meta, at, expr, "together with others of namespace %s it unfolds to too much: use fewer counted repetitions", meta.Namespace)
		return false, nil
	}
	return c.charge(meta, stepCost*unfolded), nil
}

// programSize is about how many instructions the program of re has, with the
// ranges of its classes, and a large number if they are more than maxProgram.
func programSize(re *syntax.Regexp) int {
	size := 1
	switch re.Op {
	case syntax.OpLiteral:
		size = len(re.Rune)
	case syntax.OpCharClass:
		size = len(re.Rune) / 2
	case syntax.OpAlternate:
		size = len(re.Sub)
	case syntax.OpCapture, syntax.OpStar:
		size = 2
	}
	for _, sub := range re.Sub {
		if size += programSize(sub); size > maxProgram {
			return size
		}
	}
	if re.Op == syntax.OpRepeat { // of at most 1000
		times := max(1, re.Min, re.Max)
		size = (size - 1) * times
		size += times
	}
	return size
}
