package replay

import (
	"errors"
	"slices"
	"time"
)

var (
	errShutdown    = errors.New("not begun before shutdown")
	errInterrupted = errors.New("interrupted while connecting")
)

// worker does exchanges one after the other, and waits for more in between.
type worker struct {
	m    *Mirror
	wake chan struct{} // of capacity 1, so that waking never waits
	cost int           // bytes reserved for it
	x    exchange

	// Of the copy at hand.
	task
	ep          *endpoint
	latency     time.Duration
	reuse       bool // the connection can be used again
	tried       bool // something was asked of the endpoint
	unreachable bool // no connection could be made

	// Guarded by Mirror.mu. Only the worker itself sets conn and dialing.
	busy        bool
	deadline    time.Time
	conn        *conn // in use; nil while there is none
	dialing     bool  // it has leave to make one
	trial       bool  // the copy tries whether ep answers again
	interrupted bool  // by the sweeper or abort, for the reason why
	why         Outcome
	dismissed   bool // ends when there is nothing to do
	idleSince   time.Time
}

func newWorker(m *Mirror, cost int) *worker {
	w := &worker{m: m, wake: make(chan struct{}, 1), cost: cost}
	w.x.init(&m.memory, m.cfg.MaxResponse, m.cfg.Keep)
	return w
}

// run is the worker's life. Settling a copy and fetching the next share one
// hold of the lock.
func (w *worker) run() {
	m := w.m
	now := m.cfg.Now()
	m.mu.Lock()
	m.summoned = false
	for {
		switch {
		case m.queue.len > 0:
			m.begin(w, now)
			m.mu.Unlock()
			now = w.serve(now)
			m.mu.Lock()
			if drop := m.settle(w, now); drop != nil {
				m.mu.Unlock()
				closeAll(drop)
				m.mu.Lock()
			}
		case m.closed || w.dismissed:
			i := slices.Index(m.workers, w)
			m.workers = slices.Delete(m.workers, i, i+1)
			m.mu.Unlock()
			m.memory.release(w.cost)
			return
		default:
			w.idleSince = now
			m.idle = append(m.idle, w)
			m.mu.Unlock()
			<-w.wake
			now = m.cfg.Now()
			m.mu.Lock()
			if !w.dismissed {
				m.summoned = false
			}
		}
	}
}

// serve does the exchange, reports it, and releases the request. It takes and
// returns the time.
func (w *worker) serve(now time.Time) time.Time {
	now = w.attempt(now)
	if w.conn != nil && !w.reuse {
		w.conn.abandon()
	}
	if w.m.cfg.OnResult != nil {
		w.report()
		now = w.m.cfg.Now()
	}
	w.req.Release()
	w.x.tidy()
	return now
}

// report hands over the result.
func (w *worker) report() {
	defer w.contain()
	r := w.result()
	r.Response, w.x.kept = w.x.kept, nil
	w.m.cfg.OnResult(r)
}

// attempt does the exchange. It takes and returns the time.
func (w *worker) attempt(now time.Time) (end time.Time) {
	defer w.contain()
	end = now
	x := &w.x
	if !x.failed {
		if err := x.compose(w.req, w.shaper, w.m.cfg.Extra); err != nil {
			x.fail(unmade(err), err)
		}
	}
	for !x.failed {
		if w.conn == nil {
			if now = w.connect(); x.failed {
				break
			}
		}
		w.tried = true
		x.run(w.conn, w.req)
		after := w.m.cfg.Now()
		w.latency, now = after.Sub(now), after
		if !x.stale {
			w.reuse = x.reusable() && (w.m.cfg.RequestsPerConnection <= 0 || w.conn.turns < w.m.cfg.RequestsPerConnection)
			break
		}
		w.replace(now)
	}
	if x.failed && x.outcome == Reset {
		w.blame()
	}
	return now
}

// connect makes the connection that attach gave leave for.
func (w *worker) connect() time.Time {
	m := w.m
	w.tried = true
	c, outcome, err := m.connect(w.ep, w.deadline.Sub(m.cfg.Now()))
	now := m.cfg.Now()
	w.unreachable = err != nil
	m.mu.Lock()
	w.dialing = false
	interrupted, why := w.interrupted, w.why
	if err == nil && !interrupted {
		w.conn = c
		m.connections++
	}
	m.mu.Unlock()
	switch {
	case err != nil:
		w.x.fail(outcome, err)
	case interrupted:
		c.abandon()
		w.x.fail(why, errInterrupted)
	}
	return now
}

// replace attaches another connection instead of a stale one.
func (w *worker) replace(now time.Time) {
	w.conn.abandon()
	m := w.m
	m.mu.Lock()
	defer m.mu.Unlock()
	w.conn = nil
	m.connections--
	if w.trial {
		w.trial, w.ep.circuit.trial = false, false
	}
	if w.interrupted {
		w.x.fail(w.why, errInterrupted)
		return
	}
	m.attach(w, now)
}

// unmade is the outcome of a copy that could not be made.
func unmade(err error) Outcome {
	if errors.Is(err, errNoMemory) {
		return Memory
	}
	return Protocol
}

// blame says who broke a connection that broke: perhaps it was us.
func (w *worker) blame() {
	w.m.mu.Lock()
	defer w.m.mu.Unlock()
	if w.interrupted {
		w.x.outcome = w.why
	}
}

func (w *worker) outcome() Outcome {
	if w.x.failed {
		return w.x.outcome
	}
	return classOf(w.x.resp.Status())
}

func (w *worker) result() Result {
	x := &w.x
	r := Result{
		Request: w.req, Shaper: w.shaper, Outcome: w.outcome(),
		Sent: x.sent, Received: x.received, Unsent: x.unsent && !x.failed, Partial: x.unread && !x.failed, Err: x.err,
	}
	if w.ep != nil {
		r.Endpoint = w.ep.Endpoint
	}
	if x.resp.Final() {
		r.Status = x.resp.Status()
	}
	if !x.failed {
		r.Latency = w.latency
	}
	return r
}
