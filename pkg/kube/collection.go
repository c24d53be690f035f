package kube

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"

	"github.com/shadowtap/shadowtap/pkg/rules"
)

// object is what is kept of an object.
type object struct {
	uid     types.UID
	version string // metadata.resourceVersion
	part    part
	// What Config.GatewayStatus takes; see ownStatus.
	generation int64
	status     map[string]any
}

// collection holds the objects of one watch. A reflector fills it, so it is a
// cache.ReflectorStore. It is guarded by the mutex of its Source.
type collection struct {
	source  *Source
	convert func(obj any, before part) (part, error)
	trim    cache.TransformFunc // what the reflector keeps of an object meanwhile; may be nil
	shows   bool                // the objects have a status that the Source may have to write

	objects map[string]*object // by namespace/name
	synced  bool
}

var _ cache.TransformingStore = (*collection)(nil)

// Transformer lets the reflector keep no more of the objects of a list than
// will be used.
func (c *collection) Transformer() cache.TransformFunc { return c.trim }

// decode converts an object, or finds that it is known already.
func (c *collection) decode(obj any) (key string, o *object, err error) {
	if c.trim != nil {
		if obj, err = c.trim(obj); err != nil {
			return "", nil, err
		}
	}
	m, err := meta.Accessor(obj)
	if err != nil {
		return "", nil, err
	}
	key = m.GetNamespace() + "/" + m.GetName()
	o = &object{uid: m.GetUID(), version: m.GetResourceVersion(), generation: m.GetGeneration()}
	if u, ok := obj.(*unstructured.Unstructured); ok {
		o.status, _ = u.Object["status"].(map[string]any)
	}
	c.source.mu.Lock()
	before := c.objects[key]
	c.source.mu.Unlock()
	var old part
	if before != nil && before.uid == o.uid {
		if before.version == o.version {
			return key, before, nil
		}
		old = before.part
	}
	// Not under the lock: decoding takes its time. Only the reflector writes.
	fault := c.source.cfg.Guard(func() { o.part, err = c.convert(obj, old) })
	switch {
	case fault != nil:
		o.part = unreadable(obj, key, fault)
	case err != nil:
		return key, nil, err
	}
	return key, o, nil
}

// unreadable stands for an object whose conversion met with a panic: like one
// that is wrong, it must not keep others from being known.
func unreadable(obj any, key string, fault error) part {
	_, kind, _ := strings.Cut(fmt.Sprintf("%T", obj), ".")
	problem := rules.Problem{Message: "cannot be read for a defect: " + fault.Error()}
	if u, ok := obj.(*unstructured.Unstructured); ok {
		kind, problem.Group = u.GetKind(), u.GroupVersionKind().Group
	}
	problem.Object = kind + " " + key
	return &customPart{snapshot: &rules.Snapshot{}, problems: rules.Problems{problem}}
}

// Add keeps a new object.
func (c *collection) Add(obj any) error { return c.Update(obj) }

// Update keeps a new version of an object.
func (c *collection) Update(obj any) error {
	key, o, err := c.decode(obj)
	if err != nil {
		return err
	}
	c.source.mu.Lock()
	defer c.source.mu.Unlock()
	before := c.objects[key]
	c.objects[key] = o
	if before != nil && !samePart(before.part, o.part) {
		c.noteChange(before.part)
		c.noteChange(o.part)
	} else if before == nil {
		c.noteChange(o.part)
	}
	c.noteStatus()
	return nil
}

// Delete forgets an object.
func (c *collection) Delete(obj any) error {
	key, err := cache.DeletionHandlingMetaNamespaceKeyFunc(obj)
	if err != nil {
		return err
	}
	if !strings.Contains(key, "/") {
		key = "/" + key // it has no namespace
	}
	c.source.mu.Lock()
	defer c.source.mu.Unlock()
	if o := c.objects[key]; o != nil {
		delete(c.objects, key)
		c.noteChange(o.part)
	}
	return nil
}

// Replace keeps exactly the objects of a list.
func (c *collection) Replace(list []any, _ string) error {
	next := make(map[string]*object, len(list))
	for _, obj := range list {
		key, o, err := c.decode(obj)
		if err != nil {
			return fmt.Errorf("object of a list: %w", err)
		}
		next[key] = o
	}
	c.source.mu.Lock()
	defer c.source.mu.Unlock()
	same := c.synced && len(next) == len(c.objects)
	for key, o := range next {
		before := c.objects[key]
		same = same && before != nil && samePart(before.part, o.part)
	}
	c.objects = next
	if !same {
		c.source.noteChange()
	}
	if !c.synced {
		c.synced = true
		c.source.signal()
	}
	c.noteStatus()
	return nil
}

// noteStatus wakes what writes statuses: one of an object may have changed.
func (c *collection) noteStatus() {
	if c.shows {
		c.source.statuses.signal()
	}
}

// Resync does nothing: nobody looks at an object again without a change.
func (c *collection) Resync() error { return nil }

// noteChange notes that p came or went, unless it is of no interest: endpoints
// of other services in the same namespace change all the time.
func (c *collection) noteChange(p part) {
	if slice, ok := p.(*slicePart); ok && !c.source.needed[rules.ServiceName{Namespace: slice.Namespace, Name: slice.Service}] {
		return
	}
	c.source.noteChange()
}

// samePart reports whether two parts say the same.
func samePart(a, b part) bool { return a == b || reflect.DeepEqual(a, b) }

// add adds the objects to s in the order of their names, and to seen, except those
// that are in seen already.
func (c *collection) add(s *rules.Snapshot, problems *rules.Problems, seen map[string]bool) {
	for _, key := range slices.Sorted(maps.Keys(c.objects)) {
		if seen[key] {
			continue
		}
		seen[key] = true
		o := c.objects[key]
		o.part.addTo(s)
		if custom, ok := o.part.(*customPart); ok {
			*problems = append(*problems, custom.problems...)
		}
	}
}
