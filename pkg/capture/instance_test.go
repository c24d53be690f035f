package capture

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/shadowtap/shadowtap/pkg/capture/attach"
)

// inside is how an Instance enters a test's namespace.
func inside(ns netns.NsHandle) func(func() error) error {
	return func(f func() error) error {
		done := make(chan error)
		go func() {
			runtime.LockOSThread() // and never unlocked: the thread ends with it
			if err := netns.Set(ns); err != nil {
				done <- err
				return
			}
			done <- f()
		}()
		return <-done
	}
}

// newInstance opens an instance for a namespace and attaches it.
func (r *running) newInstance(ns netns.NsHandle, proxied bool, targets ...Target) *Instance {
	r.t.Helper()
	i, err := r.NewInstance(InstanceConfig{Name: "pod", Enter: inside(ns)})
	if err == nil {
		err = i.SetTargets(targets, proxied)
	}
	if err == nil {
		err = i.Sync()
	}
	if err != nil {
		r.t.Fatal(err)
	}
	return i
}

// Two pods in which everything has the same number and the same address, down
// to the connections on lo, and one of which goes away.
func TestTapInstances(t *testing.T) {
	for _, mode := range []attach.Mode{attach.TCX, attach.Clsact} {
		t.Run(mode.String(), func(t *testing.T) {
			host := newNetns(t)
			if mode == attach.TCX {
				needTCX(t, newNetwork(t))
			}
			tap := startTap(t, host, Config{Attach: mode, Instances: true}, newCollector())
			target := Target{serverAddr4, 8080}
			local := netip.MustParseAddrPort("127.0.0.1:8080")

			type pod struct {
				*network
				instance        *Instance
				outside, inside <-chan []byte
				requests        int
			}
			var pods [2]pod
			for n := range pods {
				net := newNetwork(t)
				p := pod{network: net, instance: tap.newInstance(net.server, n == 1, target)}
				_, p.outside = listen(t, net.server, netip.AddrPortFrom(serverAddr4, 8080))
				_, p.inside = listen(t, net.server, local)
				if hooks := p.instance.Hooks(); len(hooks) != 2 {
					t.Errorf("hooks: %+v", hooks)
				}
				pods[n] = p
			}

			request := func(n int, from netns.NsHandle, to netip.AddrPort, got <-chan []byte) (Flow, []byte) {
				pods[n].requests++ // in both pods the same ports, and none twice
				source := fmt.Sprintf("127.0.0.1:%d", 40000+pods[n].requests)
				if from == pods[n].client {
					source = fmt.Sprintf("10.9.0.1:%d", 40000+pods[n].requests)
				}
				data := []byte(fmt.Sprintf("pod %d, to %v", n, to))
				c := inNetns(t, from, func() (net.Conn, error) {
					return (&net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.MustParseAddrPort(source)), Timeout: patience}).Dial("tcp", to.String())
				})
				send(t, c, data)
				c.Close()
				if !bytes.Equal(<-got, data) {
					t.Error("the server got something else")
				}
				f := flowOf(netip.MustParseAddrPort(source), to)
				f.Instance = pods[n].instance.ID()
				return f, data
			}
			captured := func(f Flow, data []byte) {
				t.Helper()
				tap.until("a request to "+f.Destination().String(), func() bool {
					st, _ := tap.stream(f)
					return st.fin && bytes.Equal(st.data, data)
				})
			}
			// The first pod is captured outside, the second, with a proxy, inside.
			captured(request(0, pods[0].client, netip.AddrPortFrom(serverAddr4, 8080), pods[0].outside))
			captured(request(1, pods[1].server, local, pods[1].inside))
			notF, _ := request(0, pods[0].server, local, pods[0].inside)
			notG, _ := request(1, pods[1].client, netip.AddrPortFrom(serverAddr4, 8080), pods[1].outside)

			if err := pods[1].instance.SetTargets([]Target{target, {serverAddr4, 80}}, true); err != nil {
				t.Error(err)
			}
			if err := pods[0].instance.Close(); err != nil {
				t.Error(err)
			}
			if err := pods[0].instance.Sync(); err == nil {
				t.Error("a closed instance was attached again")
			}
			if left := programsIn(t, pods[0].server, mode); left != 0 {
				t.Errorf("%d programs are left", left)
			}
			gone, _ := request(0, pods[0].client, netip.AddrPortFrom(serverAddr4, 8080), pods[0].outside)
			request(1, pods[1].server, local, pods[1].inside)

			counted, _ := tap.finish()
			if left := programsIn(t, pods[1].server, mode); left != 0 {
				t.Errorf("%d programs are left after the end", left)
			}
			for _, f := range []Flow{notF, notG} {
				if _, ok := tap.stream(f); ok {
					t.Errorf("%v was captured on both sides", f)
				}
			}
			if st, ok := tap.stream(gone); ok && len(st.data) != len("pod 0, to 10.9.0.2:8080") {
				t.Errorf("the closed instance captured %q", st.data)
			}
			if counted[SkippedOtherSide] == 0 {
				t.Errorf("the other side was not counted: %v", counted)
			}
			if n := len(tap.table.keys) + tap.ports.targets; n != 0 {
				t.Errorf("%d targets are left", n)
			}
			if _, err := tap.NewInstance(InstanceConfig{}); err == nil {
				t.Error("a new instance after the end")
			}
		})
	}
}

// programsIn counts what is attached in a namespace at ingress.
func programsIn(t testing.TB, ns netns.NsHandle, mode attach.Mode) (n int) {
	t.Helper()
	h := handleAt(t, ns)
	links, err := h.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		if mode == attach.Clsact {
			qdiscs, err := h.QdiscList(l)
			if err != nil {
				t.Fatal(err)
			}
			for _, q := range qdiscs {
				if q.Type() == "clsact" {
					n++
				}
			}
			continue
		}
		n += inNetns(t, ns, func() (int, error) {
			q, err := link.QueryPrograms(link.QueryOptions{Target: l.Attrs().Index, Attach: ebpf.AttachTCXIngress})
			if err != nil {
				return 0, err
			}
			return len(q.Programs), nil
		})
	}
	return n
}

// A namespace that ends takes what was attached with it, and closing its
// instance is no error.
func TestInstanceOfAVanishedNamespace(t *testing.T) {
	needRoot(t)
	tap, err := Open(Config{Shards: 1, Instances: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := tap.Close(); err != nil {
			t.Error(err)
		}
	}()
	ns := newNetwork(t)
	enter := inside(ns.server)
	gone := false
	i, err := tap.NewInstance(InstanceConfig{Name: "pod", Enter: func(f func() error) error {
		if gone {
			return os.ErrNotExist
		}
		return enter(f)
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := i.SetTargets([]Target{{serverAddr4, 80}}, false); err != nil {
		t.Fatal(err)
	}
	if err := i.Sync(); err != nil {
		t.Fatal(err)
	}
	gone = true
	if err := i.Sync(); err == nil {
		t.Error("a namespace that is gone was looked at")
	}
	if err := i.Close(); err != nil {
		t.Error(err)
	}
	if hooks := i.Hooks(); len(hooks) != 0 {
		t.Errorf("hooks: %+v", hooks)
	}
	if n := tap.ports.targets; n != 0 {
		t.Errorf("%d targets are left", n)
	}
	i, err = tap.NewInstance(InstanceConfig{Name: "pod", Enter: func(func() error) error { return unix.EMFILE }})
	if err != nil {
		t.Fatal(err)
	}
	if err := i.Close(); !errors.Is(err, unix.EMFILE) {
		t.Errorf("closed where nobody could enter: %v", err)
	}
	for _, bad := range []Target{{Port: 80}, {serverAddr4, 0}} {
		i, err := tap.NewInstance(InstanceConfig{Name: "pod", Enter: enter})
		if err != nil {
			t.Fatal(err)
		}
		if err := i.SetTargets([]Target{bad}, false); err == nil {
			t.Errorf("target %v was accepted", bad)
		}
	}
}
