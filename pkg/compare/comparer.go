package compare

import (
	"fmt"
	"hash/maphash"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Comparer compares pairs and counts. It is safe for concurrent use.
type Comparer struct {
	policy policy
	redact redactor
	pool   comparisons

	mu     sync.Mutex
	report *Report
	key    []byte // of the route, used again
	ids    []uint64
}

// New returns a Comparer. An error says which option is malformed.
func New(o Options) (*Comparer, error) {
	c := &Comparer{report: NewReport(), redact: redactor{show: o.ShowValues, seed: maphash.MakeSeed()}}
	for _, n := range IgnoredHeaders() {
		if !slices.ContainsFunc(o.CompareHeaders, func(s string) bool { return strings.EqualFold(s, n) }) {
			c.policy.ignore = append(c.policy.ignore, n)
		}
	}
	for _, n := range o.CompareHeaders {
		if !slices.ContainsFunc(IgnoredHeaders(), func(s string) bool { return strings.EqualFold(s, n) }) {
			return nil, fmt.Errorf("header %q: is compared anyway", n)
		}
	}
	for _, n := range o.IgnoreHeaders {
		if n == "" || strings.ContainsAny(n, " \t:") || strings.Contains(strings.TrimSuffix(n, "*"), "*") {
			return nil, fmt.Errorf("header %q: expected a name, or the beginning of one and *", n)
		}
		c.policy.ignore = append(c.policy.ignore, strings.ToLower(n))
	}
	for _, s := range o.IgnorePaths {
		m, err := parseMask(s)
		if err != nil {
			return nil, err
		}
		c.policy.masks = append(c.policy.masks, m)
	}
	for _, s := range o.IgnoreValues {
		re, err := regexp.Compile("^(?:" + s + ")$")
		if err != nil {
			return nil, fmt.Errorf("value %q: expected an RE2 expression: %w", s, err)
		}
		c.policy.values = append(c.policy.values, re)
	}
	c.policy.inflated = o.MaxInflated
	if c.policy.inflated <= 0 {
		c.policy.inflated = 1 << 20
	}
	return c, nil
}

// Add compares one pair and counts it. The pair is not kept, and nothing waits
// but for other calls that count. The time it takes is bounded by what was kept
// of the answers, and by Options.MaxInflated where they are compressed.
func (c *Comparer) Add(p *Pair) {
	missed := p.missed()
	if missed != Compared || p.Shadow == nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.unanswered(p, c.begin(p), missed)
		return
	}
	x := c.pool.get(&c.policy)
	defer c.pool.put(x)
	x.answers(p)
	if x.undecided && len(x.found) == 0 {
		missed = TooLarge
	}

	c.mu.Lock()
	defer c.mu.Unlock()
	m := c.begin(p)
	if missed != Compared {
		count(m.Missed, missed.String(), 1)
		return
	}
	c.answered(p, m, x)
}

// answers compares two answers. Those of different status are to say different
// things, so nothing else of them is compared.
func (x *comparison) answers(p *Pair) {
	v1, v2 := p.Production, p.Shadow
	if v1.Status != v2.Status {
		f := x.differ(PartStatus, statuses(v1, v2), ChangeForm)
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

// Report returns what was counted so far, a copy that the caller may keep.
func (c *Comparer) Report() *Report {
	r := NewReport()
	c.mu.Lock()
	defer c.mu.Unlock()
	// Our own report is one that can be merged.
	if err := r.Merge(c.report); err != nil {
		panic(err)
	}
	return r
}
