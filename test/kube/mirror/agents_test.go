package mirror

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/shadowtap/shadowtap/pkg/agent"
)

const (
	shadowtap  = "shadowtap" // namespace, DaemonSet and container
	agentLabel = "app.kubernetes.io/name=shadowtap"
	adminPort  = 9901
)

// sample is what an agent said of itself at some time between From and To.
type sample struct {
	From, To time.Time
	Account  agent.Account
	Targets  []netip.AddrPort
	// Namespaces counts the network namespaces that are captured in, beside the
	// agent's own; Own is whether that is one, too.
	Namespaces int
	Own        bool
	// Over says that another agent has taken over.
	Over bool
	// Routes are the names of those in use; Shadows counts the endpoints that
	// they mirror to.
	Routes  []string
	Shadows int
}

// idle reports whether all that the agent had seen was settled.
func (s sample) idle() bool {
	return s.Account.Requests.Pending == 0 && s.Account.Shadow.Pending == 0
}

// incarnation is one process of an agent: the account begins anew with each.
type incarnation struct {
	pod   string
	since time.Time
}

// watch follows all agents, also those that come and go, until it is stopped.
type watch struct {
	mu      sync.Mutex
	began   time.Time
	samples map[incarnation][]sample
	broken  []string // accounts that did not add up
	// addresses are those of the example's pods, by name, also of those that
	// are gone.
	addresses map[string]string
	stop      chan struct{}
	done      sync.WaitGroup
}

// watchAgents samples every agent now, and then several times a second.
func watchAgents(t *testing.T) *watch {
	t.Helper()
	w := &watch{samples: map[incarnation][]sample{}, addresses: map[string]string{}, stop: make(chan struct{})}
	w.sampleAll()
	w.began = time.Now()
	w.done.Go(func() {
		for tick := time.NewTicker(200 * time.Millisecond); ; {
			select {
			case <-w.stop:
				tick.Stop()
				return
			case <-tick.C:
				w.sampleAll()
			}
		}
	})
	t.Cleanup(w.close)
	return w
}

func (w *watch) close() {
	select {
	case <-w.stop:
	default:
		close(w.stop)
		w.done.Wait()
	}
}

// sampleAll asks every agent that there is. One that does not answer is one
// that is starting or gone.
func (w *watch) sampleAll() {
	known, _ := pods(bookinfo, "app")
	for _, p := range known {
		if p.IP != "" {
			w.addresses[p.Name] = p.IP
		}
	}
	all, err := pods(shadowtap, agentLabel)
	if err != nil {
		return
	}
	var asked sync.WaitGroup
	for _, p := range all {
		if p.IP == "" {
			continue
		}
		asked.Go(func() {
			s, err := ask(p)
			if err != nil {
				return
			}
			w.mu.Lock()
			defer w.mu.Unlock()
			i := incarnation{p.Name, s.Account.Since}
			w.samples[i] = append(w.samples[i], s)
			if !s.Account.Requests.Balanced() || !s.Account.Shadow.Balanced() {
				w.broken = append(w.broken, fmt.Sprintf("%s: %+v", p.Name, s.Account))
			}
		})
	}
	asked.Wait()
}

// ask returns what an agent says now.
func ask(p pod) (s sample, err error) {
	admin := fmt.Sprintf("http://%s:%d/api/v1/", p.IP, adminPort)
	s.From = time.Now()
	var status agent.RulesStatus
	if err := call("GET", admin+"rules", nil, &status); err != nil {
		return s, err
	}
	if err := call("GET", admin+"account", nil, &s.Account); err != nil {
		return s, err
	}
	var overall agent.Status
	if err := call("GET", admin+"status", nil, &overall); err != nil {
		return s, err
	}
	s.Over = !overall.Capturing
	s.To, s.Targets = time.Now(), status.Targets
	for _, r := range status.Rules {
		s.Routes = append(s.Routes, r.Route)
	}
	entered := map[string]bool{}
	for _, i := range status.Interfaces {
		if i.Namespace != "" {
			entered[i.Namespace] = true
		} else {
			s.Own = true
		}
	}
	s.Namespaces = len(entered)
	for _, m := range status.Mirrors {
		s.Shadows += len(m.Endpoints)
	}
	return s, nil
}

// taps reports whether the agent captures the endpoint. Each has a network
// namespace of its own.
func (s sample) taps(endpoint netip.AddrPort) bool {
	return s.Namespaces == len(s.Targets) && slices.Contains(s.Targets, endpoint)
}

// captured reports whether one agent tapped the endpoint for all of the time,
// and lived until it had settled what it saw then.
func (w *watch) captured(endpoint netip.AddrPort, from, to time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, samples := range w.samples {
		begun, settled := false, false
		for _, s := range samples {
			held := s.taps(endpoint)
			switch {
			case s.To.Before(from):
				begun = held
			case begun && s.From.Before(to):
				begun = held
			case begun && s.Over && !settled:
				begun = false // it may have been another agent by then
			case begun && s.From.After(to):
				settled = settled || s.idle()
			}
		}
		if begun && settled {
			return true
		}
	}
	return false
}

// total adds up what all incarnations said last, minus what they said when
// the watch began.
func (w *watch) total() (t tally) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, samples := range w.samples {
		t.add(samples[len(samples)-1].Account, 1)
		if i.since.Before(w.began) {
			t.add(samples[0].Account, -1)
		}
	}
	return t
}

// tally is what matters of accounts.
type tally struct {
	seen, mirrored, filtered, sampledOut int64
	// dropped, failed and lost say why copies are missing.
	dropped, failed, lost map[string]int64
}

func (t *tally) add(a agent.Account, sign int64) {
	r := a.Requests
	t.seen += sign * int64(r.Seen)
	t.mirrored += sign * int64(r.Mirrored)
	t.filtered += sign * int64(r.Filtered)
	t.sampledOut += sign * int64(r.SampledOut)
	for _, m := range []struct {
		to   *map[string]int64
		from map[string]uint64
	}{{&t.dropped, r.Dropped}, {&t.failed, a.Shadow.Failed}, {&t.lost, a.Packets.Lost}} {
		if *m.to == nil {
			*m.to = map[string]int64{}
		}
		for reason, n := range m.from {
			if (*m.to)[reason] += sign * int64(n); (*m.to)[reason] == 0 {
				delete(*m.to, reason)
			}
		}
	}
}

// missing is how many copies the accounts say are missing.
func (t tally) missing() (n int64) {
	for _, reasons := range []map[string]int64{t.dropped, t.failed, t.lost} {
		for _, count := range reasons {
			n += count
		}
	}
	return n
}

// eventuallyAgents waits until every agent is as it should be.
func eventuallyAgents(t *testing.T, what string, condition func(pod, sample) error) {
	t.Helper()
	eventually(t, what, func() error {
		all, err := pods(shadowtap, agentLabel)
		if err != nil {
			return err
		}
		if len(all) != len(nodes) {
			return fmt.Errorf("there are %d agents", len(all))
		}
		for _, p := range all {
			s, err := ask(p)
			if err != nil {
				return err
			}
			if err := condition(p, s); err != nil {
				return err
			}
		}
		return nil
	})
}

// settle waits until every agent has nothing under way, and twice in a row
// nothing new.
func settle(t *testing.T) {
	t.Helper()
	before := map[string]uint64{}
	eventuallyAgents(t, "the agents have nothing under way", func(p pod, s sample) error {
		seen := s.Account.Requests.Seen
		last, ok := before[p.Name]
		before[p.Name] = seen
		if !ok || last != seen || !s.idle() {
			return fmt.Errorf("%s: %+v", p.Name, s.Account)
		}
		return nil
	})
}
