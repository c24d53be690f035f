package netns

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// maxNamespaces bounds how many namespaces are known at once.
const maxNamespaces = 4096

// errHidden does not say which processes, or it would be logged again and again.
var errHidden = errors.New("the network namespaces of some processes cannot be looked at:" +
	" it takes CAP_SYS_PTRACE, and a security module that lets us")

var errTooMany = fmt.Errorf("more than %d network namespaces; the others are left out", maxNamespaces)

// scan returns the ways into each namespace that can be found now, except the
// one with the identity own. The errors are about single files.
func (o *Options) scan(own identity) (found map[identity][]string, err error) {
	found = make(map[identity][]string)
	var errs []error
	add := func(path string, accept func(*os.File) bool) (there bool) {
		f, id, err := openNamespace(path)
		switch {
		case vanished(err):
			return false
		case errors.Is(err, fs.ErrPermission):
			errs = append(errs, fmt.Errorf("%w (that of a process takes CAP_SYS_PTRACE)", err))
		case err != nil:
			errs = append(errs, err)
		case id == own || !accept(f):
			_ = f.Close()
		default:
			_ = f.Close()
			if _, known := found[id]; known || len(found) < maxNamespaces {
				found[id] = append(found[id], path)
			} else if len(errs) == 0 || !errors.Is(errs[len(errs)-1], errTooMany) {
				errs = append(errs, errTooMany)
			}
		}
		return true
	}
	for _, pattern := range o.Files {
		paths, _ := filepath.Glob(pattern) // its only error is a bad pattern
		for _, path := range paths {
			add(path, func(*os.File) bool { return true })
		}
	}
	if o.Proc != "" {
		if err := o.scanProcesses(found, own, add); err != nil {
			errs = append(errs, err)
		}
	}
	return found, errors.Join(errs...)
}

// scanProcesses adds the namespaces of processes that no file leads to, each
// by the first process that is in it.
func (o *Options) scanProcesses(found map[identity][]string, own identity, add func(string, func(*os.File) bool) (there bool)) error {
	entries, err := os.ReadDir(o.Proc)
	if err != nil {
		return fmt.Errorf("processes: %w", err)
	}
	var users unix.Stat_t
	if err := unix.Stat(filepath.Join(o.Proc, "self/ns/user"), &users); err != nil {
		return fmt.Errorf("user namespace: %w", err)
	}
	seen := map[identity]bool{own: true}
	for id := range found {
		seen[id] = true
	}
	hidden := false
	for _, e := range entries {
		if _, err := strconv.Atoi(e.Name()); err != nil {
			continue
		}
		path := filepath.Join(o.Proc, e.Name(), "ns/net")
		var stat unix.Stat_t
		if err := unix.Stat(path, &stat); err != nil || seen[identity{stat.Dev, stat.Ino}] {
			hidden = hidden || errors.Is(err, fs.ErrPermission)
			continue // it ended, or is in no new namespace
		}
		// One that has ended meanwhile says nothing of those that are left.
		seen[identity{stat.Dev, stat.Ino}] = add(path, func(f *os.File) bool { return ownedBy(f, &users) })
	}
	if hidden {
		return errHidden
	}
	return nil
}

// ownedBy reports whether a namespace belongs to a user namespace
// (ioctl_ns(2)).
func ownedBy(f *os.File, users *unix.Stat_t) bool {
	fd, err := unix.IoctlRetInt(int(f.Fd()), unix.NS_GET_USERNS)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	var stat unix.Stat_t
	return unix.Fstat(fd, &stat) == nil && stat.Dev == users.Dev && stat.Ino == users.Ino
}

// directories returns those in which files that match may appear, and whether
// a change of all that o names is announced by them.
func (o *Options) directories() (dirs []string, complete bool) {
	complete = o.Proc == ""
	for _, pattern := range o.Files {
		dir := filepath.Dir(pattern)
		matches, _ := filepath.Glob(dir)
		for _, m := range matches {
			var stat unix.Statfs_t
			if unix.Statfs(m, &stat) == nil && stat.Type == unix.PROC_SUPER_MAGIC {
				complete = false // procfs announces nothing
				continue
			}
			dirs = append(dirs, m)
		}
		// Directories that do not exist yet, or of which more may come.
		complete = complete && len(matches) == 1 && matches[0] == dir
	}
	return dirs, complete
}

// pending reports whether there is a file that may be about to become a
// namespace: it is made first and mounted upon next, which nothing announces.
func pending(path string) bool {
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() {
		return false
	}
	f, _, err := openNamespace(path)
	if err == nil {
		_ = f.Close()
		return false
	}
	return errors.Is(err, errNoNamespace) && !errors.Is(err, fs.ErrNotExist)
}
