package capture

import (
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
)

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
}

// newReader prepares reading the ring with the given descriptor, which it
// duplicates.
func newReader(r *ring, fd int, control *controlPage, shard int, c clock, poll time.Duration, s Sink) (*reader, error) {
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
		clock: c, poll: poll, sink: s,
	}
	rd.ready = rd.isReady
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

func (r *reader) run() error {
	idle := 0
	for {
		last := r.stopped.Load() // before draining: what came earlier is drained
		flushed := r.flushed.Swap(nil)
		n, err := r.drain()
		if flushed != nil {
			close(*flushed)
		}
		if err != nil || last {
			return err
		}
		if n > 0 {
			idle = 0
		} else {
			idle++
		}
		if idle < idlePolls {
			err = r.wait(tapWakeWAKE_HALF, r.ring.size()/2, r.poll)
		} else {
			err = r.wait(tapWakeWAKE_NEXT, 1, sleepMax)
		}
		if err != nil {
			return err
		}
	}
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
