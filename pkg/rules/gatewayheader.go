package rules

import (
	"strings"

	gateway "sigs.k8s.io/gateway-api/apis/v1"
)

// headerField is a name and the value it gets.
type headerField struct{ name, value string }

// headerChange collects changes of the header of one route, of which several
// places in a rule may have some.
type headerChange struct {
	host             string // of a URLRewrite
	remove           []string
	set, add         []headerField
	hostSet, hostAdd string // what set and add give Host
}

// edit is the change in the form that is applied, nil if there is none. The
// host of a rewrite goes before one that is set, and that before one that is
// added (Istio: a header operation on Host becomes a host rewrite).
func (h *headerChange) edit() *edit {
	e := &edit{host: h.host}
	for _, host := range []string{h.hostSet, h.hostAdd} {
		if e.host == "" {
			e.host = host
		}
	}
	for _, name := range h.remove {
		e.remove = append(e.remove, strings.ToLower(name))
	}
	for _, f := range h.set {
		e.lines = append(e.lines, f.line(true))
	}
	for _, f := range h.add {
		e.lines = append(e.lines, f.line(false))
	}
	return e.some()
}

// line is the field as it is set or added. Its value is literal text, as the
// API has it: a "%" means itself.
func (f *headerField) line(overwrite bool) line {
	return line{name: f.name, lower: strings.ToLower(f.name), value: format{{text: f.value}}, overwrite: overwrite}
}

// headerModifier adds what a RequestHeaderModifier does to change.
func (c *compiler) headerModifier(meta *Meta, in *gateway.HTTPHeaderFilter, at *field, change *headerChange) {
	for i, name := range in.Remove {
		if !strings.EqualFold(name, "host") && c.headerName(meta, name, at.dot("remove").at(i)) {
			change.remove = append(change.remove, name)
		}
	}
	fields := func(list []gateway.HTTPHeader, at *field, host *string, out *[]headerField) {
		seen := map[string]bool{}
		for i, h := range list {
			f, name := at.at(i), string(h.Name)
			lower := strings.ToLower(name)
			switch {
			case seen[lower]:
				c.warnf(meta, f.dot("name"), name, "has no effect: only the first value for a header counts")
			case lower == "host":
				c.hostValue(meta, f.dot("value"), h.Value)
				*host = h.Value
			case !c.headerName(meta, name, f.dot("name")):
			case strings.ContainsFunc(h.Value, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }):
				c.errorf(meta, f.dot("value"), h.Value, "expected a value without control characters")
			default:
				*out = append(*out, headerField{name, h.Value})
			}
			seen[lower] = true
		}
	}
	fields(in.Set, at.dot("set"), &change.hostSet, &change.set)
	fields(in.Add, at.dot("add"), &change.hostAdd, &change.add)
}
