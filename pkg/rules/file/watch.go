package file

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"
)

// Changes come in bursts: an editor writes a copy and renames it, a kubelet
// makes a directory and moves a symlink. A burst is over when nothing has
// happened for settle; one that does not end is looked at every maxSettle.
const (
	settle    = 100 * time.Millisecond
	maxSettle = 2 * time.Second
)

// Watch calls changed after the rules files that paths stand for have changed,
// once for each burst of changes, until ctx is done; then it returns nil. It
// returns an error if the paths cannot be watched. changed is called from this
// goroutine.
//
// Directories are watched, not files: editors and Kubernetes replace files,
// and a watch would stay with the old one.
func Watch(ctx context.Context, paths []string, changed func()) error {
	return watchReady(ctx, paths, func() {}, changed)
}

// watchReady is Watch that says when no change will be missed any more.
func watchReady(ctx context.Context, paths []string, ready, changed func()) error {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch rules: %w", err)
	}
	defer w.Close()
	// First the watches, then the state: a change between the two is seen
	// twice rather than not at all.
	if err := add(w, paths); err != nil {
		return fmt.Errorf("watch rules: %w", err)
	}
	last := fingerprint(paths)
	ready()

	timer := time.NewTimer(0)
	if !timer.Stop() {
		<-timer.C
	}
	defer timer.Stop()
	var burst time.Time // when it began; zero if there is none
	event := func() {
		now := time.Now()
		if burst.IsZero() {
			burst = now
		}
		timer.Reset(min(settle, max(0, maxSettle-now.Sub(burst))))
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case _, ok := <-w.Events:
			if !ok {
				return nil
			}
			event()
		case _, ok := <-w.Errors:
			if !ok {
				return nil
			}
			event() // events were lost: look for ourselves
		case <-timer.C:
			burst = time.Time{}
			// A directory may have been replaced, a symlink moved.
			// If one is gone there is nothing to watch until it is
			// back, which its parent directory tells.
			_ = add(w, paths)
			if now := fingerprint(paths); !slices.Equal(now, last) {
				last = now
				changed()
			}
		}
	}
}

// add watches the directories in which a change can change what paths stand
// for. Adding one that is watched already does nothing. The error is that of
// the last path none of whose directories could be watched.
func add(w *fsnotify.Watcher, paths []string) (err error) {
	for _, path := range paths {
		watched := false
		var failed error
		for _, dir := range directories(path) {
			if e := w.Add(dir); e != nil {
				failed = e
			} else {
				watched = true
			}
		}
		if !watched {
			err = failed
		}
	}
	return err
}

// directories are where a change of what path stands for shows: the directory
// it is in, itself if it is one, and on the way through symlinks the same of
// each.
func directories(path string) []string {
	dirs := map[string]bool{}
	follow(filepath.Clean(path), dirs, map[string]bool{})
	if isDir(path) {
		dirs[path] = true
	}
	return slices.Sorted(maps.Keys(dirs))
}

// follow adds the directories of path and of the symlinks it leads through.
// seen are the paths that have been followed.
func follow(path string, dirs, seen map[string]bool) {
	const maxLinks = 40 // as the kernel
	if seen[path] || len(seen) == maxLinks {
		return
	}
	seen[path] = true
	dirs[filepath.Dir(path)] = true
	for p := path; p != filepath.Dir(p); p = filepath.Dir(p) {
		target, err := os.Readlink(p)
		if err != nil {
			continue // no symlink
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(p), target)
		}
		dirs[filepath.Dir(p)] = true
		follow(filepath.Join(target, strings.TrimPrefix(path, p)), dirs, seen)
	}
}

// fingerprint tells one state of the rules files from the next, whatever else
// happens in their directories.
func fingerprint(paths []string) []string {
	files, _ := list(paths)
	out := make([]string, 0, len(files))
	for _, name := range files {
		real, _ := filepath.EvalSymlinks(name)
		info, err := os.Stat(name)
		if err != nil {
			out = append(out, name+" "+err.Error())
			continue
		}
		out = append(out, fmt.Sprintln(name, real, info.Size(), info.ModTime().UnixNano(), inode(info)))
	}
	return out
}

// inode tells a file from one that took its place.
func inode(info os.FileInfo) uint64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Ino
	}
	return 0
}
