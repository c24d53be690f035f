package agent

import (
	"github.com/shadowtap/shadowtap/pkg/replay"
)

// Status is what an agent says of itself to whoever asks many agents at once,
// at /api/v1/status. All counters in it add up over agents.
type Status struct {
	// Name is Config.Name.
	Name string `json:"name"`
	// Version is Config.Version.
	Version string `json:"version"`
	// Capturing is whether capture is attached, and not handed over.
	Capturing bool    `json:"capturing"`
	Account   Account `json:"account"`
	// Mirrors are the shadow destinations by name; what those that rules no
	// longer name have done is under "retired".
	Mirrors map[string]MirrorAccount `json:"mirrors"`
	// RulesFailed is whether older rules are in use than were last read.
	RulesFailed bool     `json:"rules_failed"`
	Problems    []string `json:"problems"`
}

// MirrorAccount says what became of the copies for one shadow destination.
type MirrorAccount struct {
	Shadow
	Latency Latency `json:"latency"`
}

// Latency counts answered copies by the time from sending the copy to the end
// of its response.
type Latency struct {
	// Bounds are the upper bounds of the buckets in seconds. Counts has one
	// more, for what is above the last. They are not cumulative.
	Bounds []float64 `json:"bounds"`
	Counts []uint64  `json:"counts"`
	// Sum is of all latencies, in seconds.
	Sum float64 `json:"sum"`
}

// Status returns the agent's status. It is safe for concurrent use.
func (a *Agent) Status() (Status, error) {
	account, err := a.Account()
	if err != nil {
		return Status{}, err
	}
	loaded := a.loaded.Load()
	s := Status{
		Name:        a.cfg.Name,
		Version:     a.cfg.Version,
		Account:     account,
		Mirrors:     map[string]MirrorAccount{},
		RulesFailed: loaded.Failed,
		Problems:    []string{},
	}
	select {
	case <-a.source.Ready():
		s.Capturing = !a.given.Load()
	default:
	}
	for _, p := range loaded.Problems {
		s.Problems = append(s.Problems, p.Error())
	}
	for name, st := range a.mirrors.stats() {
		s.Mirrors[name] = MirrorAccount{
			Shadow: shadow(map[string]replay.Stats{name: st}),
			Latency: Latency{
				Bounds: replay.LatencyBounds(),
				Counts: st.Latency.Counts[:],
				Sum:    st.Latency.Sum.Seconds(),
			},
		}
	}
	return s, nil
}
