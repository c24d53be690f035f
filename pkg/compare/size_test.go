package compare

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// TestReportSize fills every table of a report with the largest that fits.
func TestReportSize(t *testing.T) {
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
