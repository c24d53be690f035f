package torture

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"

	"github.com/shadowtap/shadowtap/pkg/netlab"
)

// wiring joins the client's namespace with the node's and returns where v1
// can be reached.
type wiring func(t *testing.T, p *path, client, node *netlab.Namespace) (servers []netip.AddrPort)

// addresses are those of the client and of v1, as far as the MTU allows.
func addresses(mtu int) (client, v1 []netip.Prefix, servers []netip.AddrPort) {
	client = []netip.Prefix{netip.MustParsePrefix("10.99.0.1/24")}
	v1 = []netip.Prefix{netip.PrefixFrom(served4.Addr(), 24)}
	servers = []netip.AddrPort{served4}
	if mtu >= 1280 { // RFC 8200 section 5
		client = append(client, netip.MustParsePrefix("fd99::1/64"))
		v1 = append(v1, netip.PrefixFrom(served6.Addr(), 64))
		servers = append(servers, served6)
	}
	return client, v1, servers
}

// cable is one cable.
func cable(t *testing.T, p *path, client, node *netlab.Namespace) []netip.AddrPort {
	t.Helper()
	clients, v1, servers := addresses(p.mtu)
	connect(t, p, netlab.End{Namespace: client, Addresses: clients}, netlab.End{Namespace: node, Addresses: v1})
	return servers
}

func connect(t *testing.T, p *path, ends ...netlab.End) {
	t.Helper()
	for i := range ends {
		ends[i].Name, ends[i].MTU = "eth0", p.mtu
	}
	must(t, netlab.Connect(ends[0], ends[1]))
	for _, e := range ends {
		must(t, e.Namespace.SetOffload("eth0", p.offload))
	}
}

// lossyCable loses packets in front of the tap, and others behind it.
func lossyCable(t *testing.T, p *path, client, node *netlab.Namespace) []netip.AddrPort {
	t.Helper()
	servers := cable(t, p, client, node)
	lose := asm.Instructions{
		asm.FnGetPrandomU32.Call(),
		asm.Mod.Imm(asm.R0, 100),
		asm.JLT.Imm(asm.R0, 2, "lose"),
		asm.Mov.Imm(asm.R0, -1), // TCX_NEXT
		asm.Return(),
		asm.Mov.Imm(asm.R0, 2).WithSymbol("lose"), // TCX_DROP
		asm.Return(),
	}
	attachTCX(t, client, ebpf.AttachTCXEgress, lose)
	attachTCX(t, node, ebpf.AttachTCXIngress, lose)
	return servers
}

// tagged returns a wiring on which every packet to v1 carries so many VLAN
// tags until it has passed the tap. There need not be a VLAN device for that:
// programs push them and take them off again.
func tagged(tags int) wiring {
	const (
		vlan8021Q   = 0x0081 // in network order
		vlanPresent = 20     // offset in struct __sk_buff
	)
	return func(t *testing.T, p *path, client, node *netlab.Namespace) []netip.AddrPort {
		t.Helper()
		servers := cable(t, p, client, node)
		push := asm.Instructions{asm.Mov.Reg(asm.R6, asm.R1)}
		pop := asm.Instructions{asm.Mov.Reg(asm.R6, asm.R1)}
		for i := range tags {
			push = append(push, asm.Mov.Reg(asm.R1, asm.R6), asm.Mov.Imm(asm.R2, vlan8021Q), asm.Mov.Imm(asm.R3, int32(7+i)), asm.FnSkbVlanPush.Call(), asm.JNE.Imm(asm.R0, 0, "drop"))
			// Production fails unless there is a tag to take off.
			pop = append(pop, asm.LoadMem(asm.R0, asm.R6, vlanPresent, asm.Word), asm.JEq.Imm(asm.R0, 0, "drop"),
				asm.Mov.Reg(asm.R1, asm.R6), asm.FnSkbVlanPop.Call(), asm.JNE.Imm(asm.R0, 0, "drop"))
		}
		next := asm.Instructions{
			asm.Mov.Imm(asm.R0, -1), // TCX_NEXT
			asm.Return(),
			asm.Mov.Imm(asm.R0, 2).WithSymbol("drop"), // TCX_DROP
			asm.Return(),
		}
		attachTCX(t, client, ebpf.AttachTCXEgress, append(push, next...))
		// The tap goes to the head of the chain, so this comes behind it.
		attachTCX(t, node, ebpf.AttachTCXIngress, append(pop, next...))
		return servers
	}
}

// tunnel is a VXLAN over a cable: the tap sees each packet twice, of which one
// is UDP.
func tunnel(t *testing.T, p *path, client, node *netlab.Namespace) []netip.AddrPort {
	t.Helper()
	below := [2]netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")}
	connect(t, p,
		netlab.End{Namespace: client, Addresses: []netip.Prefix{netip.PrefixFrom(below[0], 24)}},
		netlab.End{Namespace: node, Addresses: []netip.Prefix{netip.PrefixFrom(below[1], 24)}})
	clients, v1, servers := addresses(p.mtu)
	must(t, client.Tunnel(netlab.Tunnel{Name: "vxlan0", VNI: 42, Local: below[0], Remote: below[1], Addresses: clients}))
	must(t, node.Tunnel(netlab.Tunnel{Name: "vxlan0", VNI: 42, Local: below[1], Remote: below[0], Addresses: v1}))
	return servers
}

// fragmented has a router on the way whose next link is too narrow for the
// client's packets, which may be fragmented (RFC 791 section 3.2). The tap is
// where they are not put together yet.
func fragmented(t *testing.T, p *path, client, node *netlab.Namespace) []netip.AddrPort {
	t.Helper()
	const narrow = 600
	router := namespace(t, "router")
	must(t, router.Forward())
	gateway := netip.MustParsePrefix("192.0.2.2/24")
	must(t, netlab.Connect(
		netlab.End{Namespace: client, Name: "eth0", MTU: p.mtu, Addresses: []netip.Prefix{netip.MustParsePrefix("192.0.2.1/24")}},
		netlab.End{Namespace: router, Name: "clients", MTU: p.mtu, Addresses: []netip.Prefix{gateway}}))
	must(t, netlab.Connect(
		netlab.End{Namespace: router, Name: "nodes", MTU: narrow, Addresses: []netip.Prefix{netip.MustParsePrefix("10.99.0.1/24")}},
		netlab.End{Namespace: node, Name: "eth0", MTU: p.mtu, Addresses: []netip.Prefix{netip.PrefixFrom(served4.Addr(), 24)}}))
	must(t, client.Route(netip.MustParsePrefix("10.99.0.0/24"), gateway.Addr()))
	must(t, node.Route(netip.MustParsePrefix("192.0.2.0/24"), netip.MustParseAddr("10.99.0.1")))
	must(t, client.Do(func() error {
		return os.WriteFile("/proc/sys/net/ipv4/ip_no_pmtu_disc", []byte("1"), 0)
	}))
	return []netip.AddrPort{served4}
}

// attachTCX attaches a program to eth0 until the test ends.
func attachTCX(t *testing.T, ns *netlab.Namespace, hook ebpf.AttachType, instructions asm.Instructions) {
	t.Helper()
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, Instructions: instructions, License: "GPL"})
	must(t, err)
	t.Cleanup(func() { _ = program.Close() })
	must(t, ns.Do(func() error {
		eth0, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		attached, err := link.AttachTCX(link.TCXOptions{Interface: eth0.Index, Program: program, Attach: hook})
		if errors.Is(err, ebpf.ErrNotSupported) {
			t.Skipf("this kernel has no tcx: %v", err)
		}
		if err == nil {
			t.Cleanup(func() { _ = attached.Close() })
		}
		return err
	}))
}
