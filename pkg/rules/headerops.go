package rules

import (
	"slices"
	"strings"

	"github.com/shadowtap/shadowtap/pkg/httpstream"
)

// headerOps is how a route changes the header fields of a copy. As in Envoy
// (HeaderParser::evaluateHeaders) everything that is removed goes first, then
// what is set replaces every field of its name, then what is added joins the
// fields of its name; in which order a rule lists them does not matter.
type headerOps struct {
	host string   // replaces the host, unless it is empty
	drop []string // names, lower-case, of the fields that go: removed or set
	tail []byte   // the lines that are set and added, each with its CRLF
}

// headerField is a name and the value it gets.
type headerField struct{ name, value string }

// headerChange collects changes of the header of one route, of which several
// places in a rule may have some.
type headerChange struct {
	host             string
	remove           []string
	set, add         []headerField
	hostSet, hostAdd string // what set and add give Host
}

// compile is the change in the form that is applied, nil if there is none. The
// host of a rewrite goes before one that is set, and that before one that is
// added (Istio: a header operation on Host becomes a host rewrite).
func (h *headerChange) compile() *headerOps {
	ops := &headerOps{host: h.host}
	for _, host := range []string{h.hostSet, h.hostAdd} {
		if ops.host == "" {
			ops.host = host
		}
	}
	for _, name := range h.remove {
		ops.dropName(name)
	}
	for i, f := range h.set {
		ops.dropName(f.name)
		later := func(o headerField) bool { return strings.EqualFold(o.name, f.name) }
		if !slices.ContainsFunc(h.set[i+1:], later) { // the last one of a name stays
			ops.line(f)
		}
	}
	for _, f := range h.add {
		ops.line(f)
	}
	if ops.host == "" && len(ops.drop) == 0 && len(ops.tail) == 0 {
		return nil
	}
	return ops
}

func (o *headerOps) dropName(name string) {
	if name = strings.ToLower(name); !slices.Contains(o.drop, name) {
		o.drop = append(o.drop, name)
	}
}

func (o *headerOps) line(f headerField) {
	o.tail = append(append(append(append(o.tail, f.name...), ": "...), f.value...), "\r\n"...)
}

// drops reports whether fields of this name go.
func (o *headerOps) drops(name []byte) bool {
	for _, d := range o.drop {
		if len(d) == len(name) && equalFold(name, d) {
			return true
		}
	}
	return false
}

// appendFields appends the header field lines of the copy of r. Those that
// stay are byte for byte and in the order they were sent.
func (o *headerOps) appendFields(dst []byte, r *httpstream.Request) []byte {
	host := o.host
	if host != "" {
		if _, ok := r.Get("Host"); !ok {
			dst = append(append(append(dst, "Host: "...), host...), "\r\n"...)
		}
	}
	for i := range r.NumFields() {
		name, _ := r.Field(i)
		switch {
		case o.host != "" && len(name) == len("host") && equalFold(name, "host"):
			if host != "" { // a second Host field would contradict the first
				dst = append(append(append(append(dst, name...), ": "...), host...), "\r\n"...)
			}
			host = ""
		case !o.drops(name):
			dst = append(dst, r.FieldLine(i)...)
		}
	}
	return append(dst, o.tail...)
}

// rehost replaces the authority of the absolute-form target that begins at
// start in dst; from is how many bytes that are its scheme, authority and what
// stands between. Other forms of a target name no host.
func (o *headerOps) rehost(dst []byte, start int, target []byte) []byte {
	scheme, _, rest, absolute := httpstream.SplitAbsolute(target)
	if !absolute || o.host == "" {
		return dst
	}
	from, to := start+len(scheme)+len("://"), start+len(target)-len(rest)
	more := len(o.host) - (to - from)
	end := len(dst)
	for range more {
		dst = append(dst, 0)
	}
	copy(dst[to+more:], dst[to:end])
	copy(dst[from:], o.host)
	return dst[:end+more]
}
