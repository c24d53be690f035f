package compare

import (
	"math"
	"strings"
	"testing"
	"time"
)

// counted is a report of one mirror and route.
func counted(same, different, failed, missed int) *Report {
	r := NewReport()
	m := r.mirror("m")
	m.Pairs = uint64(same + different + failed + missed)
	m.Same, m.Different = uint64(same), uint64(different)
	m.Failed["timeout"], m.Missed["gap"] = uint64(failed), uint64(missed)
	route := newRoute()
	route.Mirror, route.Rule, route.Method, route.Class = "m", "r", "GET", "2xx"
	route.Same, route.Different, route.Failed = m.Same, m.Different, uint64(failed)
	r.Routes[route.key()] = route
	return r
}

func TestVerdict(t *testing.T) {
	with := func(change func(*Limits)) Limits {
		l := DefaultLimits()
		change(&l)
		return l
	}
	for _, tt := range []struct {
		name                            string
		same, different, failed, missed int
		limits                          Limits
		want                            Verdict
		reason                          string
	}{
		{"all the same", 1000, 0, 0, 0, DefaultLimits(), Safe, "m: 0 of 1000 answers differ, not more than 1 %"},
		{"few, and all the same", 300, 0, 0, 0, DefaultLimits(), Unknown, "300 pairs were compared, 400 are wanted"},
		{"3 of 10", 7, 3, 0, 0, with(func(l *Limits) { l.MinPairs = 1 }), Unknown, "3 of 10 answers differ: that is between 10.8 % and 60.3 % of all, and 1 % may"},
		{"300 of 1000", 700, 300, 0, 0, DefaultLimits(), Unsafe, "300 of 1000 answers differ (30 %), more than 1 %"},
		{"as many as may", 990, 10, 0, 0, DefaultLimits(), Unknown, "10 of 1000 answers differ: that is between 0.54 % and 1.8 % of all"},
		{"proven with few", 20, 20, 0, 0, DefaultLimits(), Unsafe, "20 of 40 answers differ"},
		{"failed", 900, 0, 100, 0, DefaultLimits(), Unsafe, "100 of 1000 copies were not answered (10 %), more than 1 %"},
		{"missed", 1000, 0, 0, 2000, DefaultLimits(), Unknown, "66.7 % of the pairs could not be compared, more than 50 %"},
		{"missed, and different", 900, 100, 0, 2000, DefaultLimits(), Unsafe, "100 of 1000"},
		{"no difference may be", 1000, 0, 0, 0, with(func(l *Limits) { l.MaxDifferent, l.MaxFailed = 0, 0 }), Safe, "0 of 1000 answers differ, not more than 0 %"},
		{"no difference may be, and one is", 9999, 1, 0, 0, with(func(l *Limits) { l.MaxDifferent = 0 }), Unsafe, "1 of 10000 answers differ (0.01 %), more than 0 %"},
		{"only missed", 0, 0, 0, 5, DefaultLimits(), Unknown, "0 pairs were compared"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			j := counted(tt.same, tt.different, tt.failed, tt.missed).Judge(tt.limits)
			if j.Verdict != tt.want || !strings.Contains(strings.Join(j.Reasons, "\n"), tt.reason) {
				t.Errorf("%s: %q, want %s: %s", j.Verdict, j.Reasons, tt.want, tt.reason)
			}
		})
	}
	if j := NewReport().Judge(DefaultLimits()); j.Verdict != Unknown || len(j.Reasons) != 1 {
		t.Errorf("of nothing: %s %q", j.Verdict, j.Reasons)
	}
}

// A route that is always wrong must not drown in one that is always right.
func TestVerdictOfARoute(t *testing.T) {
	r := counted(100_000, 50, 0, 0)
	right := r.Routes["m\tr\tGET\t2xx"]
	right.Different = 0
	wrong := newRoute()
	wrong.Mirror, wrong.Rule, wrong.Method, wrong.Class = "m", "r", "POST", "2xx"
	wrong.Different = 50
	r.Routes[wrong.key()] = wrong
	j := r.Judge(DefaultLimits())
	if want := "m: r, POST 2xx: 50 of 50 answers differ (100 %), more than 1 %"; j.Verdict != Unsafe || j.Reasons[0] != want {
		t.Errorf("%s %q, want %q", j.Verdict, j.Reasons, want)
	}
}

func TestVerdictOfLatency(t *testing.T) {
	for _, tt := range []struct {
		n      int
		shadow time.Duration
		ratio  float64
		want   Verdict
		reason string
	}{
		{2000, 10 * time.Millisecond, 1.5, Safe, ""},
		{2000, 30 * time.Millisecond, 1.5, Unsafe, "p50 is 3 times that of production, more than 1.5"},
		{2000, 30 * time.Millisecond, 0, Safe, ""},
		{2000, 11 * time.Millisecond, 1, Safe, ""}, // the buckets are not as fine as that
		{500, 10 * time.Millisecond, 1.5, Unknown, "500 latencies are too few for p99"},
		{2000, time.Hour, 1.5, Unsafe, "p99 is 26214 times that of production, more than 1.5"},
	} {
		r := counted(2000, 0, 0, 0)
		for range tt.n {
			r.Mirrors["m"].Production.add(10 * time.Millisecond)
			r.Mirrors["m"].Shadow.add(tt.shadow)
		}
		l := DefaultLimits()
		l.MaxLatencyRatio = tt.ratio
		j := r.Judge(l)
		if j.Verdict != tt.want || !strings.Contains(strings.Join(j.Reasons, "\n"), tt.reason) {
			t.Errorf("%d of %v: %s %q, want %s %s", tt.n, tt.shadow, j.Verdict, j.Reasons, tt.want, tt.reason)
		}
	}
}

func TestWilson(t *testing.T) {
	for _, tt := range []struct {
		k, n      uint64
		low, high float64
	}{
		{0, 0, 0, 1},
		{0, 400, 0, 0.009512},
		{3, 10, 0.107791, 0.603222},
		{50, 100, 0.403832, 0.596168},
		{400, 400, 0.990488, 1},
	} {
		low, high := wilson(tt.k, tt.n)
		if math.Abs(low-tt.low) > 1e-6 || math.Abs(high-tt.high) > 1e-6 {
			t.Errorf("%d of %d: %v to %v, want %v to %v", tt.k, tt.n, low, high, tt.low, tt.high)
		}
	}
}

func TestPercent(t *testing.T) {
	for p, want := range map[float64]string{0: "0 %", 0.01: "1 %", 0.043189: "4.3 %", 0.5: "50 %", 0.3333: "33.3 %", 1: "100 %", 0.0001: "0.01 %", 0.99999: "99.999 %", 0.9995: "99.95 %", 0.001234: "0.12 %"} {
		if got := percent(p); got != want {
			t.Errorf("%v: %s, want %s", p, got, want)
		}
	}
}
