package kube

import (
	"fmt"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/shadowtap/shadowtap/pkg/rules"
)

// room is the memory that objects may take. Whoever may write in any namespace
// decides how many there are and how large, so one that does not fit is left out.
// It is guarded by the mutex of its Source.
//
// One object may take an eighth. As soon as half is taken no namespace gets more
// than is left for all others, or one could shut out what is written in them.
type room struct {
	limit int64 // 0: none
	used  int64
	of    map[string]int64 // by namespace
	freed bool             // since what was left out was last tried again
}

// take takes n bytes in place of those that an earlier version of an object has.
// If they are not there, it gives these back and reports false.
func (r *room) take(namespace string, n, before int64) bool {
	if r.of == nil {
		r.of = map[string]int64{}
	}
	used, of := r.used+n-before, r.of[namespace]+n-before
	free := r.limit - used
	if r.limit > 0 && (n > r.limit/8 || free < 0 || used > free && of > free) {
		r.give(namespace, before)
		return false
	}
	r.used, r.of[namespace] = used, of
	return true
}

// give gives n bytes back.
func (r *room) give(namespace string, n int64) {
	r.used -= n
	r.freed = r.freed || n > 0
	if r.of[namespace] -= n; r.of[namespace] == 0 {
		delete(r.of, namespace)
	}
}

// What an object takes in bytes, with the rules compiled of it: those in use and
// those that take their place. It is measured, and on the high side.
const (
	perValue  = 256 // an object or a list in it
	perMember = 32
	perByte   = 12
	perTyped  = 2 // a byte of what is kept of an object of Kubernetes itself
)

// weigh is what an object that was trimmed takes.
func weigh(obj any) int64 {
	switch o := obj.(type) {
	case *unstructured.Unstructured:
		return weighValue(o.Object)
	case interface{ Size() int }:
		return perValue + perTyped*int64(o.Size())
	}
	return perValue
}

func weighValue(v any) (n int64) {
	switch v := v.(type) {
	case map[string]any:
		n = perValue
		for name, member := range v {
			n += perMember + perByte*int64(len(name)) + weighValue(member)
		}
	case []any:
		n = perValue
		for _, member := range v {
			n += perMember + weighValue(member)
		}
	case string:
		n = perByte * int64(len(v))
	default:
		n = perMember
	}
	return n
}

// leftOut stands for an object for which there is no room.
func (r *room) leftOut(obj any, key string, n int64) part {
	p := standIn(obj, key, fmt.Sprintf("there is no room for it: it takes about %d KiB, and objects have %d MiB in all, of which one may take an eighth, "+
		"and those of one namespace no more than is left for others. A larger --memory-limit makes more room", (n+1<<10-1)>>10, r.limit>>20))
	p.leftOut = true
	return p
}

// standIn is in the place of an object that is not among the rules, and says why.
func standIn(obj any, key, why string) *customPart {
	_, kind, _ := strings.Cut(fmt.Sprintf("%T", obj), ".")
	problem := rules.Problem{Message: why}
	if u, ok := obj.(*unstructured.Unstructured); ok {
		kind, problem.Group = u.GetKind(), u.GroupVersionKind().Group
	}
	problem.Object = kind + " " + key
	return &customPart{snapshot: &rules.Snapshot{}, problems: rules.Problems{problem}}
}

func isLeftOut(p part) bool {
	custom, ok := p.(*customPart)
	return ok && custom.leftOut
}

// retryLeftOut is how often objects that were left out are read again if others
// have given memory back since.
const retryLeftOut = 5 * time.Minute

// retry has the objects read again of which some were left out, if there is more
// room now.
func (s *Source) retry() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.room.freed {
		return
	}
	s.room.freed = false
	for _, w := range s.watches {
		if c := w.collected(); c != nil && c.lacks() {
			w.again.list()
		}
	}
}

// lacks reports whether an object was left out.
func (c *collection) lacks() bool {
	for _, o := range c.objects {
		if isLeftOut(o.part) {
			return true
		}
	}
	return false
}

// end gives back what the objects take. The reflector may be about to bring one
// more.
func (c *collection) end() {
	for key, o := range c.objects {
		c.source.room.give(namespaceOf(key), o.cost)
	}
	c.objects, c.ended = nil, true
}

// drop gives back what an object has taken that is not kept after all.
func (c *collection) drop(key string, o *object) {
	c.source.room.give(namespaceOf(key), o.cost-o.replaced)
}

func namespaceOf(key string) string {
	namespace, _, _ := strings.Cut(key, "/")
	return namespace
}

// errListAgain ends a watch: a reflector lists everything behind it.
func errListAgain() error {
	return apierrors.NewResourceExpired("listed again, for what there was no room")
}
