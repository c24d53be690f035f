package compare

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// Merge adds what another report counted. In whichever order and however
// grouped reports are merged, the result is the report of one Comparer that was
// given all pairs, but for the hashes in redacted values. An error says what
// makes the other one that cannot be added, such as another version of the
// agent; then nothing is changed.
func (r *Report) Merge(other *Report) error {
	if err := other.check(); err != nil {
		return err
	}
	r.mergeTotals(other)
	r.mergeRoutes(other)
	return nil
}

func (r *Report) mergeTotals(other *Report) {
	r.span(other.Since)
	r.span(other.Until)
	for name, m := range other.Mirrors {
		r.mirror(name).merge(m)
	}
}

func (r *Report) mergeRoutes(other *Report) {
	for key, o := range other.Routes {
		route := r.route(key, func() *Route {
			n := newRoute()
			n.Mirror, n.Rule, n.Method, n.Class = o.Mirror, o.Rule, o.Method, o.Class
			return n
		})
		if route != nil {
			route.merge(o)
		}
	}
}

// check reports why a report cannot be merged. What is read from the network
// may be anything.
func (r *Report) check() error {
	if r.Format != Format {
		return fmt.Errorf("the report has format %d, want %d: the agent is of another version", r.Format, Format)
	}
	for name, m := range r.Mirrors {
		if m == nil {
			return fmt.Errorf("mirror %q: no counts", name)
		}
		for _, h := range []Histogram{m.Production, m.Shadow} {
			if err := h.check(); err != nil {
				return fmt.Errorf("mirror %q: %w", name, err)
			}
		}
	}
	for key, route := range r.Routes {
		if route == nil || route.key() != key || !route.whole() {
			return fmt.Errorf("route %q: malformed", key)
		}
	}
	return nil
}

func (r *Route) whole() bool {
	for key, p := range r.Places {
		if p == nil || p.key() != key {
			return false
		}
	}
	for key, c := range r.Combinations {
		if c == nil || combinationKey(c.Places) != key {
			return false
		}
	}
	for _, s := range r.Requests {
		if s == nil {
			return false
		}
		for _, e := range s.Places {
			if e == nil {
				return false
			}
		}
	}
	return true
}

// span widens the time of the report to t.
func (r *Report) span(t time.Time) {
	if t.IsZero() {
		return
	}
	t = t.UTC()
	if r.Since.IsZero() || t.Before(r.Since) {
		r.Since = t
	}
	if t.After(r.Until) {
		r.Until = t
	}
}

// mirror returns the totals of a mirror, or those of the ones that found no
// room.
func (r *Report) mirror(name string) *Mirror {
	limit := maxMirrors
	if r.Mirrors[other] != nil {
		limit++
	}
	rank := func(name string) uint64 {
		if name == other {
			return 0
		}
		return rankName(name)
	}
	rest := func() *Mirror {
		if r.Mirrors[other] == nil {
			r.Mirrors[other] = newMirror()
		}
		return r.Mirrors[other]
	}
	if name == other {
		return rest()
	}
	m := keep(r.Mirrors, name, limit, rank, newMirror, func(m *Mirror) { rest().merge(m) })
	if m == nil {
		m = rest()
	}
	return m
}

// route returns a route, nil if there is no room for it.
func (r *Report) route(key string, fresh func() *Route) *Route {
	return keep(r.Routes, key, maxRoutes, rankName, fresh, forget)
}

func (m *Mirror) merge(o *Mirror) {
	m.Pairs += o.Pairs
	m.Same += o.Same
	m.Different += o.Different
	addCounts(m.Failed, o.Failed)
	addCounts(m.Missed, o.Missed)
	addCounts(m.Status, o.Status)
	for b, n := range o.Production.Counts {
		m.Production.Counts[b] += n
	}
	for b, n := range o.Shadow.Counts {
		m.Shadow.Counts[b] += n
	}
}

func addCounts(to, from map[string]uint64) {
	for k, n := range from {
		count(to, k, n)
	}
}

func (r *Route) merge(o *Route) {
	r.Same += o.Same
	r.Different += o.Different
	r.Failed += o.Failed
	for key, p := range o.Places {
		if mine := r.place(key, p.Part, p.Path, p.Change); mine != nil {
			mine.Pairs += p.Pairs
			for _, e := range p.Examples {
				mine.example(e)
			}
		}
	}
	for key, c := range o.Combinations {
		if mine := r.combination(key, c.Places); mine != nil {
			mine.Pairs += c.Pairs
		}
	}
	for id, s := range o.Requests {
		if mine := r.sample(id); mine != nil {
			mine.merge(s)
		}
	}
}

func (r *Route) place(key, part, path, change string) *Place {
	rank := func(key string) uint64 {
		if p := r.Places[key]; p != nil {
			return rankPlace(p.Path, p.id())
		}
		return rankPlace(path, placeID(part, path, change))
	}
	return keep(r.Places, key, maxPlaces, rank, func() *Place {
		return &Place{Part: part, Path: path, Change: change, Examples: []Example{}}
	}, forget)
}

func (r *Route) combination(key string, ids []uint64) *Combination {
	rank := func(key string) uint64 {
		if c := r.Combinations[key]; c != nil {
			return rankCombination(c.Places)
		}
		return rankCombination(ids)
	}
	return keep(r.Combinations, key, maxCombinations, rank, func() *Combination {
		return &Combination{Places: slices.Clone(ids)}
	}, forget)
}

func (r *Route) sample(request uint64) *Sample {
	return keep(r.Requests, request, maxRequests, rankID, newSample, forget)
}

func (s *Sample) merge(o *Sample) {
	s.Pairs += o.Pairs
	for id, e := range o.Places {
		if mine := s.evidence(id); mine != nil {
			mine.Pairs += e.Pairs
			for _, v := range e.Values {
				mine.value(v)
			}
		}
	}
}

func (s *Sample) evidence(place uint64) *Evidence {
	return keep(s.Places, place, maxEvidence, rankID, func() *Evidence { return &Evidence{Values: []uint64{}} }, forget)
}

// value keeps the smallest different values, in order.
func (e *Evidence) value(v uint64) {
	i, found := slices.BinarySearch(e.Values, v)
	if found || i == maxValues {
		return
	}
	e.Values = slices.Insert(e.Values, i, v)
	e.Values = e.Values[:min(len(e.Values), maxValues)]
}

// example keeps the examples of the lowest rank, in order.
func (p *Place) example(e Example) {
	i, found := slices.BinarySearchFunc(p.Examples, e, compareExamples)
	if found || i == maxExamples {
		return
	}
	p.Examples = slices.Insert(p.Examples, i, e)
	p.Examples = p.Examples[:min(len(p.Examples), maxExamples)]
}

func compareExamples(a, b Example) int {
	return cmp.Or(cmp.Compare(a.Rank, b.Rank), a.Time.Compare(b.Time), cmp.Compare(a.Method, b.Method),
		cmp.Compare(a.Host, b.Host), cmp.Compare(a.Target, b.Target),
		cmp.Compare(a.Production, b.Production), cmp.Compare(a.Shadow, b.Shadow))
}
