package compare

import (
	"fmt"
	"maps"
	"time"
)

// Format is the version of Report's form. Reports of other formats cannot be
// merged.
const Format = 1

// Report is what a Comparer found. It is JSON; the fields are counters and
// bounded tables.
type Report struct {
	Format int `json:"format"`
	// Since and Until are the times of the first and the last pair.
	Since time.Time `json:"since"`
	Until time.Time `json:"until"`
	// Mirrors are the totals of each mirror, by its name.
	Mirrors map[string]*Mirror `json:"mirrors"`
}

// Mirror says what became of the pairs of one mirror:
//
//	Pairs = Same + Different + sum(Failed) + sum(Missed)
type Mirror struct {
	Pairs uint64 `json:"pairs"`
	// Same and Different are the pairs with two answers. Whether what differs
	// is only noise is not known before Judge.
	Same      uint64 `json:"same"`
	Different uint64 `json:"different"`
	// Failed are the pairs that production answered and the shadow did not, by
	// Pair.Failure.
	Failed map[string]uint64 `json:"failed"`
	// Missed are those that cannot be compared, by Reason.
	Missed map[string]uint64 `json:"missed"`
}

// Balanced reports whether every pair is accounted for.
func (m *Mirror) Balanced() bool {
	return m.Pairs == m.Same+m.Different+sum(m.Failed)+sum(m.Missed)
}

func sum(parts map[string]uint64) (n uint64) {
	for _, v := range parts {
		n += v
	}
	return n
}

// Merge adds what another report counted. The result is the same in whichever
// order reports are merged. On an error, which says that the other is of
// another format, nothing is changed.
func (r *Report) Merge(other *Report) error {
	if other.Format != r.Format {
		return fmt.Errorf("the report has format %d, want %d: the agent is of another version", other.Format, r.Format)
	}
	for name, m := range other.Mirrors {
		if r.Mirrors[name] == nil {
			r.Mirrors[name] = newMirror()
		}
		r.Mirrors[name].merge(m)
	}
	return nil
}

func newMirror() *Mirror {
	return &Mirror{Failed: map[string]uint64{}, Missed: map[string]uint64{}}
}

func (m *Mirror) merge(o *Mirror) {
	m.Pairs += o.Pairs
	m.Same += o.Same
	m.Different += o.Different
	add(m.Failed, o.Failed)
	add(m.Missed, o.Missed)
}

func (m *Mirror) clone() *Mirror {
	c := *m
	c.Failed, c.Missed = maps.Clone(m.Failed), maps.Clone(m.Missed)
	return &c
}

func add(to, from map[string]uint64) {
	for k, n := range from {
		to[k] += n
	}
}
