package torture

import (
	"slices"
	"testing"
	"time"
)

// TestUnmirroredFindsFaults shows that a request which did not come is excused
// by an outage only where the outage could have kept it from coming.
func TestUnmirroredFindsFaults(t *testing.T) {
	start := time.Now()
	at := func(from, to int) period {
		return period{start.Add(time.Duration(from) * time.Second), start.Add(time.Duration(to) * time.Second)}
	}
	// Requests 0 to 6 on one connection, 7 on another, all in an order; the
	// outage is at 30.
	exchanges := []exchange{
		{first: 0, last: 0, period: at(10, 11), plain: true},
		{first: 1, last: 2, period: at(20, 29), plain: true},
		{first: 3, last: 3, period: at(29, 31), plain: true},
		{first: 4, last: 4, period: at(40, 41), plain: true},
		{first: 5, last: 5, period: at(50, 51), plain: true},
		{first: 6, last: 6, period: at(60, 61), plain: false},
	}
	for missing, excused := range []bool{0: false, 1: false, 2: false, 3: true, 4: true, 5: false, 6: false, 7: false} {
		f := &traffic{ledger: &ledger{}, flows: []*flow{
			{dial: at(9, 10), exchanges: exchanges},
			{dial: at(69, 70), exchanges: []exchange{{first: 7, last: 7, period: at(70, 71)}}},
		}}
		f.ledger.entries = slices.Repeat([]entry{{arrivals: 1}}, 8)
		f.ledger.entries[missing].arrivals = 0
		var found []int
		n := f.unmirrored([]period{at(30, 30)}, func(id int, _ period) { found = append(found, id) })
		if excused && (n != 1 || len(found) > 0) || !excused && (n != 0 || !slices.Equal(found, []int{missing})) {
			t.Errorf("request %d missing: %d excused, %v unexplained", missing, n, found)
		}
	}
}
