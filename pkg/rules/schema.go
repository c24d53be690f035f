package rules

import (
	"math"
	"strings"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// message checks n against a message and returns it in the form that
// encoding/json writes. ok is false if nothing of it can be used. Every
// mismatch is reported with its line, which protojson could not do.
func (d *decoder) message(n *yaml.Node, md protoreflect.MessageDescriptor, f *field, depth int) (v any, ok bool) {
	if n, ok = d.enter(n, f, depth); !ok {
		return nil, false
	}
	if md.ParentFile().Package() == "google.protobuf" {
		return d.wellKnown(n, md, f)
	}
	if n.Kind != yaml.MappingNode {
		d.report(n, f, n.Value, "expected fields (%s)", strings.Join(fieldNames(md), ", "))
		return nil, false
	}
	out := make(map[string]any, len(n.Content)/2)
	oneofs := map[protoreflect.Name]string{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, value := n.Content[i], n.Content[i+1]
		fd := md.Fields().ByJSONName(k.Value)
		if fd == nil {
			fd = md.Fields().ByName(protoreflect.Name(k.Value))
		}
		if fd == nil {
			d.unknown(k, md, f)
			continue
		}
		at := f.dot(fd.JSONName())
		if _, dup := out[fd.JSONName()]; dup {
			d.report(k, at, "", "is given twice")
			continue
		}
		if isNull(resolve(value)) {
			continue // as if it were not there
		}
		if o := fd.ContainingOneof(); o != nil && !o.IsSynthetic() {
			if first := oneofs[o.Name()]; first != "" {
				d.report(k, at, "", "only one of %s and %s can be given", first, fd.JSONName())
				continue
			}
			oneofs[o.Name()] = fd.JSONName()
		}
		if v, ok := d.value(value, fd, at, depth+1); ok {
			out[fd.JSONName()] = v
		}
	}
	return out, true
}

// enter resolves an alias and keeps the bounds of the document.
func (d *decoder) enter(n *yaml.Node, f *field, depth int) (*yaml.Node, bool) {
	d.nodes++
	if depth > maxDepth || d.nodes > maxNodes {
		if d.nodes <= maxNodes || d.nodes == maxNodes+1 { // once is enough
			d.report(n, f, "", "nested too deep or too large: at most %d levels and %d values in a document",
				maxDepth, maxNodes)
		}
		d.nodes = maxNodes + 1
		return nil, false
	}
	return resolve(n), true
}

// value checks the value of a field: a list, a map or a single value.
func (d *decoder) value(n *yaml.Node, fd protoreflect.FieldDescriptor, f *field, depth int) (any, bool) {
	switch {
	case fd.IsMap():
		n, ok := d.enter(n, f, depth)
		if !ok {
			return nil, false
		}
		if n.Kind != yaml.MappingNode {
			d.report(n, f, n.Value, "expected a map of names to values")
			return nil, false
		}
		out := make(map[string]any, len(n.Content)/2)
		for i := 0; i+1 < len(n.Content); i += 2 {
			k := n.Content[i]
			at := f.entry(k.Value)
			if _, dup := out[k.Value]; dup {
				d.report(k, at, "", "is given twice")
				continue
			}
			if isMerge(k) {
				d.report(k, f, "<<", "merge keys are not supported: write the entries out")
				continue
			}
			if v, ok := d.single(n.Content[i+1], fd.MapValue(), at, depth+1); ok {
				out[k.Value] = v
			}
		}
		return out, true
	case fd.IsList():
		n, ok := d.enter(n, f, depth)
		if !ok {
			return nil, false
		}
		if n.Kind != yaml.SequenceNode {
			d.report(n, f, n.Value, "expected a list")
			return nil, false
		}
		out := make([]any, 0, len(n.Content))
		for i, item := range n.Content {
			if v, ok := d.single(item, fd, f.at(i), depth+1); ok {
				out = append(out, v)
			} else {
				out = append(out, placeholder(fd))
			}
		}
		return out, true
	}
	return d.single(n, fd, f, depth)
}

// placeholder stands for a list item that could not be used, so that the
// items behind it keep their numbers.
func placeholder(fd protoreflect.FieldDescriptor) any {
	switch fd.Kind() {
	case protoreflect.MessageKind:
		return map[string]any{}
	case protoreflect.StringKind:
		return ""
	}
	return 0
}

// single checks one value that is neither list nor map.
func (d *decoder) single(n *yaml.Node, fd protoreflect.FieldDescriptor, f *field, depth int) (any, bool) {
	if fd.Kind() == protoreflect.MessageKind {
		if isNull(resolve(n)) {
			d.report(n, f, "", "is null: expected fields (%s)", strings.Join(fieldNames(fd.Message()), ", "))
			return nil, false
		}
		return d.message(n, fd.Message(), f, depth)
	}
	n, ok := d.enter(n, f, depth)
	if !ok {
		return nil, false
	}
	tag := n.ShortTag()
	if n.Kind != yaml.ScalarNode {
		tag = ""
	}
	switch fd.Kind() {
	case protoreflect.StringKind, protoreflect.BytesKind:
		if tag == "!!str" || tag == "!!timestamp" {
			return n.Value, true
		}
		if tag == "" || tag == "!!null" {
			d.report(n, f, "", "expected a string")
		} else {
			d.report(n, f, n.Value, "expected a string: put it in quotes")
		}
		return nil, false
	case protoreflect.BoolKind:
		var b bool
		if tag == "!!bool" && n.Decode(&b) == nil {
			return b, true
		}
		d.report(n, f, n.Value, "expected true or false")
		return nil, false
	case protoreflect.EnumKind:
		if tag == "!!str" && fd.Enum().Values().ByName(protoreflect.Name(n.Value)) != nil {
			return n.Value, true
		}
		names := make([]string, fd.Enum().Values().Len())
		for i := range names {
			names[i] = string(fd.Enum().Values().Get(i).Name())
		}
		d.report(n, f, n.Value, "expected one of %s%s", strings.Join(names, ", "), suggest(n.Value, names))
		return nil, false
	}
	return d.number(n, tag, fd.Kind(), f)
}

// number checks a number. JSON would accept some of them as strings; the API
// server does not.
func (d *decoder) number(n *yaml.Node, tag string, kind protoreflect.Kind, f *field) (any, bool) {
	if kind == protoreflect.DoubleKind || kind == protoreflect.FloatKind {
		var x float64
		if (tag == "!!int" || tag == "!!float") && n.Decode(&x) == nil && !math.IsInf(x, 0) && !math.IsNaN(x) {
			return x, true
		}
		d.report(n, f, n.Value, "expected a number")
		return nil, false
	}
	lo, hi := int64(math.MinInt32), int64(math.MaxInt32)
	switch kind {
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		lo, hi = 0, math.MaxUint32
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		lo, hi = math.MinInt64, math.MaxInt64
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		lo, hi = 0, math.MaxInt64
	}
	var x int64
	if tag != "!!int" || n.Decode(&x) != nil || x < lo || x > hi {
		d.report(n, f, n.Value, "expected a whole number from %d to %d", lo, hi)
		return nil, false
	}
	return x, true
}

// wellKnown checks a value of a google.protobuf type: a wrapper of a single
// value, or one that protojson writes as a string (Duration, Timestamp).
func (d *decoder) wellKnown(n *yaml.Node, md protoreflect.MessageDescriptor, f *field) (any, bool) {
	if fd := md.Fields().ByName("value"); fd != nil && md.Fields().Len() == 1 {
		return d.single(n, fd, f, 0)
	}
	if n.Kind != yaml.ScalarNode {
		d.report(n, f, "", "expected a single value")
		return nil, false
	}
	return n.Value, true
}

// unknown reports a key that is no field of the message.
func (d *decoder) unknown(k *yaml.Node, md protoreflect.MessageDescriptor, f *field) {
	if isMerge(k) {
		d.report(k, f, "<<", "merge keys are not supported: write the fields out")
		return
	}
	if k.Kind != yaml.ScalarNode {
		d.report(k, f, "", "expected the name of a field")
		return
	}
	names := fieldNames(md)
	hint := suggest(k.Value, names)
	if hint == "" {
		hint = ", expected one of " + strings.Join(names, ", ")
	}
	d.report(k, f.dot(k.Value), "", "unknown field%s", hint)
}

func isMerge(k *yaml.Node) bool { return k.Kind == yaml.ScalarNode && k.ShortTag() == "!!merge" }

func fieldNames(md protoreflect.MessageDescriptor) []string {
	names := make([]string, md.Fields().Len())
	for i := range names {
		names[i] = md.Fields().Get(i).JSONName()
	}
	return names
}

// suggest is the tail of a message that asks whether one of names was meant,
// empty if none is near.
func suggest(written string, names []string) string {
	best, at := len(written)/3+1, ""
	for _, name := range names {
		if dist := distance(strings.ToLower(written), strings.ToLower(name)); dist <= best && dist < len(name) {
			best, at = dist-1, name
		}
	}
	if at == "" {
		return ""
	}
	return ", did you mean " + at + "?"
}

// distance is the least number of letters to insert, remove or replace to make
// b of a.
func distance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return 64
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replace := diagonal
			if a[i] != b[j] {
				replace++
			}
			diagonal = row[j+1]
			row[j+1] = min(replace, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
