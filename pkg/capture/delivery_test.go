package capture

import (
	"bytes"
	"net/netip"
	"os"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// deliveries are ways in which network plugins bring packets to a pod.
func deliveries() map[string]func(t *testing.T, n *podNetwork) {
	return map[string]func(t *testing.T, n *podNetwork){
		"veth, routed":            func(t *testing.T, n *podNetwork) { n.cable(t) },
		"veth, bpf_redirect_peer": func(t *testing.T, n *podNetwork) { n.cable(t); n.redirectPeer(t) },
		"netkit, L2":              func(t *testing.T, n *podNetwork) { n.netkit(t, netlink.NETKIT_MODE_L2) },
		"netkit, L3":              func(t *testing.T, n *podNetwork) { n.netkit(t, netlink.NETKIT_MODE_L3) },
	}
}

// However a network plugin brings packets to a pod, they arrive there, and are
// copied once.
func TestInstanceDelivery(t *testing.T) {
	for name, deliver := range deliveries() {
		t.Run(name, func(t *testing.T) {
			const size = 1 << 20
			n := newPodNetwork(t)
			deliver(t, n)
			target := netip.AddrPortFrom(podAddr, 8080)
			_, received := listen(t, n.pod, target)
			tap := startTap(t, newNetns(t), Config{Instances: true}, newCollector())
			i := tap.newInstance(n.pod, false, Target{podAddr, 8080})
			c, flow := dial(t, n.client, target)
			flow.Instance = i.ID()
			sent := random(size)
			send(t, c, sent)
			c.Close()
			if !bytes.Equal(<-received, sent) {
				t.Fatal("the pod got something else")
			}
			tap.until("end of the stream", func() bool { st, _ := tap.stream(flow); return st.fin })
			counted, counters := tap.finish()
			if st, _ := tap.stream(flow); !bytes.Equal(st.data, sent) {
				t.Errorf("captured %d bytes of %d, or they differ", len(st.data), size)
			}
			if counted[SkippedDuplicate]+counted[SkippedOtherSide] != 0 || counters.CopiedBytes > size*3/2 {
				t.Errorf("not copied just once: %v, %d bytes", counted, counters.CopiedBytes)
			}
		})
	}
}

// And whatever the pod answers leaves by its interface, once.
func TestInstanceDeliveryOfResponses(t *testing.T) {
	for name, deliver := range deliveries() {
		t.Run(name, func(t *testing.T) {
			n := newPodNetwork(t)
			deliver(t, n)
			request, answer := random(1000), random(1<<20)
			at, _ := serve(t, n.pod, netip.AddrPortFrom(podAddr, 8080), answer)
			tap := startTap(t, newNetns(t), Config{Instances: true, Responses: true, RingBytes: 16 << 20}, newCollector())
			i := tap.newInstance(n.pod, false, Target{podAddr, 8080})
			flow := ask(t, n.client, at, request, answer)
			flow.Instance = i.ID()
			tap.exchanged(flow, request, answer)
			tap.finish()
			if counted, counters := tap.answered(); counted[SkippedDuplicate]+counted[SkippedOtherSide] != 0 || counters.CopiedBytes > uint64(len(answer)*3/2) {
				t.Errorf("not copied just once: %v, %d bytes", counted, counters.CopiedBytes)
			}
		})
	}
}

// podNetwork is a client, a node that routes, and a pod.
type podNetwork struct {
	*network // whose server is the node
	pod      netns.NsHandle
}

var podAddr = netip.MustParseAddr("10.10.0.2")

func newPodNetwork(t *testing.T) *podNetwork {
	t.Helper()
	n := &podNetwork{newNetwork(t), newNetns(t)}
	inNetns(t, n.server, func() (struct{}, error) {
		return struct{}{}, os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0)
	})
	addRoute(t, n.client, "10.10.0.0/24", "10.9.0.2")
	return n
}

// cable connects pod and node by a veth pair.
func (n *podNetwork) cable(t *testing.T) {
	t.Helper()
	host, eth0 := newVeth(t, n.server, n.pod, "host0", "eth0")
	n.address(t, host, eth0)
}

func (n *podNetwork) address(t *testing.T, host, eth0 netlink.Link) {
	t.Helper()
	addAddr(t, n.server, host, "10.10.0.1/24")
	addAddr(t, n.pod, eth0, podAddr.String()+"/24")
	addRoute(t, n.pod, "10.9.0.0/24", "10.10.0.1")
}

// redirectPeer has the node deliver to the pod without passing the node's end
// of the cable, as Cilium's host routing does.
func (n *podNetwork) redirectPeer(t *testing.T) {
	t.Helper()
	h := handleAt(t, n.server)
	host, err := h.LinkByName("host0")
	if err != nil {
		t.Fatal(err)
	}
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, License: "GPL", Instructions: asm.Instructions{
		asm.LoadMem(asm.R2, asm.R1, 16, asm.Word), // skb->protocol
		asm.JNE.Imm(asm.R2, 0x0008, "next"),       // ETH_P_IP, as it arrives
		asm.Mov.Imm(asm.R1, int32(host.Attrs().Index)),
		asm.Mov.Imm(asm.R2, 0),
		asm.FnRedirectPeer.Call(),
		asm.Return(),
		asm.Mov.Imm(asm.R0, -1).WithSymbol("next"),
		asm.Return(),
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { prog.Close() })
	l := inNetns(t, n.server, func() (link.Link, error) {
		l, err := link.AttachTCX(link.TCXOptions{Interface: n.serverLink.Attrs().Index, Program: prog, Attach: ebpf.AttachTCXIngress})
		return l, ignoring(err, ebpf.ErrNotSupported)
	})
	if l == nil {
		t.Skip("this kernel has no tcx")
	}
	t.Cleanup(func() {
		l.Close()
		host, err := h.LinkByName("host0")
		if err != nil {
			t.Fatal(err)
		}
		if sent := host.Attrs().Statistics.TxBytes; sent > 1<<16 { // more than neighbours have to say
			t.Errorf("%d bytes passed the node's end: nothing was redirected", sent)
		}
	})
}

// netkit connects pod and node by a netkit pair.
func (n *podNetwork) netkit(t *testing.T, mode netlink.NetkitMode) {
	t.Helper()
	pair := &netlink.Netkit{LinkAttrs: netlink.NewLinkAttrs(), Mode: mode}
	pair.Name = "host0"
	peer := netlink.NewLinkAttrs()
	peer.Name, peer.Namespace = "eth0", netlink.NsFd(int(n.pod))
	pair.SetPeerAttrs(&peer)
	h, hp := handleAt(t, n.server), handleAt(t, n.pod)
	if err := h.LinkAdd(pair); err != nil {
		t.Skipf("this kernel has no netkit: %v", err)
	}
	up := func(h *netlink.Handle, name string) netlink.Link {
		l, err := h.LinkByName(name)
		if err == nil {
			err = h.LinkSetUp(l)
		}
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	n.address(t, up(h, "host0"), up(hp, "eth0"))
}
