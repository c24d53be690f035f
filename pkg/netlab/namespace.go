// Package netlab builds small networks inside one process: network namespaces
// joined by virtual cables and bridges, with servers, clients and child
// processes in them. The demo and the end-to-end tests run on it. Linux only;
// needs CAP_NET_ADMIN and CAP_SYS_ADMIN.
//
// The namespaces have no name and no mount: they exist as long as something
// refers to them, which is a file descriptor and a thread of this process, the
// sockets opened in them and the child processes started in them. All of these
// end with the process, whichever way it ends, so a lab cannot be left behind
// (network_namespaces(7), namespaces(7)).
package netlab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Namespace is one network namespace. Its methods may be called from any
// goroutine at any time before Close.
type Namespace struct {
	name    string
	handle  netns.NsHandle
	netlink *netlink.Handle

	calls chan func() // run on the keeper's thread
	ended chan struct{}
	close func() error
}

// New makes an empty namespace with its loopback interface up and with
// duplicate address detection off, so that IPv6 addresses are usable as soon
// as they are set (RFC 4862 section 5.4 would make them wait a second). The
// name appears in errors only.
func New(name string) (*Namespace, error) {
	n := &Namespace{name: name, calls: make(chan func()), ended: make(chan struct{})}
	n.close = sync.OnceValue(n.release)

	started := make(chan error)
	go n.keep(started)
	if err := <-started; err != nil {
		return nil, fmt.Errorf("netlab: new namespace %s: %w", name, err)
	}
	if err := n.loopback(); err != nil {
		return nil, errors.Join(fmt.Errorf("netlab: new namespace %s: %w", name, err), n.Close())
	}
	return n, nil
}

// keep creates the namespace on a thread of its own and holds that thread in
// it. The thread is the parent of the child processes: the kernel sends a
// parent-death signal when the *thread* that forked ends, not the process
// (prctl(2), PR_SET_PDEATHSIG), and the Go scheduler may end any other thread
// at any time.
func (n *Namespace) keep(started chan<- error) {
	// Never unlocked: the runtime ends the thread with the goroutine instead
	// of reusing one that is in a foreign namespace.
	runtime.LockOSThread()
	if unix.Gettid() == unix.Getpid() {
		// The main thread cannot end, and /proc/self shows its namespaces.
		// While it is held here the next goroutine must get another one.
		next := make(chan error)
		go n.keep(next)
		started <- <-next
		runtime.UnlockOSThread()
		return
	}
	defer close(n.ended)

	handle, err := netns.New()
	if err == nil {
		err = writeSysctls(map[string]string{
			"net/ipv6/conf/all/accept_dad":     "0",
			"net/ipv6/conf/default/accept_dad": "0",
		})
	}
	if err == nil {
		n.netlink, err = netlink.NewHandle()
	}
	n.handle = handle
	if err != nil {
		if handle.IsOpen() {
			err = errors.Join(err, handle.Close())
		}
		started <- err
		return
	}
	started <- nil
	for call := range n.calls {
		call()
	}
}

// release ends the keeper, which kills the child processes, and closes what
// holds the namespace.
func (n *Namespace) release() error {
	close(n.calls)
	<-n.ended
	n.netlink.Close()
	return n.handle.Close()
}

// Close kills the child processes that are still running in the namespace and
// gives the namespace up. It is gone, and with it its interfaces, when the
// last socket opened in it is closed too. Further calls return the same error.
func (n *Namespace) Close() error { return n.close() }

// Name is the name given to New.
func (n *Namespace) Name() string { return n.name }

// Do runs f on a thread that is inside the namespace and returns what f
// returns. It is f's goroutine that is inside, not goroutines f starts. Calls
// may be nested and may run in parallel.
func (n *Namespace) Do(f func() error) error {
	runtime.LockOSThread()
	outside, err := netns.Get()
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("netlab: current namespace: %w", err)
	}
	defer outside.Close()
	if err := netns.Set(n.handle); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("netlab: enter namespace %s: %w", n.name, err)
	}
	defer func() {
		// A thread that cannot be brought back stays locked, so that it ends
		// with its goroutine and nobody else ever runs on it.
		if netns.Set(outside) == nil {
			runtime.UnlockOSThread()
		}
	}()
	return f()
}

// Start starts a command inside the namespace, as cmd.Start does; everything
// else about cmd (its output, Wait, Process) is used as usual. The child is
// killed when the namespace is closed and when this process dies.
func (n *Namespace) Start(cmd *exec.Cmd) error {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	result := make(chan error, 1)
	n.calls <- func() { result <- cmd.Start() }
	if err := <-result; err != nil {
		return fmt.Errorf("netlab: start in namespace %s: %w", n.name, err)
	}
	return nil
}

// writeSysctls sets kernel parameters of the calling thread's network
// namespace; names are paths below /proc/sys.
func writeSysctls(values map[string]string) error {
	for name, value := range values {
		// /proc/sys/net shows the namespace of the thread that opens it.
		err := os.WriteFile("/proc/sys/"+name, []byte(value), 0)
		if errors.Is(err, os.ErrNotExist) {
			continue // a kernel without IPv6 has nothing to switch off
		}
		if err != nil {
			return fmt.Errorf("set %s: %w", name, err)
		}
	}
	return nil
}
