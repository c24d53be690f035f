package kube

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
)

// kindState is which of the kinds of rules are defined in the cluster. A
// reflector fills it.
type kindState struct {
	changed chan struct{} // holds one

	mu      sync.Mutex
	defined map[string]string // bundles of the CustomResourceDefinitions there are, by name
}

var _ cache.TransformingStore = (*kindState)(nil)

// bundleVersion is the annotation that says of which release of the Gateway API
// a definition is.
const bundleVersion = "gateway.networking.k8s.io/bundle-version"

// bundle is the release that a definition is of, empty if it does not say so.
// It is not known before the definitions are.
func (k *kindState) bundle(of kind) (release string, known bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.defined[of.definition()], k.defined != nil
}

// Transformer leaves little but the name of a definition: one may be as large
// as a hundred kilobytes, and there are hundreds.
func (k *kindState) Transformer() cache.TransformFunc {
	return func(obj any) (any, error) {
		m, err := meta.Accessor(obj)
		if err != nil {
			return nil, err
		}
		out := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{
			Name: m.GetName(), ResourceVersion: m.GetResourceVersion(),
		}}
		if v, ok := m.GetAnnotations()[bundleVersion]; ok {
			out.Annotations = map[string]string{bundleVersion: v}
		}
		return out, nil
	}
}

func (k *kindState) Add(obj any) error    { return k.set(obj, true) }
func (k *kindState) Update(obj any) error { return k.set(obj, true) }
func (k *kindState) Delete(obj any) error { return k.set(obj, false) }
func (k *kindState) Resync() error        { return nil }

// set notes a change of a definition. Each may have changed what is served.
func (k *kindState) set(obj any, there bool) error {
	m, err := meta.Accessor(obj)
	if err != nil {
		return err
	}
	if !isRuleDefinition(m.GetName()) {
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.defined == nil {
		k.defined = map[string]string{}
	}
	if there {
		k.defined[m.GetName()] = m.GetAnnotations()[bundleVersion]
	} else {
		delete(k.defined, m.GetName())
	}
	k.signal()
	return nil
}

// Replace notes the definitions there are.
func (k *kindState) Replace(list []any, _ string) error {
	defined := map[string]string{}
	for _, obj := range list {
		m, err := meta.Accessor(obj)
		if err != nil {
			return err
		}
		if isRuleDefinition(m.GetName()) {
			defined[m.GetName()] = m.GetAnnotations()[bundleVersion]
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.defined = defined
	k.signal()
	return nil
}

func (k *kindState) signal() {
	select {
	case k.changed <- struct{}{}:
	default:
	}
}

// agrees reports whether what is served is what is defined.
func (k *kindState) agrees(served map[string]string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.defined == nil {
		return true // not known, perhaps not permitted
	}
	for name := range k.defined {
		if served[name] == "" {
			return false
		}
	}
	return len(served) == len(k.defined)
}

func isRuleDefinition(name string) bool {
	for _, k := range followed() {
		if k.definition() == name {
			return true
		}
	}
	return false
}

// definitions watches the metadata of CustomResourceDefinitions.
func (s *Source) definitions() subject {
	client := s.clients.metadata.Resource(crds)
	return subject{
		key: "definitions", class: "definitions", what: "CustomResourceDefinition of apiextensions.k8s.io/v1",
		example: &metav1.PartialObjectMetadata{},
		list:    func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) { return client.List(ctx, o) },
		watch: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			return client.Watch(ctx, o)
		},
		store: func(s *Source) cache.ReflectorStore { return &s.kinds },
	}
}

// Discovery is repeated while the API server does not serve yet, or still
// serves, what is defined otherwise: it takes some seconds to follow. It ends
// after maxRediscover, as a definition may have no version that is known here.
const (
	minRediscover = 250 * time.Millisecond
	maxRediscover = 30 * time.Second
)

// followKinds asks which kinds are served, at the beginning and whenever a
// definition of one has changed.
func (s *Source) followKinds(ctx context.Context) {
	delay := minRediscover
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.kinds.changed:
			// All agents are told at the same moment.
			delay = minRediscover
			timer.Reset(rand.N(delay))
			continue
		case <-timer.C:
		}
		again := true
		_ = s.cfg.Guard(func() {
			served, err := s.clients.discover(ctx)
			s.noteContact(ctx, "discovery", err)
			if err == nil {
				s.setServed(served)
				s.noteRelease()
				again = !s.kinds.agrees(served) && delay < maxRediscover
			}
		})
		if again {
			timer.Reset(delay + rand.N(delay))
			delay = min(2*delay, maxRediscover)
		}
	}
}

// noteRelease notes that statuses may have to say something else of the release
// of the Gateway API.
func (s *Source) noteRelease() {
	release, known := s.kinds.bundle(gatewayClass())
	if !s.cfg.GatewayStatus || !known {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.release == nil || *s.release != release {
		s.release = &release
		s.noteChange()
	}
}

// setServed says which kinds are served in which version.
func (s *Source) setServed(served map[string]string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.served != nil && fmt.Sprint(s.served) == fmt.Sprint(served) {
		return
	}
	for _, k := range followed() {
		name := k.definition()
		switch before, now := s.served[name], served[name]; {
		case before == now:
		case now == "":
			s.log.Info("kind is no longer served", "kind", k.describe(before))
		default:
			s.log.Info("kind is served", "kind", k.describe(now))
		}
	}
	s.served, s.planned = served, false
	s.noteChange()
}
