package referee

import (
	"flag"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	istiolog "istio.io/istio/pkg/log"

	"github.com/shadowtap/shadowtap/pkg/rules"
	"github.com/shadowtap/shadowtap/test/referee/envoy"
)

const defaultWorlds = 40

var (
	seed     = flag.Uint64("seed", 1, "of what is generated")
	worlds   = flag.Int("worlds", defaultWorlds, "rule sets to generate for each test")
	requests = flag.Int("requests", 40, "requests to generate for each rule")
)

func TestMain(m *testing.M) {
	for _, scope := range istiolog.Scopes() {
		scope.SetOutputLevel(istiolog.NoneLevel)
	}
	m.Run()
}

// subject is rules that both sides are asked about: a world of VirtualServices
// or one of routes of the Gateway API.
type subject interface {
	// admit is what Istio's admission says about the rules.
	admit() error
	compile(t testing.TB) (*rules.Program, error)
	istio() (*route.RouteConfiguration, error)
	// text is the rules for people.
	text(t testing.TB) string
	// listener is the port of the listener that requests come by.
	listener() uint32
	// routeName is how verdicts name a route of an object.
	routeName(object, route string) string
	// deviation names the entry of the table by which the verdicts may differ,
	// empty if they must not.
	deviation(r *envoy.Request, theirs, ours *verdict) string
	// without is the rules without the i-th thing that can be left out, nil if
	// there are not so many.
	without(i int) subject
}

// trial is rules as both sides understand them.
type trial struct {
	world   subject
	config  *route.RouteConfiguration
	program *rules.Program
}

func newTrial(t testing.TB, w subject) (*trial, error) {
	t.Helper()
	if err := w.admit(); err != nil {
		return nil, fmt.Errorf("not admitted by Istio: %w", err)
	}
	program, err := w.compile(t)
	if err != nil {
		return nil, fmt.Errorf("refused by shadowtap: %w", err)
	}
	config, err := w.istio()
	if err != nil {
		return nil, fmt.Errorf("refused by Istio's generator: %w", err)
	}
	return &trial{w, config, program}, nil
}

// judge compares the verdicts on a request. deviation names the entry of the
// table by which they are allowed to differ; ok is false if the product does
// not read the request, or it goes to a cluster that there is not.
func (tr *trial) judge(r *envoy.Request) (theirVerdict, ourVerdict *verdict, deviation string, ok bool, err error) {
	in, err := parse(r)
	if err != nil {
		return nil, nil, "", false, nil
	}
	defer in.Release()
	if theirVerdict, err = theirs(tr.world, tr.config, r); err != nil {
		return nil, nil, "", false, err
	}
	// The product sees a request where it arrives. Where nothing does it is
	// asked about the rules alone.
	if theirVerdict.route != "" && theirVerdict.cluster != "" {
		if in.Destination, ok = arrival(theirVerdict.cluster); !ok {
			return nil, nil, "", false, nil
		}
	}
	if ourVerdict, err = ours(tr.world, tr.program, in); err != nil {
		return nil, nil, "", false, err
	}
	if theirVerdict.String() != ourVerdict.String() {
		deviation = tr.world.deviation(r, theirVerdict, ourVerdict)
	}
	return theirVerdict, ourVerdict, deviation, true, nil
}

// disagreement says in what the verdicts on a request differ as they must not,
// empty if they do not.
func (tr *trial) disagreement(r *envoy.Request) string {
	a, b, deviation, ok, err := tr.judge(r)
	switch {
	case err != nil || !ok || deviation != "":
	case a.route == "" && b.route != "":
		return "only shadowtap matches"
	case a.route != "" && b.route == "":
		return "only Istio matches"
	case a.route != b.route:
		return "the route"
	case !slices.Equal(a.mirrors, b.mirrors):
		return "the mirrors"
	case !slices.Equal(a.copy, b.copy):
		return "the copy"
	}
	return ""
}

// tally counts what the trials of a test were about, so that a generator that
// makes nothing of interest is noticed.
type tally struct {
	pairs, unread                     int
	matched, later, mirrored, several int
	changed                           int
	deviations                        map[string]int
}

func (c *tally) count(r *envoy.Request, v *verdict) {
	c.pairs++
	if v.route != "" {
		c.matched++
		if !strings.Contains(v.route, " r0") {
			c.later++
		}
	}
	if len(v.mirrors) > 0 {
		c.mirrored++
		if v.copy[0] != r.Method+" "+r.Target {
			c.changed++
		}
	}
	if len(v.mirrors) > 1 {
		c.several++
	}
}

// check fails if less than one pair in fifty is of a kind that the test is
// about, or if a deviation that it expects never showed.
func (c *tally) check(t *testing.T, deviations ...string) {
	t.Helper()
	t.Logf("%d pairs: %d matched (%d not by the first route), %d mirrored (%d to several, %d changed); not read: %d; deviations: %v",
		c.pairs, c.matched, c.later, c.mirrored, c.several, c.changed, c.unread, c.deviations)
	for what, n := range map[string]int{
		"matched": c.matched, "unmatched": c.pairs - c.matched, "by a later route": c.later,
		"mirrored": c.mirrored, "changed": c.changed,
	} {
		if n < c.pairs/50 {
			t.Errorf("only %d of %d pairs are %s: what is generated tests little", n, c.pairs, what)
		}
	}
	if c.unread > c.pairs/50 {
		t.Errorf("%d requests were not read", c.unread)
	}
	for _, name := range deviations {
		if c.deviations[name] == 0 && *worlds >= defaultWorlds {
			t.Errorf("deviation %q never showed: if it is gone from the product, remove it from the table", name)
		}
	}
}

// run judges requests to the rules of a world. Where they disagree, it reports
// the smallest example, and goes on with the next world.
func (c *tally) run(t *testing.T, g *generator, w *world, hosts func(rule) string) {
	t.Helper()
	tr, err := newTrial(t, w)
	if err != nil {
		t.Errorf("%v\nin\n%s", err, w.text(t))
		return
	}
	for _, rule := range w.rules {
		for range *requests {
			if !c.ask(t, tr, g.request(rule.spec, hosts(rule))) {
				return
			}
		}
	}
}

// ask judges a request. It reports false, and the smallest example, if that
// shows a disagreement.
func (c *tally) ask(t *testing.T, tr *trial, r *envoy.Request) bool {
	t.Helper()
	a, _, deviation, ok, err := tr.judge(r)
	switch {
	case err != nil:
		t.Errorf("%v\nfor\n%s\nin\n%s", err, wire(r), tr.world.text(t))
		return false
	case !ok:
		c.unread++
	case deviation != "":
		if c.deviations == nil {
			c.deviations = map[string]int{}
		}
		c.deviations[deviation]++
	case tr.disagreement(r) != "":
		report(t, tr, r)
		return false
	default:
		c.count(r, a)
	}
	return true
}

// report fails the test with the smallest example of a disagreement.
func report(t *testing.T, tr *trial, r *envoy.Request) {
	t.Helper()
	kind := tr.disagreement(r)
	_, r = shrink(tr.world, r, 600, func(w subject, r *envoy.Request) bool {
		if w == tr.world {
			return tr.disagreement(r) == kind
		}
		smaller, err := newTrial(t, w)
		if err != nil || smaller.disagreement(r) != kind {
			return false
		}
		tr = smaller
		return true
	})
	a, b, _, _, err := tr.judge(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Errorf("disagreement: %s (seed %d)\n--- rules\n%s--- request\n%q\n--- Istio and Envoy\n%s\n--- shadowtap\n%s",
		kind, *seed, tr.world.text(t), wire(r), a, b)
}

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// TestRoutes is about one host at a time: which of its routes takes a request,
// its mirrors, and what becomes of the request. Each world holds many rules,
// each for a host of its own, on a gateway.
func TestRoutes(t *testing.T) {
	var c tally
	for i := range *worlds {
		g := newGenerator(*seed, uint64(i), true)
		w := &world{gateway: "gw", port: 80}
		for j := range 10 {
			name := fmt.Sprintf("rule-%d", j)
			root := g.rule(w.gateway, "default", name, pick(g, 3, 5, 5, manyRoutes), name+".example.com")
			w.rules = append(append(w.rules, root), g.delegate(root)...)
		}
		c.run(t, g, w, func(r rule) string {
			return pick(g, r.host, r.host, r.host, r.host+":80", strings.ToUpper(r.host))
		})
	}
	c.check(t, relativeRewrite, portOfGateway)
}
