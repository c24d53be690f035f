package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"github.com/shadowtap/shadowtap/pkg/rules"
)

// Every agent of a cluster finds the same statuses, and each is to be written
// once, without agreement. So an agent writes what it still finds otherwise
// after a wait of its own, during which another's write will have come by its
// watch. The waits are those of receivers that suppress each other's feedback
// (RFC 4654 section 2.5.1): few of any number are short. A write names the
// version it was made of, so that of two at once one fails.
const (
	statusSpread = 5 * time.Second // the longest wait, but for what suppress adds
	maxAgents    = 10000           // that the waits are made for
	// Agents of two versions may differ in what they find. Each waits twice as
	// long before it writes the same again, until it was quiet for a while.
	maxStatusDoublings = 9
	forgetTries        = time.Hour
	// betweenStatuses bounds how often the statuses are compared: each write
	// changes an object that is watched.
	betweenStatuses = 250 * time.Millisecond
)

// statusKey names an object of the Gateway API.
type statusKey struct{ kind, namespace, name string }

// wantedStatus is what the status of a generation of an object should say.
type wantedStatus struct {
	generation int64
	verdict    verdict
}

// verdict is what this controller has to say in a status.
type verdict interface {
	// merge is the fields of a status with what is to be said put in, and
	// whether that changes it. What others said stays; old is not changed.
	merge(old map[string]any, now metav1.Time) (fields map[string]any, changed bool)
}

// statuses are those that should be.
type statuses struct {
	wake chan struct{}

	mu     sync.Mutex
	wanted map[statusKey]wantedStatus // nil before anything is known
	tries  map[statusKey]*statusTry
}

// statusTry is when a status that is not as wanted is written.
type statusTry struct {
	wanted wantedStatus
	due    time.Time
	last   time.Time // written or tried to, zero if not
	count  int
}

func newStatuses() statuses {
	return statuses{wake: make(chan struct{}, 1), tries: map[statusKey]*statusTry{}}
}

func (st *statuses) signal() {
	select {
	case st.wake <- struct{}{}:
	default:
	}
}

// wantStatuses finds out what the statuses should say of a snapshot.
func (s *Source) wantStatuses(snapshot *rules.Snapshot, problems rules.Problems) {
	s.mu.Lock()
	classes, release := s.ownClasses(), s.release
	s.mu.Unlock()
	wanted := map[statusKey]wantedStatus{}
	for name, class := range classes {
		if release != nil {
			wanted[statusKey{"GatewayClass", "", name}] = wantedStatus{class.generation, class.verdict(*release)}
		}
	}
	found := rules.Attach(snapshot, problems, ControllerName, func(class string) bool { return classes[class] != nil })
	for _, g := range found.Gateways {
		wanted[statusKey{g.Kind, g.Namespace, g.Name}] = wantedStatus{g.Generation, gatewayVerdict(g.Conditions, g.Listeners)}
	}
	for _, r := range found.Routes {
		wanted[statusKey{r.Kind, r.Namespace, r.Name}] = wantedStatus{r.Generation, routeVerdict(r.Parents)}
	}
	st := &s.statuses
	st.mu.Lock()
	defer st.mu.Unlock()
	st.wanted = wanted
	st.signal()
}

// runStatuses writes statuses until ctx ends, one at a time.
func (s *Source) runStatuses(ctx context.Context) {
	timer := time.NewTimer(idle)
	defer timer.Stop()
	for {
		key, want, wait := s.nextStatus(time.Now())
		wake := s.statuses.wake
		if want != nil {
			err := s.writeStatus(ctx, key, want)
			s.noteContact(ctx, "status of "+key.kind, err)
			if apierrors.IsInvalid(err) || apierrors.IsBadRequest(err) { // ever more rarely
				s.log.Warn("a status was refused by the API server", "kind", key.kind, "namespace", key.namespace, "name", key.name, "error", err)
			}
			wait = 0
		}
		if wait < betweenStatuses {
			wake, wait = nil, betweenStatuses
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return
		case <-wake:
		case <-timer.C:
		}
	}
}

// nextStatus is a status to be written now, or how long until one may have to.
func (s *Source) nextStatus(now time.Time) (key statusKey, want *wantedStatus, wait time.Duration) {
	shown := s.shownStatuses()
	st := &s.statuses
	st.mu.Lock()
	defer st.mu.Unlock()
	wait = idle
	if st.wanted == nil {
		return key, nil, wait
	}
	open := map[statusKey]bool{}
	for k, o := range shown {
		w, ok := st.wanted[k]
		if !ok {
			// A route says whose an entry of its status is. In that of a
			// Gateway or a class of another, everything is that one's.
			if o.status["parents"] == nil {
				continue
			}
			w = wantedStatus{o.generation, routeVerdict(nil)}
		}
		if _, changed := w.verdict.merge(o.status, metav1.Time{}); !changed {
			continue
		}
		open[k] = true
		try := st.tries[k]
		if try == nil {
			try = &statusTry{due: now.Add(s.suppress(0))}
			st.tries[k] = try
		}
		if !reflect.DeepEqual(try.wanted, w) && try.count > 0 {
			try.due, try.count = now.Add(s.suppress(0)), 0
		}
		try.wanted = w
		if d := try.due.Sub(now); d > 0 {
			wait = min(wait, d)
		} else if want == nil || try.due.Before(st.tries[key].due) {
			key, want = k, &try.wanted
		}
	}
	for k, try := range st.tries {
		if !open[k] && now.Sub(try.last) > forgetTries {
			delete(st.tries, k)
		}
	}
	if want != nil {
		try := st.tries[key]
		try.count++
		try.last, try.due = now, now.Add(s.suppress(try.count))
		want = &wantedStatus{want.generation, want.verdict}
	}
	return key, want, wait
}

// suppress is a wait before a status is written, after it was so many times.
func (s *Source) suppress(tries int) time.Duration {
	spread := s.statusSpread << min(tries, maxStatusDoublings)
	part := 1 + math.Log(1-rand.Float64())/math.Log(maxAgents)
	// Some time is due in any case: others may not know yet what this agent
	// knows, and rules take a moment to compile.
	return spread/5 + time.Duration(max(0, part)*float64(spread))
}

// shownStatuses are the objects whose status may be ours to write.
func (s *Source) shownStatuses() map[statusKey]*object {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.missingFor(forRules, forStatus)) > 0 {
		return nil
	}
	out := map[statusKey]*object{}
	for _, k := range followed() {
		w := s.watches[k.definition()+" "+s.served[k.definition()]]
		if w == nil || !s.writesStatus(k) {
			continue
		}
		for name, o := range w.collected().objects {
			namespace, name, _ := strings.Cut(name, "/")
			out[statusKey{k.kind, namespace, name}] = o
		}
	}
	return out
}

// statusClient is the client for an object in the version that is read.
func (s *Source) statusClient(key statusKey) dynamic.ResourceInterface {
	s.mu.Lock()
	defer s.mu.Unlock()
	var of kind
	for _, k := range followed() {
		if k.kind == key.kind && k.group == gatewayGroup {
			of = k
		}
	}
	return s.clients.dynamic.Resource(of.gvr(s.served[of.definition()])).Namespace(key.namespace)
}

// writeStatus writes a status unless it says what is wanted already, or is of
// another generation: that will come by the watch.
func (s *Source) writeStatus(ctx context.Context, key statusKey, want *wantedStatus) error {
	client := s.statusClient(key)
	object, err := client.Get(ctx, key.name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if object.GetGeneration() != want.generation {
		return nil
	}
	old, _ := object.Object["status"].(map[string]any)
	fields, changed := want.verdict.merge(old, metav1.Now())
	if !changed {
		return nil
	}
	patch, err := json.Marshal(map[string]any{
		// The patch replaces whole lists: with an entry that somebody else
		// has added meanwhile it must fail.
		"metadata": map[string]any{"resourceVersion": object.GetResourceVersion(), "uid": object.GetUID()},
		"status":   fields,
	})
	if err != nil {
		return fmt.Errorf("status of %s %s/%s: %w", key.kind, key.namespace, key.name, err)
	}
	_, err = client.Patch(ctx, key.name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: "shadowtap"}, "status")
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		return nil // another was faster; its write comes by the watch
	}
	return err
}
