package capture

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/shadowtap/shadowtap/pkg/capture/attach"
)

// ask sends a request over a connection of its own, and returns its flow once
// the whole answer has been read.
func ask(t testing.TB, from netns.NsHandle, at netip.AddrPort, request, answer []byte) Flow {
	t.Helper()
	c, flow := dial(t, from, at)
	send(t, c, request)
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, answer) {
		t.Fatalf("the client got %d bytes of %d, or they differ", len(got), len(answer))
	}
	c.Close()
	return flow
}

// exchanged waits until both directions of a flow have ended and checks what
// was captured of them.
func (r *running) exchanged(f Flow, request, answer []byte) {
	r.t.Helper()
	r.until("the end of both streams", func() bool {
		st, _ := r.stream(f)
		return st.fin && r.answer(f).fin
	})
	to, _ := r.stream(f)
	from := r.answer(f)
	if !bytes.Equal(to.data, request) {
		r.t.Errorf("captured %d bytes of the request, sent %d, or they differ", len(to.data), len(request))
	}
	if !bytes.Equal(from.data, answer) {
		r.t.Errorf("captured %d bytes of the response, sent %d, or they differ", len(from.data), len(answer))
	}
	if to.marked+from.marked+to.torn+from.torn != 0 {
		r.t.Errorf("%d and %d marks, %d and %d torn", to.marked, from.marked, to.torn, from.torn)
	}
}

// askForMore asks, one connection after the other, until the answer had a packet
// of more bytes than given, and checks each. It is the stack that decides how
// large packets are, and where it is starved of CPU they are small; then it
// reports false.
func (r *running) askForMore(n *network, at netip.AddrPort, request, answer []byte, bytes int) bool {
	r.t.Helper()
	for range 5 {
		flow := ask(r.t, n.client, at, request, answer)
		r.exchanged(flow, request, answer)
		if r.answer(flow).largest > bytes {
			return true
		}
	}
	return false
}

// answered returns what was counted of responses, after finish.
func (r *running) answered() (tally, Counters) {
	r.t.Helper()
	c, err := r.ResponseCounters()
	if err != nil {
		r.t.Fatal(err)
	}
	return flatten(r.t, c), c
}

// Every byte of large responses arrives, in super-packets as the stack makes
// them before the device cuts them up, beside the request's.
func TestTapResponses(t *testing.T) {
	const size = 4 << 20 // a third of what a ring has for responses: nothing may be lost
	request, answer := random(100_000), random(size)
	for _, mode := range []attach.Mode{attach.TCX, attach.Clsact} {
		for _, addr := range []netip.Addr{serverAddr4, serverAddr6} {
			t.Run(fmt.Sprintf("%v/%v", mode, addr), func(t *testing.T) {
				n := newNetwork(t)
				if mode == attach.TCX {
					needTCX(t, n)
				}
				at, _ := serve(t, n.server, netip.AddrPortFrom(addr, 8080), answer)
				tap := startTap(t, n.server, Config{Attach: mode, RingBytes: 16 << 20, Responses: true}, newCollector(), Target{addr, 8080})
				if tap.hooksOn("lo", "s0") != 3 { // both directions, and lo
					t.Errorf("hooks: %+v", tap.Hooks())
				}
				large := tap.askForMore(n, at, request, answer, len(tapScratch{}.Payload))
				requests, _ := tap.finish()
				responses, counters := tap.answered()
				if counters.CopiedBytes < size || counters.LostBytes != 0 || responses[SkippedDuplicate] != 0 {
					t.Errorf("counted %v, %+v", responses, counters)
				}
				if requests["copied"] == 0 || requests[SkippedPureACK] == 0 || requests[SkippedDuplicate] != 0 {
					t.Errorf("counted %v of the requests", requests)
				}
				if !large {
					t.Skip("the stack made no super-packet; all else is well")
				}
			})
		}
	}
}

// A client on the host itself: both ways pass lo, and nothing but lo.
func TestTapResponsesOverLoopback(t *testing.T) {
	n := newNetwork(t)
	request, answer := random(100_000), random(1<<20)
	at, _ := serve(t, n.server, netip.AddrPortFrom(serverAddr4, 8080), answer)
	tap := startTap(t, n.server, Config{RingBytes: 16 << 20, Responses: true}, newCollector(), Target{serverAddr4, 8080})
	flow := ask(t, n.server, at, request, answer)
	tap.exchanged(flow, request, answer)
	tap.finish()
	if responses, _ := tap.answered(); responses[SkippedDuplicate] != 0 {
		t.Errorf("counted %v", responses)
	}
}

// BIG TCP: packets beyond 64 KiB on their way out.
func TestTapResponsesBigTCP(t *testing.T) {
	n := newNetwork(t)
	for ns, link := range map[netns.NsHandle]netlink.Link{n.client: n.clientLink, n.server: n.serverLink} {
		h := handleAt(t, ns)
		for _, set := range []func(netlink.Link, int) error{h.LinkSetGSOMaxSize, h.LinkSetGROMaxSize} {
			if err := set(link, 200_000); err != nil {
				t.Skipf("this kernel has no BIG TCP: %v", err)
			}
		}
	}
	request, answer := []byte("GET /"), random(4<<20)
	at, _ := serve(t, n.server, netip.AddrPortFrom(serverAddr6, 8080), answer)
	tap := startTap(t, n.server, Config{RingBytes: 16 << 20, Responses: true}, newCollector(), Target{serverAddr6, 8080})
	large := tap.askForMore(n, at, request, answer, 1<<16)
	tap.finish()
	if !large {
		t.Skip("the stack made no BIG TCP packet; all else is well")
	}
}

// On a router both ways pass two interfaces, and are copied once; by address,
// and by the port of whatever comes in at one of them.
func TestTapResponsesRouter(t *testing.T) {
	request, answer := random(1000), random(1<<20)
	for name, tt := range map[string]struct {
		cfg    Config
		target Target
		hooks  int
		twice  bool
	}{
		"address":         {Config{}, Target{routedAddr4, 8080}, 4, true},
		"named interface": {Config{Interfaces: []string{"s0"}}, Target{Port: 8080}, 2, false},
	} {
		t.Run(name, func(t *testing.T) {
			router, server := newRouter(t)
			at, _ := serve(t, server, netip.AddrPortFrom(routedAddr4, 8080), answer)
			tt.cfg.Responses, tt.cfg.RingBytes = true, 16<<20
			tap := startTap(t, router.server, tt.cfg, newCollector(), tt.target)
			if tap.hooksOn("s0", "s1") != tt.hooks {
				t.Errorf("hooks: %+v", tap.Hooks())
			}
			flow := ask(t, router.client, at, request, answer)
			tap.exchanged(flow, request, answer)
			tap.finish()
			responses, counters := tap.answered()
			if tt.twice != (responses[SkippedDuplicate] > 0) || counters.CopiedBytes > uint64(len(answer)*3/2) {
				t.Errorf("not copied just once: %v, %d bytes", responses, counters.CopiedBytes)
			}
		})
	}
}

// What a full ring loses is lost of responses first, and marked where it was.
func TestTapResponsesRingFull(t *testing.T) {
	n := newNetwork(t)
	answer := random(2 << 20)
	at, _ := serve(t, n.server, netip.AddrPortFrom(serverAddr4, 8080), answer)
	small, _ := serve(t, n.server, netip.AddrPortFrom(serverAddr4, 8081), []byte("small"))
	held, release := make(chan struct{}), make(chan struct{})
	c := newCollector()
	first := true
	c.onSegment = func(*Segment) {
		if first {
			first = false
			close(held)
			<-release // a Sink must not do this
		}
	}
	tap := startTap(t, n.server, Config{RingBytes: 256 << 10, Shards: 1, Responses: true}, c, Target{serverAddr4, 8080}, Target{serverAddr4, 8081})

	ask(t, n.client, small, []byte("GET /"), []byte("small"))
	<-held
	tap.control.aliveForNow(tap.clock) // the reader cannot say so
	flow := ask(t, n.client, at, []byte("GET /large"), answer)
	// The reader stands still, and the ring holds what responses may have of it.
	other := ask(t, n.client, small, []byte("GET /small"), []byte("small"))
	close(release)
	tap.until("the requests", func() bool {
		to, _ := tap.stream(flow)
		st, _ := tap.stream(other)
		return to.fin && st.fin
	})
	requests, _ := tap.finish()
	if requests[LostRingFull] != 0 {
		t.Errorf("requests were lost: %v", requests)
	}
	for f, want := range map[Flow]string{flow: "GET /large", other: "GET /small"} {
		if st, _ := tap.stream(f); string(st.data) != want || st.marked != 0 {
			t.Errorf("captured %q, %d marks", st.data, st.marked)
		}
	}
	responses, counters := tap.answered()
	if responses[LostRingFull] == 0 || counters.CopiedBytes+counters.LostBytes < uint64(len(answer)) {
		t.Errorf("counted %v: copied %d bytes of responses and lost %d, of %d", responses, counters.CopiedBytes, counters.LostBytes, len(answer))
	}
	if bytes.Equal(tap.answer(flow).data, answer) {
		t.Error("nothing is missing")
	}
}

// Pods: what an application answers leaves by eth0; what it answers a proxy
// beside it, by lo.
func TestInstanceResponses(t *testing.T) {
	for _, mode := range []attach.Mode{attach.TCX, attach.Clsact} {
		for _, proxied := range []bool{false, true} {
			t.Run(fmt.Sprintf("%v, proxied %v", mode, proxied), func(t *testing.T) {
				net := newNetwork(t)
				if mode == attach.TCX {
					needTCX(t, net)
				}
				request, answer := random(1000), random(1<<20)
				tap := startTap(t, newNetns(t), Config{Attach: mode, Instances: true, Responses: true, RingBytes: 16 << 20}, newCollector())
				i := tap.newInstance(net.server, proxied, Target{serverAddr4, 8080})
				if hooks := i.Hooks(); len(hooks) != 3 { // eth0 both ways, and lo
					t.Errorf("hooks: %+v", hooks)
				}
				at, _ := serve(t, net.server, netip.AddrPortFrom(serverAddr4, 8080), answer)
				local, _ := serve(t, net.server, netip.MustParseAddrPort("127.0.0.1:8080"), answer)
				outside := ask(t, net.client, at, request, answer)
				inside := ask(t, net.server, local, request, answer)
				outside.Instance, inside.Instance = i.ID(), i.ID()
				taken, passed := outside, inside
				if proxied {
					taken, passed = inside, outside
				}
				tap.exchanged(taken, request, answer)
				tap.finish()
				if _, ok := tap.stream(passed); ok || len(tap.answer(passed).data) > 0 {
					t.Error("captured on both sides")
				}
				if responses, counters := tap.answered(); responses[SkippedOtherSide] == 0 || responses[SkippedDuplicate] != 0 || counters.CopiedBytes > uint64(len(answer)*3/2) {
					t.Errorf("counted %v, %d bytes", responses, counters.CopiedBytes)
				}
				if left := programsIn(t, net.server, mode); left != 0 {
					t.Errorf("%d programs are left", left)
				}
			})
		}
	}
}
