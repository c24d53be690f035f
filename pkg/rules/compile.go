package rules

import (
	"maps"
	"net/netip"
	"slices"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// Options are what the rules themselves do not say.
type Options struct {
	// Normalize is the form of the path that rules are matched against.
	Normalize Normalization
	// AllowLoops permits a mirror whose endpoint is captured itself. The
	// caller must be able to recognise copies then.
	AllowLoops bool
	// HostSuffix appends "-shadow" to the host of every copy, before the
	// port, as Envoy does and Istio did before version 1.28.
	HostSuffix bool
	// EnvoyHeaders adds to copies what Envoy adds: x-envoy-internal, the
	// client's address to x-forwarded-for, x-envoy-original-path where the
	// path is rewritten, and x-envoy-expected-rq-timeout-ms where there is a
	// timeout.
	EnvoyHeaders bool
	// MaxMemory bounds, in bytes, what rules take beyond what their text does
	// where parts of them are multiplied with each other; 0 is no bound. An
	// object for which there is no room has an error.
	MaxMemory int
	// OwnNamespace permits a rule to mirror only requests to services of its own
	// namespace.
	OwnNamespace bool
	// PodsAt, if not nil, says of which namespaces the Pods are that have an
	// address, besides those of the Snapshot; it is called by Compile alone.
	// Nothing that arrives at a Pod is captured for services of other
	// namespaces than its own.
	PodsAt func(netip.Addr) (namespaces []string)
}

// Compile makes a Program of the rules in s, or says everything that is wrong
// with them. The Program is nil exactly if Problems.Err is not.
func Compile(s *Snapshot, o Options) (*Program, Problems) {
	p, problems := compileOnce(s, o)
	if problems.Err() != nil {
		return nil, problems
	}
	return p, problems
}

// compileOnce is Compile whose Program is there in any case; with an error only
// its needs are of use.
func compileOnce(s *Snapshot, o Options) (*Program, Problems) {
	c := newCompiler(o)
	c.duplicates(s)
	c.workloads(s)
	c.kubernetesServices(s)
	for _, se := range byAge(s.ServiceEntries, func(se *ServiceEntry) *Meta { return &se.Meta }) {
		c.serviceEntry(se)
	}
	for _, dr := range byAge(s.DestinationRules, func(dr *DestinationRule) *Meta { return &dr.Meta }) {
		c.destinationRule(dr)
	}
	c.markForeign()
	c.findDelegates(s)
	for _, vs := range byAge(s.VirtualServices, func(vs *VirtualService) *Meta { return &vs.Meta }) {
		if vs := c.virtualService(vs); vs != nil {
			c.virtualServices = append(c.virtualServices, vs)
		}
	}
	c.strayDelegates()
	c.gatewayRoutes(s)
	c.misplacedExtras(s)
	p := &Program{form: o.Normalize, hosts: c.hosts(), gateways: c.gatewayTable()}
	c.link(p)
	p.clients, p.asksClient = c.clients(s), c.asksClient
	p.asksPort = c.asksPort
	p.claims = c.claims(p)
	p.needs, p.kinds = c.needs(p, s), c.kinds(p, s)
	if !o.AllowLoops {
		c.loops(p)
	}
	c.problems.sort()
	c.problems = slices.Compact(c.problems) // of a delegate of several routes
	if c.problems.Err() == nil {
		c.incomplete(s)
	}
	c.letGo()
	return p, c.problems
}

// byAge is pointers to the objects, the oldest first.
func byAge[T any](objects []T, meta func(*T) *Meta) []*T {
	sorted := make([]*T, len(objects))
	for i := range objects {
		sorted[i] = &objects[i]
	}
	slices.SortStableFunc(sorted, func(a, b *T) int { return compareAge(meta(a), meta(b)) })
	return sorted
}

// compiler is the state of one Compile.
type compiler struct {
	problems  Problems
	told      map[told]int
	errors    int            // listed or not
	quiet     bool           // warnings are those of something compiled again
	unfolded  map[string]int // by the expressions of each namespace
	merged    map[string]int // by the delegations of each namespace, in bytes
	supported map[protoreflect.FullName]support
	form      Normalization

	options         Options
	snapshot        *Snapshot
	slices          map[string][]*EndpointSlice // by namespace/service
	pods            map[string][]*Pod           // by namespace
	newPods         map[string][]*Pod           // of those, which are in no EndpointSlice
	podOf           map[podKey]*Pod
	owners          map[netip.Addr][]string // namespaces of the Pods that have an address
	delegates       map[string]*delegate    // by namespace/name
	services        serviceTable
	arrivals        *arrivals                          // of the object being compiled
	annotated       []*mirrorExtra                     // of the object being compiled
	asksClient      bool                               // a rule is not for all clients
	asksPort        bool                               // a rule is not for all ports
	subsets         map[string]map[string][]*hostRules // by namespace and host
	virtualServices []*virtualService                  // the oldest first
	known           map[string]*Mirror                 // by key
	uses            []mirrorUse
	gateways        gatewayState
	needed          map[string]bool // hosts of services, see Needs
	asked           []*clientMatch
	namespaces      map[string]*Namespace
	asksNamespaces  bool // a listener is for routes of namespaces with certain labels
	costs           costs
	arrive          map[arrivalKey]map[netip.AddrPort]struct{} // see capturedAt
}

func newCompiler(o Options) *compiler {
	return &compiler{
		supported: supportedFields(),
		told:      map[told]int{},
		unfolded:  map[string]int{},
		merged:    map[string]int{},
		services:  serviceTable{},
		subsets:   map[string]map[string][]*hostRules{},
		known:     map[string]*Mirror{},
		arrive:    map[arrivalKey]map[netip.AddrPort]struct{}{},
		costs:     costs{of: map[string]int{}, objects: map[named]int{}, denied: map[named]bool{}},
		form:      o.Normalize,
		options:   o,
	}
}

// mirrorUse is a place in a rule where a mirror is named.
type mirrorUse struct {
	meta   *Meta
	at     *field
	action *action
	mirror *Mirror
}

// errorf reports a problem, except with what Decode has reported already: that
// it is missing now says nothing.
func (c *compiler) errorf(meta *Meta, f *field, value, format string, args ...any) {
	meta, f = meta.heir.author(meta, f)
	if meta.bad == nil || meta.decoded(f.String()) {
		c.report(meta, f, value, false, format, args...)
	}
}

// warnf reports what is perhaps not meant. What is left of an object that was
// not decoded completely says nothing about that.
func (c *compiler) warnf(meta *Meta, f *field, value, format string, args ...any) {
	meta, f = meta.heir.author(meta, f)
	if meta.bad == nil && !c.quiet {
		c.report(meta, f, value, true, format, args...)
	}
}

func (c *compiler) report(meta *Meta, f *field, value string, warning bool, format string, args ...any) {
	if !warning {
		c.errors++
	}
	of := told{meta.named(), warning}
	switch c.told[of]++; {
	case c.told[of] > maxProblems+1:
		return
	case c.told[of] > maxProblems:
		f, value, format, args = nil, "", moreProblems, nil
	}
	p := newProblem(f, value, format, args...)
	p.Position, p.Object, p.Group, p.Warning = meta.position(f), of.object, of.group, warning
	c.problems = append(c.problems, p)
}

// told is the errors, or the warnings, of an object.
type told struct {
	named
	warning bool
}

// metas calls f for every object.
func (s *Snapshot) metas(f func(*Meta)) {
	s.ownMetas(f)
	s.gatewayMetas(f)
}

// ownMetas calls f for every object that is not of the Gateway API.
func (s *Snapshot) ownMetas(f func(*Meta)) {
	for i := range s.VirtualServices {
		f(&s.VirtualServices[i].Meta)
	}
	for i := range s.DestinationRules {
		f(&s.DestinationRules[i].Meta)
	}
	for i := range s.ServiceEntries {
		f(&s.ServiceEntries[i].Meta)
	}
	for i := range s.WorkloadEntries {
		f(&s.WorkloadEntries[i].Meta)
	}
	for i := range s.IstioGateways {
		f(&s.IstioGateways[i].Meta)
	}
	for i := range s.Services {
		f(&s.Services[i].Meta)
	}
	for i := range s.EndpointSlices {
		f(&s.EndpointSlices[i].Meta)
	}
	for i := range s.Pods {
		f(&s.Pods[i].Meta)
	}
	for i := range s.Namespaces {
		f(&s.Namespaces[i].Meta)
	}
}

// duplicates reports objects that are given twice.
func (c *compiler) duplicates(s *Snapshot) {
	first := map[named]*Meta{}
	s.metas(func(m *Meta) {
		if m.Name == "" {
			return // reported when it was decoded
		}
		if prev := first[m.named()]; prev != nil {
			c.errorf(m, nil, "", "is given twice, first in %s", prev.Position)
			return
		}
		first[m.named()] = m
	})
}

// incomplete reports objects that were not decoded completely: a condition
// that is missing could make a rule match everything.
func (c *compiler) incomplete(s *Snapshot) {
	s.metas(func(m *Meta) {
		if m.bad != nil {
			c.report(m, nil, "", false, "is not compiled: it could not be decoded completely")
		}
	})
}

// link gathers the targets and mirrors of all routes that requests can reach.
func (c *compiler) link(p *Program) {
	live := map[*Route]bool{}
	// The hosts of an object share one list of routes: an index of its own for
	// each would have hosts times routes entries.
	type list struct {
		first **Route
		n     int
	}
	linked := map[list]*virtualHost{}
	p.virtualHosts(func(h *virtualHost) {
		var of list
		if len(h.routes) > 0 {
			of = list{&h.routes[0], len(h.routes)}
		}
		if same := linked[of]; same != nil && (same.owner == nil) == (h.owner == nil) {
			h.index, h.selects = same.index, same.selects
			return
		}
		linked[of] = h
		for _, rt := range h.routes {
			if !live[rt] {
				live[rt] = true
				rt.bind()
			}
		}
		h.index = newRouteIndex(h.routes)
		h.selects = h.owner != nil && h.selective()
		p.hosts.selects = p.hosts.selects || h.selects
	})
	seen := map[*action]bool{}
	targets := map[netip.AddrPort]struct{}{}
	add := func(meta *Meta, o object, routes []*Route) {
		o.rule = Rule{Kind: meta.Kind, Namespace: meta.Namespace, Name: meta.Name, Index: -1}
		p.objects = append(p.objects, o)
		for _, rt := range routes {
			if a := rt.action; live[rt] && !seen[a] {
				seen[a] = true
				p.addMirrors(a)
				p.addLimits(a)
				if len(a.mirrors) > 0 {
					maps.Copy(targets, a.captured)
				}
			}
		}
	}
	for _, vs := range c.virtualServices {
		add(&vs.src.Meta, object{hosts: vs.hosts, names: vs.names, clients: vs.clients(), mesh: vs.mesh()}, vs.routes)
	}
	for _, gr := range c.gateways.routes {
		clients := strings.Join(gr.gateways, " or ")
		if gr.consumers != "" {
			clients += ", namespace " + gr.consumers
		}
		add(gr.meta, object{hosts: gr.hosts, clients: clients, parents: gr.gateways, consumers: gr.consumers}, gr.routes)
	}
	p.targets = slices.SortedFunc(maps.Keys(targets), netip.AddrPort.Compare)
	c.uses = slices.DeleteFunc(c.uses, func(u mirrorUse) bool { return !seen[u.action] })
}

// addMirrors numbers the mirrors of a that are new.
func (p *Program) addMirrors(a *action) {
	for _, rm := range a.mirrors {
		if m := rm.Mirror; m.id < 0 {
			m.id = len(p.mirrors)
			p.mirrors = append(p.mirrors, m)
		}
	}
}

// loops reports mirrors whose endpoints are captured: their copies would be
// seen as requests again.
func (c *compiler) loops(p *Program) {
	for _, u := range c.uses {
		for _, e := range u.mirror.Endpoints {
			addr, err := netip.ParseAddrPort(e.Address)
			if err != nil {
				continue // a name; where it leads is seen when it is resolved
			}
			if _, captured := slices.BinarySearchFunc(p.targets, addr, netip.AddrPort.Compare); captured {
				c.errorf(u.meta, u.at, e.Address, "is an endpoint whose requests are mirrored: copies would be mirrored again")
			}
		}
	}
}
