package kube

import (
	"fmt"
	"strings"
	"testing"

	"github.com/shadowtap/shadowtap/pkg/rules"
)

func TestRoom(t *testing.T) {
	r := room{limit: 80}
	expect := func(namespace string, n, before int64, want bool) {
		t.Helper()
		if got := r.take(namespace, n, before); got != want {
			t.Fatalf("%d in place of %d for %s: %v, want %v: %+v", n, before, namespace, got, want, r)
		}
	}
	expect("a", 11, 0, false) // more than an eighth
	for range 4 {
		expect("a", 10, 0, true)
	}
	expect("a", 1, 0, false) // more than is left for others
	expect("a", 10, 10, true)
	expect("b", 10, 0, true)
	expect("a", 10, 10, false) // which is given back
	expect("b", 10, 0, true)
	expect("b", 10, 0, false)
	for _, namespace := range []string{"c", "d", "e", "f", "g"} {
		expect(namespace, 6, 0, namespace != "g")
	}
	r.give("a", 30)
	expect("g", 6, 0, true)
	if r.used != 50 || r.of["a"] != 0 || r.of["b"] != 20 || !r.freed {
		t.Errorf("%+v", r)
	}
}

// aVirtualService has about so many bytes of text.
func aVirtualService(namespace, name string, size int) string {
	return fmt.Sprintf(`
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: %s, namespace: %s}
spec: {hosts: [%[1]s.example], http: [{match: [{uri: {exact: /%[3]s}}], route: [{destination: {host: a}}]}]}
---
`, name, namespace, strings.Repeat("x", size))
}

// TestNoRoom: what does not fit is left out and named, what is written in other
// namespaces fits all the same, and where there is room again it is made use of.
func TestNoRoom(t *testing.T) {
	a := newAPIServer(t)
	a.serveRules()
	a.put(t, aVirtualService("good", "first", 10))
	const limit = 1 << 20
	s, changes := followWith(t, a, Config{Guard: contain, MaxMemory: limit}, func(*Source) {})
	await(t, s, changes, "the first object", func(r *rules.Snapshot, p rules.Problems) bool {
		return len(r.VirtualServices) == 1 && p.Err() == nil && s.Need(rules.Needs{})
	})

	a.put(t, aVirtualService("bad", "huge", 20_000))
	await(t, s, changes, "an object that is too large", func(r *rules.Snapshot, p rules.Problems) bool {
		return len(r.VirtualServices) == 1 && len(p) == 1 && p[0].Object == "VirtualService bad/huge" &&
			strings.Contains(p[0].Message, "no room")
	})
	const most, stays = 20, 5
	many := ""
	for i := range most {
		many += aVirtualService("bad", fmt.Sprint("v", i), 5000)
	}
	a.put(t, many)
	in := func(r *rules.Snapshot, namespace string) (n int) {
		for _, vs := range r.VirtualServices {
			if vs.Namespace == namespace {
				n++
			}
		}
		return n
	}
	await(t, s, changes, "as many as fit of one namespace", func(r *rules.Snapshot, p rules.Problems) bool {
		return in(r, "bad") > 0 && in(r, "bad") < most && in(r, "bad")+len(p) == most+1
	})
	a.put(t, aVirtualService("good", "second", 5000))
	await(t, s, changes, "one of another namespace", func(r *rules.Snapshot, _ rules.Problems) bool { return in(r, "good") == 2 })
	checkRoom(t, s)

	left := ""
	for i := range most - stays {
		left += aVirtualService("bad", fmt.Sprint("v", i), 5000)
	}
	a.remove(t, left+aVirtualService("bad", "huge", 0))
	await(t, s, changes, "what is gone", func(r *rules.Snapshot, p rules.Problems) bool { return in(r, "bad")+len(p) == stays })
	s.retry()
	await(t, s, changes, "what was left out", func(r *rules.Snapshot, p rules.Problems) bool {
		return in(r, "bad") == stays && len(p) == 0
	})
	checkRoom(t, s)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range s.watches {
		if c := w.collected(); c != nil {
			c.end()
		}
	}
	if s.room.used != 0 || len(s.room.of) != 0 {
		t.Errorf("behind the last object %+v is taken", s.room)
	}
}

// checkRoom holds what is taken against the objects.
func checkRoom(t *testing.T, s *Source) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	total := int64(0)
	for _, w := range s.watches {
		if c := w.collected(); c != nil {
			for _, o := range c.objects {
				total += o.cost
			}
		}
	}
	if total != s.room.used || total > s.room.limit {
		t.Errorf("%d bytes are taken of %d, the objects make %d", s.room.used, s.room.limit, total)
	}
}
