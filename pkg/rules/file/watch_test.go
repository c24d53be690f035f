package file

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds how long a test waits for what must happen.
const patience = 2 * time.Minute

// watch runs Watch and returns a channel with an element for every change,
// and a function that waits until the watches are set.
func watch(t *testing.T, paths ...string) <-chan struct{} {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	changes := make(chan struct{}, 100)
	done := make(chan error, 1)
	ready := make(chan struct{})
	go func() { done <- watchReady(ctx, paths, func() { close(ready) }, func() { changes <- struct{}{} }) }()
	select {
	case <-ready:
	case err := <-done:
		t.Fatal(err)
	case <-time.After(patience):
		t.Fatal("not ready")
	}
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return changes
}

func expect(t *testing.T, changes <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-changes:
	case <-time.After(patience):
		t.Fatalf("%s was not noticed", what)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestWatchFile(t *testing.T) {
	dir := t.TempDir()
	path := write(t, dir, "rules.yaml", "a")
	changes := watch(t, path)

	write(t, dir, "rules.yaml", "ab")
	expect(t, changes, "writing")

	must(t, os.Rename(write(t, dir, "new", "ac"), path))
	expect(t, changes, "a file in its place")

	must(t, os.Rename(write(t, dir, "new", "ad"), path))
	expect(t, changes, "another file in its place")

	must(t, os.Remove(path))
	expect(t, changes, "removing")

	write(t, dir, "rules.yaml", "ae")
	expect(t, changes, "creating")
}

func TestWatchDirectory(t *testing.T) {
	parent := t.TempDir()
	dir := filepath.Join(parent, "rules")
	must(t, os.Mkdir(dir, 0o755))
	changes := watch(t, dir)

	write(t, dir, "a.yaml", "a")
	expect(t, changes, "a new file")

	must(t, os.Rename(filepath.Join(dir, "a.yaml"), filepath.Join(dir, "b.yaml")))
	expect(t, changes, "another name")

	must(t, os.Rename(dir, filepath.Join(parent, "old")))
	expect(t, changes, "the directory going")

	must(t, os.Mkdir(dir, 0o755))
	write(t, dir, "c.yaml", "c")
	expect(t, changes, "another directory in its place")
}

// TestWatchConfigMap replaces files as the kubelet does: the names lead
// through a symlink to a directory with one version of all files.
func TestWatchConfigMap(t *testing.T) {
	dir := t.TempDir()
	version := func(name, text string) {
		must(t, os.Mkdir(filepath.Join(dir, name), 0o755))
		write(t, filepath.Join(dir, name), "rules.yaml", text)
		must(t, os.Symlink(name, filepath.Join(dir, "..data_tmp")))
		must(t, os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")))
	}
	version("..1", "a")
	must(t, os.Symlink("..data/rules.yaml", filepath.Join(dir, "rules.yaml")))
	outside := filepath.Join(t.TempDir(), "link.yaml")
	must(t, os.Symlink(filepath.Join(dir, "rules.yaml"), outside))

	whole, one, linked := watch(t, dir), watch(t, filepath.Join(dir, "rules.yaml")), watch(t, outside)
	for _, name := range []string{"..2", "..3"} {
		version(name, "a")
		expect(t, whole, "version "+name+" in the directory")
		expect(t, one, "version "+name+" of the file")
		expect(t, linked, "version "+name+" of the linked file")
	}
}

// TestWatchOther: what happens beside the rules is no change.
func TestWatchOther(t *testing.T) {
	dir := t.TempDir()
	path := write(t, dir, "rules.yaml", "a")
	changes := watch(t, path)
	write(t, dir, "other.yaml", "b")
	write(t, dir, "rules.yaml.swp", "b")
	// In one step: what is written in two may be two changes.
	must(t, os.Rename(write(t, dir, "new", "ab"), path))
	expect(t, changes, "a file in its place")
	select {
	case <-changes:
		t.Error("a second change")
	default:
	}
}

func TestWatchMissing(t *testing.T) {
	err := Watch(t.Context(), []string{filepath.Join(t.TempDir(), "no", "such", "file")}, func() {})
	if err == nil {
		t.Error("no error")
	}
}
