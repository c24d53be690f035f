package rules

import (
	"fmt"
	"slices"
	"strings"

	"github.com/shadowtap/shadowtap/pkg/httpstream"
)

// Tried is a rule that was considered and did not match.
type Tried struct {
	// Rule is the route; with Index -1 the whole object, none of whose hosts
	// is that of the request.
	Rule   Rule   `json:"rule"`
	Reason string `json:"reason"`
}

// Explanation is what would be mirrored of a request, and why. Its JSON form
// is what "shadowtap explain -o json" prints.
type Explanation struct {
	// Matched is whether a rule takes the request, even one that mirrors
	// nothing.
	Matched bool  `json:"matched"`
	Rule    *Rule `json:"rule"`
	// Mirrors are all mirrors of the rule whatever their percentages, none if
	// the request arrived somewhere else than the rule leads to.
	Mirrors []MirroredRequest `json:"mirrors"`
	Tried   []Tried           `json:"tried"`

	why     FilterReason
	because string // what the rule asks for
}

// object is a rule object as a whole, for explanations.
type object struct {
	rule  Rule
	hosts []string
	// names are those that a VirtualService has at its gateways.
	names []string
	// clients are those it applies to, for people.
	clients string
	// parents are what a route of the Gateway API is attached to: gateways as
	// NAMESPACE/NAME, or "mesh". It is nil for a VirtualService.
	parents []string
	// consumers is the namespace of the clients in the mesh, empty for all.
	consumers string
	// mesh is whether it is for clients in the mesh among others.
	mesh bool
}

// Explain says what Decide decides about r, sampling apart, and what each rule
// that was considered before the one that matched failed on.
func (p *Program) Explain(r *httpstream.Request) *Explanation {
	return p.explain(r, &view{client: p.client(r.Source)})
}

// Origin is what a request itself does not say.
type Origin struct {
	// Client sent it, nil if that is not known.
	Client *Client
	// Port is that of the service it was sent to, or of the gateway if Client
	// serves one; 0 if that is not known.
	Port uint32
	// Scheme is http or https; empty if only the request can tell.
	Scheme string
}

// ExplainFrom is Explain for a request from o.
func (p *Program) ExplainFrom(r *httpstream.Request, o Origin) *Explanation {
	return p.explain(r, &view{client: o.Client, port: o.Port, asked: o.Scheme})
}

func (p *Program) explain(r *httpstream.Request, v *view) *Explanation {
	e := &Explanation{Mirrors: []MirroredRequest{}, Tried: []Tried{}, why: NoPath}
	if !v.load(r, p.form) {
		return e
	}
	host, _ := p.pick(r, v)
	if host == nil {
		e.why = NoHost
		for _, o := range p.objects {
			e.Tried = append(e.Tried, Tried{o.rule, o.reason(v)})
		}
		return e
	}
	e.why = NoRoute
	for _, rt := range host.routes {
		failed, i := rt.match.check(v)
		if failed != matched {
			e.Tried = append(e.Tried, Tried{rt.rule, rt.match.reason(v, failed, i)})
			continue
		}
		e.Matched, e.Rule, e.because = true, &rt.rule, rt.match.describe()
		if e.why = rt.follows(arrival(r)); e.why != NotFiltered {
			break
		}
		e.why = NoMirror
		for i := range rt.mirrors {
			if m := &rt.mirrors[i]; m.listens(v.port) && m.extra.admits(r) {
				e.why = NotFiltered
				e.Mirrors = append(e.Mirrors, mirroredRequest(m, r))
			}
		}
		break
	}
	return e
}

// reason says why no host of o is that of a request.
func (o *object) reason(v *view) string {
	host := strings.ToLower(string(withoutPort(v.authority)))
	switch {
	case !slices.ContainsFunc(o.hosts, func(h string) bool { return covers(h, host) }):
	case o.parents == nil && !slices.ContainsFunc(o.names, func(h string) bool { return covers(h, host) }):
		return fmt.Sprintf("host %q: expected one that %s admits", host, o.clients)
	case slices.ContainsFunc(o.parents, v.client.mayServe) && (o.consumers == "" || v.client != nil && v.client.Namespace == o.consumers):
		return fmt.Sprintf("host %q: a listener for a more specific host takes the request", host)
	case v.port != 0 && o.mesh:
		return fmt.Sprintf("client %s, port %d: expected %s; in the mesh, a port of the service that has the host, or 80",
			v.client.describe(), v.port, o.clients)
	default:
		return fmt.Sprintf("client %s: expected %s", v.client.describe(), o.clients)
	}
	return fmt.Sprintf("host %q: expected %s", withoutPort(v.authority), strings.Join(o.hosts, " or "))
}

// describe is all the conditions for people, in the order of reason.
func (m *match) describe() string {
	var parts []string
	add := func(what string, t *text) {
		if t.kind != anyText {
			parts = append(parts, what+" "+t.describe())
		}
	}
	if m.uri.kind == segments {
		parts = append(parts, m.uri.describe())
	} else {
		add("path", &m.uri)
	}
	if m.port != 0 {
		parts = append(parts, fmt.Sprintf("port %d", m.port))
	}
	if m.client != nil {
		parts = append(parts, "client "+m.client.describe())
	}
	add("scheme", &m.scheme)
	add("method", &m.method)
	add("authority", &m.authority)
	for i := range m.headers {
		add("header "+m.headers[i].name, &m.headers[i].text)
	}
	for i := range m.without {
		add("without header "+m.without[i].name, &m.without[i].text)
	}
	for i := range m.query {
		add("query parameter "+m.query[i].name, &m.query[i].text)
	}
	if parts == nil {
		return "every request"
	}
	return strings.Join(parts, ", ")
}

// reason says what failed.
func (m *match) reason(v *view, failed part, i int) string {
	switch failed {
	case partURI:
		return fmt.Sprintf("path %q: expected %s", v.path, m.uri.describe())
	case partPort:
		return fmt.Sprintf("port %d: expected %d", v.port, m.port)
	case partClient:
		return fmt.Sprintf("client %s: expected %s", v.client.describe(), m.client.describe())
	case partBehind:
		return fmt.Sprintf("client %s: %s takes everything from it", v.client.describe(), m.behind[i].rule)
	case partScheme:
		return fmt.Sprintf("scheme %q: expected %s", v.scheme(), m.scheme.describe())
	case partMethod:
		return fmt.Sprintf("method %q: expected %s", v.r.Method(), m.method.describe())
	case partAuthority:
		return fmt.Sprintf("authority %q: expected %s", v.authority, m.authority.describe())
	case partHeader:
		b, ok := v.header(m.headers[i].name)
		return fieldReason("header", &m.headers[i], b, ok)
	case partWithout:
		b, _ := v.header(m.without[i].name)
		return fmt.Sprintf("header %s %q: expected to be without %s", m.without[i].name, b, m.without[i].describe())
	case partQuery:
		b, ok := v.param(m.query[i].name)
		return fieldReason("query parameter", &m.query[i], b, ok)
	}
	return ""
}

func fieldReason(what string, f *fieldText, value []byte, ok bool) string {
	if !ok {
		return fmt.Sprintf("%s %s is missing: expected %s", what, f.name, f.describe())
	}
	return fmt.Sprintf("%s %s %q: expected %s", what, f.name, value, f.describe())
}
