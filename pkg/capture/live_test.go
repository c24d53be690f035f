package capture

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/shadowtap/shadowtap/pkg/capture/attach"
)

// Every byte of large transfers arrives, in super-packets as the stack makes
// them, over both attach kinds and both IP versions.
func TestTapTransfer(t *testing.T) {
	const size = 6 << 20 // all of it fits in a ring: nothing may be lost
	for _, mode := range []attach.Mode{attach.TCX, attach.Clsact} {
		for _, addr := range []netip.Addr{serverAddr4, serverAddr6} {
			t.Run(fmt.Sprintf("%v/%v", mode, addr), func(t *testing.T) {
				n := newNetwork(t)
				if mode == attach.TCX {
					needTCX(t, n)
				}
				at, received := listen(t, n.server, netip.AddrPortFrom(addr, 8080))
				tap := startTap(t, n.server, Config{Attach: mode, RingBytes: 16 << 20}, newCollector(), Target{addr, 8080})
				c, flow := dial(t, n.client, at)
				sent := random(size)
				send(t, c, sent)
				c.Close()
				if !bytes.Equal(<-received, sent) {
					t.Fatal("the server got something else")
				}
				tap.until("end of the stream", func() bool { st, _ := tap.stream(flow); return st.fin })
				counted, counters := tap.finish()
				st, _ := tap.stream(flow)
				if !bytes.Equal(st.data, sent) {
					t.Errorf("captured %d bytes, sent %d, or they differ", len(st.data), len(sent))
				}
				if st.largest <= len(tapScratch{}.Payload) {
					t.Errorf("largest packet: %d bytes; no super-packet was seen", st.largest)
				}
				if counters.CopiedBytes < size || counters.LostBytes != 0 || counted[LostRingFull]+counted[LostUnreadable] != 0 || st.marked+st.torn != 0 {
					t.Errorf("counted %v, %+v, %d marks, %d torn", counted, counters, st.marked, st.torn)
				}
				if counted[SkippedPureACK] == 0 {
					t.Errorf("no pure ACK was counted: %v", counted)
				}
			})
		}
	}
}

// BIG TCP: packets beyond 64 KiB, with a jumbo header or without a length.
func TestTapBigTCP(t *testing.T) {
	const size = 6 << 20
	n := newNetwork(t)
	for ns, link := range map[netns.NsHandle]netlink.Link{n.client: n.clientLink, n.server: n.serverLink} {
		h := handleAt(t, ns)
		for _, set := range []func(netlink.Link, int) error{h.LinkSetGSOMaxSize, h.LinkSetGROMaxSize} {
			if err := set(link, 200_000); err != nil {
				t.Skipf("this kernel has no BIG TCP: %v", err)
			}
		}
	}
	at, received := listen(t, n.server, netip.AddrPortFrom(serverAddr6, 8080))
	tap := startTap(t, n.server, Config{RingBytes: 16 << 20}, newCollector(), Target{serverAddr6, 8080})
	c, flow := dial(t, n.client, at)
	sent := random(size)
	send(t, c, sent)
	c.Close()
	<-received
	tap.until("end of the stream", func() bool { st, _ := tap.stream(flow); return st.fin })
	tap.finish()
	st, _ := tap.stream(flow)
	if !bytes.Equal(st.data, sent) {
		t.Errorf("captured %d bytes, sent %d, or they differ", len(st.data), len(sent))
	}
	if st.largest < 1<<16 {
		t.Errorf("largest packet: %d bytes; no BIG TCP packet was seen", st.largest)
	}
}

// A ring that nobody reads loses packets in the middle of super-packets too,
// and each is accounted for.
func TestTapRingFull(t *testing.T) {
	const size = 2 << 20
	n := newNetwork(t)
	at, received := listen(t, n.server, netip.AddrPortFrom(serverAddr4, 8080))
	release := make(chan struct{})
	c := newCollector()
	stuck := make(chan struct{})
	stick := sync.OnceFunc(func() { close(stuck) })
	c.onSegment = func(s *Segment) {
		if s.Flags&FlagSYN != 0 {
			stick()
			<-release // a Sink must not do this
		}
	}
	tap := startTap(t, n.server, Config{RingBytes: 128 << 10, Shards: 1}, c, Target{serverAddr4, 8080})
	conn, flow := dial(t, n.client, at)
	<-stuck
	tap.control.aliveForNow(tap.clock) // the reader cannot say so
	sent := random(size)
	send(t, conn, sent)
	conn.Close()
	if !bytes.Equal(<-received, sent) {
		t.Error("production lost something")
	}
	close(release)
	counted, counters := tap.finish()
	if counted[LostRingFull] == 0 {
		t.Errorf("nothing was lost: %v", counted)
	}
	if got := counters.CopiedBytes + counters.LostBytes; got < size {
		t.Errorf("copied %d bytes and lost %d, of %d", counters.CopiedBytes, counters.LostBytes, size)
	}
	if st, _ := tap.stream(flow); bytes.Equal(st.data, sent) {
		t.Error("nothing is missing")
	}
}

// When Run ends, what is in the rings is handed over, even if the reader would
// not have looked for an hour.
func TestTapDrains(t *testing.T) {
	n := newNetwork(t)
	at, received := listen(t, n.server, netip.AddrPortFrom(serverAddr4, 8080))
	for range 5 {
		tap := startTap(t, n.server, Config{Poll: time.Hour}, newCollector(), Target{Port: 8080})
		var sent [][]byte
		var flows []Flow
		for i := range 20 {
			tap.control.aliveForNow(tap.clock) // the reader will not say so for an hour
			c, flow := dial(t, n.client, at)
			sent, flows = append(sent, random(1000+i)), append(flows, flow)
			send(t, c, sent[i])
			c.Close()
			<-received
		}
		counted, _ := tap.finish()
		for i := range sent {
			if st, _ := tap.stream(flows[i]); !bytes.Equal(st.data, sent[i]) {
				t.Errorf("connection %d: captured %d of %d bytes; %v", i, len(st.data), len(sent[i]), counted)
			}
		}
		tap.Close()
	}
}

// A flow that is ignored from within a Sink is not copied any more.
func TestTapIgnore(t *testing.T) {
	n := newNetwork(t)
	at, received := listen(t, n.server, netip.AddrPortFrom(serverAddr4, 8080))
	c := newCollector()
	ignored := make(chan error, 1)
	var tap *running
	started := make(chan struct{})
	c.onSegment = func(s *Segment) {
		if len(s.Payload) > 0 {
			<-started
			select {
			case ignored <- tap.Ignore(s.Flow):
			default:
			}
		}
	}
	tap = startTap(t, n.server, Config{}, c, Target{serverAddr4, 8080})
	close(started)
	conn, flow := dial(t, n.client, at)
	send(t, conn, []byte("first"))
	select {
	case err := <-ignored:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(patience):
		t.Fatal("nothing captured")
	}
	send(t, conn, random(100_000))
	conn.Close()
	<-received
	counted, _ := tap.finish()
	if st, _ := tap.stream(flow); string(st.data) != "first" {
		t.Errorf("captured %d bytes, want the first 5", len(st.data))
	}
	if counted[SkippedIgnored] == 0 {
		t.Errorf("nothing was ignored: %v", counted)
	}
}

// A tap on a router: packets to another host come in at one interface and go
// out of another, and are copied once.
func TestTapRouter(t *testing.T) {
	const size = 1 << 20
	router, server := newRouter(t)
	at, received := listen(t, server, netip.AddrPortFrom(routedAddr4, 8080))
	tap := startTap(t, router.server, Config{}, newCollector(), Target{routedAddr4, 8080})
	if tap.hooksOn("s0", "s1") != 4 { // two interfaces, two directions
		t.Errorf("hooks: %+v", tap.Hooks())
	}
	c, flow := dial(t, router.client, at)
	sent := random(size)
	send(t, c, sent)
	c.Close()
	<-received
	tap.until("end of the stream", func() bool { st, _ := tap.stream(flow); return st.fin })
	counted, counters := tap.finish()
	st, _ := tap.stream(flow)
	if !bytes.Equal(st.data, sent) {
		t.Errorf("captured %d bytes, sent %d, or they differ", len(st.data), len(sent))
	}
	if counted[SkippedDuplicate] < counted["copied"]/2 || counters.CopiedBytes > size*3/2 {
		t.Errorf("not copied just once: %v, %d bytes", counted, counters.CopiedBytes)
	}
}

func addRoute(t testing.TB, ns netns.NsHandle, dst, via string) {
	t.Helper()
	_, ipnet, err := net.ParseCIDR(dst)
	if err != nil {
		t.Fatal(err)
	}
	if err := handleAt(t, ns).RouteAdd(&netlink.Route{Dst: ipnet, Gw: net.ParseIP(via)}); err != nil {
		t.Fatal(err)
	}
}

// Devices without an Ethernet header: what a tun device delivers and takes.
func TestTapL3Device(t *testing.T) {
	ns := newNetns(t)
	tun := inNetns(t, ns, func() (*netlink.Tuntap, error) {
		dev := &netlink.Tuntap{
			LinkAttrs: netlink.NewLinkAttrs(), Mode: netlink.TUNTAP_MODE_TUN,
			Flags: netlink.TUNTAP_NO_PI | netlink.TUNTAP_ONE_QUEUE, Queues: 1, NonPersist: true,
		}
		dev.Name = "tun0"
		return dev, netlink.LinkAdd(dev)
	})
	t.Cleanup(func() { tun.Fds[0].Close() })
	h := handleAt(t, ns)
	if err := h.LinkSetUp(tun); err != nil {
		t.Fatal(err)
	}
	addAddr(t, ns, tun, "10.9.0.2/24")

	tap := startTap(t, ns, Config{}, newCollector(), Target{serverAddr4, 80}, Target{netip.MustParseAddr("10.9.0.7"), 81})
	in := packet{
		src: netip.MustParseAddrPort("10.9.0.1:40000"), dst: netip.AddrPortFrom(serverAddr4, 80),
		seq: 100, flags: FlagSYN, payload: "early data", noEthernet: true,
	}
	if _, err := tun.Fds[0].Write(in.bytes(t)); err != nil {
		t.Fatal(err)
	}
	tap.until("the packet that came in", func() bool { st, _ := tap.stream(flowOf(in.src, in.dst)); return string(st.data) == "early data" })

	// As large as a packet gets, and with all flags at once.
	in.dst, in.src = netip.AddrPortFrom(serverAddr4, 80), netip.MustParseAddrPort("10.9.0.1:40001")
	in.flags, in.payload = FlagSYN|FlagFIN|FlagPSH, string(random(65_000))
	var parts []Segment
	tap.collector.mu.Lock()
	tap.onSegment = func(s *Segment) {
		part := *s
		part.Payload, part.Time, part.Ifindex = bytes.Clone(s.Payload), 0, 0
		parts = append(parts, part)
	}
	tap.collector.mu.Unlock()
	if _, err := tun.Fds[0].Write(in.bytes(t)); err != nil {
		t.Fatal(err)
	}
	flow := flowOf(in.src, in.dst)
	tap.until("the large packet", func() bool { st, _ := tap.stream(flow); return st.fin })
	const chunk = len(tapScratch{}.Payload)
	want := []Segment{
		{Flow: flow, Seq: 100, Flags: FlagSYN, Payload: []byte(in.payload[:chunk])},
		{Flow: flow, Seq: 101 + uint32(chunk), Continues: true, Payload: []byte(in.payload[chunk : 2*chunk])},
		{Flow: flow, Seq: 101 + 2*uint32(chunk), Continues: true, Flags: FlagFIN | FlagPSH, Payload: []byte(in.payload[2*chunk:])},
	}
	tap.collector.mu.Lock()
	if diff := cmp.Diff(want, parts); diff != "" {
		t.Errorf("parts (-want +got):\n%s", diff)
	}
	tap.onSegment = nil
	tap.collector.mu.Unlock()

	// Nobody answers: the SYN that goes out is all there is.
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	dialed := make(chan struct{})
	go func() {
		defer close(dialed)
		inNetns(t, ns, func() (struct{}, error) {
			if c, err := (&net.Dialer{}).DialContext(ctx, "tcp", "10.9.0.7:81"); err == nil {
				c.Close()
			}
			return struct{}{}, nil
		})
	}()
	tap.until("the packet that went out", func() bool {
		tap.collector.mu.Lock()
		defer tap.collector.mu.Unlock()
		for f, st := range tap.streams {
			if f.DstPort == 81 && st.opened {
				return true
			}
		}
		return false
	})
	cancel()
	<-dialed
	tap.finish()
}

// An idle tap is woken by the first packet, and its Sinks see the time pass.
func TestTapIdle(t *testing.T) {
	n := newNetwork(t)
	at, received := listen(t, n.server, netip.AddrPortFrom(serverAddr4, 8080))
	tap := startTap(t, n.server, Config{Shards: 1}, newCollector(), Target{serverAddr4, 8080})
	asleep := func() bool { return atomic.LoadUint32(tap.control.wake(0)) == uint32(tapWakeWAKE_NEXT) }
	for range 3 {
		for deadline := time.Now().Add(patience); !asleep(); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("the reader does not go to sleep")
			}
		}
		c, flow := dial(t, n.client, at)
		tap.until("the SYN", func() bool { st, _ := tap.stream(flow); return st.opened })
		c.Close()
		<-received
	}
	tap.finish()
}

func TestTapLifecycle(t *testing.T) {
	ns := newNetns(t)
	open := func() *Tap { return inNetns(t, ns, func() (*Tap, error) { return Open(Config{Shards: 2}) }) }
	tap := open()
	if err := tap.SetTargets([]Target{{serverAddr4, 0}}); err == nil {
		t.Error("a target without a port was accepted")
	}
	if err := tap.Run(t.Context(), make([]Sink, 1)); err == nil {
		t.Error("one sink for two shards was accepted")
	}
	done := make(chan error)
	go func() { done <- tap.Run(context.Background(), sinksOf(t, tap, newCollector())) }()
	<-tap.Ready()
	if err := tap.Run(context.Background(), sinksOf(t, tap, newCollector())); err == nil {
		t.Error("a second Run was accepted")
	}
	if err := tap.Close(); err != nil {
		t.Error(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := tap.Close(); err != nil {
		t.Error("second Close:", err)
	}
	if err := tap.SetTargets(nil); err == nil {
		t.Error("SetTargets on a closed tap was accepted")
	}
	if err := tap.Run(context.Background(), sinksOf(t, tap, newCollector())); err == nil {
		t.Error("Run of a closed tap was accepted")
	}
	if err := open().Close(); err != nil { // never run
		t.Error(err)
	}
}

// needTCX skips the test on kernels before 6.6.
func needTCX(t testing.TB, n *network) {
	t.Helper()
	k := newKernel(t, 1, 1<<20, 0)
	supported := inNetns(t, n.server, func() (bool, error) {
		l, err := link.AttachTCX(link.TCXOptions{
			Interface: n.serverLink.Attrs().Index, Program: k.TapIngressEth, Attach: ebpf.AttachTCXIngress,
		})
		if err != nil {
			return false, ignoring(err, ebpf.ErrNotSupported)
		}
		return true, l.Close()
	})
	if !supported {
		t.Skip("this kernel has no tcx")
	}
}

func ignoring(err, ignored error) error {
	if errors.Is(err, ignored) {
		return nil
	}
	return err
}
