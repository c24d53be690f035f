package replay

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// minBackoff is how long an endpoint is left alone after it failed for the
// first time. It is doubled up to Config.MaxBackoff, which bounds both what a
// dead shadow costs and how long one that came back is missed.
const minBackoff = 50 * time.Millisecond

// circuit says whether copies may go to an endpoint: a circuit breaker. It
// opens when a connection cannot be made, or after Config.MaxFailures copies
// in a row without an answer. Then copies that find no connection fail at
// once, but for one at a time that tries, no sooner than the backoff says;
// the circuit closes when that one is answered. Otherwise a dead shadow would
// cost a dial, and a silent one a worker for all of the timeout, for every
// copy. The head of a final answer is enough: an endpoint that gets so far is
// alive, whatever the answer says. It is guarded by Mirror.mu.
type circuit struct {
	failures int       // copies without an answer in a row, while it is closed
	opened   int       // how many times in a row; 0: it is closed
	until    time.Time // nobody tries before, while it is open
	trial    bool      // one copy is trying
	err      error     // what copies fail with meanwhile
}

// permits reports whether a copy could go out on a new connection now.
func (c *circuit) permits(now time.Time) bool {
	return c.opened == 0 || !c.trial && !now.Before(c.until)
}

// begin notes that a copy goes out, and reports whether it is the one that
// tries.
func (c *circuit) begin(now time.Time) (trial bool) {
	trial = c.opened > 0 && c.permits(now)
	c.trial = c.trial || trial
	return trial
}

// answered notes that a copy was. Those that began before the circuit opened,
// or on connections that still work where no new ones can be made, don't close
// it: each would let many others try.
func (c *circuit) answered(trial bool) {
	switch {
	case trial:
		*c = circuit{}
	case c.opened == 0:
		c.failures = 0
	}
}

// failed notes that a copy was not answered, and reports whether that opens
// the circuit. Failures that began while all was well count once together.
func (c *circuit) failed(trial bool, limit int, backoff time.Duration, err error, now time.Time) (opens bool) {
	if c.opened > 0 && !trial {
		return false
	}
	if c.failures++; !trial && c.failures < limit {
		return false
	}
	wait := min(minBackoff<<min(c.opened, 20), backoff)
	// Many agents see the same shadow fail; they don't all come back at once.
	wait -= rand.N(wait/4 + 1)
	*c = circuit{opened: c.opened + 1, until: now.Add(wait), err: fmt.Errorf("not tried again yet: %w", err)}
	return true
}

// judge draws the conclusions from how w's copy ended for its endpoint. It
// returns connections that the caller must close, once it has given back the
// lock it is called with.
func (m *Mirror) judge(w *worker, now time.Time) (drop []*conn) {
	ep, outcome := w.ep, w.outcome()
	trial := w.trial
	if w.trial = false; trial {
		ep.circuit.trial = false
	}
	switch outcome {
	case Shutdown, NoEndpoint, CircuitOpen, Memory, Panic: // says nothing of the endpoint
		return nil
	}
	if !w.tried { // nor does a copy that we can't make
		return nil
	}
	switch limit := m.cfg.MaxFailures; {
	case w.x.resp.Final():
		ep.circuit.answered(trial)
	default:
		if w.unreachable {
			limit = 1
		}
		if ep.circuit.failed(trial, limit, m.cfg.MaxBackoff, w.x.err, now) && !w.unreachable {
			// The others are no better than those that were tried.
			drop = m.disconnect(ep)
		}
	}
	m.eject(ep, outcome, w.x.resp.Status(), now)
	return drop
}

// disconnect empties an endpoint's pool. It is called with Mirror.mu held.
func (m *Mirror) disconnect(ep *endpoint) []*conn {
	idle := ep.idle
	ep.idle = nil
	m.connections -= uint64(len(idle))
	return idle
}

// State is what copies for an endpoint meet with. Its strings are a bounded
// set of labels.
type State uint8

// The states of an endpoint.
const (
	// StateClosed: copies go there.
	StateClosed State = iota
	// StateHalfOpen: one copy is trying whether it answers again.
	StateHalfOpen
	// StateOpen: it did not answer; copies that find no connection to it go
	// to others or fail.
	StateOpen
	// StateEjected: it is left out because of its answers, see Outlier.
	StateEjected
	// NumStates is the number of states.
	NumStates
)

var stateNames = [NumStates]string{"closed", "half_open", "open", "ejected"}

// String is the state as it is written in metrics.
func (s State) String() string { return stateNames[s] }

// EndpointState is an endpoint and the state it is in.
type EndpointState struct {
	Endpoint
	State State
	// Err is why it is not StateClosed; nil if it is.
	Err error
}

// Endpoints returns the endpoints in the order they were given.
func (m *Mirror) Endpoints() []EndpointState {
	now := m.cfg.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	states := make([]EndpointState, len(m.endpoints))
	for i, ep := range m.endpoints {
		s := EndpointState{Endpoint: ep.Endpoint, State: ep.state(now), Err: ep.circuit.err}
		if s.State == StateEjected {
			s.Err = errEjected
		}
		states[i] = s
	}
	return states
}

func (ep *endpoint) state(now time.Time) State {
	switch {
	case ep.record.ejected(now):
		return StateEjected
	case ep.circuit.trial:
		return StateHalfOpen
	case ep.circuit.opened > 0:
		return StateOpen
	}
	return StateClosed
}
