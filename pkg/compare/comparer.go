package compare

import (
	"errors"
	"fmt"
	"hash/maphash"
	"regexp"
	"strconv"
	"sync"
)

// Comparer compares pairs and counts. It is safe for concurrent use.
type Comparer struct {
	policy policy
	redact redactor
	pool   comparisons

	report *Report
	totals sync.Mutex // of report but its routes
	// details guards the routes. Copying them takes long, and whoever has only
	// to count a pair that is missed must not wait for that.
	details sync.Mutex
	key     []byte // of the route, used again
	ids     []uint64
}

// New returns a Comparer. An error says which option is malformed.
func New(o Options) (*Comparer, error) {
	c := &Comparer{report: NewReport(), redact: redactor{show: o.ShowValues, seed: maphash.MakeSeed()}}
	for _, n := range o.CompareHeaders {
		name, err := parseName(n)
		if err == nil && name != contentLength && !notCompared.overlap(name) {
			err = errors.New("is compared anyway")
		}
		if err != nil {
			return nil, fmt.Errorf("compared header %q: %w", n, err)
		}
		c.policy.compared = append(c.policy.compared, name)
	}
	for _, n := range o.IgnoreHeaders {
		name, err := parseName(n)
		if err != nil {
			return nil, fmt.Errorf("ignored header %q: %w", n, err)
		}
		c.policy.ignore = append(c.policy.ignore, name)
	}
	for _, s := range o.IgnorePaths {
		m, err := parseMask(s)
		if err != nil {
			return nil, fmt.Errorf("ignored %w", err)
		}
		c.policy.masks = append(c.policy.masks, m)
	}
	for _, s := range o.IgnoreValues {
		re, err := compileWhole(s)
		if err != nil {
			return nil, fmt.Errorf("ignored value %q: expected an RE2 expression: %w", s, err)
		}
		c.policy.values = append(c.policy.values, re)
	}
	c.policy.inflated = o.MaxInflated
	if c.policy.inflated <= 0 {
		c.policy.inflated = 1 << 20
	}
	return c, nil
}

// compileWhole returns an expression that matches where s matches the whole text.
func compileWhole(s string) (*regexp.Regexp, error) {
	// First by itself: "a)|(b" is none, but would be one inside the other.
	if _, err := regexp.Compile(s); err != nil {
		return nil, err
	}
	return regexp.Compile("^(?:" + s + ")$")
}

// Add compares one pair and counts it. The pair is not kept. The time it takes
// is bounded by what was kept of the answers, and by Options.MaxInflated where
// they are compressed. Where Pair.Missed is set it only counts, and waits for
// nothing but others that do.
func (c *Comparer) Add(p *Pair) {
	missed := p.missed()
	if missed != Compared || p.Shadow == nil {
		c.unanswered(p, missed)
		return
	}
	x := c.pool.get(&c.policy)
	defer c.pool.put(x)
	x.answers(p)
	if x.undecided && len(x.found) == 0 {
		c.unanswered(p, TooLarge)
		return
	}
	c.answered(p, x)
}

// answers compares two answers. Those of different status are to say different
// things, so nothing else of them is compared.
func (x *comparison) answers(p *Pair) {
	v1, v2 := p.Production, p.Shadow
	if v1.Status != v2.Status {
		f := x.differ(PartStatus, statuses(v1, v2), "")
		f.v1, f.v2 = value{note: strconv.Itoa(v1.Status)}, value{note: strconv.Itoa(v2.Status)}
		return
	}
	x.header(PartHeader, p, v1.Header, v2.Header)
	x.body(v1, v2)
	x.header(PartTrailer, p, v1.Trailers, v2.Trailers)
	if x.more {
		x.found = append(x.found, difference{
			part: PartBody, path: "more places", change: ChangeMany,
			id: placeID(PartBody, "more places", ChangeMany),
			v1: value{note: fmt.Sprintf("more than %d places", maxTogether)}, v2: value{note: "-"},
		})
	}
	if p.Request != 0 {
		x.learn()
	}
}

func statuses(v1, v2 *Answer) string { return fmt.Sprintf("%d -> %d", v1.Status, v2.Status) }

// Mirrors returns a copy of the totals of each mirror, as in a Report, for whoever
// asks often: a Report may be large.
func (c *Comparer) Mirrors() map[string]*Mirror {
	r := NewReport()
	c.totals.Lock()
	defer c.totals.Unlock()
	r.mergeTotals(c.report)
	return r.Mirrors
}

// Report returns what was counted so far, a copy that the caller may keep. The
// routes may lack pairs that were counted meanwhile.
func (c *Comparer) Report() *Report {
	r := NewReport()
	c.details.Lock()
	r.mergeRoutes(c.report)
	c.details.Unlock()
	c.totals.Lock()
	r.mergeTotals(c.report)
	c.totals.Unlock()
	return r
}
