package rules

import (
	"bytes"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/shadowtap/shadowtap/pkg/httpstream"
)

// MirroredRequest is the copy of a request for one mirror.
type MirroredRequest struct {
	Host       string   `json:"host"`
	Subset     string   `json:"subset"`
	Percentage float64  `json:"percentage"` // the effective one
	Endpoints  []string `json:"endpoints"`  // "host:port"
	Request    Copy     `json:"request"`
	// Varies is whether the destination that production chose changes the
	// header too. Which one that was is not known then, so Request is without
	// its changes.
	Varies bool `json:"varies,omitempty"`
}

// Copy is a request as it is sent to a mirror. JSON holds only text: bytes
// that are not UTF-8 are replaced there.
type Copy struct {
	Method   string      `json:"method"`
	Target   string      `json:"target"`
	Version  string      `json:"version"`
	Headers  [][2]string `json:"headers"`
	Body     []byte      `json:"body"` // the content, without chunk framing
	Trailers [][2]string `json:"trailers"`
}

// Record is one request with what became of it. Its JSON form is a line of
// "shadowtap run --dry-run -o json".
type Record struct {
	Time        string         `json:"time"` // of the first byte, in UTC with microseconds
	Source      netip.AddrPort `json:"source"`
	Destination netip.AddrPort `json:"destination"`
	Explanation
}

// NewRecord records the decision d about r, which is the last Decide of d. It
// keeps no reference to r.
func NewRecord(r *httpstream.Request, d *Decision) *Record {
	rec := &Record{
		Time:        time.UnixMicro(r.Start / 1000).UTC().Format("2006-01-02T15:04:05.000000Z"),
		Source:      r.Source,
		Destination: r.Destination,
		Explanation: Explanation{Matched: d.Route != nil, Mirrors: []MirroredRequest{}, Tried: []Tried{}, why: d.Why},
	}
	if d.Route != nil {
		rec.Rule = &d.Route.rule
	}
	for _, rm := range d.Selected {
		rec.Mirrors = append(rec.Mirrors, mirroredRequest(rm, r))
	}
	return rec
}

func mirroredRequest(rm *RouteMirror, r *httpstream.Request) MirroredRequest {
	m := MirroredRequest{
		Host: rm.Mirror.Host, Subset: rm.Mirror.Subset, Percentage: rm.Percentage(),
		Endpoints: make([]string, len(rm.Mirror.Endpoints)),
		Request:   newCopy(rm, r),
		Varies:    rm.route.action.variants != nil && !r.Destination.IsValid(),
	}
	for i, e := range rm.Mirror.Endpoints {
		m.Endpoints[i] = e.Address
	}
	return m
}

// newCopy takes the copy of r for a mirror apart.
func newCopy(rm *RouteMirror, r *httpstream.Request) Copy {
	c := Copy{Headers: [][2]string{}, Trailers: [][2]string{}, Body: r.AppendContent([]byte{})}
	line, fields, _ := bytes.Cut(rm.AppendHead(nil, r), []byte("\r\n"))
	c.Method = string(r.Method())
	c.Version = string(r.Version())
	c.Target = string(line[len(c.Method)+1 : len(line)-len(c.Version)-1])
	for len(fields) > 0 {
		line, fields, _ = bytes.Cut(fields, []byte("\r\n"))
		name, value, _ := bytes.Cut(line, []byte(":"))
		c.Headers = append(c.Headers, [2]string{string(name), string(bytes.Trim(value, " \t"))})
	}
	for i := range r.NumTrailers() {
		name, value := r.Trailer(i)
		c.Trailers = append(c.Trailers, [2]string{string(name), string(value)})
	}
	return c
}

// WriteText writes the record for people.
func (rec *Record) WriteText(w io.Writer) error {
	if _, err := fmt.Fprintf(w, "%s  %s -> %s\n", rec.Time, rec.Source, rec.Destination); err != nil {
		return err
	}
	return rec.Explanation.WriteText(w)
}

// WriteText writes the explanation for people: the rules that did not match,
// the one that did and what it asks for, and each copy with its head.
func (e *Explanation) WriteText(w io.Writer) error {
	var b bytes.Buffer
	for _, t := range e.Tried {
		fmt.Fprintf(&b, "no    %s: %s\n", printable(t.Rule.String()), printable(t.Reason))
	}
	switch {
	case !e.Matched:
		fmt.Fprintf(&b, "no rule matches: %s\n", e.why.describe())
	case len(e.Mirrors) == 0:
		fmt.Fprintf(&b, "match %s: %s; mirrors nothing: %s\n", printable(e.Rule.String()), printable(e.because), e.why.describe())
	default:
		fmt.Fprintf(&b, "match %s: %s\n", printable(e.Rule.String()), printable(e.because))
	}
	for i := range e.Mirrors {
		e.Mirrors[i].writeText(&b)
	}
	_, err := w.Write(b.Bytes())
	return err
}

func (m *MirroredRequest) writeText(b *bytes.Buffer) {
	name := m.Host
	if m.Subset != "" {
		name += " subset " + m.Subset
	}
	fmt.Fprintf(b, "  %v %% to %s (%s)\n", m.Percentage, printable(name), printable(strings.Join(m.Endpoints, ", ")))
	if m.Varies {
		b.WriteString("    (the headers of the destination that the request goes to come on top)\n")
	}
	c := &m.Request
	fmt.Fprintf(b, "    %s %s %s\n", printable(c.Method), printable(c.Target), c.Version)
	for _, h := range c.Headers {
		fmt.Fprintf(b, "    %s: %s\n", printable(h[0]), printable(h[1]))
	}
	if len(c.Body) > 0 {
		fmt.Fprintf(b, "    [%d bytes]\n", len(c.Body))
	}
	for _, h := range c.Trailers {
		fmt.Fprintf(b, "    %s: %s\n", printable(h[0]), printable(h[1]))
	}
}

// String names the rule as the objects are named elsewhere.
func (r Rule) String() string {
	s := r.Kind
	if r.Name != "" {
		s += " " + strings.TrimPrefix(r.Namespace+"/"+r.Name, "/")
	}
	list := "http"
	switch r.Kind {
	case "VirtualService":
	case "HTTPRoute", "GRPCRoute":
		list = "rules"
	default:
		return s
	}
	if r.Index < 0 {
		return s
	}
	if r.Route != "" {
		s += " route " + r.Route
	}
	return s + fmt.Sprintf(" (%s[%d])", list, r.Index)
}

// describe is the reason for people.
func (w FilterReason) describe() string {
	return [NumFilterReasons]string{
		"not in the sample",
		"no rule is for this host",
		"no route for this host matches",
		"the route has no mirror",
		"the request arrived at an address the route does not lead to",
		"the target has no path that could be routed",
	}[w]
}

// printable keeps what a client sent, or an object holds, from controlling the
// terminal and from passing for more lines or columns than it is.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return utf8.RuneError
	}, s)
}
