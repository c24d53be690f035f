package netns

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/shadowtap/shadowtap/pkg/netlab"
)

const patience = 2 * time.Minute

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: makes network namespaces")
	}
}

// watched is what a running Watcher has reported.
type watched struct {
	t    *testing.T
	stop context.CancelFunc
	done chan error

	mu      sync.Mutex
	present map[*Namespace]int // how often it changed
	gone    int
	news    chan struct{}
}

func watch(t *testing.T, o Options) *watched {
	t.Helper()
	watcher, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	w := &watched{t: t, stop: cancel, done: make(chan error, 1), present: map[*Namespace]int{}, news: make(chan struct{}, 1)}
	report := func(f func()) {
		w.mu.Lock()
		f()
		w.mu.Unlock()
		select {
		case w.news <- struct{}{}:
		default:
		}
	}
	ready := make(chan struct{})
	go func() {
		w.done <- watcher.Run(ctx,
			func(n *Namespace) { report(func() { w.present[n]++ }) },
			func(n *Namespace) { report(func() { delete(w.present, n); w.gone++ }) },
			func() { close(ready) })
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-w.done; err != nil {
			t.Error(err)
		}
	})
	<-ready
	return w
}

// until waits until condition holds of what was reported.
func (w *watched) until(what string, condition func() bool) {
	w.t.Helper()
	deadline := time.After(patience)
	for {
		w.mu.Lock()
		ok := condition()
		w.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-w.news:
		case <-deadline:
			w.t.Fatalf("%s: not within %v", what, patience)
		}
	}
}

// find waits for the namespace that has an address.
func (w *watched) find(what, addr string) (n *Namespace) {
	w.t.Helper()
	w.until(what, func() bool { n = w.at(addr); return n != nil })
	return n
}

// at returns the namespace that has an address, if there is one. It is for
// conditions of until.
func (w *watched) at(addr string) *Namespace {
	for n := range w.present {
		if slices.Contains(n.Addresses(), netip.MustParseAddr(addr)) {
			return n
		}
	}
	return nil
}

func newNamespace(t *testing.T) *netlab.Namespace {
	t.Helper()
	n, err := netlab.New(t.Name())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	return n
}

// mount gives a namespace a file, in the two steps of a container runtime.
func mount(t *testing.T, n *netlab.Namespace, file string) {
	t.Helper()
	if err := os.WriteFile(file, nil, 0o444); err != nil {
		t.Fatal(err)
	}
	if err := n.Do(func() error { return unix.Mount("/proc/thread-self/ns/net", file, "", unix.MS_BIND, "") }); err != nil {
		t.Fatal(err)
	}
}

// unmount takes the file away again, without MNT_DETACH: it fails if anybody
// has the file open.
func unmount(t *testing.T, file string) {
	t.Helper()
	deadline := time.Now().Add(patience)
	err := unix.Unmount(file, 0)
	for errors.Is(err, unix.EBUSY) && time.Now().Before(deadline) { // it may be open for a moment
		time.Sleep(time.Millisecond)
		err = unix.Unmount(file, 0)
	}
	if err == nil {
		err = os.Remove(file)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func connect(t *testing.T, host, pod *netlab.Namespace, name, peer, addr string) {
	t.Helper()
	err := netlab.Connect(
		netlab.End{Namespace: host, Name: name},
		netlab.End{Namespace: pod, Name: peer, Addresses: []netip.Prefix{netip.MustParsePrefix(addr)}})
	if err != nil {
		t.Fatal(err)
	}
}

func linkExists(t *testing.T, n *netlab.Namespace, name string) bool {
	t.Helper()
	err := n.Do(func() error { _, err := netlink.LinkByName(name); return err })
	return !errors.As(err, &netlink.LinkNotFoundError{})
}

// The life of a pod, as a container runtime and a network plugin make it:
// everything is noticed, and nothing keeps the namespace from ending.
func TestWatcherFiles(t *testing.T) {
	needRoot(t)
	dir := filepath.Join(t.TempDir(), "netns") // made later
	w := watch(t, Options{Files: []string{dir + "/*"}})
	host, pod := newNamespace(t), newNamespace(t)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "cni-1")
	mount(t, pod, file)
	t.Cleanup(func() { _ = unix.Unmount(file, unix.MNT_DETACH) })
	w.until("the namespace", func() bool { return len(w.present) == 1 })
	connect(t, host, pod, "pod0", "eth0", "10.1.2.3/24")
	n := w.find("its address", "10.1.2.3")
	if n.String() != file {
		t.Errorf("found at %s, want %s", n, file)
	}

	var names []string
	if err := n.Enter(func() error {
		links, err := netlink.LinkList()
		for _, l := range links {
			names = append(names, l.Attrs().Name)
		}
		return err
	}); err != nil || !slices.Contains(names, "eth0") {
		t.Errorf("interfaces %v, %v", names, err)
	}
	if err := n.Enter(func() error { return fs.ErrInvalid }); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("the error became %v", err)
	}

	// Later interfaces are reported, and addresses that go.
	connect(t, host, pod, "pod1", "eth1", "10.1.3.3/24")
	w.until("another address", func() bool { return w.at("10.1.3.3") != nil })
	if err := pod.Delete("eth0"); err != nil {
		t.Fatal(err)
	}
	w.until("the address gone", func() bool { return w.at("10.1.2.3") == nil })

	unmount(t, file)
	w.until("the end of the file", func() bool { return len(w.present) == 0 && w.gone == 1 })
	if err := n.Enter(func() error { return nil }); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("entering a namespace that is gone: %v", err)
	}
	if err := pod.Close(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(patience); linkExists(t, host, "pod1"); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the namespace has not ended: its cable is still there")
		}
	}
}

// A namespace that only a process is in ends with the process.
func TestWatcherProcesses(t *testing.T) {
	needRoot(t)
	pod := newNamespace(t)
	host := newNamespace(t)
	connect(t, host, pod, "pod0", "eth0", "10.1.2.3/24")
	w := watch(t, Options{Proc: "/proc"})
	// The namespace is that of a thread of ours so far, and not of a process.
	cmd := exec.Command("sleep", "3600")
	if err := pod.Start(cmd); err != nil {
		t.Fatal(err)
	}
	if err := w.find("the process", "10.1.2.3").Enter(func() error { return nil }); err != nil {
		t.Error(err)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if err := pod.Close(); err != nil {
		t.Fatal(err)
	}
	w.until("its end", func() bool { return w.at("10.1.2.3") == nil })
}

// Namespaces that anybody could have made do not count as processes'.
func TestWatcherUserNamespaces(t *testing.T) {
	needRoot(t)
	cmd := exec.Command("sleep", "3600")
	cmd.SysProcAttr = &unix.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNET, Pdeathsig: unix.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Skipf("no user namespaces here: %v", err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	path := fmt.Sprintf("/proc/%d/ns/net", cmd.Process.Pid)
	f, id, err := openNamespace(path)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	found, err := (&Options{Proc: "/proc"}).scan(identity{})
	if err != nil && !errors.Is(err, errHidden) { // some may be, in a container
		t.Fatal(err)
	}
	if found[id] != nil {
		t.Errorf("found %v", found[id])
	}
	if found, _ = (&Options{Files: []string{path}}).scan(identity{}); !slices.Equal(found[id], []string{path}) {
		t.Errorf("by name: found %v", found[id])
	}
}

// Pods that come and go leave nothing behind, neither in the kernel nor here.
func TestWatcherChurn(t *testing.T) {
	needRoot(t)
	const pods = 100
	dir := t.TempDir()
	w := watch(t, Options{Files: []string{dir + "/*"}})
	host := newNamespace(t)
	descriptors := countFiles(t)
	for i := range pods {
		pod, err := netlab.New("pod")
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(dir, fmt.Sprint("cni-", i))
		mount(t, pod, file)
		addr := fmt.Sprintf("10.1.0.%d", i+1)
		if i%3 != 0 { // some are gone before anybody saw their address
			connect(t, host, pod, fmt.Sprint("pod", i), "eth0", addr+"/24")
			if i%3 == 1 {
				w.until("pod "+addr, func() bool { return w.at(addr) != nil })
			}
		}
		unmount(t, file)
		if err := pod.Close(); err != nil {
			t.Fatal(err)
		}
	}
	w.until("the end of all", func() bool { return len(w.present) == 0 })
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		left := countFiles(t) - descriptors
		links := 0
		if err := host.Do(func() error { l, err := netlink.LinkList(); links = len(l) - 1; return err }); err != nil {
			t.Fatal(err)
		}
		if left <= 0 && links == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d descriptors and %d interfaces are left", left, links)
		}
	}
}

func countFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func TestOptions(t *testing.T) {
	for _, bad := range []string{"[", "relative/*"} {
		if _, err := New(Options{Files: []string{bad}}); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

// Without the capability no namespace of a process is found, which is said.
func TestScanWithoutPtrace(t *testing.T) {
	needRoot(t)
	cmd := exec.Command("sleep", "3600") // somebody with all capabilities
	cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	scanned := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with it
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var sets [2]unix.CapUserData
		err := unix.Capget(&header, &sets[0])
		sets[0].Effective &^= 1 << unix.CAP_SYS_PTRACE
		if err = errors.Join(err, unix.Capset(&header, &sets[0])); err == nil {
			_, err = (&Options{Proc: "/proc"}).scan(identity{})
		}
		scanned <- err
	}()
	if err := <-scanned; !errors.Is(err, errHidden) {
		t.Errorf("got %v", err)
	}
}
