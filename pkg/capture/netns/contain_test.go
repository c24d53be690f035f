package netns

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestPanicWithANamespace: all others are reported nevertheless, and this one
// when something happens in it again. What panics inside a namespace does so on
// a thread that comes back from it.
func TestPanicWithANamespace(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	one, two := newNamespace(t), newNamespace(t)
	mount(t, one, filepath.Join(dir, "one"))
	mount(t, two, filepath.Join(dir, "two"))
	var faults atomic.Int64
	w, err := New(Options{
		Files: []string{filepath.Join(dir, "*")},
		Guard: func(step func()) (fault error) {
			defer func() {
				if v := recover(); v != nil {
					faults.Add(1)
					fault = fmt.Errorf("panic: %v", v)
				}
			}()
			step()
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	seen, done := make(chan string, 100), make(chan error, 1)
	var last atomic.Pointer[Namespace]
	go func() {
		done <- w.Run(ctx, func(n *Namespace) {
			last.Store(n)
			seen <- filepath.Base(n.String())
			if faults.Load() == 0 {
				panic("changed")
			}
		}, func(*Namespace) {}, func() { seen <- "ready" })
	}()
	next := func() string {
		t.Helper()
		select {
		case name := <-seen:
			return name
		case <-time.After(patience):
			t.Fatal("nothing is reported")
			return ""
		}
	}
	first := next()
	if second := next(); second == first || second == "ready" {
		t.Errorf("after %s, %s", first, second)
	}
	if got := next(); got != "ready" {
		t.Errorf("got %s, want ready", got)
	}
	if err := last.Load().Enter(func() error { panic("inside") }); err == nil || !strings.Contains(err.Error(), "inside") {
		t.Errorf("%v", err)
	}
	if faults.Load() != 2 {
		t.Errorf("%d panics", faults.Load())
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	unmount(t, filepath.Join(dir, "one"))
	unmount(t, filepath.Join(dir, "two"))
}
