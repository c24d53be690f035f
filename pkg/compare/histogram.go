package compare

import (
	"fmt"
	"math/bits"
	"time"
)

// Buckets of a Histogram: eight per doubling, from one microsecond on. A
// bucket's upper bound is at most 12.5 % above anything in it.
const (
	perDoubling    = 8
	doublings      = 28 // 2^28 us: 268 s
	numBuckets     = perDoubling * (doublings - 2)
	QuantileError  = 1.0 / perDoubling
	histogramScale = "us, 8 per doubling"
)

// Histogram counts latencies in fixed buckets whose widths grow with the
// latency.
type Histogram struct {
	// Scale names the buckets.
	Scale string `json:"scale"`
	// Counts are the buckets' counts by their number; see Bound.
	Counts map[int]uint64 `json:"counts"`
}

func newHistogram() Histogram {
	return Histogram{Scale: histogramScale, Counts: map[int]uint64{}}
}

// bucket returns the number of the bucket of a latency: its highest bit and the
// three below it, as a floating-point number has them.
func bucket(d time.Duration) int {
	us := uint64(max(d, 0)+time.Microsecond-1) / uint64(time.Microsecond) // rounded up, as are bounds
	if us < perDoubling {
		return int(us)
	}
	shift := bits.Len64(us-1) - 4
	if shift < 0 {
		return int(us)
	}
	return min(shift*perDoubling+int((us-1)>>shift)+1, numBuckets)
}

// Bound is the upper bound of a bucket; that of the last one is only nominal.
func Bound(bucket int) time.Duration {
	if bucket < 2*perDoubling {
		return time.Duration(bucket) * time.Microsecond
	}
	shift := (bucket-1)/perDoubling - 1
	return time.Duration((bucket-1)%perDoubling+perDoubling+1) << shift * time.Microsecond
}

func (h Histogram) add(d time.Duration) { h.Counts[bucket(d)]++ }

func (h Histogram) total() (n uint64) {
	for _, c := range h.Counts {
		n += c
	}
	return n
}

// check reports what makes the histogram one that cannot be added to ours.
func (h Histogram) check() error {
	if h.Scale != histogramScale {
		return fmt.Errorf("latencies are counted in other buckets (%q, want %q)", h.Scale, histogramScale)
	}
	for b := range h.Counts {
		if b < 0 || b > numBuckets {
			return fmt.Errorf("latencies are counted in a bucket %d, there are %d", b, numBuckets)
		}
	}
	return nil
}

// Quantile returns an upper bound of what the share q of all, 0 to 1, stayed
// within, at most QuantileError above it. ok is false if there is none: nothing
// was counted, which is 0, or it took longer than the last bucket's nominal
// bound, which is that bound.
func (h Histogram) Quantile(q float64) (d time.Duration, ok bool) {
	total, below := h.total(), uint64(0)
	for b := range numBuckets {
		below += h.Counts[b]
		if total > 0 && float64(below) >= q*float64(total) {
			return Bound(b), true
		}
	}
	if total == 0 {
		return 0, false
	}
	return Bound(numBuckets), false
}
