package netns

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/fsnotify/fsnotify"
)

// A look that finds nothing, as when there are no descriptors left to read a
// directory with, does not make namespaces go that are there.
func TestNotFoundIsNotGone(t *testing.T) {
	w, n, gone, end := visited(t)
	files, err := fsnotify.NewWatcher()
	if err != nil {
		t.Fatal(err)
	}
	defer files.Close()
	w.o.Files = nil
	w.rescan(files)
	if w.known[n.id] != n || gone[n] != 0 {
		t.Error("a namespace that is there was left")
	}
	end()
	w.rescan(files)
	if len(w.known) != 0 || gone[n] != 1 {
		t.Errorf("after its end: known %v, left %d times", w.known, gone[n])
	}
}

// That a process ends during a look does not hide the namespace it shared with
// others.
func TestScanWhileAProcessEnds(t *testing.T) {
	proc := t.TempDir()
	for _, dir := range []string{"1", "2", "3", "self"} {
		at := filepath.Join(proc, dir, "ns")
		if err := os.MkdirAll(at, 0o755); err != nil {
			t.Fatal(err)
		}
		for _, kind := range []string{"net", "user"} {
			if err := os.Symlink("/proc/self/ns/"+kind, filepath.Join(at, kind)); err != nil {
				t.Fatal(err)
			}
		}
	}
	var asked []string
	err := (&Options{Proc: proc}).scanProcesses(nil, identity{}, func(path string, _ func(*os.File) bool) bool {
		asked = append(asked, path)
		return len(asked) > 1 // the first has ended
	})
	want := []string{filepath.Join(proc, "1/ns/net"), filepath.Join(proc, "2/ns/net")}
	if err != nil || !slices.Equal(asked, want) {
		t.Errorf("looked at %v, %v, want %v", asked, err, want)
	}
}
