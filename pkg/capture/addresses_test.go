package capture

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
)

func TestAddrWatcher(t *testing.T) {
	ns := newNetns(t)
	link, _ := newVeth(t, ns, ns, "left", "right")
	w := inNetns(t, ns, func() (*addrWatcher, error) {
		return newAddrWatcher((&Tap{config: Config{Guard: unguarded}}).guardInterfaces, slog.New(slog.DiscardHandler))
	})
	t.Cleanup(func() {
		if err := w.close(); err != nil {
			t.Error(err)
		}
	})
	known, err := w.list()
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(known.addrs, netip.MustParseAddr("127.0.0.1")) || !known.has(netip.MustParseAddr("127.0.0.53")) {
		t.Errorf("lo's addresses are not there: %+v", known)
	}

	ctx, cancel := context.WithCancel(context.Background())
	changes := make(chan hostAddrs)
	done := make(chan error)
	go func() {
		done <- w.run(ctx, known, func(h hostAddrs) {
			select {
			case changes <- h:
			case <-ctx.Done():
			}
		})
	}()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()

	// until reads changes until one says whether the address is there.
	until := func(addr netip.Addr, there bool) {
		t.Helper()
		for deadline := time.After(patience); ; {
			select {
			case h := <-changes:
				if h.has(addr) == there {
					return
				}
			case <-deadline:
				t.Fatalf("%v: not noticed within %v", addr, patience)
			}
		}
	}
	v4, v6 := netip.MustParseAddr("10.20.0.1"), netip.MustParseAddr("fd20::1")
	addAddr(t, ns, link, "10.20.0.1/24")
	until(v4, true)
	addAddr(t, ns, link, "fd20::1/64")
	until(v6, true)
	addr, err := netlink.ParseAddr("10.20.0.1/24")
	if err != nil {
		t.Fatal(err)
	}
	if err := handleAt(t, ns).AddrDel(link, addr); err != nil {
		t.Fatal(err)
	}
	until(v4, false)
}

// A target without an address follows this host's addresses.
func TestTapFollowsAddresses(t *testing.T) {
	n := newNetwork(t)
	tap := startTap(t, n.server, Config{}, newCollector(), Target{Port: 8080})
	addAddr(t, n.server, n.serverLink, "10.9.0.3/24")
	key := Target{netip.MustParseAddr("10.9.0.3"), 8080}.key()
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		var there uint8
		if tap.objs.Targets.Lookup(key, &there) == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the new address is not a target")
		}
	}
	at, received := listen(t, n.server, netip.MustParseAddrPort("10.9.0.3:8080"))
	c, flow := dial(t, n.client, at)
	send(t, c, []byte("hello"))
	c.Close()
	<-received
	tap.finish()
	if st, _ := tap.stream(flow); string(st.data) != "hello" {
		t.Errorf("captured %q", st.data)
	}
}
