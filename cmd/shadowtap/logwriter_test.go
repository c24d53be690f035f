package main

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"
)

// stalled blocks every write until it is let go.
type stalled struct {
	let chan struct{}
	bytes.Buffer
}

func (s *stalled) Write(p []byte) (int, error) {
	<-s.let
	return s.Buffer.Write(p)
}

// TestStalledLog: nobody waits for a log that nobody reads, and once it is
// read again it says what is missing.
func TestStalledLog(t *testing.T) {
	out := &stalled{let: make(chan struct{})}
	w := newLogWriter(out, func(lines int) { fmt.Fprintf(out, "%d are lost\n", lines) })
	const lines = 2 * logLines
	for i := range lines {
		if n, err := fmt.Fprintf(w, "line %d\n", i); n == 0 || err != nil {
			t.Fatal(n, err)
		}
	}
	w.close(time.Millisecond) // gives up
	if n, err := w.Write([]byte("late\n")); n == 0 || err != nil {
		t.Fatal(n, err)
	}
	close(out.let)
	<-w.done
	text := out.String()
	written := strings.Count(text, "line ")
	said := fmt.Sprintf("%d are lost\n", lines-written)
	if written < logLines || !strings.HasPrefix(text, "line 0\n") || strings.Count(text, said) != 1 || strings.Contains(text, "late") {
		t.Errorf("%d lines were written, want %q once:\n%s", written, said, text)
	}
}

// TestLogIsWritten: all of it, before close returns.
func TestLogIsWritten(t *testing.T) {
	var out bytes.Buffer
	w := newLogWriter(&out, func(lines int) { t.Errorf("%d lines are lost", lines) })
	for range logLines {
		_, _ = w.Write([]byte("x\n"))
	}
	w.close(time.Minute)
	w.close(time.Minute)
	if got := strings.Count(out.String(), "x\n"); got != logLines {
		t.Errorf("%d lines, want %d", got, logLines)
	}
}
