package reassembly

import (
	"runtime"
	"testing"
)

// TestWhatWaitedTakesNothing makes each of many flows hold as many runs of bytes
// as one may, and then give up all but one of them, or all their bytes. What is
// counted must be what is held: a client can keep one run waiting for as long as
// it likes.
func TestWhatWaitedTakesNothing(t *testing.T) {
	const flows = 200
	tests := map[string]func(send func(seq uint32, payload string)){
		"delivered": func(send func(seq uint32, payload string)) {
			for i := range uint32(maxFragments) {
				send(2+2*i, "x")
			}
			for i := range uint32(maxFragments - 1) {
				send(1+2*i, "x")
			}
		},
		"contradicted": func(send func(seq uint32, payload string)) {
			for i := range uint32(maxFragments) {
				send(2+2*i, "x")
				send(2+2*i, "y")
			}
		},
		"contradicted at once": func(send func(seq uint32, payload string)) {
			for i := range uint32(maxFragments) {
				send(2+2*i, "x")
			}
			var all [2 * maxFragments]byte
			send(2, string(all[:]))
		},
	}
	for name, bytes := range tests {
		t.Run(name, func(t *testing.T) {
			q := new(quiet)
			a := New(Config{MaxBufferedTotal: 1 << 30, NewStream: func(Flow, bool, int64) Stream { return q }})
			for i := range uint16(flows) {
				a.Segment(port(i), &Segment{Flags: FlagSYN})
			}
			heap := func() int {
				a.pool.free, a.pool.cached = [len(classes)][][]byte{}, 0
				var m runtime.MemStats
				runtime.GC()
				runtime.ReadMemStats(&m)
				return int(m.HeapAlloc)
			}
			before := heap()
			for i := range uint16(flows) {
				bytes(func(seq uint32, payload string) {
					a.Segment(port(i), &Segment{Seq: seq, Flags: FlagACK, Payload: []byte(payload)})
				})
			}
			const each = 4 << 10 // the queue of a flow that waits for anything
			if grown, counted := heap()-before, a.Stats().Memory; grown > counted+flows*each {
				t.Errorf("%d bytes are held, %d counted, for %d flows", grown, counted, flows)
			}
			if s := a.Stats(); s.FlowsOpen != flows || a.waiting.first == nil {
				t.Fatalf("nothing waits: %+v", s)
			}
			a.Close()
			if m := a.Stats().Memory; m != 0 {
				t.Errorf("%d bytes left", m)
			}
			runtime.KeepAlive(a)
		})
	}
}

// TestFreeBuffersAreFew: what is kept for reuse is in no budget.
func TestFreeBuffersAreFew(t *testing.T) {
	a := New(Config{MaxBufferedTotal: 64 << 20, NewStream: func(Flow, bool, int64) Stream { return new(quiet) }})
	for i := range uint16(100) {
		a.Segment(port(i), &Segment{Flags: FlagSYN})
		a.Segment(port(i), &Segment{Seq: 2, Flags: FlagACK, Payload: make([]byte, 60_000)})
	}
	a.Close()
	kept := 0
	for _, buffers := range a.pool.free {
		for _, b := range buffers {
			kept += cap(b)
		}
	}
	if kept == 0 || kept > 1<<20 {
		t.Errorf("%d bytes are kept for reuse", kept)
	}
}
