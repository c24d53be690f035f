package rules

import (
	"net/netip"

	"github.com/shadowtap/shadowtap/pkg/httpstream"
)

// Verdict is what becomes of a request.
type Verdict uint8

// The verdicts.
const (
	// Filtered: no rule mirrors the request; Decision.Why says in what way.
	Filtered Verdict = iota
	// SampledOut: the rule mirrors a share of the requests, and this one is
	// not in it.
	SampledOut
	// Mirrored: Decision.Selected is where copies go.
	Mirrored
)

// String is the verdict as it is written in the account.
func (v Verdict) String() string { return [...]string{"filtered", "sampled_out", "mirrored"}[v] }

// FilterReason says why a request is Filtered.
type FilterReason uint8

// The reasons, in the order of their labels.
const (
	// NotFiltered: the verdict is another.
	NotFiltered FilterReason = iota
	// NoHost: no rule is for the host of the request.
	NoHost
	// NoRoute: of the rules for the host no route matches.
	NoRoute
	// NoMirror: the route that matches mirrors nothing.
	NoMirror
	// OtherDestination: the request arrived at an endpoint that the route
	// that matches does not lead to.
	OtherDestination
	// NoPath: the request-target has no path that Envoy would route.
	NoPath
	// NumFilterReasons is the number of reasons.
	NumFilterReasons
)

// String is the reason as it is written in the account.
func (w FilterReason) String() string {
	return [NumFilterReasons]string{"", "no_host", "no_route", "no_mirror", "other_destination", "no_path"}[w]
}

// Decision is what Program.Decide finds. The zero value is ready to use, and
// one Decision is meant to be used for request after request: it keeps its
// memory. It must not be used from two goroutines at once.
type Decision struct {
	Verdict Verdict
	// Route is the route that matched, nil if none did.
	Route *Route
	// Selected are the mirrors that get a copy, valid until the next Decide.
	Selected []*RouteMirror
	// Why is set if Verdict is Filtered.
	Why FilterReason

	view view
}

// Program is a compiled Snapshot. It is immutable, but for its limits of requests
// per second, and safe for concurrent use.
type Program struct {
	hosts   hostTable
	objects []object // that routes come from, in the order they were compiled
	form    Normalization

	gateways *gatewayTable // nil without routes of the Gateway API
	mirrors  []*Mirror
	targets  []netip.AddrPort

	clients    map[netip.Addr]*Client
	asksClient bool // a rule is not for all clients
	asksPort   bool // a rule is not for all ports
	needs      Needs
	limits     []*rateLimit
	kinds      *kinds                  // of Pods that are captured
	claims     map[netip.Addr][]string // namespaces of services by addresses of targets
}

// Targets are the addresses whose requests have to be captured: the endpoints
// that routes with a mirror lead to, sorted. An unspecified address stands for
// every address.
func (p *Program) Targets() []netip.AddrPort { return p.targets }

// Mirrors are the distinct destinations of copies, Mirror.ID being the index.
func (p *Program) Mirrors() []*Mirror { return p.mirrors }

// Decide says what becomes of r and leaves it in d. random decides what is
// sampled: it must be a number of its own for every request, the same for all
// mirrors. Decide does not allocate once d has been in use for a while.
func (p *Program) Decide(r *httpstream.Request, random uint64, d *Decision) {
	d.Verdict, d.Why, d.Selected = Filtered, NotFiltered, d.Selected[:0]
	v := &d.view
	v.client, v.port = p.client(r.Source), 0
	defer v.release()
	if d.Route, d.Why = p.find(r, v); d.Route == nil {
		return
	}
	if d.Why = d.Route.follows(arrival(r)); d.Why != NotFiltered {
		return
	}
	d.Why = NoMirror
	for i := range d.Route.mirrors {
		m := &d.Route.mirrors[i]
		if !m.listens(v.port) || !m.extra.admits(r) {
			continue
		}
		d.Verdict, d.Why = max(d.Verdict, SampledOut), NotFiltered
		if m.takes(m.extra.sample(v, random, m.salt)) && m.extra.within(r) {
			d.Selected = append(d.Selected, m)
			d.Verdict = Mirrored
		}
	}
}

// client is who sends from an address, nil if that is not known or no rule
// asks for it.
func (p *Program) client(source netip.AddrPort) *Client {
	if !p.asksClient {
		return nil
	}
	return p.clients[source.Addr().Unmap()]
}

// follows says whether the route mirrors requests that arrive at dst.
//
// A request often passes several captured endpoints on its way: a gateway or
// frontend and then the service behind it. It matches the same rule at each of
// them, but only the endpoint that the rule leads to is where the rule's proxy
// would have sent it; mirroring it at each would send two copies of one
// request. An address that is not valid stands for the right one: the question
// is about the rule alone.
func (rt *Route) follows(dst netip.AddrPort) FilterReason {
	switch {
	case len(rt.mirrors) == 0:
		return NoMirror
	case dst.IsValid() && !rt.action.captures(dst):
		return OtherDestination
	}
	return NotFiltered
}

// find is the route that takes r, or why there is none. v, which knows the
// client, is loaded with r.
func (p *Program) find(r *httpstream.Request, v *view) (*Route, FilterReason) {
	if !v.load(r, p.form) {
		return nil, NoPath
	}
	host, rt := p.pick(r, v)
	if host == nil {
		return nil, NoHost
	}
	if rt == nil {
		return nil, NoRoute
	}
	return rt, NotFiltered
}
