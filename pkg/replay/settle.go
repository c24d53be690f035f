package replay

import "time"

// Everything here is called with Mirror.mu held.

// begin takes a copy from the queue and gives w what it needs for it.
func (m *Mirror) begin(w *worker, now time.Time) {
	w.task = m.queue.pop()
	w.ep, w.latency, w.reuse = nil, 0, true
	w.x.clear()
	w.busy, w.interrupted, w.deadline = true, false, now.Add(m.timeoutOf(w.shaper))
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
	if w.ep.record.ejected(now) {
		w.x.fail(Connect, errEjected)
		return
	}
	if w.conn = w.ep.take(); w.conn != nil {
		return
	}
	if !w.ep.mayDial(now) {
		w.x.fail(Connect, w.ep.err)
		return
	}
	w.ep.probing = w.ep.fails > 0
	w.dialing = true
	m.dials++
}

// settle counts what became of w's copy, which is released already, and takes
// the connection back. It returns one that the caller must close.
func (m *Mirror) settle(w *worker, now time.Time) (surplus *conn) {
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
		m.judge(ep, w.outcome(), x.resp.status, now)
	}
	if w.dialing { // the copy failed before it came to that
		w.dialing, ep.probing = false, false
		m.dials--
	}
	switch {
	case c == nil:
	case !w.reuse: // closed already
		m.connections--
	case w.interrupted || ep.gone:
		m.connections--
		surplus = c
	default:
		c.idleSince = now
		ep.idle = append(ep.idle, c)
	}
	w.busy, w.conn, w.task = false, nil, task{}
	return surplus
}
