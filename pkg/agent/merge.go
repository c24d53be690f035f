package agent

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// Add returns the account of both: counters are added up, and it has been kept
// since the earlier time. Neither is changed.
func (a Account) Add(b Account) Account {
	return Account{
		Since:     earlier(a.Since, b.Since),
		Packets:   a.Packets.Add(b.Packets),
		Responses: bothPackets(a.Responses, b.Responses),
		Flows: Flows{
			Open:         a.Flows.Open + b.Flows.Open,
			Total:        a.Flows.Total + b.Flows.Total,
			Ignored:      added(a.Flows.Ignored, b.Flows.Ignored),
			Gaps:         a.Flows.Gaps + b.Flows.Gaps,
			SkippedBytes: a.Flows.SkippedBytes + b.Flows.SkippedBytes,
			Panics:       a.Flows.Panics + b.Flows.Panics,
		},
		Requests: Requests{
			Seen:       a.Requests.Seen + b.Requests.Seen,
			Mirrored:   a.Requests.Mirrored + b.Requests.Mirrored,
			Filtered:   a.Requests.Filtered + b.Requests.Filtered,
			FilteredBy: added(a.Requests.FilteredBy, b.Requests.FilteredBy),
			SampledOut: a.Requests.SampledOut + b.Requests.SampledOut,
			Looped:     a.Requests.Looped + b.Requests.Looped,
			Dropped:    added(a.Requests.Dropped, b.Requests.Dropped),
			Pending:    a.Requests.Pending + b.Requests.Pending,
		},
		Shadow: a.Shadow.Add(b.Shadow),
	}
}

// Add returns the account of both. Neither is changed.
func (p Packets) Add(q Packets) Packets {
	return Packets{
		Seen:    p.Seen + q.Seen,
		Copied:  p.Copied + q.Copied,
		Skipped: added(p.Skipped, q.Skipped),
		Lost:    added(p.Lost, q.Lost),
	}
}

// bothPackets is the sum of what may not be there.
func bothPackets(p, q *Packets) *Packets {
	if p == nil && q == nil {
		return nil
	}
	var sum Packets
	for _, one := range []*Packets{p, q} {
		if one != nil {
			sum = sum.Add(*one)
		}
	}
	return &sum
}

// Balanced reports whether every packet is accounted for.
func (p Packets) Balanced() bool {
	return p.Seen == p.Copied+sum(p.Skipped)+sum(p.Lost)
}

// Add returns the account of both. Neither is changed.
func (s Shadow) Add(b Shadow) Shadow {
	return Shadow{
		Sent:     s.Sent + b.Sent,
		Answered: added(s.Answered, b.Answered),
		Failed:   added(s.Failed, b.Failed),
		Refused:  added(s.Refused, b.Refused),
		Pending:  s.Pending + b.Pending,
	}
}

// Add returns the account of both. Neither is changed. Agents of versions with
// different buckets cannot be added, nor can one that has not a count for each.
func (m MirrorAccount) Add(b MirrorAccount) (MirrorAccount, error) {
	latency, err := m.Latency.add(b.Latency)
	return MirrorAccount{Shadow: m.Shadow.Add(b.Shadow), Latency: latency}, err
}

func (l Latency) add(b Latency) (Latency, error) {
	for _, x := range []Latency{l, b} {
		if n := len(x.Counts); n+len(x.Bounds) > 0 && (n < 2 || n != len(x.Bounds)+1) {
			return l, fmt.Errorf("%d counts of latencies for %d bounds", n, len(x.Bounds))
		}
	}
	switch {
	case len(l.Counts) == 0:
		return b, nil
	case len(b.Counts) == 0:
		return l, nil
	case !slices.Equal(l.Bounds, b.Bounds):
		return l, fmt.Errorf("latencies are counted in other buckets: %v, want %v", b.Bounds, l.Bounds)
	}
	counts := slices.Clone(l.Counts)
	for i, n := range b.Counts {
		counts[i] += n
	}
	return Latency{Bounds: l.Bounds, Counts: counts, Sum: l.Sum + b.Sum}, nil
}

// Quantile returns an upper bound in seconds of the latency that the share q
// of the copies, 0 to 1, stayed within: the bound of the bucket it falls into.
// ok is false if there is none: no copy was answered, or it is in the bucket
// without a bound.
func (l Latency) Quantile(q float64) (bound float64, ok bool) {
	total := uint64(0)
	for _, n := range l.Counts {
		total += n
	}
	below := uint64(0)
	for i, bound := range l.Bounds {
		below += l.Counts[i]
		if total > 0 && float64(below) >= q*float64(total) {
			return bound, true
		}
	}
	return 0, false
}

func added(a, b map[string]uint64) map[string]uint64 {
	m := make(map[string]uint64, max(len(a), len(b)))
	maps.Copy(m, a)
	for k, n := range b {
		m[k] += n
	}
	return m
}

func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
