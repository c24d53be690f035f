package kube

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/shadowtap/shadowtap/pkg/rules"
)

// ControllerName is what Events say that they are from.
const ControllerName = "shadowtap.dev/mirror"

// Every agent of a cluster finds the same problems. That each becomes one Event
// takes no agreement: its name is made from the problem, so a second one cannot
// be created. To keep the agents from trying all at once, each waits a while of
// its own first, and looks after no more than maxReports problems, of which
// every agent picks others.
const (
	maxReports   = 10
	reportSpread = time.Minute
	// refresh is how long an API server keeps an Event by default
	// (kube-apiserver --event-ttl); then it is created again.
	refresh    = time.Hour
	retryAfter = time.Minute
	// betweenReports bounds the rate of an agent's requests.
	betweenReports = time.Second
)

// report is one Event that should exist.
type report struct {
	event eventsv1.Event
	rank  uint64
	due   time.Time // to look after it
}

// reports are the Events that this agent looks after.
type reports struct {
	wake chan struct{}

	mu   sync.Mutex
	open map[string]*report // by name
}

// Report has Events say what of these problems, which are all of a snapshot,
// keeps a rule with a mirror from working: errors, and mirrors without an
// endpoint. Problems that are not among them any more are no longer reported.
// With Config.GatewayStatus, statuses say what became of the snapshot. It does
// not wait.
func (s *Source) Report(snapshot *rules.Snapshot, problems rules.Problems) {
	if s.cfg.GatewayStatus {
		s.wantStatuses(snapshot, problems)
	}
	if s.cfg.Node == "" {
		return
	}
	var found []*report
	for i := range problems {
		p := &problems[i]
		if p.Warning && !p.NoEndpoint() {
			continue
		}
		if r := s.report(p); r != nil {
			found = append(found, r)
		}
	}
	slices.SortFunc(found, func(a, b *report) int { return cmp.Compare(a.rank, b.rank) })
	now := time.Now()
	r := &s.reports
	r.mu.Lock()
	defer r.mu.Unlock()
	open := map[string]*report{}
	for _, f := range found[:min(len(found), maxReports)] {
		f.due = now.Add(rand.N(s.spread))
		if known := r.open[f.event.Name]; known != nil {
			f.due = known.due
		}
		open[f.event.Name] = f
	}
	r.open = open
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// report is the Event for a problem, nil if it is with no object that mirrors.
func (s *Source) report(p *rules.Problem) *report {
	kindName, name, _ := strings.Cut(p.Object, " ")
	var k kind
	for _, of := range kinds() {
		if of.kind == kindName && of.group == p.Group {
			k = of
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	version := s.served[k.definition()]
	w := s.watches[k.definition()+" "+version]
	if w == nil {
		return nil
	}
	o := w.collected().objects[name]
	if o == nil || !mirrors(o.part) {
		return nil
	}
	namespace, short, _ := strings.Cut(name, "/")
	said := *p
	said.Position, said.Object, said.Group, said.Warning = rules.Position{}, "", "", false
	note := said.Error()
	if len(note) > maxNote {
		note = strings.ToValidUTF8(note[:maxNote-3], "") + "..."
	}
	reason := "MirrorInvalid"
	if p.NoEndpoint() {
		reason = "MirrorWithoutEndpoint"
	}
	sum := sha256.Sum256([]byte(string(o.uid) + "\x00" + p.Field + "\x00" + p.Message))
	own := sha256.Sum256(append(sum[:], s.cfg.Node...))
	return &report{
		rank: binary.BigEndian.Uint64(own[:]),
		event: eventsv1.Event{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: eventName(short, sum[:8])},
			Regarding: corev1.ObjectReference{
				APIVersion: k.group + "/" + version, Kind: k.kind, Namespace: namespace, Name: short, UID: o.uid,
			},
			ReportingController: ControllerName, ReportingInstance: s.cfg.Node[:min(len(s.cfg.Node), maxInstance)],
			Type: corev1.EventTypeWarning, Reason: reason, Action: "Mirror", Note: note,
		},
	}
}

// The lengths in bytes that the API server allows an Event
// (k8s.io/api/events/v1, metadata.name as a DNS subdomain).
const (
	maxNote     = 1024
	maxInstance = 128
	maxName     = 253
)

// eventName is the name of an Event for an object.
func eventName(object string, sum []byte) string {
	suffix := "." + hex.EncodeToString(sum)
	object = object[:min(len(object), maxName-len(suffix))]
	return strings.TrimRight(object, "-.") + suffix // before a dot neither may stand
}

// mirrors reports whether an object asks for a mirror.
func mirrors(p part) bool {
	custom, ok := p.(*customPart)
	if !ok {
		return false
	}
	for _, vs := range custom.snapshot.VirtualServices {
		for _, r := range vs.Spec.GetHttp() {
			if r.Mirror != nil || len(r.Mirrors) > 0 {
				return true
			}
		}
	}
	for _, r := range custom.snapshot.HTTPRoutes {
		for _, rule := range r.Spec.Rules {
			for _, f := range rule.Filters {
				if f.RequestMirror != nil {
					return true
				}
			}
		}
	}
	for _, r := range custom.snapshot.GRPCRoutes {
		for _, rule := range r.Spec.Rules {
			for _, f := range rule.Filters {
				if f.RequestMirror != nil {
					return true
				}
			}
		}
	}
	return false
}

// runReports looks after the Events until ctx ends, one request at a time.
func (s *Source) runReports(ctx context.Context) {
	timer := time.NewTimer(idle)
	defer timer.Stop()
	for {
		wake := s.reports.wake
		r, wait := s.reports.next(time.Now())
		if r != nil {
			again := retryAfter
			_ = s.cfg.Guard(func() {
				var err error
				again, err = s.ensureEvent(ctx, r)
				s.noteContact(ctx, "Event of events.k8s.io/v1", err)
			})
			s.reports.postpone(r, time.Now().Add(again))
			wake, wait = nil, betweenReports
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

// next is the report that is due first, or how long until one is.
func (r *reports) next(now time.Time) (*report, time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var first *report
	for _, o := range r.open {
		if first == nil || o.due.Before(first.due) {
			first = o
		}
	}
	switch {
	case first == nil:
		return nil, idle
	case first.due.After(now):
		return nil, first.due.Sub(now)
	}
	return first, 0
}

// postpone says when to look after a report again.
func (r *reports) postpone(o *report, due time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if known := r.open[o.event.Name]; known != nil {
		known.due = due
	}
}

// ensureEvent creates an Event unless it is there, and says in what time to look
// again.
func (s *Source) ensureEvent(ctx context.Context, r *report) (again time.Duration, err error) {
	e := r.event
	e.EventTime = metav1.NowMicro()
	err = s.clients.events.Post().Namespace(e.Namespace).Resource("events").Body(&e).Do(ctx).Error()
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return retryAfter + rand.N(reportSpread), err
	}
	return refresh + rand.N(reportSpread), nil
}
