package capture

import (
	"runtime"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// newNetns makes a network namespace with lo up, and returns the calling
// goroutine to its own.
func newNetns(t testing.TB) netns.NsHandle {
	t.Helper()
	needRoot(t)
	var made netns.NsHandle
	// On a goroutine, and so a thread, that ends with it if it cannot return.
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		done <- func() error {
			here, err := netns.Get()
			if err != nil {
				return err
			}
			defer here.Close()
			if made, err = netns.New(); err != nil {
				return err
			}
			lo, err := netlink.LinkByName("lo")
			if err == nil {
				err = netlink.LinkSetUp(lo)
			}
			if err != nil {
				return err
			}
			if err := netns.Set(here); err != nil {
				return err
			}
			runtime.UnlockOSThread()
			return nil
		}()
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { made.Close() })
	return made
}

// inNetns runs f on a thread that is in the namespace.
func inNetns[T any](t testing.TB, ns netns.NsHandle, f func() (T, error)) T {
	t.Helper()
	type result struct {
		v   T
		err error
	}
	done := make(chan result)
	go func() {
		runtime.LockOSThread()
		var r result
		here, err := netns.Get()
		if err == nil {
			defer here.Close()
			err = netns.Set(ns)
		}
		if r.err = err; err == nil {
			r.v, r.err = f()
			if netns.Set(here) == nil {
				runtime.UnlockOSThread()
			}
		}
		done <- r
	}()
	r := <-done
	if r.err != nil {
		t.Fatal(r.err)
	}
	return r.v
}

// handleAt returns a netlink handle of a namespace.
func handleAt(t testing.TB, ns netns.NsHandle) *netlink.Handle {
	t.Helper()
	h, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	return h
}

// newVeth joins two namespaces, which may be the same, with a veth pair whose
// ends are called left and right and are up.
func newVeth(t testing.TB, a, b netns.NsHandle, left, right string) (l, r netlink.Link) {
	t.Helper()
	ha, hb := handleAt(t, a), handleAt(t, b)
	veth := &netlink.Veth{LinkAttrs: netlink.NewLinkAttrs(), PeerName: right, PeerNamespace: netlink.NsFd(int(b))}
	veth.Name = left
	if err := ha.LinkAdd(veth); err != nil {
		t.Fatal(err)
	}
	up := func(h *netlink.Handle, name string) netlink.Link {
		link, err := h.LinkByName(name)
		if err == nil {
			err = h.LinkSetUp(link)
		}
		if err != nil {
			t.Fatal(err)
		}
		return link
	}
	return up(ha, left), up(hb, right)
}

// addAddr gives an interface an address such as 10.0.0.1/24, at once usable.
func addAddr(t testing.TB, ns netns.NsHandle, link netlink.Link, addr string) {
	t.Helper()
	a, err := netlink.ParseAddr(addr)
	if err != nil {
		t.Fatal(err)
	}
	if a.IP.To4() == nil {
		a.Flags = 0x02 // IFA_F_NODAD: no wait for duplicate address detection
	}
	if err := handleAt(t, ns).AddrAdd(link, a); err != nil {
		t.Fatal(err)
	}
}
