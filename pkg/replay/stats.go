package replay

import (
	"maps"
	"time"
)

// numBuckets is the number of bounded latency buckets.
const numBuckets = 14

// latencyBounds are the upper bounds of the buckets: Prometheus' default ones,
// extended to where neighbours in a data centre answer.
var latencyBounds = [numBuckets]time.Duration{
	500 * time.Microsecond, time.Millisecond, 2500 * time.Microsecond,
	5 * time.Millisecond, 10 * time.Millisecond, 25 * time.Millisecond,
	50 * time.Millisecond, 100 * time.Millisecond, 250 * time.Millisecond,
	500 * time.Millisecond, time.Second, 2500 * time.Millisecond,
	5 * time.Second, 10 * time.Second,
}

// Histogram counts latencies of answered copies in fixed buckets, so that
// histograms can be added.
type Histogram struct {
	// Counts holds how many fell into each bucket: above the bound before
	// and at most the bound of the same index of LatencyBounds; the last
	// bucket has no bound. They are not cumulative.
	Counts [numBuckets + 1]uint64
	// Sum is of all latencies.
	Sum time.Duration
}

// LatencyBounds returns the upper bounds of Histogram's buckets in seconds.
func LatencyBounds() []float64 {
	s := make([]float64, numBuckets)
	for i, b := range latencyBounds {
		s[i] = b.Seconds()
	}
	return s
}

func (h *Histogram) observe(d time.Duration) {
	i := 0
	for i < numBuckets && d > latencyBounds[i] {
		i++
	}
	h.Counts[i]++
	h.Sum += d
}

// Count is the number of latencies observed.
func (h *Histogram) Count() (n uint64) {
	for _, c := range h.Counts {
		n += c
	}
	return n
}

// Stats is a consistent snapshot: Accepted = sum(Answered) + sum(Failed) +
// Pending. Counts that are zero are left out of the maps.
type Stats struct {
	// Accepted counts copies that were queued.
	Accepted uint64
	// Answered counts copies with a final response, by status class.
	Answered map[string]uint64
	// Failed counts copies without, by Outcome.
	Failed map[string]uint64
	// Refused counts copies that were not queued, by Refusal.
	Refused map[string]uint64

	// Pending = Queued + InFlight: copies whose outcome is open.
	Pending, Queued, InFlight uint64
	// PendingBytes is the size of the requests behind them.
	PendingBytes int64

	// BytesSent and BytesReceived count what settled exchanges wrote and
	// read, without TLS.
	BytesSent, BytesReceived uint64
	// Latency is that of answered copies.
	Latency Histogram
	// Dials counts attempts to connect; Connections is how many are open.
	Dials, Connections uint64
	// Workers is the number of workers, busy or waiting.
	Workers uint64
}

// Add returns the sum of two mirrors' stats. Neither is changed.
func (s Stats) Add(o Stats) Stats {
	s.Accepted += o.Accepted
	s.Answered = sum(s.Answered, o.Answered)
	s.Failed = sum(s.Failed, o.Failed)
	s.Refused = sum(s.Refused, o.Refused)
	s.Pending += o.Pending
	s.Queued += o.Queued
	s.InFlight += o.InFlight
	s.PendingBytes += o.PendingBytes
	s.BytesSent += o.BytesSent
	s.BytesReceived += o.BytesReceived
	for i, n := range o.Latency.Counts {
		s.Latency.Counts[i] += n
	}
	s.Latency.Sum += o.Latency.Sum
	s.Dials += o.Dials
	s.Connections += o.Connections
	s.Workers += o.Workers
	return s
}

func sum(a, b map[string]uint64) map[string]uint64 {
	s := make(map[string]uint64, max(len(a), len(b)))
	maps.Copy(s, a)
	for k, n := range b {
		s[k] += n
	}
	return s
}

// counters is what Stats is made from, guarded by Mirror.mu.
type counters struct {
	accepted, inFlight uint64
	outcomes           [NumOutcomes]uint64
	refused            [numRefusals]uint64
	sent, received     uint64
	latency            Histogram
	dials, connections uint64
}

// Stats returns what the mirror has done so far.
func (m *Mirror) Stats() Stats {
	m.mu.Lock()
	c := m.counters
	s := Stats{Queued: uint64(m.queue.len), PendingBytes: m.pendingBytes, Workers: uint64(len(m.workers))}
	m.mu.Unlock()

	s.Accepted, s.InFlight = c.accepted, c.inFlight
	s.Pending = s.Queued + s.InFlight
	s.BytesSent, s.BytesReceived = c.sent, c.received
	s.Latency = c.latency
	s.Dials, s.Connections = c.dials, c.connections
	s.Answered, s.Failed, s.Refused = map[string]uint64{}, map[string]uint64{}, map[string]uint64{}
	for i, n := range c.outcomes {
		o := Outcome(i)
		switch {
		case n == 0:
		case o.Answered():
			s.Answered[o.String()] = n
		default:
			s.Failed[o.String()] = n
		}
	}
	for i, n := range c.refused {
		if n > 0 {
			s.Refused[Refusal(i).String()] = n
		}
	}
	return s
}
