package agent

import (
	"time"

	"github.com/shadowtap/shadowtap/pkg/httpstream"
	"github.com/shadowtap/shadowtap/pkg/replay"
	"github.com/shadowtap/shadowtap/pkg/rules"
)

// Account says what became of everything that was seen. Its counters only
// grow, except the pending and open ones, so accounts of several agents add up.
type Account struct {
	// Since is when the agent was started, in UTC.
	Since   time.Time `json:"since"`
	Packets Packets   `json:"packets"`
	// Responses are the packets that came from the captured endpoints, where
	// live answers are compared.
	Responses *Packets `json:"responses,omitempty"`
	Flows     Flows    `json:"flows"`
	Requests  Requests `json:"requests"`
	Shadow    Shadow   `json:"shadow"`
}

// Packets counts TCP packets towards the captured endpoints, once for each
// interface and direction in which the program meets them; from a capture file,
// every packet in it. Seen = Copied + sum(Skipped) + sum(Lost). Skipped and Lost
// are by reason: the constants of pkg/capture, and pcap.Reason.
type Packets struct {
	Seen    uint64            `json:"seen"`
	Copied  uint64            `json:"copied"`
	Skipped map[string]uint64 `json:"skipped"`
	Lost    map[string]uint64 `json:"lost"`
}

// Flows counts directions of connections towards the captured endpoints.
type Flows struct {
	// Open is how many there are now, Total how many there were in all.
	Open  uint64 `json:"open"`
	Total uint64 `json:"total"`
	// Ignored counts those on which nothing more is looked for, by
	// httpstream.Protocol.
	Ignored map[string]uint64 `json:"ignored"`
	// Gaps counts holes in the byte streams that nothing filled.
	Gaps uint64 `json:"gaps"`
	// SkippedBytes passed while looking for the start of a request: on
	// connections that were open before the agent, or after a gap.
	SkippedBytes uint64 `json:"skipped_bytes"`
	// Panics counts those given up because of a defect of the agent's.
	Panics uint64 `json:"panics"`
}

// Requests counts requests from the recognition of their first byte:
// Seen = Mirrored + Filtered + SampledOut + Looped + sum(Dropped) + Pending,
// whenever it is read.
type Requests struct {
	Seen uint64 `json:"seen"`
	// Mirrored: at least one copy was queued.
	Mirrored uint64 `json:"mirrored"`
	// Filtered: no rule mirrors it.
	Filtered uint64 `json:"filtered"`
	// FilteredBy splits Filtered by rules.FilterReason.
	FilteredBy map[string]uint64 `json:"filtered_by"`
	// SampledOut: a rule mirrors a percentage, or a number per second, that it
	// is not in.
	SampledOut uint64 `json:"sampled_out"`
	// Looped: it is itself a copy.
	Looped uint64 `json:"looped"`
	// Dropped: it should have been mirrored, or might have been, and was not, by
	// reason: those of httpstream.Reason and of what follows the parser.
	Dropped map[string]uint64 `json:"dropped"`
	// Pending: its end has not arrived.
	Pending uint64 `json:"pending"`
}

// Balanced reports whether every request seen is accounted for.
func (r Requests) Balanced() bool {
	return r.Seen == r.Mirrored+r.Filtered+r.SampledOut+r.Looped+sum(r.Dropped)+r.Pending
}

// Shadow counts copies, of which a request has one for each of its mirrors:
// Sent = sum(Answered) + sum(Failed) + Pending, whenever it is read.
type Shadow struct {
	// Sent counts the copies that a mirror's queue took.
	Sent uint64 `json:"sent"`
	// Answered counts complete responses by status class.
	Answered map[string]uint64 `json:"answered"`
	// Failed counts copies without one, by reason.
	Failed map[string]uint64 `json:"failed"`
	// Refused counts copies that a mirror's queue did not take, by reason.
	Refused map[string]uint64 `json:"refused"`
	// Pending: queued or in flight.
	Pending uint64 `json:"pending"`
}

// Balanced reports whether every copy is accounted for.
func (s Shadow) Balanced() bool {
	return s.Sent == sum(s.Answered)+sum(s.Failed)+s.Pending
}

func sum(m map[string]uint64) (n uint64) {
	for _, v := range m {
		n += v
	}
	return n
}

// dropReason continues httpstream.Reason with the reasons that arise behind
// the parser.
type dropReason uint8

const (
	dropQueueFull = dropReason(httpstream.NumReasons) + iota
	dropNoEndpoints
	// dropPanic: the request was under way when a panic was contained.
	dropPanic
	// dropHandedOver: an agent that took over goes on with the request.
	dropHandedOver
	numDropReasons
)

func (d dropReason) String() string {
	switch d {
	case dropQueueFull:
		return "queue_full"
	case dropNoEndpoints:
		return "no_endpoints"
	case dropPanic:
		return "panic"
	case dropHandedOver:
		return "handed_over"
	}
	return httpstream.Reason(d).String()
}

// tally is a shard's share of the account.
type tally struct {
	seen, mirrored, filtered, sampledOut, looped uint64
	pending                                      uint64
	dropped                                      [numDropReasons]uint64
	filteredBy                                   [rules.NumFilterReasons]uint64
	ignored                                      [httpstream.NumProtocols]uint64
	skippedBytes                                 uint64
	panics                                       uint64
}

func (t *tally) add(o *tally) {
	t.seen += o.seen
	t.mirrored += o.mirrored
	t.filtered += o.filtered
	t.sampledOut += o.sampledOut
	t.looped += o.looped
	t.pending += o.pending
	t.skippedBytes += o.skippedBytes
	t.panics += o.panics
	for i, n := range o.dropped {
		t.dropped[i] += n
	}
	for i, n := range o.filteredBy {
		t.filteredBy[i] += n
	}
	for i, n := range o.ignored {
		t.ignored[i] += n
	}
}

func (t *tally) requests() Requests {
	return Requests{
		Seen:       t.seen,
		Mirrored:   t.mirrored,
		Filtered:   t.filtered,
		FilteredBy: named(t.filteredBy[:], func(i int) string { return rules.FilterReason(i).String() }),
		SampledOut: t.sampledOut,
		Looped:     t.looped,
		Dropped:    named(t.dropped[:], func(i int) string { return dropReason(i).String() }),
		Pending:    t.pending,
	}
}

// named turns counters by index into counters by name. Those that are zero
// are left out.
func named(counts []uint64, name func(int) string) map[string]uint64 {
	m := map[string]uint64{}
	for i, n := range counts {
		if n > 0 {
			m[name(i)] = n
		}
	}
	return m
}

// shadow sums up what all mirrors have done.
func shadow(mirrors map[string]replay.Stats) Shadow {
	s := Shadow{Answered: map[string]uint64{}, Failed: map[string]uint64{}, Refused: map[string]uint64{}}
	for _, st := range mirrors {
		s.Sent += st.Accepted
		s.Pending += st.Pending
		for class, n := range st.Answered {
			s.Answered[class] += n
		}
		for why, n := range st.Failed {
			s.Failed[why] += n
		}
		for why, n := range st.Refused {
			s.Refused[why] += n
		}
	}
	return s
}
