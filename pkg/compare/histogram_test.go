package compare

import (
	"testing"
	"time"
)

func TestBucketsCoverEveryLatency(t *testing.T) {
	for b := 1; b <= numBuckets; b++ {
		low, high := Bound(b-1), Bound(b)
		if low >= high {
			t.Fatalf("bucket %d: bounds %v and %v", b, low, high)
		}
		if got := bucket(high); got != b {
			t.Errorf("%v is in bucket %d, want %d", high, got, b)
		}
		if got := bucket(low + 1); got != b {
			t.Errorf("%v is in bucket %d, want %d", low+1, got, b)
		}
		if least := low + time.Microsecond; float64(high) > float64(least)*(1+QuantileError) {
			t.Errorf("bucket %d: bound %v is more than %v above %v", b, high, QuantileError, least)
		}
	}
	if b := bucket(time.Hour); b != numBuckets {
		t.Errorf("an hour is in bucket %d", b)
	}
	if b := bucket(-1); b != 0 {
		t.Errorf("a negative latency is in bucket %d", b)
	}
}

func TestQuantile(t *testing.T) {
	h := newHistogram()
	if _, ok := h.Quantile(0.5); ok {
		t.Error("nothing has a quantile")
	}
	for i := range 1000 {
		h.add(time.Duration(i+1) * time.Millisecond)
	}
	for q, want := range map[float64]time.Duration{0.5: 500 * time.Millisecond, 0.95: 950 * time.Millisecond, 0.99: 990 * time.Millisecond} {
		got, ok := h.Quantile(q)
		if !ok || got < want || float64(got) > float64(want)*(1+QuantileError) {
			t.Errorf("p%v: %v, %v, want %v to %v above", 100*q, got, ok, want, QuantileError)
		}
	}
	for range 100_000 {
		h.add(time.Hour)
	}
	if d, ok := h.Quantile(0.5); ok {
		t.Errorf("p50 of hours: %v", d)
	}
}
