// Package netns finds the network namespaces of a machine, as container
// runtimes make them for pods and containers, knows which addresses each has,
// and enters them.
//
// A namespace is found by a file it is mounted on (containerd and CRI-O:
// /run/netns/*) or by a process in it, and entered by it anew each time.
// Nothing is held in between: a descriptor would keep the namespace and its
// interfaces from ending, or the file from being unmounted. One netlink socket
// of the caller's own namespace hears what happens in all others
// (NETLINK_LISTEN_ALL_NSID, netlink(7)), their ends included, so that more pods
// take no more goroutines and sockets.
package netns

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"
)

// DefaultFiles is where container runtimes keep the namespaces of pods.
var DefaultFiles = []string{"/run/netns/*"}

// Options says where to look for namespaces.
type Options struct {
	// Files are the files that namespaces are mounted on, as globs
	// (path/filepath.Match), /proc/PID/ns/net among them. A glob's directory
	// need not exist yet. In a container the host's directory must be mounted
	// so that later mounts appear and vanish in it, too (rslave,
	// HostToContainer).
	Files []string
	// Proc, if not empty, is where to find the processes of the host
	// ("/proc"): the namespaces of all of them are known, except those of user
	// namespaces other than the agent's, which anybody could make. It takes
	// the host's process ids, CAP_SYS_PTRACE, and a look at all of them every
	// few seconds.
	Proc string
	// Guard runs a step of the work of a Watcher, and what Namespace.Enter is
	// given. It may contain a panic of the step, which it then returns as an
	// error: all other namespaces are looked at nevertheless, and the one it was
	// met with again later. If nil, a step is just run.
	Guard func(step func()) (fault error)
	// Logger is told what goes wrong; nil: nobody is.
	Logger *slog.Logger
}

func (o *Options) complete() error {
	for _, pattern := range o.Files {
		if _, err := filepath.Match(pattern, ""); err != nil {
			return fmt.Errorf("network namespaces %q: %w", pattern, err)
		}
		if !filepath.IsAbs(pattern) {
			return fmt.Errorf("network namespaces %q: an absolute path is needed", pattern)
		}
	}
	if o.Guard == nil {
		o.Guard = func(step func()) error {
			step()
			return nil
		}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}

// identity tells namespaces apart. It may be used again once a namespace has
// ended.
type identity struct{ device, inode uint64 }

// Namespace is one network namespace, from the moment it is found until it is
// gone. Its methods may be called concurrently.
type Namespace struct {
	id        identity
	guard     func(step func()) (fault error)
	cookie    atomic.Uint64 // 0: not known
	addresses atomic.Pointer[[]netip.Addr]

	mu    sync.Mutex
	paths []string // by which it can be entered

	// What follows belongs to Watcher.Run.
	nsid   int
	visits *rate.Limiter
}

// String returns where the namespace was found, and its inode, as ip-netns(8)
// and lsns(8) know it.
func (n *Namespace) String() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.paths) == 0 {
		return fmt.Sprintf("net:[%d]", n.id.inode)
	}
	return n.paths[0]
}

// Addresses returns the addresses of its interfaces, loopback and link-local
// ones left out, in order. They are not to be changed.
func (n *Namespace) Addresses() []netip.Addr {
	if p := n.addresses.Load(); p != nil {
		return *p
	}
	return nil
}

// Enter calls f on a thread inside the namespace and returns what f returns, or
// a panic of it if Options.Guard contains that. f must not start goroutines that
// rely on it. An error that wraps fs.ErrNotExist says that the namespace is gone.
// It takes CAP_SYS_ADMIN.
func (n *Namespace) Enter(f func() error) error {
	done := make(chan error, 1)
	go func() {
		var err error
		if fault := n.guard(func() { err = n.enter(f) }); fault != nil {
			err = fault
		}
		done <- err
	}()
	return <-done
}

// enter is Enter on a goroutine of its own: if its thread cannot be brought
// back, it stays locked and ends with the goroutine, and nobody else ever runs
// in a foreign namespace.
func (n *Namespace) enter(f func() error) error {
	runtime.LockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("network namespace of this thread: %w", err)
	}
	defer home.Close()
	there, err := n.open()
	if err != nil {
		runtime.UnlockOSThread()
		return err
	}
	err = unix.Setns(int(there.Fd()), unix.CLONE_NEWNET)
	// At once: as long as a file is open it cannot be unmounted.
	_ = there.Close()
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("enter network namespace %s: %w", n, err)
	}
	defer func() {
		if unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
	}()
	return f()
}

// open opens the namespace by the first path that still leads to it.
func (n *Namespace) open() (*os.File, error) {
	n.mu.Lock()
	paths := slices.Clone(n.paths)
	n.mu.Unlock()
	var failed error
	for _, path := range paths {
		f, id, err := openNamespace(path)
		if err == nil && id == n.id {
			return f, nil
		}
		if err == nil {
			_ = f.Close() // another one has taken its place
		} else if !vanished(err) {
			failed = err
		}
	}
	if failed == nil {
		failed = fs.ErrNotExist
	}
	return nil, fmt.Errorf("network namespace %s: %w", n, failed)
}

// isThere reports whether a path still leads to the namespace; if in doubt yes.
func (n *Namespace) isThere() bool {
	f, err := n.open()
	if err != nil {
		return !errors.Is(err, fs.ErrNotExist)
	}
	_ = f.Close()
	return true
}

// setPaths replaces the ways into the namespace.
func (n *Namespace) setPaths(paths []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.paths = paths
}

var errNoNamespace = errors.New("not a network namespace")

// openNamespace opens the file of a network namespace.
func openNamespace(path string) (_ *os.File, id identity, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, id, err
	}
	defer func() {
		if err != nil {
			_ = f.Close()
		}
	}()
	var stat unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &stat); err != nil {
		return nil, id, fmt.Errorf("%s: %w", path, err)
	}
	// The first call says whether it is a namespace (ENOTTY), the second which
	// kind.
	if kind, err := unix.IoctlRetInt(int(f.Fd()), unix.NS_GET_NSTYPE); err != nil || kind != unix.CLONE_NEWNET {
		return nil, id, fmt.Errorf("%s: %w", path, errNoNamespace)
	}
	return f, identity{stat.Dev, stat.Ino}, nil
}

// vanished reports whether err says that what a path led to is not there any
// more: removed, unmounted, or a process that has ended.
func vanished(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) || errors.Is(err, errNoNamespace)
}
