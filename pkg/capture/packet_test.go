package capture

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

// Who talks to whom in the packets of these tests.
var (
	client4 = netip.MustParseAddrPort("192.0.2.10:40000")
	server4 = netip.MustParseAddrPort("198.51.100.20:80")
	client6 = netip.MustParseAddrPort("[2001:db8::10]:40000")
	server6 = netip.MustParseAddrPort("[2001:db8:1::20]:80")
)

func flowOf(src, dst netip.AddrPort) Flow {
	return Flow{SrcIP: src.Addr().As16(), DstIP: dst.Addr().As16(), SrcPort: src.Port(), DstPort: dst.Port()}
}

// packet describes one TCP packet; bytes serialises it.
type packet struct {
	src, dst   netip.AddrPort
	seq, ack   uint32
	flags      Flags
	payload    string
	vlans      []uint16                     // ids in line, outermost first
	outer      layers.EthernetType          // type of the outermost tag; 0: 802.1Q
	ipOptions  []layers.IPv4Option          // IPv4
	extensions []gopacket.SerializableLayer // IPv6, with their own NextHeader
	firstNext  layers.IPProtocol            // IPv6: NextHeader of the fixed header
	tcpOptions []layers.TCPOption
	fragOffset uint16 // IPv4, in 8 bytes
	more       bool   // IPv4: more fragments
	noEthernet bool
	padding    int // zero bytes behind the IP packet
}

func to4(flags Flags, seq uint32, payload string) packet {
	return packet{src: client4, dst: server4, seq: seq, ack: 7777, flags: flags, payload: payload}
}

func to6(flags Flags, seq uint32, payload string) packet {
	return packet{src: client6, dst: server6, seq: seq, ack: 7777, flags: flags, payload: payload}
}

func (p packet) bytes(t testing.TB) []byte {
	t.Helper()
	v4 := p.src.Addr().Is4()
	var all []gopacket.SerializableLayer
	etherType := layers.EthernetTypeIPv6
	if v4 {
		etherType = layers.EthernetTypeIPv4
	}
	if !p.noEthernet {
		types := make([]layers.EthernetType, len(p.vlans)+1)
		types[len(p.vlans)] = etherType
		for i := range p.vlans {
			types[i] = layers.EthernetTypeDot1Q
		}
		if len(p.vlans) > 0 && p.outer != 0 {
			types[0] = p.outer
		}
		all = append(all, &layers.Ethernet{
			SrcMAC: []byte{2, 0, 0, 0, 0, 1}, DstMAC: []byte{2, 0, 0, 0, 0, 2}, EthernetType: types[0],
		})
		for i, id := range p.vlans {
			all = append(all, &layers.Dot1Q{VLANIdentifier: id, Type: types[i+1]})
		}
	}
	tcp := &layers.TCP{
		SrcPort: layers.TCPPort(p.src.Port()), DstPort: layers.TCPPort(p.dst.Port()),
		Seq: p.seq, Ack: p.ack, Window: 1000, Options: p.tcpOptions,
		FIN: p.flags&FlagFIN != 0, SYN: p.flags&FlagSYN != 0, RST: p.flags&FlagRST != 0,
		PSH: p.flags&FlagPSH != 0, ACK: p.flags&FlagACK != 0,
	}
	if v4 {
		ip := &layers.IPv4{
			Version: 4, TTL: 64, Protocol: layers.IPProtocolTCP, Options: p.ipOptions,
			SrcIP: p.src.Addr().AsSlice(), DstIP: p.dst.Addr().AsSlice(), FragOffset: p.fragOffset,
			Flags: layers.IPv4DontFragment,
		}
		if p.more {
			ip.Flags = layers.IPv4MoreFragments
		}
		all = append(all, ip)
		_ = tcp.SetNetworkLayerForChecksum(ip)
	} else {
		ip := &layers.IPv6{
			Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolTCP,
			SrcIP: p.src.Addr().AsSlice(), DstIP: p.dst.Addr().AsSlice(),
		}
		if len(p.extensions) > 0 {
			ip.NextHeader = p.firstNext
		}
		all = append(append(all, ip), p.extensions...)
		_ = tcp.SetNetworkLayerForChecksum(ip)
	}
	all = append(all, tcp, gopacket.Payload(p.payload))
	buf := gopacket.NewSerializeBuffer()
	opts := gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}
	if err := gopacket.SerializeLayers(buf, opts, all...); err != nil {
		t.Fatal(err)
	}
	return append(buf.Bytes(), make([]byte, p.padding)...)
}

// patch returns the packet with the 16 bits at an offset replaced.
func patch(b []byte, at int, v uint16) []byte {
	binary.BigEndian.PutUint16(b[at:], v)
	return b
}

// extension is an IPv6 extension header of 8*units bytes.
func extension(next layers.IPProtocol, units int) gopacket.SerializableLayer {
	b := make([]byte, 8*units)
	b[0], b[1] = byte(next), byte(units-1)
	b[2], b[3] = 1, byte(8*units-4) // one PadN option (RFC 8200, section 4.2)
	return gopacket.Payload(b)
}

// fragmentHeader is an IPv6 fragment header; offset counts 8 bytes.
func fragmentHeader(next layers.IPProtocol, offset uint16, more bool) gopacket.SerializableLayer {
	b := make([]byte, 8)
	b[0] = byte(next)
	binary.BigEndian.PutUint16(b[2:], offset<<3)
	if more {
		b[3] |= 1
	}
	return gopacket.Payload(b)
}
