package compare

import (
	"bytes"
	"sync"
)

// Comparer compares pairs and counts. It is safe for concurrent use.
type Comparer struct {
	mu     sync.Mutex
	report Report
}

// New returns a Comparer. An error says which option is malformed.
func New(_ Options) (*Comparer, error) {
	return &Comparer{report: Report{Format: Format, Mirrors: map[string]*Mirror{}}}, nil
}

// Add compares one pair and counts it. The pair is not kept. The time it takes
// is bounded by the size of what was kept of the answers.
func (c *Comparer) Add(p *Pair) {
	missed := p.missed()
	same := missed == Compared && p.Shadow != nil &&
		p.Production.Status == p.Shadow.Status && bytes.Equal(p.Production.Body, p.Shadow.Body)
	c.mu.Lock()
	defer c.mu.Unlock()
	m := c.report.Mirrors[p.Mirror]
	if m == nil {
		m = newMirror()
		c.report.Mirrors[p.Mirror] = m
	}
	m.Pairs++
	switch {
	case missed != Compared:
		m.Missed[missed.String()]++
	case p.Shadow == nil:
		m.Failed[p.Failure]++
	case same:
		m.Same++
	default:
		m.Different++
	}
}

// Report returns what was counted so far, a copy that the caller may keep.
func (c *Comparer) Report() *Report {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.report
	r.Mirrors = make(map[string]*Mirror, len(c.report.Mirrors))
	for name, m := range c.report.Mirrors {
		r.Mirrors[name] = m.clone()
	}
	return &r
}
