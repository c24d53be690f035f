package rules

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

//go:generate go run ./gatewaygen gatewayschema.json

//go:embed gatewayschema.json
var gatewaySchemaJSON []byte

// gatewaySchemas are the schemas of the specs of the Gateway API by kind, as
// the definitions of its resources have them: an API server accepts and
// defaults the same documents. They are parsed when the first such document is
// met.
var gatewaySchemas = sync.OnceValue(func() map[string]*schema {
	var out map[string]*schema
	if err := json.Unmarshal(gatewaySchemaJSON, &out); err != nil {
		panic("rules: embedded schema: " + err.Error()) // the tests decode it
	}
	return out
})

// schema is what a value must be: the part of OpenAPI v3 that definitions of
// resources use (structural schemas).
type schema struct {
	Type       string             `json:"type"` // object, array, string, integer or boolean
	Format     string             `json:"format"`
	Properties map[string]*schema `json:"properties"`
	Values     *schema            `json:"additionalProperties"` // of a map
	Items      *schema            `json:"items"`
	Required   []string           `json:"required"`
	Default    any                `json:"default"`
	Enum       []any              `json:"enum"` // texts or numbers
	Pattern    string             `json:"pattern"`
	Minimum    *float64           `json:"minimum"`
	Maximum    *float64           `json:"maximum"`
	MinLength  int                `json:"minLength"` // in characters
	MaxLength  *int               `json:"maxLength"`
	MinItems   int                `json:"minItems"`
	MaxItems   *int               `json:"maxItems"`
	MaxProps   *int               `json:"maxProperties"`
	Keys       []string           `json:"keys"`  // fields that identify an item of a list
	Set        bool               `json:"set"`   // a list without repetitions
	Rules      []string           `json:"rules"` // messages of CEL rules, see celRules

	re func() *regexp.Regexp // Pattern
}

// UnmarshalJSON compiles the pattern once it is used.
func (s *schema) UnmarshalJSON(data []byte) error {
	type plain schema
	if err := json.Unmarshal(data, (*plain)(s)); err != nil {
		return err
	}
	if pattern := s.Pattern; pattern != "" {
		s.re = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(pattern) })
	}
	return nil
}

// names are the names of the properties for messages.
func (s *schema) names() []string { return slices.Sorted(maps.Keys(s.Properties)) }

// structural checks n against s and returns it in the form encoding/json
// reads, with what the schema has defaults for filled in. ok is false if
// nothing of it can be used. Every mismatch is reported with its line.
func (d *decoder) structural(n *yaml.Node, s *schema, f *field, depth int) (v any, ok bool) {
	n, ok = d.enter(n, f, depth)
	if !ok {
		return nil, false
	}
	found := d.wrong
	switch s.Type {
	case "object":
		v, ok = d.structuralObject(n, s, f, depth)
	case "array":
		v, ok = d.structuralList(n, s, f, depth)
	default:
		v, ok = d.structuralScalar(n, s, f)
	}
	if d.wrong > found {
		return v, ok // rules over several values are for values that are right
	}
	for _, message := range s.Rules {
		if holds := celRules[message]; holds == nil || !holds(v) {
			d.report(n, f, "", "%s", message)
		}
	}
	return v, ok
}

func (d *decoder) structuralObject(n *yaml.Node, s *schema, f *field, depth int) (any, bool) {
	if n.Kind != yaml.MappingNode {
		want := "expected a map of names to values"
		if s.Properties != nil {
			want = "expected fields (" + strings.Join(s.names(), ", ") + ")"
		}
		d.report(n, f, scalar(n), "%s", want)
		return nil, false
	}
	out := make(map[string]any, len(n.Content)/2)
	seen := make(map[string]bool, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		d.nodes++ // also where there is nothing to enter
		k, value := n.Content[i], resolve(n.Content[i+1])
		at, sub := f.dot(k.Value), s.Properties[k.Value]
		if s.Values != nil {
			at, sub = f.entry(k.Value), s.Values
		}
		switch {
		case isMerge(k):
			d.report(k, f, "<<", "merge keys are not supported: write the fields out")
		case k.Kind != yaml.ScalarNode:
			d.report(k, f, "", "expected the name of a field")
		case sub == nil:
			hint := suggest(k.Value, s.names())
			if hint == "" {
				hint = ", expected one of " + strings.Join(s.names(), ", ")
			}
			d.report(k, at, "", "unknown field%s", hint)
		case seen[k.Value]:
			d.report(k, at, "", "is given twice")
		case isNull(value): // as if it were not there
		default:
			seen[k.Value] = true
			if v, ok := d.structural(value, sub, at, depth+1); ok {
				out[k.Value] = v
			}
		}
	}
	for name, sub := range s.Properties {
		if sub.Default != nil && !seen[name] {
			out[name] = sub.Default
		}
	}
	for _, name := range s.Required {
		if out[name] == nil && !seen[name] {
			d.report(n, f.dot(name), "", "is required")
		}
	}
	if s.MaxProps != nil && len(seen) > *s.MaxProps {
		d.report(n, f, "", "has %d entries, expected at most %d", len(seen), *s.MaxProps)
	}
	return out, true
}

func (d *decoder) structuralList(n *yaml.Node, s *schema, f *field, depth int) (any, bool) {
	if n.Kind != yaml.SequenceNode {
		d.report(n, f, scalar(n), "expected a list")
		return nil, false
	}
	if len(n.Content) < s.MinItems || s.MaxItems != nil && len(n.Content) > *s.MaxItems {
		d.report(n, f, "", "has %d items, expected %s", len(n.Content), bounds(s.MinItems, s.MaxItems))
	}
	out := make([]any, 0, len(n.Content))
	seen := make(map[string]bool, len(n.Content))
	for i, item := range n.Content {
		v, ok := any(nil), false
		if isNull(resolve(item)) {
			d.report(item, f.at(i), "", "is null")
		} else {
			v, ok = d.structural(item, s.Items, f.at(i), depth+1)
		}
		if !ok {
			v = s.Items.placeholder()
		}
		out = append(out, v)
		if key := s.key(v); ok && key != "" {
			if seen[key] {
				d.report(item, f.at(i), key, "is given twice")
			}
			seen[key] = true
		}
	}
	return out, true
}

// key identifies an item of a list that must not repeat any, empty if it may.
func (s *schema) key(item any) string {
	if s.Set {
		return fmt.Sprint(item)
	}
	fields, ok := item.(map[string]any)
	if !ok || len(s.Keys) == 0 {
		return ""
	}
	parts := make([]string, 0, len(s.Keys))
	for _, name := range s.Keys {
		if v := fields[name]; v != nil {
			parts = append(parts, fmt.Sprint(v))
		}
	}
	return strings.Join(parts, " ")
}

// placeholder stands for a list item that could not be used, so that the items
// behind it keep their numbers.
func (s *schema) placeholder() any {
	switch s.Type {
	case "object":
		return map[string]any{}
	case "array":
		return []any{}
	case "integer":
		return int64(0)
	case "boolean":
		return false
	}
	return ""
}

func (d *decoder) structuralScalar(n *yaml.Node, s *schema, f *field) (any, bool) {
	tag := n.ShortTag()
	if n.Kind != yaml.ScalarNode {
		tag = ""
	}
	switch {
	case s.Type == "boolean":
		var b bool
		if tag == "!!bool" && n.Decode(&b) == nil {
			return b, true
		}
		d.report(n, f, scalar(n), "expected true or false")
		return nil, false
	case s.Type == "integer":
		return d.structuralInteger(n, tag, s, f)
	case tag == "!!str", tag == "!!timestamp":
		return d.structuralString(n, s, f)
	case tag == "" || tag == "!!null":
		d.report(n, f, "", "expected a string")
	default:
		d.report(n, f, n.Value, "expected a string: put it in quotes")
	}
	return nil, false
}

func (d *decoder) structuralInteger(n *yaml.Node, tag string, s *schema, f *field) (any, bool) {
	lo, hi := float64(math.MinInt64), float64(math.MaxInt64)
	if s.Format == "int32" {
		lo, hi = math.MinInt32, math.MaxInt32
	}
	if s.Minimum != nil {
		lo = *s.Minimum
	}
	if s.Maximum != nil {
		hi = *s.Maximum
	}
	var x int64
	if tag != "!!int" || n.Decode(&x) != nil || float64(x) < lo || float64(x) > hi || !s.among(float64(x)) {
		switch {
		case len(s.Enum) > 0:
			d.report(n, f, scalar(n), "expected one of %s", strings.Join(s.enum(), ", "))
		case hi >= math.MaxInt32 && lo > math.MinInt32:
			d.report(n, f, scalar(n), "expected a whole number from %.0f", lo)
		case hi >= math.MaxInt32:
			d.report(n, f, scalar(n), "expected a whole number")
		default:
			d.report(n, f, scalar(n), "expected a whole number from %.0f to %.0f", lo, hi)
		}
		return nil, false
	}
	return x, true
}

func (d *decoder) structuralString(n *yaml.Node, s *schema, f *field) (any, bool) {
	length := utf8.RuneCountInString(n.Value)
	switch {
	case !s.among(n.Value):
		d.report(n, f, n.Value, "expected one of %s%s", strings.Join(s.enum(), ", "), suggest(n.Value, s.enum()))
	case length < s.MinLength || s.MaxLength != nil && length > *s.MaxLength:
		d.report(n, f, n.Value, "has %d characters, expected %s", length, bounds(s.MinLength, s.MaxLength))
	case s.re != nil && !s.re().MatchString(n.Value):
		d.report(n, f, n.Value, "expected text that matches %s", s.Pattern)
	default:
		return n.Value, true
	}
	return nil, false
}

// among reports whether v is one of the values that are listed, if any are.
func (s *schema) among(v any) bool { return len(s.Enum) == 0 || slices.Contains(s.Enum, v) }

// enum are the values that are listed for messages.
func (s *schema) enum() []string {
	out := make([]string, len(s.Enum))
	for i, v := range s.Enum {
		out[i] = fmt.Sprint(v)
	}
	return out
}

// bounds are the bounds of a size for messages.
func bounds(lo int, hi *int) string {
	switch {
	case hi == nil:
		return fmt.Sprintf("at least %d", lo)
	case lo == 0:
		return fmt.Sprintf("at most %d", *hi)
	case lo == *hi:
		return fmt.Sprint(lo)
	}
	return fmt.Sprintf("%d to %d", lo, *hi)
}
