package netns

import (
	"testing"
	"testing/synctest"
	"time"
)

func idleWatcher() *Watcher {
	var o Options
	_ = o.complete() // which nothing is wrong with
	return &Watcher{
		o:      o,
		known:  make(map[identity]*Namespace),
		byNSID: make(map[int]*Namespace),
		dirty:  make(map[*Namespace]struct{}),
		robbed: make(map[*Namespace]time.Time),
		young:  make(map[string]retry),
		gone:   func(*Namespace) {},
	}
}

// Whoever is root in a pod can make events without end. The others are looked
// at all the same.
func TestEventsDoNotPutOffALook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := idleWatcher()
		w.byNSID[3] = &Namespace{nsid: 3}
		work := time.NewTimer(time.Hour)
		defer work.Stop()
		for range 2 * settle / time.Millisecond {
			w.note(event{nsid: 3})
			w.schedule(work)
			time.Sleep(time.Millisecond)
			synctest.Wait()
			select {
			case <-work.C:
				return
			default:
			}
		}
		t.Error("nothing was looked at while there were events")
	})
}

// Who removes a qdisc to make it anew has the time for it, also if it is done
// again and again, and then the namespace is looked at.
func TestRemovalsSettle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := idleWatcher()
		n := &Namespace{nsid: 3}
		w.byNSID[3] = n
		work := time.NewTimer(time.Hour)
		defer work.Stop()
		begin := time.Now()
		for range 10 {
			w.note(event{nsid: 3, removed: true})
			w.schedule(work)
			time.Sleep(removalSettle / 20)
			w.soilRobbed(time.Now())
		}
		if len(w.dirty) != 0 {
			t.Error("looked at too early")
		}
		now := <-work.C
		w.soilRobbed(now)
		if _, ok := w.dirty[n]; !ok || now.Sub(begin) != removalSettle {
			t.Errorf("after %v: dirty %v", now.Sub(begin), ok)
		}
		w.forget(n)
		if len(w.robbed) != 0 {
			t.Error("it is not forgotten")
		}
	})
}

// A look for another reason is none at a file that is not due yet.
func TestFilesAgeByTime(t *testing.T) {
	now := time.Now()
	w := idleWatcher()
	w.young["/file"] = retry{now.Add(time.Second), time.Second}
	if w.lookAgain(now) || len(w.young) != 1 {
		t.Error("a file was looked at before it was due")
	}
	if !w.lookAgain(now.Add(time.Second)) || len(w.young) != 0 {
		t.Error("a file was not looked at for the last time")
	}
}

// A namespace that begins before the end of another one is noticed may have its
// inode, and be taken for it.
func TestEndIsAReasonToLook(t *testing.T) {
	w := idleWatcher()
	n := &Namespace{id: identity{1, 2}, nsid: 3}
	w.known[n.id], w.byNSID[n.nsid] = n, n
	w.note(event{nsid: 3, ended: true})
	if len(w.known) != 0 || !w.lookAgain(time.Now()) {
		t.Errorf("%d namespaces are left, or nobody looks for new ones", len(w.known))
	}
}
