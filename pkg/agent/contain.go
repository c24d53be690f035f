package agent

import (
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/shadowtap/shadowtap/pkg/capture"
)

// place is where a panic can be contained. Its strings are a bounded set of
// labels.
type place uint8

const (
	inMirror place = iota
	inOutput
	inReload
	inWatch
	inAdmin
	inMetrics
	inComparison
	inRing
	inInterfaces
	inPods
	inCluster
	inTakeover
	inAgent
	numPlaces
)

var placeNames = [numPlaces]string{
	"mirror", "output", "reload", "watch", "admin", "metrics", "comparison",
	"ring", "interfaces", "pods", "cluster", "takeover", "agent",
}

func (p place) String() string { return placeNames[p] }

// panics contains what defects of ours would take down: the agent with every
// request that is pending, and the account with it. Each is counted and, up to
// a rate, logged with its stack. Those met while a connection is parsed are
// contained and counted there. Its methods may be called concurrently.
type panics struct {
	log    *slog.Logger
	rate   rate.Sometimes
	counts [numPlaces]atomic.Uint64
}

func newPanics(log *slog.Logger) *panics {
	return &panics{log: log, rate: rate.Sometimes{First: 10, Interval: 10 * time.Second}}
}

// guard runs f. A panic of it is returned as an error.
func (p *panics) guard(where place, f func()) (err error) {
	defer func() {
		if fault := recover(); fault != nil {
			p.note(where, fault, debug.Stack())
			err = fmt.Errorf("panic: %v", fault)
		}
	}()
	f()
	return nil
}

// in is guard for one place, in the form that leaves take.
func (p *panics) in(where place) func(step func()) (fault error) {
	return func(step func()) error { return p.guard(where, step) }
}

// inTap guards the parts of live capture.
func (p *panics) inTap(part capture.Part, step func()) (fault error) {
	if part == capture.Rings {
		return p.guard(inRing, step)
	}
	return p.guard(inInterfaces, step)
}

// try runs f. A panic of it is returned as its error.
func (p *panics) try(where place, f func() error) (err error) {
	if fault := p.guard(where, func() { err = f() }); fault != nil {
		return fmt.Errorf("%s: %w", where, fault)
	}
	return err
}

// note counts a panic that was contained.
func (p *panics) note(where place, fault any, stack []byte, attrs ...any) {
	p.counts[where].Add(1)
	p.rate.Do(func() {
		p.log.Error("panic contained; please report this", append([]any{"in", where.String(), "panic", fault, "stack", string(stack)}, attrs...)...)
	})
}

// handler answers with an error where h panics, if h has not begun to answer.
func (p *panics) handler(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if p.guard(inAdmin, func() { h.ServeHTTP(w, r) }) != nil {
			http.Error(w, "a defect was met, see the log", http.StatusInternalServerError)
		}
	})
}
