package compare

import (
	"cmp"
	"slices"
	"strconv"
)

// begin counts a pair and returns the totals of its mirror. The caller holds
// totals.
func (c *Comparer) begin(p *Pair) *Mirror {
	c.report.span(p.Time)
	m := c.report.Mirrors[p.Mirror]
	if m == nil {
		before := len(c.report.Mirrors)
		m = c.report.mirror(clip(p.Mirror))
		c.size.Add(int64(len(c.report.Mirrors)-before) * mirrorCost)
	}
	m.Pairs++
	return m
}

// unanswered counts a pair that cannot be compared or that the shadow failed
// to answer.
func (c *Comparer) unanswered(p *Pair, missed Reason) {
	failure := clip(cmp.Or(p.Failure, "unknown"))
	c.totals.Lock()
	m := c.begin(p)
	if missed != Compared {
		count(m.Missed, missed.String(), 1)
	} else {
		count(m.Failed, failure, 1)
	}
	c.totals.Unlock()
	if missed != Compared {
		return
	}

	c.details.Lock()
	defer c.details.Unlock()
	if r := c.route(p); r != nil {
		before := r.size()
		r.Failed++
		c.place(p, r, &difference{
			part: PartFailure, path: failure, id: placeID(PartFailure, failure, ""),
			v1: value{note: strconv.Itoa(p.Production.Status)}, v2: value{note: failure},
		})
		c.size.Add(r.size() - before)
	}
}

// answered counts a pair with two answers and what x found in them.
func (c *Comparer) answered(p *Pair, x *comparison) {
	v1, v2 := p.Production, p.Shadow
	same, status := len(x.found) == 0, statuses(v1, v2)
	c.totals.Lock()
	m := c.begin(p)
	count(m.Status, status, 1)
	if v1.Latency > 0 && v2.Latency > 0 {
		m.Production.add(v1.Latency)
		m.Shadow.add(v2.Latency)
	}
	if same {
		m.Same++
	} else {
		m.Different++
	}
	c.totals.Unlock()

	c.details.Lock()
	defer c.details.Unlock()
	r := c.route(p)
	if r == nil {
		return
	}
	before := r.size()
	defer func() { c.size.Add(r.size() - before) }()
	if p.Request != 0 && v1.Status == v2.Status {
		c.learn(p, r, x)
	}
	if same {
		r.Same++
		return
	}
	r.Different++
	c.ids = c.ids[:0]
	for i := range x.found {
		c.place(p, r, &x.found[i])
		c.ids = append(c.ids, x.found[i].id)
	}
	slices.Sort(c.ids)
	if set := r.combination(combinationKey(c.ids), c.ids); set != nil {
		set.Pairs++
	}
}

// route returns the route of a pair, nil if there is no room for it. The caller
// holds details, as for all below.
func (c *Comparer) route(p *Pair) *Route {
	method, class := methodOf(p.Method), classOf(p.Production.Status)
	mirror, rule := clip(p.Mirror), clip(p.Rule)
	c.key = append(append(append(append(append(append(append(c.key[:0],
		mirror...), '\t'), rule...), '\t'), method...), '\t'), class...)
	if r := c.report.Routes[string(c.key)]; r != nil {
		return r
	}
	before := c.routesSize() // of which one may have to go
	defer func() { c.size.Add(c.routesSize() - before) }()
	return c.report.route(string(c.key), func() *Route {
		r := newRoute()
		r.Mirror, r.Rule, r.Method, r.Class = mirror, rule, method, class
		return r
	})
}

// place counts a difference at its place.
func (c *Comparer) place(p *Pair, r *Route, f *difference) {
	place := r.place(placeKey(f.part, f.path, f.change), f.part, f.path, f.change)
	if place == nil {
		return
	}
	place.Pairs++
	rank := rankPair(p)
	if n := len(place.Examples); n == maxExamples && place.Examples[n-1].Rank < rank {
		return
	}
	place.example(Example{
		Time: p.Time.UTC(), Method: clip(p.Method), Host: clip(p.Host), Target: c.redact.target(p.Target),
		Production: c.redact.value(f, &f.v1), Shadow: c.redact.value(f, &f.v2), Rank: rank,
	})
}

func rankPair(p *Pair) uint64 {
	h := hash(hash(hash(hashSeed, p.Method), p.Host), p.Target)
	return hashInt(hashInt(h, uint64(p.Time.UnixNano())), p.Request)
}

// learn counts what production answered to a request that is in the sample.
func (c *Comparer) learn(p *Pair, r *Route, x *comparison) {
	id := hashInt(hash(hash(hash(hashSeed, p.Method), p.Host), p.Target), p.Request)
	s := r.sample(id)
	if s == nil {
		return
	}
	s.Pairs++
	for i := range x.found {
		f := &x.found[i]
		if !f.learn {
			continue
		}
		if e := s.evidence(f.id); e != nil {
			e.Pairs++
			e.value(f.evidence)
		}
	}
}

// methodOf bounds the number of methods there are.
func methodOf(method string) string {
	switch method {
	case "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "QUERY", "PROPFIND", "REPORT", "SEARCH", "PURGE":
		return method
	}
	return other
}

func classOf(status int) string {
	return [...]string{"1xx", "2xx", "3xx", "4xx", "5xx"}[min(max(status/100, 1), 5)-1]
}
