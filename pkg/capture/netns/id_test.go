package netns

import (
	"errors"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestID: who watches a namespace and who is inside call it the same, and no
// other by that name.
func TestID(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	w := watch(t, Options{Files: []string{dir + "/*"}})
	pod := newNamespace(t)
	file := filepath.Join(dir, "pod")
	mount(t, pod, file)
	t.Cleanup(func() { _ = unix.Unmount(file, unix.MNT_DETACH) })
	var seen *Namespace
	w.until("the namespace", func() bool {
		for n := range w.present {
			seen = n
		}
		return seen != nil
	})
	own, err := Own()
	if err != nil {
		t.Fatal(err)
	}
	var inside ID
	if err := pod.Do(func() (err error) { inside, err = Own(); return err }); err != nil {
		t.Fatal(err)
	}
	if seen.ID() != inside || inside == own || inside == (ID{}) {
		t.Errorf("seen as %+v, inside it is %+v, here %+v", seen.ID(), inside, own)
	}
}

// TestCookieIsNotGuessed: where no socket can be made, that a namespace has no
// cookie is not known.
func TestCookieIsNotGuessed(t *testing.T) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 0, Max: limit.Max}); err != nil {
		t.Fatal(err)
	}
	_, err := cookie()
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if !errors.Is(err, unix.EMFILE) {
		t.Errorf("error %v, want EMFILE", err)
	}
}
