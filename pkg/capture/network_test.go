package capture

import (
	"context"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// network is two hosts, each a network namespace, joined by a veth pair with
// 10.9.0.1 and fd09::1 at the client's end and .2 and ::2 at the server's.
type network struct {
	client, server         netns.NsHandle
	clientLink, serverLink netlink.Link
}

var (
	serverAddr4 = netip.MustParseAddr("10.9.0.2")
	serverAddr6 = netip.MustParseAddr("fd09::2")
	routedAddr4 = netip.MustParseAddr("10.10.0.2") // behind a router
)

func newNetwork(t testing.TB) *network {
	t.Helper()
	n := &network{client: newNetns(t), server: newNetns(t)}
	for _, ns := range []netns.NsHandle{n.client, n.server} {
		// Packets as large as a device takes, also where the stack, starved of
		// CPU, would find its connection too slow for them (tcp_min_tso_segs in
		// the kernel's ip-sysctl.rst).
		inNetns(t, ns, func() (struct{}, error) {
			_ = os.WriteFile("/proc/sys/net/ipv4/tcp_min_tso_segs", []byte("200"), 0)
			return struct{}{}, nil
		})
	}
	n.clientLink, n.serverLink = newVeth(t, n.client, n.server, "c0", "s0")
	addAddr(t, n.client, n.clientLink, "10.9.0.1/24")
	addAddr(t, n.client, n.clientLink, "fd09::1/64")
	addAddr(t, n.server, n.serverLink, "10.9.0.2/24")
	addAddr(t, n.server, n.serverLink, "fd09::2/64")
	return n
}

// newRouter is a network whose server is a router to another one.
func newRouter(t testing.TB) (router *network, server netns.NsHandle) {
	t.Helper()
	router, server = newNetwork(t), newNetns(t)
	toServer, eth0 := newVeth(t, router.server, server, "s1", "eth0")
	addAddr(t, router.server, toServer, "10.10.0.1/24")
	addAddr(t, server, eth0, "10.10.0.2/24")
	inNetns(t, router.server, func() (struct{}, error) {
		return struct{}{}, os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0)
	})
	addRoute(t, router.client, "10.10.0.0/24", "10.9.0.2")
	addRoute(t, server, "10.9.0.0/24", "10.10.0.1")
	return router, server
}

// running is a tap with a collector on all of its shards.
type running struct {
	*Tap
	*collector
	t    testing.TB
	stop context.CancelFunc
	done chan error
}

// startTap opens a tap in a namespace and runs it; it is ready.
func startTap(t testing.TB, ns netns.NsHandle, cfg Config, c *collector, targets ...Target) *running {
	t.Helper()
	poll := cfg.Poll
	cfg.Poll = 0
	tap := inNetns(t, ns, func() (*Tap, error) { return Open(cfg) })
	if poll != 0 {
		tap.config.Poll = poll // beyond what Open allows, too
	}
	t.Cleanup(func() {
		if err := tap.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := tap.SetTargets(targets); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{Tap: tap, collector: c, t: t, stop: cancel, done: make(chan error, 1)}
	t.Cleanup(cancel)
	go func() { r.done <- tap.Run(ctx, sinksOf(t, tap, c)) }()
	select {
	case <-tap.Ready():
	case err := <-r.done:
		t.Fatalf("Run ended: %v", err)
	case <-time.After(patience):
		t.Fatal("the tap is not ready")
	}
	return r
}

// finish ends Run and returns what was counted.
func (r *running) finish() (tally, Counters) {
	r.t.Helper()
	r.stop()
	select {
	case err := <-r.done:
		if err != nil {
			r.t.Fatal(err)
		}
	case <-time.After(patience):
		r.t.Fatal("Run does not end")
	}
	if hooks := r.Hooks(); len(hooks) != 0 {
		r.t.Errorf("still attached: %v", hooks)
	}
	c, err := r.Tap.Counters()
	if err != nil {
		r.t.Fatal(err)
	}
	return flatten(r.t, c), c
}

// hooksOn is how many hooks there are on the named interfaces. A namespace may
// have more of these than a test has made: each gets those that the kernel's
// tunnels fall back on, if it has any (fb_tunnels_only_for_init_net in its
// net.rst).
func (r *running) hooksOn(names ...string) (n int) {
	for _, h := range r.Hooks() {
		if slices.Contains(names, h.Name) {
			n++
		}
	}
	return n
}

// until waits for a condition that batches may bring about.
func (r *running) until(what string, condition func() bool) {
	r.t.Helper()
	deadline := time.After(patience)
	for !condition() {
		select {
		case <-r.changed:
		case <-deadline:
			r.t.Fatalf("%s: not within %v", what, patience)
		}
	}
}

// listen accepts connections at addr in ns until the test ends; it reads each
// to its end and then reports what it read.
func listen(t testing.TB, ns netns.NsHandle, addr netip.AddrPort) (netip.AddrPort, <-chan []byte) {
	t.Helper()
	return serve(t, ns, addr, nil)
}

// serve is listen with an answer to what was read.
func serve(t testing.TB, ns netns.NsHandle, addr netip.AddrPort, answer []byte) (netip.AddrPort, <-chan []byte) {
	t.Helper()
	l := inNetns(t, ns, func() (net.Listener, error) { return net.Listen("tcp", addr.String()) })
	received := make(chan []byte, 16)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			data, _ := io.ReadAll(c)
			if len(answer) > 0 {
				if _, err := c.Write(answer); err != nil {
					t.Errorf("answer: %v", err)
				}
			}
			c.Close()
			received <- data
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return l.Addr().(*net.TCPAddr).AddrPort(), received
}

func dial(t testing.TB, ns netns.NsHandle, addr netip.AddrPort) (net.Conn, Flow) {
	t.Helper()
	c := inNetns(t, ns, func() (net.Conn, error) { return net.DialTimeout("tcp", addr.String(), patience) })
	t.Cleanup(func() { c.Close() })
	return c, flowOf(c.LocalAddr().(*net.TCPAddr).AddrPort(), addr)
}

func send(t testing.TB, c net.Conn, data []byte) {
	t.Helper()
	if _, err := c.Write(data); err != nil {
		t.Fatal(err)
	}
}

func random(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(n)})
	r.Read(b)
	return b
}
