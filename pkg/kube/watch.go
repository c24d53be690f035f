package kube

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"github.com/shadowtap/shadowtap/pkg/rules"
)

// subject is something to watch. Two with the same key are the same watch.
type subject struct {
	key     string
	what    string // for people
	class   string // watches of one class may hold the same objects
	list    func(context.Context, metav1.ListOptions) (runtime.Object, error)
	watch   func(context.Context, metav1.ListOptions) (watch.Interface, error)
	example runtime.Object
	store   func(*Source) cache.ReflectorStore
	// forStatus is set if nothing but Config.GatewayStatus wants it: mirroring
	// never waits for it.
	forStatus bool
}

// wanted is what something is watched for; 0 if it is not wanted any more.
type wanted uint8

const (
	forRules wanted = iota + 1
	forStatus
)

func (s *subject) wanted() wanted {
	if s.forStatus {
		return forStatus
	}
	return forRules
}

// running is a watch that was started.
type running struct {
	subject
	store cache.ReflectorStore
	stop  context.CancelFunc
}

// collected is the objects of the watch, nil if it does not collect them.
func (r *running) collected() *collection {
	c, _ := r.store.(*collection)
	return c
}

// synced reports whether what there is has been listed once, if anything waits
// for that. The lock of the Source is held.
func (r *running) synced() bool {
	switch store := r.store.(type) {
	case *collection:
		return store.synced
	case *nodePods:
		return store.synced
	}
	return true
}

// start watches a subject until ctx ends or the result is stopped. It does not
// wait for the goroutine: client-go may sleep in a back-off that nothing ends.
func (s *Source) start(ctx context.Context, sub subject) *running {
	ctx, stop := context.WithCancel(ctx)
	r := &running{subject: sub, store: sub.store(s), stop: stop}
	lw := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			list, err := sub.list(ctx, o)
			s.noteContact(ctx, sub.what, err)
			return list, err
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			w, err := sub.watch(ctx, o)
			s.noteContact(ctx, sub.what, err)
			return w, err
		},
	}
	go s.untilDone(ctx, func() {
		cache.NewReflectorWithOptions(lw, sub.example, r.store, cache.ReflectorOptions{
			Name: "shadowtap", TypeDescription: sub.what, Logger: &s.quiet,
		}).RunWithContext(ctx)
	})
	return r
}

// untilDone calls run, which returns when ctx ends, and again after each panic.
func (s *Source) untilDone(ctx context.Context, run func()) {
	for s.cfg.Guard(run) != nil {
		select {
		case <-time.After(faultPause):
		case <-ctx.Done():
			return
		}
	}
}

func errUnexpected(obj any) error { return fmt.Errorf("an object of unexpected type %T", obj) }

// reached reports whether err, of a request, is an answer of the API server.
func reached(err error) bool {
	if err == nil || errors.Is(err, io.EOF) {
		return true
	}
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return false
	}
	code := status.Status().Code
	return code < 500 && !apierrors.IsTooManyRequests(err)
}

// typed watches a kind of Kubernetes itself.
func typed[T any, P interface {
	*T
	runtime.Object
}](client rest.Interface, resource, namespace string, narrow metav1.ListOptions, convert func(P) part, sub subject) subject {
	lw := cache.NewFilteredListWatchFromClient(client, resource, namespace, func(o *metav1.ListOptions) {
		o.LabelSelector, o.FieldSelector = narrow.LabelSelector, narrow.FieldSelector
	})
	sub.list, sub.watch, sub.example = lw.ListWithContext, lw.WatchWithContext, P(new(T))
	if sub.store == nil {
		sub.store = func(s *Source) cache.ReflectorStore {
			return &collection{source: s, objects: map[string]*object{}, convert: func(obj any, _ part) (part, error) {
				in, ok := obj.(P)
				if !ok {
					return nil, errUnexpected(obj)
				}
				return convert(in), nil
			}, trim: trimTyped}
		}
	}
	sub.key = sub.class + " " + namespace + " " + narrow.LabelSelector
	return sub
}

// trimTyped takes from an object what is of no use and large.
func trimTyped(obj any) (any, error) {
	switch o := obj.(type) {
	case *corev1.Pod:
		trimMeta(&o.ObjectMeta)
		spec := corev1.PodSpec{NodeName: o.Spec.NodeName, HostNetwork: o.Spec.HostNetwork}
		spec.Containers = trimContainers(o.Spec.Containers)
		spec.InitContainers = trimContainers(o.Spec.InitContainers)
		status := corev1.PodStatus{Phase: o.Status.Phase, PodIP: o.Status.PodIP, PodIPs: o.Status.PodIPs}
		for _, c := range o.Status.Conditions {
			if c.Type == corev1.PodReady {
				status.Conditions = append(status.Conditions, corev1.PodCondition{Type: c.Type, Status: c.Status})
			}
		}
		o.Spec, o.Status = spec, status
	case *corev1.Service:
		trimMeta(&o.ObjectMeta)
		o.Status = corev1.ServiceStatus{}
	case *discoveryv1.EndpointSlice:
		trimMeta(&o.ObjectMeta)
	case *corev1.Namespace:
		trimMeta(&o.ObjectMeta)
	}
	return obj, nil
}

func trimMeta(m *metav1.ObjectMeta) {
	m.ManagedFields, m.OwnerReferences, m.Finalizers = nil, nil, nil
	for name := range m.Annotations {
		if name != rules.Annotation && !ofPods(name) {
			delete(m.Annotations, name)
		}
	}
}

func trimContainers(in []corev1.Container) (out []corev1.Container) {
	for _, c := range in {
		out = append(out, corev1.Container{Name: c.Name, Ports: c.Ports})
	}
	return out
}

// custom watches a version of a kind that a CustomResourceDefinition defines.
func (c *clients) custom(k kind, version string) subject {
	client := c.dynamic.Resource(k.gvr(version))
	example := &unstructured.Unstructured{}
	example.SetGroupVersionKind(k.gvk(version))
	return subject{
		key: k.definition() + " " + version, what: k.describe(version), class: k.definition(), example: example,
		list: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) { return client.List(ctx, o) },
		watch: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			return client.Watch(ctx, o)
		},
		store: func(s *Source) cache.ReflectorStore {
			return &collection{source: s, objects: map[string]*object{}, shows: s.writesStatus(k),
				trim: func(obj any) (any, error) {
					if u, ok := obj.(*unstructured.Unstructured); ok {
						return trim(u, s.ownStatus(k, u)), nil
					}
					return obj, nil
				},
				convert: func(obj any, before part) (part, error) {
					u, ok := obj.(*unstructured.Unstructured)
					switch {
					case !ok:
						return nil, errUnexpected(obj)
					case k.kind == "GatewayClass":
						return convertClass(u), nil
					}
					return convertCustom(u, before)
				},
			}
		},
	}
}
