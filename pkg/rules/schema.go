package rules

import (
	"encoding/base64"
	"encoding/json"
	"math"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// message sets the fields of m as n has them, with the mapping of protojson. ok
// is false if nothing of n can be used. Every mismatch is reported with its
// line and left out, which protojson could not do.
func (d *decoder) message(n *yaml.Node, m protoreflect.Message, f *field, depth int) (ok bool) {
	if n, ok = d.enter(n, f, depth); !ok {
		return false
	}
	md := m.Descriptor()
	if md.ParentFile().Package() == "google.protobuf" {
		return d.wellKnown(n, m, f)
	}
	if n.Kind != yaml.MappingNode {
		d.report(n, f, n.Value, "expected fields (%s)", strings.Join(fieldNames(md), ", "))
		return false
	}
	seen := make([]bool, md.Fields().Len())
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, value := n.Content[i], n.Content[i+1]
		fd := md.Fields().ByJSONName(k.Value)
		if fd == nil {
			fd = md.Fields().ByName(protoreflect.Name(k.Value))
		}
		if fd == nil {
			if _, ok := d.enter(k, f, depth); ok {
				d.unknown(k, md, f)
			}
			continue
		}
		at := f.dot(fd.JSONName())
		if seen[fd.Index()] {
			d.report(k, at, "", "is given twice")
			continue
		}
		if isNull(resolve(value)) {
			continue // as if it were not there
		}
		if first := otherOf(fd, seen); first != nil {
			d.report(k, at, "", "only one of %s and %s can be given", first.JSONName(), fd.JSONName())
			continue
		}
		seen[fd.Index()] = d.value(value, m, fd, at, depth+1) || fd.ContainingOneof() != nil
	}
	return true
}

// otherOf is a field of the same oneof as fd that has been seen, nil if there
// is none.
func otherOf(fd protoreflect.FieldDescriptor, seen []bool) protoreflect.FieldDescriptor {
	o := fd.ContainingOneof()
	if o == nil || o.IsSynthetic() {
		return nil
	}
	for i := range o.Fields().Len() {
		if other := o.Fields().Get(i); seen[other.Index()] {
			return other
		}
	}
	return nil
}

// enter resolves an alias and keeps the bounds of the document.
func (d *decoder) enter(n *yaml.Node, f *field, depth int) (*yaml.Node, bool) {
	d.nodes++
	if d.refused || depth > maxDepth || d.nodes > maxNodes {
		if !d.refused { // once is enough
			d.refused = true
			d.report(n, f, "", "nested too deep or too large: at most %d levels and %d values in a document",
				maxDepth, maxNodes)
		}
		return nil, false
	}
	return resolve(n), true
}

// value sets a field of m: a list, a map or a single value. It reports false if
// nothing of n can be used.
func (d *decoder) value(n *yaml.Node, m protoreflect.Message, fd protoreflect.FieldDescriptor, f *field, depth int) bool {
	switch {
	case fd.IsMap():
		n, ok := d.enter(n, f, depth)
		if !ok {
			return false
		}
		if n.Kind != yaml.MappingNode {
			d.report(n, f, n.Value, "expected a map of names to values")
			return false
		}
		d.entries(n, m.Mutable(fd).Map(), fd.MapValue(), f, depth)
		return true
	case fd.IsList():
		n, ok := d.enter(n, f, depth)
		if !ok {
			return false
		}
		if n.Kind != yaml.SequenceNode {
			d.report(n, f, n.Value, "expected a list")
			return false
		}
		list := m.Mutable(fd).List()
		for i, item := range n.Content {
			v := list.NewElement() // stands for an item that cannot be used, so that others keep their numbers
			if set, ok := d.single(item, v, fd, f.at(i), depth+1); ok {
				v = set
			}
			list.Append(v)
		}
		return true
	}
	var v protoreflect.Value
	if fd.Kind() == protoreflect.MessageKind {
		v = m.NewField(fd)
	}
	v, ok := d.single(n, v, fd, f, depth)
	if ok {
		m.Set(fd, v)
	}
	return ok
}

// entries sets the entries of a map, whose keys are texts.
func (d *decoder) entries(n *yaml.Node, out protoreflect.Map, fd protoreflect.FieldDescriptor, f *field, depth int) {
	seen := make(map[string]bool, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		k := n.Content[i]
		at := f.entry(k.Value)
		if seen[k.Value] {
			d.report(k, at, "", "is given twice")
			continue
		}
		if isMerge(k) {
			d.report(k, f, "<<", "merge keys are not supported: write the entries out")
			continue
		}
		var v protoreflect.Value
		if fd.Kind() == protoreflect.MessageKind {
			v = out.NewValue()
		}
		if v, seen[k.Value] = d.single(n.Content[i+1], v, fd, at, depth+1); seen[k.Value] {
			out.Set(protoreflect.ValueOfString(k.Value).MapKey(), v)
		}
	}
}

// single is one value that is neither list nor map. A message is set in into.
func (d *decoder) single(n *yaml.Node, into protoreflect.Value, fd protoreflect.FieldDescriptor, f *field, depth int) (_ protoreflect.Value, ok bool) {
	var none protoreflect.Value
	if fd.Kind() == protoreflect.MessageKind {
		if isNull(resolve(n)) {
			d.report(n, f, "", "is null: expected fields (%s)", strings.Join(fieldNames(fd.Message()), ", "))
			return none, false
		}
		return into, d.message(n, into.Message(), f, depth)
	}
	if n, ok = d.enter(n, f, depth); !ok {
		return none, false
	}
	tag := n.ShortTag()
	if n.Kind != yaml.ScalarNode {
		tag = ""
	}
	switch fd.Kind() {
	case protoreflect.StringKind, protoreflect.BytesKind:
		return d.text(n, tag, fd.Kind(), f)
	case protoreflect.BoolKind:
		var b bool
		if tag == "!!bool" && n.Decode(&b) == nil {
			return protoreflect.ValueOfBool(b), true
		}
		d.report(n, f, n.Value, "expected true or false")
		return none, false
	case protoreflect.EnumKind:
		values := fd.Enum().Values()
		if v := values.ByName(protoreflect.Name(n.Value)); tag == "!!str" && v != nil {
			return protoreflect.ValueOfEnum(v.Number()), true
		}
		names := make([]string, values.Len())
		for i := range names {
			names[i] = string(values.Get(i).Name())
		}
		d.report(n, f, n.Value, "expected one of %s%s", strings.Join(names, ", "), suggest(n.Value, names))
		return none, false
	}
	return d.number(n, tag, fd.Kind(), f)
}

// text is a string, or bytes in base64.
func (d *decoder) text(n *yaml.Node, tag string, kind protoreflect.Kind, f *field) (v protoreflect.Value, ok bool) {
	switch {
	case tag == "" || tag == "!!null":
		d.report(n, f, "", "expected a string")
	case tag != "!!str" && tag != "!!timestamp":
		d.report(n, f, n.Value, "expected a string: put it in quotes")
	case !utf8.ValidString(n.Value):
		d.report(n, f, "", "expected text in UTF-8")
	case kind == protoreflect.StringKind:
		return protoreflect.ValueOfString(n.Value), true
	default:
		b, err := base64.StdEncoding.DecodeString(n.Value)
		if err == nil {
			return protoreflect.ValueOfBytes(b), true
		}
		d.report(n, f, n.Value, "expected bytes in base64")
	}
	return v, false
}

// number checks a number. JSON would accept some of them as strings; the API
// server does not.
func (d *decoder) number(n *yaml.Node, tag string, kind protoreflect.Kind, f *field) (v protoreflect.Value, ok bool) {
	if kind == protoreflect.DoubleKind || kind == protoreflect.FloatKind {
		var x float64
		if (tag != "!!int" && tag != "!!float") || n.Decode(&x) != nil || math.IsInf(x, 0) || math.IsNaN(x) {
			d.report(n, f, n.Value, "expected a number")
			return v, false
		}
		if kind == protoreflect.FloatKind {
			return protoreflect.ValueOfFloat32(float32(x)), true
		}
		return protoreflect.ValueOfFloat64(x), true
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
		return v, false
	}
	switch kind {
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return protoreflect.ValueOfUint32(uint32(x)), true
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		return protoreflect.ValueOfInt64(x), true
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return protoreflect.ValueOfUint64(uint64(x)), true
	}
	return protoreflect.ValueOfInt32(int32(x)), true
}

// wellKnown sets a value of a google.protobuf type: a wrapper of a single
// value, or one that protojson writes as a string (Duration, Timestamp).
func (d *decoder) wellKnown(n *yaml.Node, m protoreflect.Message, f *field) bool {
	md := m.Descriptor()
	if fd := md.Fields().ByName("value"); fd != nil && md.Fields().Len() == 1 {
		v, ok := d.single(n, protoreflect.Value{}, fd, f, 0)
		if ok {
			m.Set(fd, v)
		}
		return ok
	}
	if n.Kind != yaml.ScalarNode {
		d.report(n, f, "", "expected a single value")
		return false
	}
	text, err := json.Marshal(n.Value)
	if err == nil {
		err = protojson.Unmarshal(text, m.Interface())
	}
	if err != nil {
		d.report(n, f, n.Value, "expected a %s as JSON has it, such as 1.5s for a Duration", md.Name())
	}
	return err == nil
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
// empty if none is near, or if there are so many that it would take long.
func suggest(written string, names []string) string {
	if len(names) > maxProblems {
		return ""
	}
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
