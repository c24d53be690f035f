package replay

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/shadowtap/shadowtap/pkg/httpstream"
)

// Errors of SubmitWait.
var (
	ErrNoEndpoints = errors.New("mirror has no endpoints")
	ErrClosed      = errors.New("mirror is closed")
)

// Mirror is one shadow destination. All its methods are safe for concurrent
// use. Drain ends it.
type Mirror struct {
	cfg    Config
	ctx    context.Context // ends when what is under way shall be given up
	cancel context.CancelFunc
	group  sync.WaitGroup // workers
	swept  chan struct{}  // closed when the sweeper has ended
	faster chan struct{}  // says to the sweeper: period is shorter now
	memory memory
	room   chan struct{} // says to one in SubmitWait: try again

	mu           sync.Mutex
	period       time.Duration // of the sweeper
	queue        ring
	pendingBytes int64
	endpoints    []*endpoint // those that are near first
	near         int         // how many are
	workers      []*worker
	idle         []*worker // in the order they became idle, taken from the end
	summoned     bool      // a worker is on its way to the queue
	waiters      int       // in SubmitWait
	closed       bool      // nothing is accepted any more
	aborted      bool      // nothing is begun any more
	counters
}

// New returns a mirror that is ready for copies.
func New(cfg Config) *Mirror {
	cfg = cfg.withDefaults()
	m := &Mirror{
		cfg:    cfg,
		swept:  make(chan struct{}),
		faster: make(chan struct{}, 1),
		period: sweepPeriod(min(cfg.Timeout, cfg.IdleTimeout)),
		room:   make(chan struct{}, 1),
		queue:  ring{limit: cfg.Queue},
		memory: memory{reserve: cfg.Reserve, release: cfg.Release},
	}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	m.SetEndpoints(cfg.Endpoints)
	go m.sweeper()
	return m
}

// Submit queues a copy of r with the head that s writes, or says why not. It
// never waits. If the copy is accepted the mirror holds a reference to r
// until the copy's outcome is known. If it panics, which only a method of s can
// make it do, the copy was not accepted.
func (m *Mirror) Submit(r *httpstream.Request, s Shaper) Refusal {
	m.mu.Lock()
	defer m.mu.Unlock()
	refusal := m.admit(r)
	if refusal != Accepted {
		m.refused[refusal]++
		return refusal
	}
	m.enqueue(r, s)
	return Accepted
}

// SubmitWait is Submit for sources that can wait, such as a file: it waits for
// room in the queue. It returns ErrNoEndpoints, ErrClosed, or what ended ctx;
// in each case the copy is counted as refused.
func (m *Mirror) SubmitWait(ctx context.Context, r *httpstream.Request, s Shaper) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for {
		switch refusal := m.admit(r); refusal {
		case Accepted:
			m.enqueue(r, s)
			m.offerRoom() // there may be room for the next one, too
			return nil
		case NoEndpoints:
			m.refused[refusal]++
			return ErrNoEndpoints
		case Closed:
			m.refused[refusal]++
			m.offerRoom()
			return ErrClosed
		}
		m.waiters++
		m.mu.Unlock()
		var err error
		select {
		case <-m.room:
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
		m.mu.Lock()
		m.waiters--
		if err != nil {
			m.refused[QueueFull]++
			m.offerRoom() // in case the offer was taken by nobody else
			return err
		}
	}
}

// offerRoom lets one of those in SubmitWait try again.
func (m *Mirror) offerRoom() {
	if m.waiters == 0 {
		return
	}
	select {
	case m.room <- struct{}{}:
	default:
	}
}

func (m *Mirror) admit(r *httpstream.Request) Refusal {
	switch {
	case m.closed:
		return Closed
	case len(m.endpoints) == 0:
		return NoEndpoints
	case m.queue.full(),
		m.pendingBytes > 0 && m.pendingBytes+int64(r.Size()) > m.cfg.QueueBytes:
		return QueueFull
	}
	return Accepted
}

func (m *Mirror) enqueue(r *httpstream.Request, s Shaper) {
	timeout := m.timeoutOf(s)
	r.Retain()
	m.accepted++
	m.pendingBytes += int64(r.Size())
	m.queue.push(task{r, s, int64(r.Size()), timeout})
	m.summon()
}

// summon sees to it that whatever is queued is fetched: unless a worker is on
// its way already, one that waits is woken, or one more is started. Whoever
// fetches something calls it again, so a burst costs its submitter one wake-up
// and the workers share the others.
func (m *Mirror) summon() {
	if m.summoned || m.queue.len == 0 {
		return
	}
	if n := len(m.idle); n > 0 {
		w := m.idle[n-1]
		m.idle = m.idle[:n-1]
		m.summoned = true
		w.wake <- struct{}{}
		return
	}
	if n := len(m.workers); n < m.cfg.InFlight {
		cost := workerCost
		if !m.memory.reserve(cost) {
			if n > 0 {
				return // those there are fetch it
			}
			cost = 0
		}
		m.summoned = true
		w := newWorker(m, cost)
		m.workers = append(m.workers, w)
		m.group.Go(w.run)
	}
}

// task is a copy that waits.
type task struct {
	req    *httpstream.Request
	shaper Shaper
	size   int64 // of req, in bytes; kept because req is released first
	// timeout is asked of the shaper when it's queued: where a worker holds
	// the lock, nothing foreign is called that could panic.
	timeout time.Duration
}

// ring is a queue of bounded length. It grows as needed: most mirrors never
// have many copies waiting.
type ring struct {
	tasks     []task
	head, len int
	limit     int
}

func (q *ring) full() bool { return q.len == q.limit }

func (q *ring) push(t task) {
	if q.len == len(q.tasks) {
		q.grow()
	}
	q.tasks[(q.head+q.len)%len(q.tasks)] = t
	q.len++
}

func (q *ring) grow() {
	tasks := make([]task, min(max(16, 2*q.len), q.limit))
	n := copy(tasks, q.tasks[q.head:])
	copy(tasks[n:], q.tasks[:q.head])
	q.tasks, q.head = tasks, 0
}

func (q *ring) pop() (t task) {
	t, q.tasks[q.head] = q.tasks[q.head], task{}
	q.head = (q.head + 1) % len(q.tasks)
	q.len--
	return t
}
