package referee

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shadowtap/shadowtap/pkg/httpstream"
	"github.com/shadowtap/shadowtap/pkg/rules"
	"github.com/shadowtap/shadowtap/test/referee/envoy"
)

// verdict is what becomes of a request, in a form that both sides can give.
type verdict struct {
	route   string // "NAMESPACE/NAME ROUTE", empty if no rule takes the request
	mirrors []string
	copy    []string // of the request, empty if there is no mirror

	cluster string // that Envoy sends the request to, empty if to none
}

func mirrorLine(host, subset string, port any, numerator, denominator uint32, timeout time.Duration) string {
	return fmt.Sprintf("%s subset %q port %v: %d/%d, timeout %v", host, subset, port, numerator, denominator, timeout)
}

// setCopy notes the request that the mirrors get. Lines of different header
// fields have no order between them that would mean anything, so they are
// sorted by name.
func (v *verdict) setCopy(method, authority, path string, fields [][2]string) {
	if len(v.mirrors) == 0 {
		return
	}
	var lines []string
	for _, f := range fields {
		lines = append(lines, strings.ToLower(f[0])+": "+f[1])
	}
	slices.SortStableFunc(lines, func(a, b string) int {
		a, _, _ = strings.Cut(a, ":")
		b, _, _ = strings.Cut(b, ":")
		return strings.Compare(a, b)
	})
	v.copy = append([]string{method + " " + path, "host: " + authority}, lines...)
}

func (v *verdict) String() string {
	if v.route == "" {
		return "no rule"
	}
	return strings.Join(slices.Concat([]string{v.route}, v.mirrors, v.copy), "\n")
}

// compile is the world as the product understands it.
func (w *world) compile(t testing.TB) (*rules.Program, error) {
	t.Helper()
	s, ps := rules.Decode("world.yaml", w.file(t))
	p, more := rules.Compile(s, rules.Options{AllowLoops: true})
	ps = slices.DeleteFunc(append(ps, more...), func(p rules.Problem) bool { return p.Warning })
	return p, ps.Err()
}

// parse is the request as the product reads it from the wire.
func parse(r *envoy.Request) (*httpstream.Request, error) {
	in, err := httpstream.ParseRequest([]byte(wire(r)))
	if err == nil {
		in.Source = netip.MustParseAddrPort(clientAddress)
	}
	return in, err
}

// wire is the request as it is sent.
func wire(r *envoy.Request) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\n", r.Method, r.Target)
	for _, f := range r.Fields {
		fmt.Fprintf(&b, "%s: %s\r\n", f[0], f[1])
	}
	return b.String() + "\r\n"
}

// ours is what the product makes of a request. Of one that is not seen to arrive
// anywhere it is asked to explain, and told the port.
func ours(p *rules.Program, r *httpstream.Request, port uint32) (*verdict, error) {
	v := &verdict{}
	if !r.Destination.IsValid() {
		client, err := p.ParseClient(clientHost)
		if err != nil {
			return nil, err
		}
		e := p.ExplainFrom(r, rules.Origin{Client: client, Port: port})
		if e.Matched {
			v.route = e.Rule.Namespace + "/" + e.Rule.Name + " " + e.Rule.Route
		}
		for _, m := range e.Mirrors {
			v.mirrors = append(v.mirrors, m.Host)
		}
		return v, nil
	}
	var d rules.Decision
	p.Decide(r, 0, &d) // every mirror takes the random number 0
	if d.Route == nil {
		return v, nil
	}
	rule := d.Route.Rule()
	v.route = rule.Namespace + "/" + rule.Name + " " + rule.Route
	for _, m := range d.Selected {
		v.mirrors = append(v.mirrors, mirrorLine(m.Mirror.Host, m.Mirror.Subset, m.Mirror.Port, m.Numerator, m.Denominator, m.Timeout()))
		if err := checkShare(p, r, m); err != nil {
			return nil, err
		}
	}
	if len(v.mirrors) == 0 {
		return v, nil
	}
	lines := strings.Split(string(d.Route.AppendHead(nil, r)), "\r\n")
	method, rest, _ := strings.Cut(lines[0], " ")
	target, version, _ := strings.Cut(rest, " ")
	if version != "HTTP/1.1" || lines[len(lines)-1] != "" {
		return nil, fmt.Errorf("the head of the copy: %q", lines)
	}
	var host string
	var fields [][2]string
	for _, line := range lines[1 : len(lines)-1] {
		name, value, _ := strings.Cut(line, ":")
		if strings.EqualFold(name, "host") {
			host = strings.TrimSpace(value)
			continue
		}
		fields = append(fields, [2]string{name, strings.TrimSpace(value)})
	}
	// The copy keeps the form of its target; Envoy sends the origin-form with
	// the host of the target. Both name the same resource (RFC 9112 section
	// 3.2).
	if before, after, absolute := strings.Cut(target, "://"); absolute && !strings.ContainsAny(before, "/?") {
		end := strings.IndexAny(after+"/", "/?")
		host, target = after[:end], after[end:]
		if !strings.HasPrefix(target, "/") {
			target = "/" + target
		}
	}
	v.setCopy(method, host, target, fields)
	return v, nil
}

// checkShare holds the decisions about a mirror at the edges of its share
// against Envoy's evaluateFractionalPercent: random % denominator < numerator.
func checkShare(p *rules.Program, r *httpstream.Request, m *rules.RouteMirror) error {
	n, of := uint64(m.Numerator), uint64(m.Denominator)
	for _, random := range []uint64{n - 1, n, of - 1, of, of + n - 1, of + n, 1<<64 - 1} {
		var d rules.Decision
		p.Decide(r, random, &d)
		if got, want := slices.Contains(d.Selected, m), random%of < n; got != want {
			return fmt.Errorf("random number %d of a mirror with %d/%d: taken %v, expected %v", random, n, of, got, want)
		}
	}
	return nil
}
