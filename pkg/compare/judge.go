package compare

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"
)

// Limits are what a shadow may do and still be safe.
type Limits struct {
	// MinPairs must have been answered by production for a shadow to be called
	// safe.
	MinPairs uint64
	// MaxDifferent is the share of answers that may differ, MaxFailed that of
	// the copies that may have no answer, 0 to 1. With 0, one is too many.
	MaxDifferent, MaxFailed float64
	// MaxMissed is the share of pairs that may not have been compared.
	MaxMissed float64
	// MaxLatencyRatio is how many times as long as production the shadow may
	// take, each at p50, p95 and p99; 0 is no limit.
	MaxLatencyRatio float64
}

// DefaultLimits are those of the command line.
func DefaultLimits() Limits {
	return Limits{MinPairs: 400, MaxDifferent: 0.01, MaxFailed: 0.01, MaxMissed: 0.5}
}

// minProof is how many pairs it takes at least to call a shadow unsafe.
const minProof = 30

// Verdict is what is known of a shadow.
type Verdict string

// The verdicts. What is shown is shown with 95 % confidence.
const (
	// Safe: the shadow is shown to stay within the limits.
	Safe Verdict = "safe"
	// Unsafe: the shadow is shown to exceed a limit.
	Unsafe Verdict = "unsafe"
	// Unknown: neither is shown, or not everything is known.
	Unknown Verdict = "unknown"
)

// Judgement is what a Report means under Limits.
type Judgement struct {
	Verdict Verdict `json:"verdict"`
	// Reasons are those of the verdict in words, the weightiest first.
	Reasons []string          `json:"reasons"`
	Mirrors []MirrorJudgement `json:"mirrors"`
	Routes  []RouteJudgement  `json:"routes"`
	// Differences are the places in which pairs differ, but for noise, and the
	// failures, the most frequent first.
	Differences []Difference `json:"differences"`
	// Noise is what was not held against a shadow.
	Noise []Noise `json:"noise"`
}

// Counts are pairs:
//
//	Pairs = Same + Noise + Different + Failed + Missed
type Counts struct {
	Pairs uint64 `json:"pairs"`
	Same  uint64 `json:"same"`
	// Noise are the pairs that differ in nothing but noise.
	Noise     uint64 `json:"noise"`
	Different uint64 `json:"different"`
	Failed    uint64 `json:"failed"`
	Missed    uint64 `json:"missed"`
}

// MirrorJudgement is what is known of one shadow. It is unsafe if one of its
// routes is: much that is the same elsewhere does not help there.
type MirrorJudgement struct {
	Mirror  string   `json:"mirror"`
	Verdict Verdict  `json:"verdict"`
	Reasons []string `json:"reasons"`
	Counts
	// FailedBy and MissedBy are the parts of Failed and Missed.
	FailedBy map[string]uint64 `json:"failed_by"`
	MissedBy map[string]uint64 `json:"missed_by"`
	Latency  []LatencyRatio    `json:"latency"`
}

// RouteJudgement is the same of one route. Missed is 0: of what was missed the
// route is not known.
type RouteJudgement struct {
	Mirror  string   `json:"mirror"`
	Rule    string   `json:"rule"`
	Method  string   `json:"method"`
	Class   string   `json:"class"`
	Verdict Verdict  `json:"verdict"`
	Reasons []string `json:"reasons"`
	Counts
}

// Difference is a place of a route in which pairs differ.
type Difference struct {
	Mirror string `json:"mirror"`
	Rule   string `json:"rule"`
	Method string `json:"method"`
	Class  string `json:"class"`
	Place
}

// LatencyRatio compares a quantile of both sides. The bounds are in seconds and
// up to QuantileError too large, but beyond 268 s; 0 if there are none.
type LatencyRatio struct {
	Quantile   float64 `json:"quantile"`
	Production float64 `json:"production"`
	Shadow     float64 `json:"shadow"`
	Ratio      float64 `json:"ratio"`
}

// Judge says what the report means. The order in which parts of it were merged
// does not matter.
func (r *Report) Judge(l Limits) *Judgement {
	j := &Judgement{
		Reasons: []string{}, Mirrors: []MirrorJudgement{}, Routes: []RouteJudgement{},
		Differences: []Difference{}, Noise: []Noise{},
	}
	onlyNoise := map[string]uint64{}
	byMirror := map[string][]*RouteJudgement{}
	for _, key := range slices.Sorted(maps.Keys(r.Routes)) {
		route := r.Routes[key]
		noise := route.noise()
		n := route.onlyNoise(noise)
		onlyNoise[route.Mirror] += n
		for _, key := range slices.Sorted(maps.Keys(route.Places)) {
			p := route.Places[key]
			if n, ok := noise[p.id()]; ok {
				j.Noise = append(j.Noise, n)
			} else {
				j.Differences = append(j.Differences, Difference{route.Mirror, route.Rule, route.Method, route.Class, *p})
			}
		}
		j.Routes = append(j.Routes, route.judge(l, n))
	}
	// They are in the order of their routes and places.
	slices.SortStableFunc(j.Noise, func(a, b Noise) int { return cmp.Compare(b.Pairs, a.Pairs) })
	slices.SortStableFunc(j.Differences, func(a, b Difference) int { return cmp.Compare(b.Pairs, a.Pairs) })
	for i := range j.Routes {
		byMirror[j.Routes[i].Mirror] = append(byMirror[j.Routes[i].Mirror], &j.Routes[i])
	}
	for _, name := range slices.Sorted(maps.Keys(r.Mirrors)) {
		j.Mirrors = append(j.Mirrors, r.Mirrors[name].judge(name, l, onlyNoise[name], byMirror[name]))
	}
	j.sumUp()
	return j
}

// sumUp gives the worst of the mirrors' verdicts, with the reasons of all mirrors
// that have it.
func (j *Judgement) sumUp() {
	if len(j.Mirrors) == 0 {
		j.Verdict, j.Reasons = Unknown, []string{"there are no pairs"}
		return
	}
	for _, v := range []Verdict{Unsafe, Unknown, Safe} {
		for _, m := range j.Mirrors {
			if m.Verdict != v {
				continue
			}
			if j.Verdict == "" {
				j.Verdict = v
			}
			if v == j.Verdict {
				for _, reason := range m.Reasons {
					j.Reasons = append(j.Reasons, m.Mirror+": "+reason)
				}
			}
		}
	}
}

// Withhold says that what was judged is not all there is: for a reason, a
// shadow that looks safe is not known to be. What is unsafe stays so.
func (j *Judgement) Withhold(reason string) {
	if j.Verdict == Safe {
		j.Verdict, j.Reasons = Unknown, []string{}
	}
	j.Reasons = append(j.Reasons, reason)
}

func (r *Route) judge(l Limits, onlyNoise uint64) RouteJudgement {
	c := Counts{
		Pairs: r.Same + r.Different + r.Failed, Same: r.Same,
		Noise: onlyNoise, Different: r.Different - onlyNoise, Failed: r.Failed,
	}
	o := c.opinions(l)
	j := RouteJudgement{Mirror: r.Mirror, Rule: r.Rule, Method: r.Method, Class: r.Class, Counts: c}
	j.Verdict, j.Reasons = o.verdict()
	return j
}

func (m *Mirror) judge(name string, l Limits, onlyNoise uint64, routes []*RouteJudgement) MirrorJudgement {
	// Of routes that found no room the noise is not known.
	onlyNoise = min(onlyNoise, m.Different)
	c := Counts{
		Pairs: m.Pairs, Same: m.Same, Noise: onlyNoise, Different: m.Different - onlyNoise,
		Failed: sum(m.Failed), Missed: sum(m.Missed),
	}
	j := MirrorJudgement{Mirror: name, Counts: c, FailedBy: m.Failed, MissedBy: m.Missed, Latency: m.latency()}
	o := c.opinions(l)
	for _, r := range routes {
		// A route that is all there is has nothing to add.
		if r.Verdict == Unsafe && r.Pairs < c.Pairs-c.Missed {
			for _, reason := range r.Reasons {
				o.add(Unsafe, "%s, %s %s: %s", r.Rule, r.Method, r.Class, reason)
			}
		}
	}
	m.judgeLatency(l, j.Latency, &o)
	j.Verdict, j.Reasons = o.verdict()
	return j
}

// opinions are what the limits say one by one.
type opinions []struct {
	verdict Verdict
	reason  string
}

func (o *opinions) add(v Verdict, format string, args ...any) {
	*o = append(*o, struct {
		verdict Verdict
		reason  string
	}{v, fmt.Sprintf(format, args...)})
}

// verdict is the worst, with all that say so.
func (o opinions) verdict() (Verdict, []string) {
	for _, v := range []Verdict{Unsafe, Unknown, Safe} {
		var reasons []string
		for _, x := range o {
			if x.verdict == v {
				reasons = append(reasons, x.reason)
			}
		}
		if reasons != nil {
			return v, reasons
		}
	}
	return Unknown, []string{}
}

func (c *Counts) opinions(l Limits) (o opinions) {
	compared := c.Same + c.Noise + c.Different
	asked := compared + c.Failed
	if asked < l.MinPairs {
		o.add(Unknown, "%d pairs were compared, %d are wanted", asked, l.MinPairs)
	}
	if missed := share(c.Missed, c.Pairs); missed > l.MaxMissed {
		o.add(Unknown, "%s of the pairs could not be compared, more than %s", percent(missed), percent(l.MaxMissed))
	}
	o.share("answers differ", c.Different, compared, l.MaxDifferent)
	o.share("copies were not answered", c.Failed, asked, l.MaxFailed)
	return o
}

// share compares a share with its limit. Few pairs are no proof: what counts is
// where the true share lies with 95 % confidence.
func (o *opinions) share(what string, k, n uint64, limit float64) {
	low, high := wilson(k, n)
	proven := n >= minProof
	switch {
	case proven && (low > limit || limit == 0 && k > 0):
		o.add(Unsafe, "%d of %d %s (%s), more than %s", k, n, what, percent(share(k, n)), percent(limit))
	case limit == 0 && k == 0, high <= limit:
		o.add(Safe, "%d of %d %s, not more than %s", k, n, what, percent(limit))
	default:
		o.add(Unknown, "%d of %d %s: that is between %s and %s of all, and %s may", k, n, what, percent(low), percent(high), percent(limit))
	}
}

// wilson is the score interval of a share at 95 % confidence (E. B. Wilson,
// Journal of the American Statistical Association 22, 1927).
func wilson(k, n uint64) (low, high float64) {
	if n == 0 {
		return 0, 1
	}
	const z = 1.959964
	p, m := share(k, n), float64(n)
	centre := p + z*z/(2*m)
	margin := z * math.Sqrt(p*(1-p)/m+z*z/(4*m*m))
	scale := 1 + z*z/m
	low, high = (centre-margin)/scale, (centre+margin)/scale
	// What is exact is not to be rounded.
	if k == 0 {
		low = 0
	}
	if k == n {
		high = 1
	}
	return low, high
}

func share(k, n uint64) float64 {
	if n == 0 {
		return 0
	}
	return float64(k) / float64(n)
}

// percent writes a share with two digits that mean something.
func percent(p float64) string {
	p *= 100
	switch {
	case p == math.Trunc(p) || p >= 10 && p < 99.9:
		return fmt.Sprintf("%.3g %%", p)
	case p > 99:
		return fmt.Sprintf("%.5g %%", p)
	}
	return fmt.Sprintf("%.2g %%", p)
}

// times writes a ratio with three digits, or all in front of the point.
func times(ratio float64) string {
	if ratio >= 100 {
		return fmt.Sprintf("%.0f", ratio)
	}
	return fmt.Sprintf("%.3g", ratio)
}

func (m *Mirror) latency() []LatencyRatio {
	all := []LatencyRatio{}
	for _, q := range []float64{0.5, 0.95, 0.99} {
		r := LatencyRatio{Quantile: q}
		v1, _ := m.Production.Quantile(q)
		v2, _ := m.Shadow.Quantile(q)
		r.Production, r.Shadow = v1.Seconds(), v2.Seconds()
		r.Ratio = float64(v2) / float64(max(v1, time.Microsecond))
		all = append(all, r)
	}
	return all
}

// judgeLatency objects where the shadow is slower for certain: by more than
// what the buckets leave open, at quantiles that some pairs are beyond.
func (m *Mirror) judgeLatency(l Limits, ratios []LatencyRatio, o *opinions) {
	if l.MaxLatencyRatio <= 0 {
		return
	}
	n := m.Production.total()
	for _, r := range ratios {
		if float64(n)*(1-r.Quantile) < 10 {
			o.add(Unknown, "%d latencies are too few for p%g", n, 100*r.Quantile)
		} else if r.Ratio/(1+QuantileError) > l.MaxLatencyRatio {
			o.add(Unsafe, "p%g is %s times that of production, more than %g", 100*r.Quantile, times(r.Ratio), l.MaxLatencyRatio)
		}
	}
}
