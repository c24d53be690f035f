package netns

import (
	"errors"
	"io/fs"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"

	"github.com/shadowtap/shadowtap/pkg/netlab"
)

// visited returns a Watcher that does not run, and a namespace with a file that
// it has visited. gone counts those that it has reported so.
func visited(t *testing.T) (w *Watcher, n *Namespace, gone map[*Namespace]int, end func()) {
	t.Helper()
	needRoot(t)
	file := filepath.Join(t.TempDir(), "cni-1")
	w, err := New(Options{Files: []string{file}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() })
	gone = map[*Namespace]int{}
	w.changed, w.gone = func(*Namespace) {}, func(n *Namespace) { gone[n]++ }

	pod, err := netlab.New(t.Name())
	if err != nil {
		t.Fatal(err)
	}
	mount(t, pod, file)
	t.Cleanup(func() { _ = unix.Unmount(file, unix.MNT_DETACH); _ = pod.Close() })
	f, id, err := openNamespace(file)
	if err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	n = &Namespace{id: id, guard: w.o.Guard, visits: rate.NewLimiter(rate.Inf, 1)}
	n.setPaths([]string{file})
	w.known[id] = n
	if err := w.visit(n); err != nil {
		t.Fatal(err)
	}
	return w, n, gone, func() { unmount(t, file) }
}

// The kernel gives the id of a namespace that has ended to the next one. That
// the first has ended may be heard of when the next is known already, which is
// not to be left: what comes meanwhile would not be captured.
func TestEndOfAFormerHolderOfTheID(t *testing.T) {
	w, n, gone, end := visited(t)
	w.note(event{nsid: n.nsid, ended: true})
	if w.known[n.id] != n || w.byNSID[n.nsid] != n || gone[n] != 0 {
		t.Error("a namespace that lives was left")
	}
	if _, dirty := w.dirty[n]; !dirty || len(w.young) == 0 {
		t.Errorf("it is looked at: %v; others: %v", dirty, w.young)
	}
	end()
	w.note(event{nsid: n.nsid, ended: true})
	if len(w.known) != 0 || gone[n] != 1 {
		t.Errorf("after its own end: known %v, left %d times", w.known, gone[n])
	}
}

// Who had the id before has ended, whether that was heard of or not.
func TestIDTakenOver(t *testing.T) {
	w, n, gone, _ := visited(t)
	last := &Namespace{id: identity{1, 2}, nsid: n.nsid}
	w.known[last.id], w.byNSID[n.nsid] = last, last
	if err := w.visit(n); err != nil {
		t.Fatal(err)
	}
	if w.byNSID[n.nsid] != n || w.known[last.id] != nil || gone[last] != 1 || gone[n] != 0 {
		t.Errorf("known %v, by id %v, left %v", w.known, w.byNSID, gone)
	}
}

// A namespace that has the inode of one that has ended is not that one.
func TestInodeTakenOver(t *testing.T) {
	w, n, gone, _ := visited(t)
	cookie := n.cookie.Load()
	if cookie == 0 {
		t.Skip("the kernel does not tell such namespaces apart")
	}
	n.cookie.Store(cookie + 1<<40)
	if err := w.visit(n); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("visiting another: %v", err)
	}
	n.cookie.Store(cookie + 1<<40)
	w.look(n)
	if len(w.known) != 0 || gone[n] != 1 || len(w.young) == 0 {
		t.Errorf("known %v, left %v, looked for %v", w.known, gone, w.young)
	}
}
