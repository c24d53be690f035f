package compare

import (
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
	"testing"
)

// fullReport has every table filled with the largest that fits.
func fullReport() *Report {
	name := func(i int) string { return fmt.Sprintf("%0*d", maxName, i) }
	r := NewReport()
	for i := range maxRoutes {
		r.mirror(name(i))
		route := newRoute()
		route.Mirror, route.Rule, route.Method, route.Class = name(i), name(i), "OPTIONS", "2xx"
		r.Routes[route.key()] = route
		ids := []uint64{}
		for k := range maxPlaces {
			path := fmt.Sprintf("%0*d", maxPath, k)
			p := route.place(placeKey(PartTrailer, path, ChangeMissing), PartTrailer, path, ChangeMissing)
			for e := range maxExamples {
				p.example(Example{Time: start, Method: "OPTIONS", Host: name(i), Target: name(i), Production: strings.Repeat("x", maxShown+20), Shadow: strings.Repeat("x", maxShown+20), Rank: uint64(e)})
			}
			ids = append(ids, 1<<63+uint64(k))
		}
		for k := range maxCombinations {
			set := append(ids[:maxTogether:maxTogether], uint64(k))
			route.combination(combinationKey(set), set)
		}
		for k := range maxRequests {
			s := route.sample(1<<63 + uint64(k))
			for n := range maxEvidence {
				e := s.evidence(1<<63 + uint64(n))
				for v := range maxValues {
					e.value(1<<63 + uint64(v))
				}
			}
		}
	}
	return r
}

func TestReportSize(t *testing.T) {
	r := fullReport()
	b, err := json.MarshalIndent(r, "", "  ") // as agents answer with it
	if err != nil {
		t.Fatal(err)
	}
	if len(b) > 24<<20 {
		t.Errorf("%d bytes", len(b))
	}
	t.Logf("%d KiB", len(b)>>10)
	if err := r.check(); err != nil {
		t.Error(err)
	}
}

// TestSizeIsABound: what a report is said to take is no less than it does.
func TestSizeIsABound(t *testing.T) {
	before := heap()
	c := newComparer(t, Options{})
	c.report = fullReport()
	took := heap() - before
	size := c.routesSize() + int64(len(c.report.Mirrors))*mirrorCost
	if took > size || size > 16<<20 {
		t.Errorf("%d KiB are taken for %d KiB: expected 16 MiB at most", took>>10, size>>10)
	}
	t.Logf("%d KiB are taken for %d KiB", took>>10, size>>10)
	runtime.KeepAlive(c)
}

func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestSize: it is kept up as entries come and are thrown out for others.
func TestSize(t *testing.T) {
	c := newComparer(t, Options{})
	check := func() {
		t.Helper()
		if want := c.routesSize() + int64(len(c.report.Mirrors))*mirrorCost; c.Size() != want {
			t.Fatalf("size %d, want %d", c.Size(), want)
		}
	}
	check()
	for i := range 3 * maxRoutes {
		for k := range 3 {
			p := pair(answer(fmt.Sprintf(`{"a%d":1,"b%d":2}`, i+k, k)), answer(`{}`))
			p.Mirror, p.Rule, p.Request = fmt.Sprint(i%(maxMirrors+9)), fmt.Sprint(i), uint64(k+1)
			c.Add(p)
		}
		c.Add(&Pair{Time: start, Method: "GET", Rule: fmt.Sprint(i), Mirror: "m", Production: answer("{}"), Failure: "timeout"})
		c.Add(&Pair{Mirror: fmt.Sprint(i), Missed: Busy})
		check()
	}
	if len(c.report.Routes) != maxRoutes || c.report.Mirrors[other] == nil {
		t.Errorf("%d routes, %d mirrors: the tables are not full", len(c.report.Routes), len(c.report.Mirrors))
	}
	for i := range 2 * maxPlaces {
		c.Add(pair(answer(fmt.Sprintf(`{"a%d":1}`, i)), answer(`{}`)))
	}
	check()
}
