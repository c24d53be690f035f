package rules

import (
	"fmt"
	"strconv"
	"time"

	networking "istio.io/api/networking/v1alpha3"

	"github.com/shadowtap/shadowtap/pkg/httpstream"
)

// Endpoint is one place a copy can be sent to.
type Endpoint struct {
	// Address is "host:port" as net.Dial takes it; the host is an IP address
	// or a name to resolve.
	Address string
	// TLS is whether to speak TLS, and ServerName what to verify then.
	TLS        bool
	ServerName string
	// Zone is where the endpoint is, empty if that is not known.
	Zone string
}

// Mirror is a destination of copies: a port of a service, or of a subset of
// it. It is immutable.
type Mirror struct {
	// Host is the full name of the service, Subset empty if it is all of it,
	// Port the service's port.
	Host, Subset string
	Port         uint32
	// Endpoints are where a copy can go, each to one of them.
	Endpoints []Endpoint
	// Policy is what DestinationRules say of calls to it.
	Policy Policy

	id    int
	scope string // the namespace of the service, if Host means another one in most
}

// ID is the index of the mirror in Program.Mirrors.
func (m *Mirror) ID() int { return m.id }

// Key names the destination independently of the Program: in two Programs the
// same key stands for the same destination, whose endpoints may have changed.
func (m *Mirror) Key() string {
	key := m.Host + "|" + m.Subset + "|" + strconv.Itoa(int(m.Port))
	if m.scope != "" {
		key += "|" + m.scope
	}
	if m.Policy != (Policy{}) {
		key += "|" + m.Policy.key()
	} else if len(m.Endpoints) > 0 && m.Endpoints[0].TLS {
		key += "|tls"
	}
	return key
}

// million is the denominator Istio gives a percentage with decimals.
const million = 1_000_000

// RouteMirror is a mirror of a route with the share of the requests it takes.
type RouteMirror struct {
	Mirror *Mirror
	// Numerator of Denominator requests are mirrored (Envoy:
	// FractionalPercent). Numerator is never 0.
	Numerator, Denominator uint32

	// A mirror without a port means the port the request was addressed to:
	// there is a RouteMirror for each, and listener says for which. first is
	// set on the one for requests of which that is not known.
	listener uint32 // 0: all
	first    bool

	extra  *mirrorExtra
	salt   uint64 // of independent sampling
	envoy  bool   // add what Envoy adds
	suffix bool   // append hostSuffix to the host

	// Set by Route.bind.
	route  *Route
	shapes []shape // by variant of the action
}

// AppendHead appends the head of the copy of r for this mirror, as
// Route.AppendHead does with what the mirror changes besides.
func (m *RouteMirror) AppendHead(dst []byte, r *httpstream.Request) []byte {
	return m.route.appendHead(dst, r, m.shapes)
}

// Timeout bounds the exchange with the shadow; 0 leaves it to the mirror.
func (m *RouteMirror) Timeout() time.Duration { return m.route.action.timeout }

// listens reports whether the mirror is for requests to a service port, 0 if
// it is not known.
func (m *RouteMirror) listens(port uint32) bool {
	return m.listener == 0 || m.listener == port || port == 0 && m.first
}

// Percentage is the share that is really mirrored, from 0 to 100: Istio
// truncates 0.57 to 0.5699.
func (m *RouteMirror) Percentage() float64 {
	return float64(m.Numerator) / float64(m.Denominator/100)
}

// takes reports whether the mirror takes the request with this random number
// (Envoy: evaluateFractionalPercent).
func (m *RouteMirror) takes(random uint64) bool {
	return random%uint64(m.Denominator) < uint64(m.Numerator)
}

// setPercentage sets the share of a double percentage as Istio does
// (translatePercentToFractionalPercent): truncated, not rounded.
func (m *RouteMirror) setPercentage(p float64) {
	m.Numerator, m.Denominator = uint32(p*10000), million
}

// all is the share of all requests, of no mirror yet.
func (c *compiler) all() RouteMirror {
	return RouteMirror{Numerator: 100, Denominator: 100, suffix: c.options.HostSuffix, envoy: c.options.EnvoyHeaders}
}

// to makes m what the share goes to.
func (m *RouteMirror) to(mirror *Mirror) {
	m.Mirror, m.salt = mirror, mix(hash([]byte(mirror.Key())))
}

// mirrors compiles the mirrors of a route into a. Those that never take a
// request are checked and left out; wanted is whether there are others.
func (c *compiler) mirrors(vs *VirtualService, in *networking.HTTPRoute, at *field, a *action) (wanted bool) {
	share := c.all()
	plain := share
	add := func(d *networking.Destination, f *field, share RouteMirror) {
		ports := c.mirrorPorts(vs, d, f)
		wanted = wanted || share.Numerator > 0
		if share.Numerator == 0 {
			return
		}
		for i, m := range ports {
			share.to(m)
			share.extra = give(c.annotated, in.Name, m, vs.Namespace)
			if len(ports) > 1 {
				share.listener, share.first = m.Port, i == 0
				c.asksPort = true
			}
			a.mirrors = append(a.mirrors, share)
			c.uses = append(c.uses, mirrorUse{&vs.Meta, f, a, m})
		}
	}
	if in.Mirror != nil && len(in.Mirrors) > 0 && !vs.delegated {
		c.errorf(&vs.Meta, at.dot("mirror"), in.Mirror.Host, "cannot be given together with mirrors")
	}
	if in.MirrorPercent != nil {
		p := in.MirrorPercent.Value
		f := at.dot("mirrorPercent")
		c.warnf(&vs.Meta, f, "", "is deprecated, use mirrorPercentage")
		if p > 100 {
			c.errorf(&vs.Meta, f, fmt.Sprint(p), "expected a percentage from 0 to 100")
		}
		share.Numerator = p
	}
	if in.MirrorPercentage != nil {
		c.percentage(vs, in.MirrorPercentage, at.dot("mirrorPercentage"), &share)
	}
	if in.Mirror != nil {
		add(in.Mirror, at.dot("mirror"), share)
	} else if in.MirrorPercent != nil || in.MirrorPercentage != nil {
		c.warnf(&vs.Meta, at, "", "has a percentage for mirror, but no mirror")
	}
	for i, policy := range in.Mirrors {
		f := at.dot("mirrors").at(i)
		share := plain
		if policy.Percentage != nil {
			c.percentage(vs, policy.Percentage, f.dot("percentage"), &share)
		}
		if policy.Destination == nil {
			c.errorf(&vs.Meta, f.dot("destination"), "", "is required")
			continue
		}
		add(policy.Destination, f.dot("destination"), share)
	}
	return wanted
}

func (c *compiler) percentage(vs *VirtualService, p *networking.Percent, at *field, share *RouteMirror) {
	if !(p.Value >= 0 && p.Value <= 100) { // NaN too
		c.errorf(&vs.Meta, at.dot("value"), fmt.Sprint(p.Value), "expected a percentage from 0 to 100")
		return
	}
	share.setPercentage(p.Value)
	if share.Numerator == 0 && p.Value > 0 {
		c.warnf(&vs.Meta, at.dot("value"), fmt.Sprint(p.Value), "mirrors nothing: less than 0.0001 counts as 0")
	}
}

// mirrorPorts resolves the destination of copies: one Mirror, or one for each
// port of the service if the destination names none and there are several. The
// result is empty if that was not possible, which has been reported then.
func (c *compiler) mirrorPorts(vs *VirtualService, d *networking.Destination, at *field) (out []*Mirror) {
	t := c.destination(vs, d, at, true)
	if t == nil {
		return nil
	}
	if len(t.ports) > 1 && !vs.inMesh() {
		// Istio takes the port the request came in on. That of a gateway
		// leaves no trace at an endpoint.
		c.errorf(&vs.Meta, at.dot("port"), "", "is required, as %s has several ports (%s)", t.service.host, t.service.portList())
		return nil
	}
	for i := range t.ports {
		if p := &t.ports[i]; p.http() {
			out = append(out, c.mirror(&vs.Meta, t, p, at))
		}
	}
	if len(out) == 0 {
		p := &t.ports[0]
		c.errorf(&vs.Meta, at, "", "port %d of %s speaks %s: mirroring to anything but HTTP is not supported yet",
			p.number, t.service.host, p.protocol)
	}
	return out
}

// mirror is the Mirror for a port of t that meta names.
func (c *compiler) mirror(meta *Meta, t *target, port *servicePort, at *field) *Mirror {
	m := &Mirror{Host: t.service.host, Subset: t.subset, Port: port.number, id: -1, scope: c.services.scope(t.service)}
	m.Policy = c.policy(meta, t, port, at)
	if known := c.known[m.Key()]; known != nil {
		return known
	}
	if !c.charge(meta, len(t.endpoints)*reachCost) {
		return m
	}
	for _, e := range t.endpoints {
		if e.notReady || e.port(port) == 0 {
			continue
		}
		to := Endpoint{Address: e.address(port), Zone: e.zone}
		if m.Policy.TLS != nil {
			to.TLS, to.ServerName = true, m.Policy.TLS.serverName(t.service)
		}
		m.Endpoints = append(m.Endpoints, to)
	}
	c.known[m.Key()] = m
	return m
}
