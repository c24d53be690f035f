package capture

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// contained counts the panics of a Config.Guard that contains them.
type contained [2]atomic.Int64

func (c *contained) guard(p Part, step func()) (fault error) {
	defer func() {
		if v := recover(); v != nil {
			c[p].Add(1)
			fault = fmt.Errorf("panic: %v", v)
		}
	}()
	step()
	return nil
}

func newGuardedReader(t *testing.T, k *kernel, c *contained, s Sink) *reader {
	t.Helper()
	r := newTestReader(t, k, s)
	r.guard = c.guard
	return r
}

// A panic costs the segment that it was met with, which looks like one that
// never came, and nothing else: the batch is closed, what is behind it arrives,
// whoever waits for the ring to be drained is told, and the reader stops when
// it is to.
func TestReaderContainsPanics(t *testing.T) {
	k := newKernel(t, 1, 1<<20, 0, target4)
	c := newCollector()
	c.onSegment = func(s *Segment) {
		if string(s.Payload) == "faulty" {
			panic("segment")
		}
	}
	var faults contained
	r := newGuardedReader(t, k, &faults, c)
	k.run(k.TapIngressEth, to4(FlagSYN, 9, "").bytes(t))
	for i, payload := range []string{"one...", "faulty", "faulty", "two..."} {
		k.run(k.TapIngressEth, to4(FlagACK, uint32(10+6*i), payload).bytes(t))
	}
	flushed := r.flush()
	done := make(chan error, 1)
	go func() { done <- r.run() }()
	select {
	case <-flushed:
	case <-time.After(patience):
		t.Fatal("the ring is not drained")
	}
	r.stop()
	mustReturn(t, done)
	st, _ := c.stream(flowOf(client4, server4))
	if got := string(st.data); !strings.HasPrefix(got, "one...") || !strings.HasSuffix(got, "two...") {
		t.Errorf("got %q", got)
	}
	if c.open || faults[Rings].Load() != 2 || k.rings[0].available() != 0 {
		t.Errorf("a batch open: %t; %d panics, %d bytes left", c.open, faults[Rings].Load(), k.rings[0].available())
	}
}

// A reader that cannot get behind what it panics at would do so for ever.
func TestReaderGivesUpWhereItIsStuck(t *testing.T) {
	k := newKernel(t, 1, 1<<20, 0, target4)
	c := newCollector()
	var faults contained
	r := newGuardedReader(t, k, &faults, c)
	k.run(k.TapIngressEth, to4(FlagACK, 1, "x").bytes(t))
	whole := k.rings[0].data
	k.rings[0].data = whole[:0]
	done := make(chan error, 1)
	go func() { done <- r.run() }()
	var err error
	select {
	case err = <-done:
	case <-time.After(patience):
		t.Fatal("it goes on")
	}
	k.rings[0].data = whole
	if err == nil || !strings.Contains(err.Error(), "cannot be read any further") || !strings.Contains(err.Error(), "panic") {
		t.Errorf("%v", err)
	}
	if c.open || faults[Rings].Load() != 2 {
		t.Errorf("a batch open: %t; %d panics", c.open, faults[Rings].Load())
	}
}

// A follower of addresses that meets with a panic begins anew, and tells what it
// could not.
func TestAddrWatcherContainsPanics(t *testing.T) {
	ns := newNetns(t)
	var faults contained
	w := inNetns(t, ns, func() (*addrWatcher, error) {
		return newAddrWatcher(func(step func()) error { return faults.guard(Interfaces, step) }, slog.New(slog.DiscardHandler))
	})
	ctx, cancel := context.WithCancel(t.Context())
	told, done := make(chan hostAddrs, 100), make(chan error, 1)
	go func() {
		done <- w.run(ctx, hostAddrs{}, func(h hostAddrs) {
			told <- h
			if faults[Interfaces].Load() == 0 {
				panic("changed")
			}
		})
	}()
	for range 2 {
		select {
		case h := <-told:
			if !h.has(netip.MustParseAddr("127.0.0.1")) {
				t.Errorf("told of %+v", h)
			}
		case <-time.After(patience):
			t.Fatal("not told")
		}
	}
	cancel()
	mustReturn(t, done)
	if n := faults[Interfaces].Load(); n != 1 {
		t.Errorf("%d panics", n)
	}
	if err := w.close(); err != nil {
		t.Error(err)
	}
}
