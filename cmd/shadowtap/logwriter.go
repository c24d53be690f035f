package main

import (
	"io"
	"sync"
	"time"
)

// logLines is how many lines may wait for the log.
const logLines = 256

// logWriter writes lines in the background. Nobody waits for it: what is
// logged may come from where packets are read, and a log that stalls, such as
// a pipe that is not read, must not stall that. What doesn't fit is lost, and
// a line says how much.
type logWriter struct {
	out    io.Writer
	missed func(lines int) // writes to out
	done   chan struct{}

	mu     sync.Mutex
	closed bool
	lost   int
	lines  chan []byte
}

func newLogWriter(out io.Writer, missed func(lines int)) *logWriter {
	w := &logWriter{out: out, missed: missed, done: make(chan struct{}), lines: make(chan []byte, logLines)}
	go w.run()
	return w
}

// Write queues a line. It never fails.
func (w *logWriter) Write(line []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return len(line), nil
	}
	select {
	case w.lines <- append([]byte(nil), line...):
	default:
		w.lost++
	}
	return len(line), nil
}

func (w *logWriter) run() {
	defer close(w.done)
	for line := range w.lines {
		// There is nowhere to say that this failed.
		_, _ = w.out.Write(line)
		w.mu.Lock()
		lost := w.lost
		w.lost = 0
		w.mu.Unlock()
		if lost > 0 {
			w.missed(lost)
		}
	}
}

// close waits up to limit for what was logged to be written.
func (w *logWriter) close(limit time.Duration) {
	w.mu.Lock()
	if !w.closed {
		w.closed = true
		close(w.lines)
	}
	w.mu.Unlock()
	late := time.NewTimer(limit)
	defer late.Stop()
	select {
	case <-w.done:
	case <-late.C:
	}
}
