package replay

import "time"

// Everything here is called with Mirror.mu held.

// begin takes a copy from the queue and gives w what it needs for it.
func (m *Mirror) begin(w *worker, now time.Time) {
	w.task = m.queue.pop()
	w.ep, w.latency, w.reuse = nil, 0, true
	w.tried, w.unreachable = false, false
	w.x.clear()
	w.busy, w.interrupted, w.deadline = true, false, now.Add(w.timeout)
	m.inFlight++
	m.offerRoom()
	m.summon()
	switch {
	case m.aborted:
		w.x.fail(Shutdown, errShutdown)
	case len(m.endpoints) == 0:
		w.x.fail(NoEndpoint, errNoEndpoints)
	default:
		w.ep = m.pick(now)
		w.ep.active++
		m.attach(w, now)
	}
}

// attach gives w a connection that is idle, or leave to make one.
func (m *Mirror) attach(w *worker, now time.Time) {
	ep := w.ep
	if ep.record.ejected(now) {
		w.x.fail(CircuitOpen, errEjected)
		return
	}
	w.conn = ep.take()
	if w.conn == nil && !ep.circuit.permits(now) {
		w.x.fail(CircuitOpen, ep.circuit.err)
		return
	}
	w.trial = ep.circuit.begin(now)
	if w.conn == nil {
		w.dialing = true
		m.dials++
	}
}

// settle counts what became of w's copy, which is released already, and takes
// the connection back. It returns those that the caller must close.
func (m *Mirror) settle(w *worker, now time.Time) (drop []*conn) {
	x, ep, c := &w.x, w.ep, w.conn
	m.outcomes[w.outcome()]++
	if !x.failed {
		m.latency.observe(w.latency)
	}
	m.sent += uint64(x.sent)
	m.received += uint64(x.received)
	m.inFlight--
	m.pendingBytes -= w.size
	m.offerRoom()
	if ep != nil {
		ep.active--
		drop = m.judge(w, now)
	}
	if w.dialing { // the copy failed before it came to that
		w.dialing = false
		m.dials--
	}
	switch {
	case c == nil:
	case !w.reuse: // closed already
		m.connections--
	case w.interrupted || ep.gone:
		m.connections--
		drop = append(drop, c)
	default:
		c.idleSince = now
		ep.idle = append(ep.idle, c)
	}
	w.busy, w.conn, w.task = false, nil, task{}
	return drop
}
