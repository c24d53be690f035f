package rules

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	networking "istio.io/api/networking/v1alpha3"

	"github.com/shadowtap/shadowtap/pkg/httpstream"
)

// edit is what rules change in the header of a copy. As in Envoy
// (HeaderParser::evaluateHeaders) every remove comes before every set, and
// every set before every add, however they are written; what a proxy would do
// to the copy alone comes after that. A nil edit changes nothing.
type edit struct {
	remove []string // lower-case
	lines  []line   // in the order they are added
	host   string   // what the copy is addressed to, empty: as it was

	addressed *line // with host, for a value that reads it
}

// line is a header field line that is added.
type line struct {
	name      string // as the rule spells it
	lower     string
	value     format
	overwrite bool // lines of this name before it go
}

// drops reports whether a field line of r called name is not in the copy.
func (e *edit) drops(name []byte, r *httpstream.Request) bool {
	for _, s := range e.remove {
		if len(s) == len(name) && equalFold(name, s) {
			return true
		}
	}
	for i := range e.lines {
		l := &e.lines[i]
		if l.overwrite && len(l.lower) == len(name) && equalFold(name, l.lower) && !l.value.empty(r) {
			return true
		}
	}
	return false
}

// appendLines appends the lines that are added to the header of r.
func (e *edit) appendLines(dst []byte, r *httpstream.Request) []byte {
next:
	for i := range e.lines {
		l := &e.lines[i]
		if l.value.empty(r) {
			continue // Envoy adds no empty field
		}
		for j := i + 1; j < len(e.lines); j++ {
			if o := &e.lines[j]; o.overwrite && o.lower == l.lower && !o.value.empty(r) {
				continue next
			}
		}
		dst = append(append(dst, l.name...), ": "...)
		dst = append(l.value.append(dst, r), "\r\n"...)
	}
	return dst
}

// fieldOutcome is what an edit leaves of a header field.
type fieldOutcome uint8

const (
	fieldKept   fieldOutcome = iota // as it was
	fieldGone                       // removed
	fieldSet                        // to the same value in every request
	fieldVaries                     // to a value of each request, or one that others are before
)

// outcome is what e leaves of the first value of a field, given by its
// lower-case name, with the value if it is fieldSet.
func (e *edit) outcome(name string) (value string, _ fieldOutcome) {
	switch {
	case e == nil:
		return "", fieldKept
	case name == "host" || name == ":authority":
		if e.host == "" {
			return "", fieldKept
		}
		return e.host, fieldSet
	}
	var first *line // of those that are left: the last that replaces the others, or the first
	for i := range e.lines {
		if l := &e.lines[i]; l.lower == name && (first == nil || l.overwrite) {
			first = l // unless its value is empty: it varies then
		}
	}
	removed := slices.Contains(e.remove, name)
	switch {
	case first != nil:
	case removed:
		return "", fieldGone
	default:
		return "", fieldKept
	}
	value, constant := first.value.constant()
	if constant && (removed || first.overwrite) {
		return value, fieldSet
	}
	return "", fieldVaries
}

// before is e as what a value reads.
func (e *edit) before() *edit {
	if e.host != "" && e.addressed == nil {
		e.addressed = &line{value: format{{text: e.host}}}
	}
	return e
}

// read finds the first value that a field has in r as e leaves it: that of a
// line of e, which is not empty, or one of r.
func (e *edit) read(name string, r *httpstream.Request) (l *line, value []byte, ok bool) {
	if e == nil {
		value, ok = requestField(r, name)
		return nil, value, ok
	}
	if e.host != "" && (name == "host" || name == ":authority") {
		return e.addressed, nil, true
	}
	for i := len(e.lines) - 1; i >= 0; i-- {
		o := &e.lines[i]
		if o.lower != name || o.value.empty(r) {
			continue
		}
		if l = o; o.overwrite {
			return l, nil, true // those before are gone
		}
	}
	if !slices.Contains(e.remove, name) {
		if value, ok = requestField(r, name); ok {
			return nil, value, true // those that are added come behind it
		}
	}
	return l, nil, l != nil
}

// then is e followed by o.
func (e *edit) then(o *edit) *edit {
	switch {
	case e == nil:
		return o
	case o == nil:
		return e
	}
	out := &edit{remove: slices.Concat(e.remove, o.remove), host: e.host}
	if o.host != "" {
		out.host = o.host
	}
	for _, l := range e.lines {
		if !slices.Contains(o.remove, l.lower) {
			out.lines = append(out.lines, l)
		}
	}
	for _, l := range o.lines {
		l.value = l.value.after(e)
		out.lines = append(out.lines, l)
	}
	return out
}

// some is e, or nil if it changes nothing. Values read the request as it is
// when all that e removes is gone.
func (e *edit) some() *edit {
	if len(e.remove) == 0 && len(e.lines) == 0 && e.host == "" {
		return nil
	}
	removed := &edit{remove: e.remove}
	for i := range e.lines {
		e.lines[i].value = e.lines[i].value.after(removed)
	}
	return e
}

// headerOps are header operations of one place in a rule, or of several that
// Istio joins to one list.
type headerOps struct {
	remove   []string
	set, add []line
	host     string // of a Host in set or add
}

// maxHeaderOps is how many fields Envoy lets a route set and add together
// (Route.request_headers_to_add), and how many may be removed here: what they
// take of time grows with their square.
const maxHeaderOps = 1000

// headerOps compiles headers.request.
func (c *compiler) headerOps(meta *Meta, in *networking.Headers, at *field) (out headerOps) {
	req, at := in.GetRequest(), at.dot("headers").dot("request")
	if n := max(len(req.GetSet())+len(req.GetAdd()), len(req.GetRemove())); n > maxHeaderOps {
		c.errorf(meta, at, fmt.Sprint(n), "expected at most %d entries", maxHeaderOps)
		return headerOps{}
	}
	var addHost string
	addHost, out.add = c.lines(meta, req.GetAdd(), at.dot("add"), false)
	out.host, out.set = c.lines(meta, req.GetSet(), at.dot("set"), true)
	for i, name := range req.GetRemove() {
		if c.headerName(meta, name, at.dot("remove").at(i)) {
			out.remove = append(out.remove, strings.ToLower(name))
		}
	}
	if out.host != "" && addHost != "" {
		c.errorf(meta, at, "", "rewrites the host in set and in add")
	}
	out.host = cmp.Or(out.host, addHost)
	return out
}

// join adds the operations of the only destination to those of the route.
func (h *headerOps) join(o headerOps) {
	h.remove = append(h.remove, o.remove...)
	h.set = append(h.set, o.set...)
	h.add = append(h.add, o.add...)
	h.host = cmp.Or(h.host, o.host)
}

func (h *headerOps) edit() *edit {
	return (&edit{remove: h.remove, lines: slices.Concat(h.set, h.add), host: h.host}).some()
}

// edits compiles what a route does to the header. If it has one destination,
// Istio joins the lists of both; of several, own is what each does besides.
func (c *compiler) edits(src *VirtualService, in *networking.HTTPRoute, at *field) (route *edit, own []*edit) {
	ops := c.headerOps(&src.Meta, in.Headers, at)
	if authority := in.Rewrite.GetAuthority(); authority != "" {
		if ops.host != "" && !src.delegated { // a delegate inherits either
			c.errorf(&src.Meta, at.dot("rewrite").dot("authority"), authority, "cannot be given together with a Host in headers.request")
		}
		c.hostValue(&src.Meta, at.dot("rewrite").dot("authority"), authority)
		ops.host = authority
	}
	for i, rd := range in.Route {
		f := at.dot("route").at(i)
		if dst := c.headerOps(&src.Meta, rd.Headers, f); len(in.Route) == 1 {
			ops.join(dst)
		} else {
			own = append(own, dst.edit())
		}
	}
	return ops.edit(), own
}

// lines compiles a set or an add, in the order Istio gives it: that of the
// names. A Host among them rewrites the host instead.
func (c *compiler) lines(meta *Meta, in map[string]string, at *field, overwrite bool) (host string, out []line) {
	for _, name := range slices.Sorted(maps.Keys(in)) {
		f := at.entry(name)
		if strings.EqualFold(name, "host") || strings.EqualFold(name, ":authority") {
			if host != "" {
				c.errorf(meta, f, name, "rewrites the host a second time")
			}
			host = in[name]
			c.hostValue(meta, f, host)
			continue
		}
		value, err := parseFormat(in[name])
		if err != nil {
			c.errorf(meta, f, in[name], "%v", err)
			continue
		}
		if !c.headerName(meta, name, f) {
			continue
		}
		for i := range value {
			value[i].form = c.form
		}
		if text, ok := value.constant(); ok && text == "" {
			c.warnf(meta, f, "", "has no effect: an empty value is neither set nor added")
			continue
		}
		out = append(out, line{name: name, lower: strings.ToLower(name), value: value, overwrite: overwrite})
	}
	return host, out
}

// ofConnection are the header fields that are about a connection or frame the
// body: Envoy writes them anew, and a copy keeps those it has.
var ofConnection = []string{"connection", "content-length", "expect", "keep-alive", "proxy-connection", "te",
	"transfer-encoding", "upgrade", "http2-settings"}

// headerName checks the name of a header field to change, and reports whether
// that can be done.
func (c *compiler) headerName(meta *Meta, name string, at *field) bool {
	lower := strings.ToLower(name)
	switch {
	case strings.HasPrefix(name, ":") || lower == "host":
		c.errorf(meta, at, name, "cannot be changed")
	case !isToken(name):
		c.errorf(meta, at, name, "expected the name of a header")
	case slices.Contains(ofConnection, lower):
		c.warnf(meta, at, name, "has no effect: the field is about the connection or frames the body")
	default:
		return true
	}
	return false
}

// isToken reports whether s is a token (RFC 9110 section 5.6.2).
func isToken(s string) bool {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || strings.IndexByte(`"(),/:;<=>?@[\]{}`, c) >= 0 {
			return false
		}
	}
	return s != ""
}

// hostValue checks what a host is rewritten to.
func (c *compiler) hostValue(meta *Meta, at *field, host string) {
	if strings.ContainsFunc(host, func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune(`/?#@\`, r) }) {
		c.errorf(meta, at, host, "expected a host, with a port if need be")
	}
	if strings.Contains(host, "%") {
		c.warnf(meta, at, host, `is taken as it is: "%%" begins no command in a host`)
	}
}

// headerEdit is the header lines of a copy, without the empty line that ends
// the head.
type headerEdit struct {
	*edit
	host   string // instead of what the request is addressed to; empty: as it is
	suffix bool   // append hostSuffix to it
	path   *pathEdit
}

// rehosts reports whether the copy is addressed to something else.
func (h *headerEdit) rehosts() bool { return h.host != "" || h.suffix }

// hostSuffix is what Envoy appends to the host of a copy, before the port,
// and Istio had it do before version 1.28.
const hostSuffix = "-shadow"

// append appends the header of the copy of r.
func (h *headerEdit) append(dst []byte, r *httpstream.Request) []byte {
	rehost := h.rehosts()
	if h.edit == nil && !rehost {
		return append(dst, r.HeaderBlock()...)
	}
	placed := false
	if rehost {
		if _, has := r.Get("Host"); !has {
			dst = append(dst, "Host: "...)
			dst = append(h.appendHost(dst, r.Host()), "\r\n"...)
		}
	}
	for i := range r.NumFields() {
		name, value := r.Field(i)
		switch {
		case rehost && len(name) == len("host") && equalFold(name, "host"):
			if placed {
				continue // a second one would contradict the first
			}
			placed = true
			dst = append(append(dst, name...), ": "...)
			dst = append(h.appendHost(dst, value), "\r\n"...)
		case h.edit != nil && h.drops(name, r):
		default:
			dst = append(dst, r.FieldLine(i)...)
		}
	}
	if h.edit != nil {
		dst = h.appendLines(dst, r)
	}
	return dst
}

// appendHost appends what the copy is addressed to.
func (h *headerEdit) appendHost(dst, was []byte) []byte {
	start := len(dst)
	if h.host != "" {
		dst = append(dst, h.host...)
	} else {
		dst = append(dst, was...)
	}
	if !h.suffix || len(dst) == start {
		return dst
	}
	end := start + len(withoutPort(dst[start:]))
	port := len(dst) - end
	dst = append(dst, hostSuffix...)
	copy(dst[len(dst)-port:], dst[end:end+port])
	copy(dst[end:], hostSuffix)
	return dst
}
