package rules

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Position is where something was written. Line counts from 1 and is 0 where
// it is not known, as for objects that do not come from a file.
type Position struct {
	File string `json:"file,omitempty"`
	Line int    `json:"line,omitempty"`
}

// String is the position as compilers write it: "file:line".
func (p Position) String() string {
	if p.Line == 0 {
		return p.File
	}
	return p.File + ":" + strconv.Itoa(p.Line)
}

// Problem is one thing wrong with a rule.
type Problem struct {
	Position
	// Object names what the problem is in, as "VirtualService bookinfo/bookinfo".
	Object string `json:"object,omitempty"`
	// Group is the API group of the object: there are two kinds of Gateway.
	Group string `json:"group,omitempty"`
	// Field is the place in the object, as "spec.http[0].match[0].uri.regex".
	Field string `json:"field,omitempty"`
	// Value is what is there, where that is a single value.
	Value string `json:"value,omitempty"`
	// Message says what is wrong and what is expected.
	Message string `json:"message"`
	// Warning is set if the rule works, but perhaps not as it was meant.
	Warning bool `json:"warning,omitempty"`
}

// Error is the problem in one line: "file:line: object: field: value: what is
// expected". Nothing in it does anything to a terminal.
func (p Problem) Error() string {
	parts := make([]string, 0, 6)
	if at := p.Position.String(); at != "" {
		parts = append(parts, at)
	}
	if p.Warning {
		parts = append(parts, "warning")
	}
	if p.Object != "" {
		parts = append(parts, p.Object)
	}
	if p.Field != "" {
		parts = append(parts, p.Field)
	}
	if p.Value != "" {
		parts = append(parts, strconv.Quote(p.Value))
	}
	return printable(strings.Join(append(parts, p.Message), ": "))
}

// noEndpointNow is in the message of a problem with a service that has no
// endpoint a copy could be sent to.
const noEndpointNow = "has no endpoint now"

// NoEndpoint reports whether the problem is that a service has no endpoint,
// which will pass when it gets one.
func (p *Problem) NoEndpoint() bool { return p.Warning && strings.Contains(p.Message, noEndpointNow) }

// maxProblems is how many errors and how many warnings of one object are
// listed: that of a tenant may hold a hundred thousand, and every agent keeps,
// logs and serves them.
const maxProblems = 100

// moreProblems is what is said instead of the rest.
const moreProblems = "has more problems than are listed"

// newProblem is a problem with a field, of which it holds no more than a person
// can read: a value may have a megabyte.
func newProblem(f *field, value, format string, args ...any) Problem {
	return Problem{Field: clip(f.String()), Value: clip(value), Message: clip(fmt.Sprintf(format, args...))}
}

// clip is the beginning of s if that is long.
func clip(s string) string {
	const longest = 1 << 10
	if len(s) <= longest {
		return s
	}
	return strings.ToValidUTF8(s[:longest], "") + "..."
}

// Problems is everything that was found wrong. It is an error only if Err
// says so: there may be nothing but warnings.
type Problems []Problem

// Error has one line for every problem.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.Error()
	}
	return strings.Join(lines, "\n")
}

// Err is ps, or nil if it holds nothing but warnings.
func (ps Problems) Err() error {
	if slices.ContainsFunc(ps, func(p Problem) bool { return !p.Warning }) {
		return ps
	}
	return nil
}

// sort puts the problems in the order a reader of the files meets them.
func (ps Problems) sort() {
	slices.SortStableFunc(ps, func(a, b Problem) int {
		return cmp.Or(
			strings.Compare(a.File, b.File),
			cmp.Compare(a.Line, b.Line),
			strings.Compare(a.Object, b.Object),
			strings.Compare(a.Group, b.Group),
			strings.Compare(a.Field, b.Field),
		)
	})
}

// field is a place inside an object. It is a linked list, so that no string is
// made of it unless there is a problem to report; nil is the object itself.
type field struct {
	parent *field
	step   string
	index  bool // an element of a list or an entry of a map
}

// dot is the field called name of the message at f.
func (f *field) dot(name string) *field { return &field{parent: f, step: name} }

// at is element i of the list at f.
func (f *field) at(i int) *field { return f.entry(strconv.Itoa(i)) }

// entry is the entry for key of the map at f.
func (f *field) entry(key string) *field { return &field{parent: f, step: key, index: true} }

// String is the place as people write it: spec.http[0].headers[x-user].exact.
func (f *field) String() string {
	switch {
	case f == nil:
		return ""
	case f.index:
		return f.parent.String() + "[" + f.step + "]"
	case f.parent == nil:
		return f.step
	}
	return f.parent.String() + "." + f.step
}

// find is the node at f below root and the line it is written on. Where there
// is no such node, as for a field that is missing, it is the line of what
// would hold it.
func (f *field) find(root *yaml.Node) (line int, n *yaml.Node) {
	if root == nil {
		return 0, nil
	}
	if f == nil {
		return root.Line, root
	}
	line, n = f.parent.find(root)
	if n != nil && n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n == nil {
		return line, nil
	}
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			if sameName(n.Content[i].Value, f.step) {
				return n.Content[i].Line, n.Content[i+1]
			}
		}
	case yaml.SequenceNode:
		if i, err := strconv.Atoi(f.step); err == nil && i < len(n.Content) {
			return n.Content[i].Line, n.Content[i]
		}
	}
	return line, nil
}

// sameName compares a name as written with a JSON name: protobuf fields may
// be written either way, mirrorPercent or mirror_percent.
func sameName(written, jsonName string) bool {
	return written == jsonName || strings.EqualFold(strings.ReplaceAll(written, "_", ""), jsonName)
}
