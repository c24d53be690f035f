package kube

import (
	"testing"
	"time"
)

func TestPace(t *testing.T) {
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	for _, tt := range []struct {
		name    string
		changes []int // in milliseconds
		free    int
		want    int
	}{
		{"one", []int{0}, 0, 100},
		{"one after a long time", []int{1000}, 0, 1010},
		{"and what comes with it", []int{1000, 1005}, 0, 1010},
		{"a burst settles", []int{0, 90, 180}, 0, 280},
		{"one that does not end", []int{0, 90, 180, 270, 360, 450, 490}, 0, 500},
		{"soon after a long delivery", []int{0}, 3000, 3000},
		{"long after it", []int{4000}, 3000, 4010},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := pace{quick: 10 * time.Millisecond, settle: 100 * time.Millisecond, maxSettle: 500 * time.Millisecond, restFactor: 9}
			p.lastEnd, p.notBefore = start, at(tt.free)
			if _, ok := p.due(); ok {
				t.Error("due before a change")
			}
			for _, ms := range tt.changes {
				p.change(at(ms))
			}
			if got, ok := p.due(); !ok || !got.Equal(at(tt.want)) {
				t.Errorf("due at %v (%v), want %v", got.Sub(start), ok, at(tt.want).Sub(start))
			}
			p.begin()
			if _, ok := p.due(); ok {
				t.Error("due twice")
			}
			p.end(at(5000), 200*time.Millisecond)
			p.change(at(5001))
			if got, _ := p.due(); !got.Equal(at(5000 + 1800)) {
				t.Errorf("after a delivery of 200 ms: due at %v", got.Sub(start))
			}
		})
	}
}
