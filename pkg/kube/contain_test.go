package kube

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/shadowtap/shadowtap/pkg/rules"
)

// contain is a Config.Guard that contains panics.
func contain(step func()) (fault error) {
	defer func() {
		if v := recover(); v != nil {
			fault = fmt.Errorf("panic: %v", v)
		}
	}()
	step()
	return nil
}

// TestPanicWithAnObject: what met with it is reported as wrong, and every other
// object is known.
func TestPanicWithAnObject(t *testing.T) {
	a := newAPIServer(t)
	a.serveRules()
	a.put(t, strings.ReplaceAll(strings.Split(brokenRules, "---")[0], "name: mirrored", "name: faulty")+"---\n"+brokenRules)
	s, changes := follow(t, a, nil)
	c := &collection{source: s, objects: map[string]*object{}, convert: func(obj any, before part) (part, error) {
		if m := obj.(interface{ GetName() string }); m.GetName() == "faulty" {
			panic("convert")
		}
		return &customPart{snapshot: &rules.Snapshot{}}, nil
	}}
	await(t, s, changes, "the rules", func(got *rules.Snapshot, _ rules.Problems) bool { return len(got.VirtualServices) > 0 })
	list, err := s.clients.dynamic.Resource(kinds()[0].gvr("v1")).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var objects []any
	for i := range list.Items {
		objects = append(objects, &list.Items[i])
	}
	if err := c.Replace(objects, ""); err != nil || len(objects) < 2 || len(c.objects) != len(objects) {
		t.Fatalf("%d of %d objects, %v", len(c.objects), len(objects), err)
	}
	var problems rules.Problems
	c.add(&rules.Snapshot{}, &problems, map[string]bool{})
	if len(problems) != 1 || problems[0].Object != "VirtualService shop/faulty" || problems[0].Group != istioGroup || problems.Err() == nil {
		t.Errorf("%v", problems)
	}
}

// faultySink panics when it is told of a Pod for the first time.
type faultySink struct {
	recorder
	faults sync.Map // by UID
}

func (f *faultySink) SetPod(p Pod) {
	if _, again := f.faults.LoadOrStore(p.UID, true); !again {
		panic("set")
	}
	f.recorder.SetPod(p)
}

// TestPanicInAWatch: it begins anew, and what it had not got to is told.
func TestPanicInAWatch(t *testing.T) {
	a := newAPIServer(t)
	a.put(t, podYAML("one", "u1", "here", "Running", "10.0.0.1"))
	var sink faultySink
	_, changes := follow(t, a, &sink)
	told := func(want int) {
		t.Helper()
		for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
			sink.mu.Lock()
			n := len(sink.pods)
			sink.mu.Unlock()
			if n == want {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("told of %d Pods, want %d", n, want)
			}
		}
	}
	told(1)
	<-changes
	a.put(t, podYAML("two", "u2", "here", "Running", "10.0.0.2"))
	told(2)
}

// TestPanicInDelivery: the next one comes all the same.
func TestPanicInDelivery(t *testing.T) {
	a := newAPIServer(t)
	s, err := newSource(Config{Guard: contain, Logger: slog.New(slog.DiscardHandler)}, &rest.Config{Host: a.URL, QPS: -1})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	calls := make(chan int, 100)
	done := make(chan struct{})
	n := 0
	go func() {
		defer close(done)
		s.Run(ctx, func() {
			n++
			calls <- n
			if n == 1 {
				panic("changed")
			}
		})
	}()
	for want := 1; want <= 2; want++ {
		select {
		case <-calls:
		case <-time.After(patience):
			t.Fatalf("delivery %d did not come", want)
		}
		s.Touch()
	}
	cancel()
	<-done
}
