package replay

import (
	"fmt"
	"runtime/debug"
)

// A panic is a defect of ours that some client's bytes, or some answer, has
// found. It must cost what it was met with and nothing else: the copy is
// counted as Panic, its connection is closed, and the worker goes on.
//
// What runs with Mirror.mu held is not covered where the lock isn't given back
// by a defer: it calls nothing foreign, and behind a panic in it the mirror's
// account would be worth nothing.

// contain ends a panic in what the worker does with its copy.
func (w *worker) contain() {
	fault := recover()
	if fault == nil {
		return
	}
	w.reuse = false
	if w.conn != nil {
		w.conn.abandon() // which ends an upload, too
	}
	w.x.abort(fmt.Errorf("panic: %v", fault))
	w.m.panicked(fault)
}

// abort makes the exchange a failed one, whatever state it is in. Its
// connection is closed already.
func (x *exchange) abort(err error) {
	if x.up != nil {
		<-x.up.done // it reads the request
	}
	x.tidy()
	x.init(x.memory, x.limit, x.keep)
	x.fail(Panic, err)
}

func (m *Mirror) panicked(fault any) {
	if m.cfg.OnPanic != nil {
		m.cfg.OnPanic(fault, debug.Stack())
	}
}
