package capture

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// A batch ends after so many records or bytes: its space goes back to the
	// kernel, and the Sink learns the time.
	batchRecords = 256
	batchBytes   = 1 << 20

	// After so many polls in vain the reader stops polling and sleeps until
	// the kernel program wakes it.
	idlePolls = 8
	// A sleep ends after this at the latest. Sinks are promised a batch every
	// 500 ms, with room for a late timer.
	sleepMax = 400 * time.Millisecond
	// The program believes the agent dead without one for HEARTBEAT_MAX.
	beatEvery = 200 * time.Millisecond
	// After a panic that was contained the reader pauses: a defect that every
	// record meets must not take a processor. What does not fit the ring
	// meanwhile is counted as lost.
	faultPause = 10 * time.Millisecond
)

// errStopped ends the turns of a reader.
var errStopped = errors.New("stopped")

// reader moves the records of one ring to one Sink, on one goroutine.
//
// Waking it is what the copying of packets costs production most (a wake-up is
// worth 15 copies), so while there is traffic it is not woken: it polls every
// few milliseconds and asks to be woken only when half of the ring is used.
// After a while without any it asks to be woken at the next packet.
//
// It waits in Go's network poller, which parks the goroutine and not a thread:
// epoll_wait in a system call of our own costs up to three times the CPU as
// soon as there is more than one reader, because the runtime must take the
// processor away from every thread that blocks.
type reader struct {
	ring    *ring
	control *controlPage
	wake    *uint32 // this shard's, in control
	clock   clock
	sink    Sink
	poll    time.Duration

	file    *os.File // the ring's descriptor, registered with the poller
	conn    syscall.RawConn
	ready   func(uintptr) bool // what ends a wait; made once, not per wait
	wakeAt  int                // bytes in the ring that end a wait
	polled  bool
	stopped atomic.Bool
	flushed atomic.Pointer[chan struct{}] // to be closed when the ring has been drained
	segment Segment
	beaten  int64 // last heartbeat, CLOCK_MONOTONIC ns

	guard    func(Part, func()) (fault error)
	step     func()         // turn; made once, not per turn
	err      error          // of the last turn
	open     bool           // a batch is
	idle     int            // turns in a row that found nothing
	flushing *chan struct{} // taken from flushed by a turn that has not ended
}

// newReader prepares reading the ring with the given descriptor, which it
// duplicates.
func newReader(r *ring, fd int, control *controlPage, shard int, c clock, config *Config, s Sink) (*reader, error) {
	dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("duplicate the ring's descriptor: %w", err)
	}
	if err := unix.SetNonblock(dup, true); err != nil { // or os.NewFile would not use the poller
		_ = unix.Close(dup)
		return nil, fmt.Errorf("set the ring's descriptor non-blocking: %w", err)
	}
	file := os.NewFile(uintptr(dup), "ring")
	conn, err := file.SyscallConn()
	if err == nil {
		err = file.SetReadDeadline(time.Time{})
	}
	if err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("poll the ring: %w", err)
	}
	rd := &reader{
		ring: r, file: file, conn: conn, control: control, wake: control.wake(shard),
		clock: c, poll: config.Poll, guard: config.Guard, sink: s,
	}
	rd.ready = rd.isReady
	rd.step = func() { rd.err = rd.turn() }
	return rd, nil
}

func (r *reader) close() error { return r.file.Close() }

// stop makes run return once the ring is empty. It may be called from any
// goroutine.
func (r *reader) stop() {
	r.stopped.Store(true)
	// Ends a wait under way; one that starts later sees stopped.
	_ = r.file.SetReadDeadline(time.Unix(1, 0))
}

// flush returns a channel that is closed once everything that is in the ring
// now has been handed over. It may be called from any goroutine, one at a time.
func (r *reader) flush() <-chan struct{} {
	done := make(chan struct{})
	r.flushed.Store(&done)
	_ = r.file.SetReadDeadline(time.Unix(1, 0)) // as in stop
	return done
}

// run hands over what comes until stop is called. What a panic that the guard
// contains was met with is lost, to the Sink a segment that never came.
func (r *reader) run() error {
	const nowhere = ^uintptr(0)
	stuck := nowhere // where the last turn met with a panic
	for {
		fault := r.guard(Rings, r.step)
		if fault != nil {
			if unfit := r.guard(Rings, r.mend); unfit != nil || r.ring.pos == stuck {
				return fmt.Errorf("a ring cannot be read any further: %w", cmp.Or(unfit, fault))
			}
			stuck = r.ring.pos
			time.Sleep(faultPause)
			continue
		}
		switch {
		case errors.Is(r.err, errStopped):
			return nil
		case r.err != nil:
			return r.err
		default:
			stuck = nowhere
		}
	}
}

// turn drains the ring once and waits for more. It returns errStopped if there
// is to be none.
func (r *reader) turn() (err error) {
	last := r.stopped.Load() // before draining: what came earlier is drained
	if flushed := r.flushed.Swap(nil); flushed != nil {
		r.flushing = flushed
	}
	n, err := r.drain()
	if r.flushing != nil && err == nil {
		close(*r.flushing)
		r.flushing = nil
	}
	if n > 0 {
		r.idle = 0
	} else {
		r.idle++
	}
	switch {
	case err != nil:
	case last:
		err = errStopped
	case r.idle < idlePolls:
		err = r.wait(tapWakeWAKE_HALF, r.ring.size()/2, r.poll)
	default:
		err = r.wait(tapWakeWAKE_NEXT, 1, sleepMax)
	}
	return err
}

// mend makes the reader fit for another turn after one that did not end.
func (r *reader) mend() {
	r.idle, r.segment.Payload = 0, nil
	if r.open {
		r.open = false
		r.sink.End()
	}
	r.ring.release()
}

// hold waits for the channel to be closed, with signs of life. It reports false
// if ctx ended and it was not: once it is, nobody else delivers what was copied.
func (r *reader) hold(ctx context.Context, delivering <-chan struct{}) bool {
	beat := time.NewTicker(beatEvery)
	defer beat.Stop()
	for {
		select {
		case <-delivering:
			return true
		case <-ctx.Done():
			select {
			case <-delivering:
				return true
			default:
				return false
			}
		case <-beat.C:
			mono, _ := r.clock.read()
			r.control.beat(mono)
		}
	}
}

// drain hands over all that the ring holds, in one or more batches, at least
// an empty one, and returns the number of records.
func (r *reader) drain() (int, error) {
	total := 0
	for {
		n, more, err := r.batch()
		total += n
		if err != nil || !more {
			return total, err
		}
	}
}

// batch hands over at most batchRecords records and about batchBytes bytes;
// more says that it stopped there.
func (r *reader) batch() (n int, more bool, err error) {
	mono, wall := r.clock.read()
	if mono-r.beaten >= int64(beatEvery) {
		r.control.beat(mono)
		r.beaten = mono
	}
	r.sink.Begin(wall)
	r.open = true
	for bytes := 0; err == nil; {
		if more = n >= batchRecords || bytes >= batchBytes; more {
			break
		}
		record, ok := r.ring.next()
		if !ok {
			break
		}
		if len(record) == 0 { // only a wake-up
			continue
		}
		if err = r.segment.decode(record, wall-mono); err == nil {
			n++
			bytes += len(record)
			r.sink.Segment(&r.segment)
		}
	}
	r.segment.Payload = nil
	r.open = false
	r.sink.End()
	r.ring.release()
	return n, more, err
}

// wait returns when the ring holds at least the given number of bytes and the
// kernel program has said so, when d has passed, or when stop was called.
//
// The wish is written before the ring is looked at, and the program looks at
// the wish after it has written to the ring, with full barriers between: no
// wake-up is missed. Even if one were, d bounds the wait.
func (r *reader) wait(wish tapWake, bytes int, d time.Duration) error {
	r.wakeAt, r.polled = bytes, false
	atomic.StoreUint32(r.wake, uint32(wish))
	defer atomic.StoreUint32(r.wake, uint32(tapWakeWAKE_NEVER))
	if err := r.file.SetReadDeadline(time.Now().Add(d)); err != nil {
		return fmt.Errorf("poll the ring: %w", err)
	}
	if err := r.conn.Read(r.ready); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("poll the ring: %w", err)
	}
	return nil
}

// isReady is called before the first wait of the poller and after each event.
func (r *reader) isReady(uintptr) bool {
	if r.polled {
		return true
	}
	r.polled = true
	// The program takes the wish back before it wakes. If that has happened,
	// the poller may have forgotten the event.
	return r.stopped.Load() || r.flushed.Load() != nil || r.ring.available() >= r.wakeAt ||
		atomic.LoadUint32(r.wake) == uint32(tapWakeWAKE_NEVER)
}
