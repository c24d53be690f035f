package demo

import "fmt"

// account is what shadowtap knows to have happened: every request it saw and
// every copy it made is in exactly one of the places below.
type account struct {
	Packets struct {
		Seen, Copied int64
		Skipped      counts
		Lost         counts
	}
	Requests struct {
		Seen, Mirrored, Filtered int64
		SampledOut               int64 `json:"sampled_out"`
		Looped, Pending          int64
		Dropped                  counts
	}
	Shadow struct {
		Sent, Pending    int64
		Answered, Failed counts
	}
}

// counts are events by reason.
type counts map[string]int64

func (c counts) sum() (n int64) {
	for _, v := range c {
		n += v
	}
	return n
}

// verify returns everything in the account that does not agree with itself or
// with what the client knows.
func (a *account) verify(t tally) (problems []error) {
	equal := func(what string, got, want int64) {
		if got != want {
			problems = append(problems, fmt.Errorf("account: %s %d, want %d", what, got, want))
		}
	}
	r, s, p := a.Requests, a.Shadow, a.Packets
	equal("requests seen", r.Seen, int64(len(t.requests)))
	equal("requests mirrored", r.Mirrored, int64(t.matching))
	equal("requests filtered", r.Filtered, int64(t.filtered))
	equal("requests dropped", r.Dropped.sum(), 0)
	equal("requests pending", r.Pending, 0)
	equal("requests accounted for", r.Mirrored+r.Filtered+r.SampledOut+r.Looped+r.Dropped.sum()+r.Pending, r.Seen)
	equal("copies sent", s.Sent, int64(t.matching))
	equal("copies failed", s.Failed.sum(), 0)
	equal("copies accounted for", s.Answered.sum()+s.Failed.sum()+s.Pending, s.Sent)
	equal("packets lost", p.Lost.sum(), 0)
	equal("packets accounted for", p.Copied+p.Skipped.sum()+p.Lost.sum(), p.Seen)
	return problems
}
