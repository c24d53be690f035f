package replay

import (
	"context"
	"slices"
	"time"
)

// workerIdle is how long a worker waits for a copy before it ends.
const workerIdle = 30 * time.Second

// Drain refuses what is submitted from now on, and waits until nothing is
// queued or in flight any more. If ctx ends before, what is left fails as
// Shutdown. When it returns all connections are closed, no goroutine of the
// mirror is left, and only Stats is of use. It may be called more than once.
func (m *Mirror) Drain(ctx context.Context) {
	m.mu.Lock()
	m.closed = true
	m.dismiss(len(m.idle))
	m.offerRoom()
	m.mu.Unlock()

	done := make(chan struct{})
	go func() {
		defer close(done)
		m.group.Wait()
	}()
	select {
	case <-done:
	case <-ctx.Done():
		m.abort()
		<-done
	}
	m.cancel()
	<-m.swept

	m.mu.Lock()
	var idle []*conn
	for _, ep := range m.endpoints {
		idle = append(idle, m.disconnect(ep)...)
	}
	m.mu.Unlock()
	closeAll(idle)
}

// abort fails everything that is pending.
func (m *Mirror) abort() {
	m.mu.Lock()
	m.aborted = true
	var busy []*conn
	for _, w := range m.workers {
		if c := w.interrupt(Shutdown); c != nil {
			busy = append(busy, c)
		}
	}
	m.mu.Unlock()
	m.cancel()
	for _, c := range busy {
		c.interrupt()
	}
}

// dismiss ends the n workers that have been idle longest.
func (m *Mirror) dismiss(n int) {
	for _, w := range m.idle[:n] {
		w.dismissed = true
		w.wake <- struct{}{}
	}
	m.idle = slices.Delete(m.idle, 0, n)
}

// interrupt marks a busy worker, and returns what its caller is to interrupt
// once it has given the lock back. A connection that was interrupted is never
// used again, so it doesn't matter if the exchange ends in between.
func (w *worker) interrupt(why Outcome) *conn {
	if !w.busy || w.interrupted {
		return nil
	}
	w.interrupted, w.why = true, why
	return w.conn
}

// sweepPeriod is how often to look for what is overdue after limit.
func sweepPeriod(limit time.Duration) time.Duration {
	return min(max(limit/16, time.Millisecond), time.Second)
}

// timeoutOf is the time for a copy. The first that is short makes the sweeper
// look more often. It is called with Mirror.mu held, to be given back by a
// defer: the shaper is foreign.
func (m *Mirror) timeoutOf(s Shaper) time.Duration {
	b, ok := s.(Bounded)
	if !ok {
		return m.cfg.Timeout
	}
	timeout := b.Timeout()
	if timeout <= 0 {
		return m.cfg.Timeout
	}
	if period := sweepPeriod(timeout); period < m.period {
		m.period = period
		select {
		case m.faster <- struct{}{}:
		default: // it has not looked at the last one yet
		}
	}
	return timeout
}

// sweeper enforces all limits of time. One look at everything now and then is
// far cheaper than timers that are set and reset for every exchange.
func (m *Mirror) sweeper() {
	defer close(m.swept)
	ticker := time.NewTicker(sweepPeriod(min(m.cfg.Timeout, m.cfg.IdleTimeout)))
	defer ticker.Stop()
	for {
		select {
		case <-m.faster:
			m.mu.Lock()
			period := m.period
			m.mu.Unlock()
			ticker.Reset(period)
		case <-ticker.C:
			m.tend()
		case <-m.ctx.Done():
			return
		}
	}
}

// sweep interrupts what is overdue, closes connections that were idle for too
// long or that the server closed, and ends workers with nothing to do.
func (m *Mirror) sweep(now time.Time) {
	overdue, resting := m.overdue(now)
	for _, c := range overdue {
		c.interrupt()
	}
	for _, l := range resting {
		m.look(l, now)
	}
}

// tend sweeps, and keeps a panic from ending more than this sweep: without a
// sweeper nothing would ever time out.
func (m *Mirror) tend() {
	defer func() {
		if fault := recover(); fault != nil {
			m.panicked(fault)
		}
	}()
	m.sweep(m.cfg.Now())
}

// overdue returns what sweep has to do outside the lock.
func (m *Mirror) overdue(now time.Time) (overdue []*conn, resting []lease) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, w := range m.workers {
		if !now.Before(w.deadline) {
			if c := w.interrupt(Timeout); c != nil {
				overdue = append(overdue, c)
			}
		}
	}
	n := 0
	for n < len(m.idle) && now.Sub(m.idle[n].idleSince) >= workerIdle {
		n++
	}
	m.dismiss(n)
	for _, ep := range m.endpoints {
		if idle := ep.resting(now); len(idle) > 0 {
			resting = append(resting, lease{ep, idle})
		}
	}
	return overdue, resting
}

// lease is connections that the sweeper has taken out of an endpoint's pool.
type lease struct {
	ep    *endpoint
	conns []*conn
}

// resting takes out the connections that were not needed for a while.
func (ep *endpoint) resting(now time.Time) []*conn {
	n := 0
	for n < len(ep.idle) && now.Sub(ep.idle[n].idleSince) >= time.Second {
		n++
	}
	idle := slices.Clone(ep.idle[:n])
	ep.idle = slices.Delete(ep.idle, 0, n)
	return idle
}

// look closes what has expired or was closed by the server, which would
// else hold a descriptor for IdleTimeout, and puts the others back.
func (m *Mirror) look(l lease, now time.Time) {
	var keep, drop []*conn
	for _, c := range l.conns {
		if now.Sub(c.idleSince) < m.cfg.IdleTimeout && c.alive() {
			keep = append(keep, c)
		} else {
			drop = append(drop, c)
		}
	}
	m.mu.Lock()
	if l.ep.gone {
		keep, drop = nil, l.conns
	}
	l.ep.idle = slices.Concat(keep, l.ep.idle)
	m.connections -= uint64(len(drop))
	m.mu.Unlock()
	closeAll(drop)
}
