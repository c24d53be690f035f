package torture

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/shadowtap/shadowtap/pkg/netlab"
)

// neighbour is a program of somebody else's on the node's network: it counts
// the packets of port 80, or of another one, and does something with them.
type neighbour struct {
	*ebpf.Program
	seen *ebpf.Map
}

// What a program finds in a frame that carries TCP over IPv4 without options.
const (
	atEtherType = 12
	atProtocol  = 14 + 9
	atSrcPort   = 14 + 20
	atDstPort   = 14 + 20 + 2
	atChecksum  = 14 + 20 + 16
)

// What a tcx or TC program returns: TCX_NEXT and TCX_DROP (linux/bpf.h).
const (
	next = -1
	drop = 2
)

func htons(port uint16) int32 {
	return int32(binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, port)))
}

// newNeighbour loads a program that counts the packets with a port in a place,
// and then runs the given instructions, with the packet in R6. They end the
// program; what falls through goes on to the next one.
func newNeighbour(s *stage, name string, kind ebpf.ProgramType, at int32, port uint16, then ...asm.Instruction) neighbour {
	s.Helper()
	seen, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	must(s, err)
	s.Cleanup(func() { _ = seen.Close() })
	load, pass := asm.FnSkbLoadBytes, int32(next)
	if kind == ebpf.XDP {
		load, pass = asm.FnXdpLoadBytes, 2 // XDP_PASS
	}
	var code asm.Instructions
	code = append(code, asm.Mov.Reg(asm.R6, asm.R1))
	for _, field := range []struct{ at, size, is int32 }{{atEtherType, 2, htons(unix.ETH_P_IP)}, {atProtocol, 1, unix.IPPROTO_TCP}, {at, 2, htons(port)}} {
		size := asm.Half
		if field.size == 1 {
			size = asm.Byte
		}
		code = append(code,
			asm.Mov.Reg(asm.R1, asm.R6), asm.Mov.Imm(asm.R2, field.at),
			asm.Mov.Reg(asm.R3, asm.RFP), asm.Add.Imm(asm.R3, -8), asm.Mov.Imm(asm.R4, field.size),
			load.Call(), asm.JNE.Imm(asm.R0, 0, "pass"),
			asm.LoadMem(asm.R1, asm.RFP, -8, size), asm.JNE.Imm(asm.R1, field.is, "pass"))
	}
	code = append(code,
		asm.StoreImm(asm.RFP, -4, 0, asm.Word),
		asm.LoadMapPtr(asm.R1, seen.FD()), asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, -4),
		asm.FnMapLookupElem.Call(), asm.JEq.Imm(asm.R0, 0, "pass"),
		asm.Mov.Imm(asm.R1, 1), asm.AddAtomic.Mem(asm.R0, asm.R1, asm.DWord, 0))
	code = append(code, then...)
	code = append(code, asm.Mov.Imm(asm.R0, pass).WithSymbol("pass"), asm.Return())
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: name, Type: kind, License: "GPL", Instructions: code})
	must(s, err)
	s.Cleanup(func() { _ = p.Close() })
	return neighbour{p, seen}
}

func (n neighbour) count(s *stage) (packets uint64) {
	s.Helper()
	must(s, n.seen.Lookup(uint32(0), &packets))
	return packets
}

// dropSome drops one packet in so many.
func dropSome(oneIn int32) []asm.Instruction {
	return []asm.Instruction{
		asm.FnGetPrandomU32.Call(), asm.Mod.Imm(asm.R0, oneIn), asm.JNE.Imm(asm.R0, 0, "pass"),
		asm.Mov.Imm(asm.R0, drop), asm.Return(),
	}
}

// redirect sends packets out of another interface, whose neighbour is asked
// for its address, as network plugins do.
func redirect(ifindex int) []asm.Instruction {
	return []asm.Instruction{
		asm.Mov.Imm(asm.R1, int32(ifindex)), asm.Mov.Imm(asm.R2, 0), asm.Mov.Imm(asm.R3, 0), asm.Mov.Imm(asm.R4, 0),
		asm.FnRedirectNeigh.Call(), asm.Return(),
	}
}

// rewrite changes a port.
func rewrite(at int32, from, to uint16) []asm.Instruction {
	return []asm.Instruction{
		asm.Mov.Reg(asm.R1, asm.R6), asm.Mov.Imm(asm.R2, atChecksum), asm.Mov.Imm(asm.R3, htons(from)),
		asm.Mov.Imm(asm.R4, htons(to)), asm.Mov.Imm(asm.R5, 2), asm.FnL4CsumReplace.Call(),
		asm.StoreImm(asm.RFP, -8, int64(htons(to)), asm.Half),
		asm.Mov.Reg(asm.R1, asm.R6), asm.Mov.Imm(asm.R2, at), asm.Mov.Reg(asm.R3, asm.RFP), asm.Add.Imm(asm.R3, -8),
		asm.Mov.Imm(asm.R4, 2), asm.Mov.Imm(asm.R5, 0), asm.FnSkbStoreBytes.Call(),
	}
}

// inNode runs f with an interface of the node's.
func (s *stage) inNode(name string, f func(l netlink.Link) error) {
	s.Helper()
	must(s, s.node.Do(func() error {
		l, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		return f(l)
	}))
}

// tcx attaches a neighbour to eth0 of the node, in front of everything or
// behind it. The test is skipped on kernels without tcx.
func (s *stage) tcx(n neighbour, hook ebpf.AttachType, anchor link.Anchor) {
	s.Helper()
	s.inNode("eth0", func(l netlink.Link) error {
		attached, err := link.AttachTCX(link.TCXOptions{Interface: l.Attrs().Index, Program: n.Program, Attach: hook, Anchor: anchor})
		if errors.Is(err, ebpf.ErrNotSupported) {
			s.Skipf("this kernel has no tcx: %v", err)
		}
		if err == nil {
			s.Cleanup(func() { _ = attached.Close() })
		}
		return err
	})
}

// filter attaches a neighbour to the clsact qdisc of eth0, which it makes.
func (s *stage) filter(n neighbour, parent uint32, priority uint16) {
	s.Helper()
	s.inNode("eth0", func(l netlink.Link) error {
		index := l.Attrs().Index
		err := netlink.QdiscAdd(&netlink.GenericQdisc{
			QdiscAttrs: netlink.QdiscAttrs{LinkIndex: index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT},
			QdiscType:  "clsact",
		})
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return err
		}
		return netlink.FilterAdd(&netlink.BpfFilter{
			FilterAttrs: netlink.FilterAttrs{LinkIndex: index, Parent: parent, Handle: 1, Priority: priority, Protocol: unix.ETH_P_ALL},
			Fd:          n.FD(), Name: "neighbour", DirectAction: true,
		})
	})
}

func (s *stage) xdp(n neighbour) {
	s.Helper()
	s.inNode("eth0", func(l netlink.Link) error {
		attached, err := link.AttachXDP(link.XDPOptions{Program: n.Program, Interface: l.Attrs().Index, Flags: link.XDPGenericMode})
		if err == nil {
			s.Cleanup(func() { _ = attached.Close() })
		}
		return err
	})
}

// others lists everything on the node's eth0 that is not an agent's.
func (s *stage) others() (all []string) {
	s.Helper()
	s.inNode("eth0", func(l netlink.Link) error {
		if x := l.Attrs().Xdp; x != nil {
			all = append(all, fmt.Sprint("xdp ", x.ProgId))
		}
		for _, hook := range []ebpf.AttachType{ebpf.AttachTCXIngress, ebpf.AttachTCXEgress} {
			found, err := link.QueryPrograms(link.QueryOptions{Target: l.Attrs().Index, Attach: hook})
			if err != nil {
				return err
			}
			for _, p := range found.Programs {
				if name := programName(p.ID); !strings.HasPrefix(name, "tap_") {
					all = append(all, fmt.Sprint(hook, " ", p.ID))
				}
			}
		}
		qdiscs, err := netlink.QdiscList(l)
		if err != nil {
			return err
		}
		for _, q := range qdiscs {
			all = append(all, fmt.Sprint("qdisc ", q.Type(), " ", q.Attrs().Handle))
		}
		for _, parent := range []uint32{netlink.HANDLE_MIN_INGRESS, netlink.HANDLE_MIN_EGRESS} {
			filters, err := netlink.FilterList(l, parent)
			if err != nil {
				return err
			}
			for _, f := range filters {
				if bpf, ok := f.(*netlink.BpfFilter); ok && bpf.Name == "neighbour" {
					all = append(all, fmt.Sprint("filter ", parent, " ", bpf.Priority, " ", bpf.Handle, " ", bpf.Id))
				}
			}
		}
		return nil
	})
	return all
}

// beside: neighbours in every place. They see the same packets, and stay what
// and where they are, while agents start, stop and crash.
func beside(s *stage) {
	count := func(name string, kind ebpf.ProgramType) neighbour {
		return newNeighbour(s, name, kind, atDstPort, served4.Port())
	}
	first, behind := count("first", ebpf.XDP), count("behind", ebpf.SchedCLS)
	one, fifty, front := count("one", ebpf.SchedCLS), count("fifty", ebpf.SchedCLS), count("front", ebpf.SchedCLS)
	out := newNeighbour(s, "out", ebpf.SchedCLS, atSrcPort, served4.Port())
	outside := newNeighbour(s, "outside", ebpf.SchedCLS, atSrcPort, served4.Port())
	s.xdp(first)
	s.tcx(behind, ebpf.AttachTCXIngress, link.Tail())
	s.filter(one, netlink.HANDLE_MIN_INGRESS, 1)
	s.filter(fifty, netlink.HANDLE_MIN_INGRESS, 50)
	s.tcx(out, ebpf.AttachTCXEgress, link.Tail())
	s.filter(outside, netlink.HANDLE_MIN_EGRESS, 1)

	a := s.launch("--attach", "tcx")
	s.ready(a)
	s.tcx(front, ebpf.AttachTCXIngress, link.Head())
	want := s.others()
	unchanged := func(after string) {
		s.Helper()
		if got := s.others(); !slices.Equal(got, want) {
			s.Errorf("neighbours after %s: %v, want %v", after, got, want)
		}
	}
	s.begin()
	for _, attach := range []string{"tcx", "clsact"} {
		s.goOn(2)
		from := s.settled()
		s.kill(a)
		unchanged("a crash of an agent")
		a = s.start("--attach", attach)
		s.bad = append(s.bad, period{from, time.Now()})
		unchanged("a start")
		s.goOn(2)
		from = s.settled()
		s.stop(a)
		unchanged("a stop")
		a = s.start("--attach", "clsact")
		s.bad = append(s.bad, period{from, time.Now()})
	}
	s.goOn(2)
	s.traffic.end()
	s.stop(a)
	unchanged("the last stop")
	for name, n := range map[string]neighbour{"tcx behind": behind, "clsact 1": one, "clsact 50": fifty, "tcx in front": front} {
		waitFor(s, name+" having seen what the program before everything has", func() bool {
			all := first.count(s)
			return all > 0 && n.count(s) == all
		})
	}
	waitFor(s, "both on the way out having seen the same", func() bool {
		all := out.count(s)
		return all > 0 && outside.count(s) == all
	})
}

// around runs one agent among neighbours, of which front is attached when it
// is there already, before it. It must see as many packets as want says.
func around(s *stage, front func(), want func() uint64) account {
	a := s.launch("--attach", "tcx")
	s.ready(a)
	front()
	s.begin()
	s.goOn(6)
	s.traffic.end()
	c := countersOf(s, tapPrograms(s, s.node, "eth0")[0])
	waitFor(s, "the agent having seen the packets that it should", func() bool {
		n, err := c.seen()
		must(s, err)
		return n == want()
	})
	return s.stop(a)
}

// behindDrops: what never came as far as the agent is not captured.
func behindDrops(s *stage) {
	front := newNeighbour(s, "front", ebpf.SchedCLS, atDstPort, served4.Port(), dropSome(8)...) // of more than a hundred
	behind := newNeighbour(s, "behind", ebpf.SchedCLS, atDstPort, served4.Port())
	s.tcx(behind, ebpf.AttachTCXIngress, link.Tail())
	around(s, func() { s.tcx(front, ebpf.AttachTCXIngress, link.Head()) }, func() uint64 { return behind.count(s) })
	if front.count(s) == behind.count(s) {
		s.Error("nothing was dropped, this test shows nothing")
	}
}

// beforeDrops: what came as far as the agent is captured, also if v1 gets it
// only when it is sent again.
func beforeDrops(s *stage) {
	behind := newNeighbour(s, "behind", ebpf.SchedCLS, atDstPort, served4.Port(), dropSome(20)...)
	s.tcx(behind, ebpf.AttachTCXIngress, link.Tail())
	around(s, func() {}, func() uint64 { return behind.count(s) })
}

// redirecting is a neighbour that takes packets past routing to v1.
func redirecting(s *stage) (n neighbour) {
	s.inNode("v1-0", func(l netlink.Link) error {
		n = newNeighbour(s, "redirect", ebpf.SchedCLS, atDstPort, served4.Port(), redirect(l.Attrs().Index)...)
		return nil
	})
	return n
}

// behindRedirect: on eth0 the agent sees nothing, on the way out to v1 all.
func behindRedirect(s *stage) {
	n := redirecting(s)
	acc := around(s, func() { s.tcx(n, ebpf.AttachTCXIngress, link.Head()) }, func() uint64 { return n.count(s) })
	if acc.Packets.Skipped["duplicate"] != 0 {
		s.Errorf("packets %+v: some were seen twice", acc.Packets)
	}
}

// beforeRedirect: it sees each of them twice, and copies it once.
func beforeRedirect(s *stage) {
	n := redirecting(s)
	s.tcx(n, ebpf.AttachTCXIngress, link.Tail())
	acc := around(s, func() {}, func() uint64 { return 2 * n.count(s) })
	if acc.Packets.Skipped["duplicate"] == 0 {
		s.Errorf("packets %+v: none was seen twice", acc.Packets)
	}
}

// behindRewrite: v1 is reached by another port than its own, as behind a node
// port. The agent sees what v1 sees.
func behindRewrite(s *stage) {
	const outside = 8080
	s.server = netip.AddrPortFrom(s.server.Addr(), outside)
	in := newNeighbour(s, "in", ebpf.SchedCLS, atDstPort, outside, rewrite(atDstPort, outside, served4.Port())...)
	out := newNeighbour(s, "out", ebpf.SchedCLS, atSrcPort, served4.Port(), rewrite(atSrcPort, served4.Port(), outside)...)
	around(s, func() {
		s.tcx(in, ebpf.AttachTCXIngress, link.Head())
		s.tcx(out, ebpf.AttachTCXEgress, link.Tail())
	}, func() uint64 { return in.count(s) })
}

// churn: interfaces appear, are renamed, move to another namespace and back
// and vanish, and the one that carries the traffic goes down and up.
func churn(s *stage) {
	elsewhere := namespace(s.T, "elsewhere")
	a := s.start("--attach", "tcx")
	rounds := s.times(8, 200)
	for i := range rounds {
		name := fmt.Sprint("churn", i%3)
		must(s, netlab.Connect(netlab.End{Namespace: s.node, Name: name}, netlab.End{Namespace: s.client, Name: "peer"}))
		s.inNode(name, func(l netlink.Link) error {
			return errors.Join(netlink.LinkSetDown(l), netlink.LinkSetName(l, "renamed"), netlink.LinkSetUp(l))
		})
		s.move("renamed", s.node, elsewhere)
		s.move("renamed", elsewhere, s.node)
		s.inNode("eth0", func(l netlink.Link) error { return errors.Join(netlink.LinkSetDown(l), netlink.LinkSetUp(l)) })
		s.goOn(0)
		must(s, s.node.Delete("renamed"))
	}
	s.traffic.end()
	s.stop(a)
}

// move gives an interface to another namespace, and brings it up there.
func (s *stage) move(name string, from, to *netlab.Namespace) {
	s.Helper()
	var there *os.File
	must(s, to.Do(func() (err error) {
		there, err = os.Open("/proc/thread-self/ns/net")
		return err
	}))
	defer there.Close()
	must(s, from.Do(func() error {
		l, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		return netlink.LinkSetNsFd(l, int(there.Fd()))
	}))
	must(s, to.Do(func() error {
		l, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		return netlink.LinkSetUp(l)
	}))
}
