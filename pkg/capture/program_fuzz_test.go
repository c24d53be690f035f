package capture

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"golang.org/x/sys/unix"
)

// FuzzProgram runs arbitrary bytes through the program and compares what became
// of them with two other opinions: an oracle that reads the headers in Go, and
// gopacket wherever it sees a whole TCP packet.
func FuzzProgram(f *testing.F) {
	k := newKernel(f, 1, 1<<20, 0, Target{Port: 80})
	get := to4(FlagACK|FlagPSH, 1, "GET / HTTP/1.1\r\n\r\n")
	get6 := to6(FlagFIN|FlagACK, 1, "GET / HTTP/1.1\r\n\r\n")
	vlan, ext, l3 := get, get6, get6
	vlan.vlans, vlan.padding = []uint16{1, 2}, 7
	ext.firstNext = layers.IPProtocolIPv6HopByHop
	ext.extensions = []gopacket.SerializableLayer{
		extension(layers.IPProtocolIPv6Fragment, 2), fragmentHeader(layers.IPProtocolTCP, 0, false),
	}
	l3.noEthernet = true
	for _, p := range []packet{get, get6, vlan, ext, to4(FlagSYN, 1, ""), to6(FlagACK, 1, ""), to4(FlagRST, 1, "")} {
		f.Add(p.bytes(f), false)
	}
	f.Add(l3.bytes(f), true)

	f.Fuzz(func(t *testing.T, data []byte, noEthernet bool) {
		k.t = t
		k.alive()
		prog := k.TapIngressEth
		if noEthernet {
			prog = k.TapIngressL3
		}
		before := k.count()
		if err := k.try(prog, data, 0); errors.Is(err, unix.EINVAL) {
			t.Skip("the kernel does not take this as a packet")
		} else if err != nil {
			t.Fatal(err)
		}
		got, counted := k.segments(), k.count().minus(before)
		if counted["seen"] > 1 || counted["copied"] != uint64(len(got)) {
			t.Fatalf("counted %v, got %d segments", counted, len(got))
		}
		want, outcome := oracle(data, noEthernet)
		switch {
		case outcome == "copied":
			if len(got) != 1 {
				t.Fatalf("not copied but %v: %+v", counted, want)
			}
			got[0].Time, got[0].Ifindex = 0, 0
			if got[0].Flags&FlagSubflow == 0 && oracleSubflow(data, noEthernet) {
				t.Fatal("not marked as a subflow")
			}
			got[0].Flags &= 0xff
			if diff := cmp.Diff(want, got[0]); diff != "" {
				t.Fatalf("(-oracle +program):\n%s", diff)
			}
			if theirs, ok := decoded(data, noEthernet); ok {
				if diff := cmp.Diff(theirs, got[0]); diff != "" {
					t.Fatalf("(-gopacket +program):\n%s", diff)
				}
			}
		case outcome != "" && counted[outcome] != 1:
			t.Fatalf("counted %v, the oracle says %s", counted, outcome)
		case outcome == "" && counted["seen"] != 0:
			t.Fatalf("counted %v, the oracle sees nothing", counted)
		}
	})
}

// decoded is what gopacket makes of a packet, if it has no reservations.
func decoded(data []byte, noEthernet bool) (s Segment, ok bool) {
	first := gopacket.Decoder(layers.LayerTypeEthernet)
	if noEthernet {
		first = layers.LayerTypeIPv4
		if data[0]>>4 == 6 {
			first = layers.LayerTypeIPv6
		}
	}
	p := gopacket.NewPacket(data, first, gopacket.Default)
	tcp, ok := p.TransportLayer().(*layers.TCP)
	if !ok || p.ErrorLayer() != nil || p.Metadata().Truncated {
		return s, false
	}
	// gopacket 1.1.19 counts hop-by-hop options twice when it cuts off padding.
	if ip, ok := p.NetworkLayer().(*layers.IPv6); ok && ip.HopByHop != nil {
		return s, false
	}
	src, _ := netip.AddrFromSlice(p.NetworkLayer().NetworkFlow().Src().Raw())
	dst, _ := netip.AddrFromSlice(p.NetworkLayer().NetworkFlow().Dst().Raw())
	return Segment{
		Flow: flowOf(netip.AddrPortFrom(src, uint16(tcp.SrcPort)), netip.AddrPortFrom(dst, uint16(tcp.DstPort))),
		Seq:  tcp.Seq, Ack: tcp.Ack, Flags: Flags(tcp.Contents[13]), Payload: tcp.Payload,
	}, true
}

// oracle says what the program should do with a packet for port 80: the
// counter, "" if it is none of its business, and the segment if it is copied.
func oracle(data []byte, noEthernet bool) (Segment, string) {
	ip, ok := oracleIP(data, noEthernet)
	switch {
	case !ok:
		return Segment{}, ""
	case ip.laterFragment:
		return Segment{}, SkippedFragment
	case len(ip.bytes) < ip.l4+4 || be16(ip.bytes, ip.l4+2) != 80:
		return Segment{}, ""
	case ip.firstFragment:
		return Segment{}, SkippedFragment
	case ip.end > len(ip.bytes) || ip.end < ip.l4:
		return Segment{}, SkippedMalformed
	}
	tcp := ip.bytes[ip.l4:ip.end]
	if len(tcp) < 20 || tcp[12]>>4 < 5 || int(tcp[12]>>4)*4 > len(tcp) {
		return Segment{}, SkippedMalformed
	}
	s := Segment{
		Flow:    flowOf(netip.AddrPortFrom(ip.src, be16(tcp, 0)), netip.AddrPortFrom(ip.dst, be16(tcp, 2))),
		Seq:     binary.BigEndian.Uint32(tcp[4:]),
		Ack:     binary.BigEndian.Uint32(tcp[8:]),
		Flags:   Flags(tcp[13]),
		Payload: tcp[int(tcp[12]>>4)*4:],
	}
	if len(s.Payload) == 0 && s.Flags&(FlagSYN|FlagFIN|FlagRST) == 0 {
		return Segment{}, SkippedPureACK
	}
	return s, "copied"
}

// oracleSubflow says whether a packet that is copied belongs to a subflow of
// Multipath TCP, as the kernel's own parser of options reads it
// (net/mptcp/options.c, mptcp_get_options).
func oracleSubflow(data []byte, noEthernet bool) bool {
	ip, _ := oracleIP(data, noEthernet)
	tcp := ip.bytes[ip.l4:ip.end]
	header := int(tcp[12]>>4) * 4
	opens := Flags(tcp[13])&FlagSYN != 0
	if !opens && len(tcp) == header {
		return false
	}
	for o := tcp[20:header]; len(o) > 1 && o[0] != 0; {
		if o[0] == 1 {
			o = o[1:]
			continue
		}
		if n := int(o[1]); n < 2 || n > len(o) {
			return false
		}
		if o[0] == 30 && o[1] >= 4 && (opens && o[2]>>4 == 1 || !opens && o[2]>>4 == 2 && o[1] >= 14) {
			return true
		}
		o = o[o[1]:]
	}
	return false
}

// ipPacket is an IP packet with TCP in it.
type ipPacket struct {
	bytes                        []byte
	src, dst                     netip.Addr
	l4, end                      int // in bytes
	firstFragment, laterFragment bool
}

func be16(b []byte, at int) uint16 { return binary.BigEndian.Uint16(b[at:]) }

func oracleIP(data []byte, noEthernet bool) (ipPacket, bool) {
	ip := data
	if !noEthernet {
		types := 12 // where the type is
		for vlans := 0; ; vlans++ {
			if len(data) < types+2 {
				return ipPacket{}, false
			}
			typ := be16(data, types)
			if typ == 0x0800 || typ == 0x86dd {
				break
			}
			if vlans == 2 || typ != 0x8100 && typ != 0x88a8 {
				return ipPacket{}, false
			}
			types += 4
		}
		ip = data[types+2:]
	}
	switch {
	case len(ip) >= 12 && ip[0]>>4 == 4:
		return oracle4(ip)
	case len(ip) >= 40 && ip[0]>>4 == 6:
		return oracle6(ip)
	}
	return ipPacket{}, false
}

func oracle4(b []byte) (ipPacket, bool) {
	p := ipPacket{bytes: b, l4: int(b[0]&15) * 4, end: int(be16(b, 2))}
	if p.end == 0 {
		p.end = len(b)
	}
	p.laterFragment = be16(b, 6)&0x1fff != 0
	p.firstFragment = be16(b, 6)&0x2000 != 0
	if len(b) >= 20 {
		p.src, p.dst = netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20]))
	}
	return p, p.l4 >= 20 && b[9] == 6
}

func oracle6(b []byte) (ipPacket, bool) {
	const tcp, hop, routing, fragment, options = 6, 0, 43, 44, 60
	p := ipPacket{bytes: b, l4: 40, end: 40 + int(be16(b, 4))}
	if p.end == 40 {
		p.end = len(b)
	}
	p.src, p.dst = netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))
	next := b[6]
	for n := 0; n < 6 && next != tcp && !p.laterFragment; n++ {
		if len(b) < p.l4+4 {
			return p, false
		}
		switch next {
		case hop, routing, options:
			next, p.l4 = b[p.l4], p.l4+(int(b[p.l4+1])+1)*8
		case fragment:
			p.laterFragment = be16(b, p.l4+2)>>3 != 0
			p.firstFragment = be16(b, p.l4+2)&1 != 0
			next, p.l4 = b[p.l4], p.l4+8
		default:
			return p, false
		}
	}
	return p, next == tcp
}
