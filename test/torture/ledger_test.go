package torture

import (
	"errors"
	"fmt"
	"sync"
	"testing"
)

// entry is a request that was sent.
type entry struct {
	hash     uint64
	fate     fate
	arrivals uint8
}

// ledger knows every request that was sent and what came of it. It is safe
// for concurrent use.
type ledger struct {
	mu       sync.Mutex
	entries  []entry // by id
	faults   []string
	unexpl   int
	skipped  uint64 // bytes that must have been passed over
	expected [numFates]uint64
	hostile  uint64 // clients that are not honest
	cost     cost   // of those
}

// maxFaults bounds what is shown; all of it is counted.
const maxFaults = 20

func (l *ledger) fault(format string, args ...any) {
	l.unexpl++
	if len(l.faults) < maxFaults {
		l.faults = append(l.faults, fmt.Sprintf(format, args...))
	}
}

// sent enters the requests of a connection before its first packet is.
func (l *ledger) sent(c *connection) {
	fates, skipped := c.oracle()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.skipped += uint64(skipped)
	for i, m := range c.messages {
		if m.id != len(l.entries) {
			panic("requests are entered in the order of their ids")
		}
		l.entries = append(l.entries, entry{hash: m.hash(), fate: fates[i]})
		l.expected[fates[i]]++
	}
}

// arrived takes a copy.
func (l *ledger) arrived(a arrival) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case a.err != nil:
		l.fault("the shadow: %v", a.err)
	case a.id < 0 || a.id >= len(l.entries):
		l.fault("a copy of request %d, which was never sent", a.id)
	case l.entries[a.id].hash != a.hash:
		l.fault("the copy of request %d is corrupt", a.id)
	default:
		e := &l.entries[a.id]
		if e.arrivals++; e.arrivals > 1 {
			l.fault("request %d came %d times", a.id, e.arrivals)
		}
	}
}

// settle compares what was sent with what arrived and with the account. Where
// hostile clients sent something in between, the account must close and every
// honest request be mirrored, and no other.
func (l *ledger) settle(acc account, a attack) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var came uint64
	for id, e := range l.entries {
		if e.arrivals > 0 {
			came++
		}
		switch {
		case e.fate == mirrored && e.arrivals == 0 && a.starves:
			l.expected[mirrored]--
			l.expected[noMemory]++
		case e.fate == mirrored && e.arrivals == 0:
			l.fault("request %d never came", id)
		case e.fate != mirrored && e.arrivals > 0:
			l.fault("request %d came, which could not be known (%d)", id, e.fate)
		}
	}
	if err := acc.closed(); err != nil {
		l.fault("%v", err)
	}
	r, s := acc.Requests, acc.Shadow
	x := l.expected
	if a.client != nil {
		if all := l.hostile + x[noMemory] + x[gap] + x[incomplete] + x[unfinished]; a.starves && (r.Dropped["memory"] == 0 || sum(r.Dropped) > all) {
			// Fewer, because a request is not seen behind one whose head found no memory.
			l.fault("want %d dropped at most, %d of them honest for want of memory: %+v", all, x[noMemory], acc)
		}
		if r.Mirrored != x[mirrored] || s.Sent != r.Mirrored || s.Answered["2xx"] != s.Sent || acc.Flows.Panics != 0 {
			l.fault("want %d mirrored: %+v", x[mirrored], acc)
		}
		return
	}
	dropped := func(reasons ...string) (n uint64) {
		for _, reason := range reasons {
			n += r.Dropped[reason]
			delete(r.Dropped, reason)
		}
		return n
	}
	for _, c := range []struct {
		what      string
		got, want uint64
	}{
		{"requests.seen", r.Seen, x[mirrored] + x[gap] + x[incomplete] + x[unfinished]},
		{"requests.mirrored", r.Mirrored, x[mirrored]},
		{"requests.mirrored, counted by the shadow", r.Mirrored, came},
		{"requests.dropped.gap", dropped("gap"), x[gap]},
		{"requests.dropped.incomplete", dropped("incomplete"), x[incomplete]},
		{"requests.dropped.expired and shutdown", dropped("expired", "shutdown"), x[unfinished]},
		{"requests dropped for other reasons", sum(r.Dropped), 0},
		{"requests.filtered, sampled_out, looped", r.Filtered + r.SampledOut + r.Looped, 0},
		{"shadow.sent", s.Sent, x[mirrored]},
		{"shadow.answered.2xx", s.Answered["2xx"], x[mirrored]},
		{"flows.skipped_bytes", acc.Flows.SkippedBytes, l.skipped},
		{"flows ignored", sum(acc.Flows.Ignored), 0},
		{"panics", acc.Flows.Panics, 0},
	} {
		if c.got != c.want {
			l.fault("%s is %d, want %d", c.what, c.got, c.want)
		}
	}
}

// report fails the test with what cannot be explained.
func (l *ledger) report(t *testing.T) {
	t.Helper()
	for _, f := range l.faults {
		t.Error(f)
	}
	if more := l.unexpl - len(l.faults); more > 0 {
		t.Errorf("and %d more", more)
	}
}

// account is the program's account, as documented.
type account struct {
	Packets struct {
		Seen, Copied  uint64
		Skipped, Lost map[string]uint64
	}
	Flows struct {
		Open         uint64
		Ignored      map[string]uint64
		Gaps         uint64
		SkippedBytes uint64 `json:"skipped_bytes"`
		Panics       uint64
	}
	Requests struct {
		Seen, Mirrored, Filtered uint64
		SampledOut               uint64 `json:"sampled_out"`
		Looped                   uint64
		Dropped                  map[string]uint64
		Pending                  uint64
	}
	Shadow struct {
		Sent             uint64
		Answered, Failed map[string]uint64
		Pending          uint64
	}
}

// closed is the law of accounting at the end of a run.
func (a account) closed() error {
	var errs []error
	r, s, p := a.Requests, a.Shadow, a.Packets
	if all := r.Mirrored + r.Filtered + r.SampledOut + r.Looped + sum(r.Dropped); all != r.Seen || r.Pending != 0 {
		errs = append(errs, fmt.Errorf("%d requests seen, %d accounted for: %+v", r.Seen, all, r))
	}
	if all := sum(s.Answered) + sum(s.Failed); all != s.Sent || s.Pending != 0 {
		errs = append(errs, fmt.Errorf("%d copies sent, %d accounted for: %+v", s.Sent, all, s))
	}
	if all := p.Copied + sum(p.Skipped) + sum(p.Lost); all != p.Seen {
		errs = append(errs, fmt.Errorf("%d packets seen, %d accounted for: %+v", p.Seen, all, p))
	}
	return errors.Join(errs...)
}

func sum(m map[string]uint64) (n uint64) {
	for _, v := range m {
		n += v
	}
	return n
}
