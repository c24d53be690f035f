package pcap

import (
	"encoding/binary"

	"github.com/google/gopacket/layers"

	"github.com/shadowtap/shadowtap/pkg/capture"
)

// Link types (https://www.tcpdump.org/linktypes.html). They are 16 bits wide
// in both formats; layers.LinkType holds 8, which turns SLL2, what a current
// `tcpdump -i any` writes, into something else.
const (
	linkNull     = uint32(layers.LinkTypeNull)
	linkEthernet = uint32(layers.LinkTypeEthernet)
	linkRawBSD   = uint32(12) // DLT_RAW as most systems write it to files
	linkRawOpen  = uint32(14) // and OpenBSD
	linkRaw      = uint32(layers.LinkTypeRaw)
	linkLoop     = uint32(layers.LinkTypeLoop)
	linkSLL      = uint32(layers.LinkTypeLinuxSLL)
	linkIPv4     = uint32(layers.LinkTypeIPv4)
	linkIPv6     = uint32(layers.LinkTypeIPv6)
	linkSLL2     = uint32(276)
)

// EtherTypes of VLAN tags that stand in the frame: 802.1Q, 802.1ad, and what
// was used for stacked tags before the latter.
const (
	etherVLAN    = layers.EthernetTypeDot1Q
	etherQinQ    = layers.EthernetTypeQinQ
	etherOldQinQ = layers.EthernetType(0x9100)
)

// packet is a TCP segment found in a frame.
type packet struct {
	flow     capture.Flow
	seq, ack uint32
	flags    capture.Flags
	payload  []byte // what was captured of the payload, part of the frame
	length   int    // bytes of payload on the wire
}

// decode takes a frame of the given link type, wire bytes long before the
// snapshot length cut it, apart into p. Otherwise it says why not.
//
// It looks at what the kernel program looks at and no more: checksums (wrong in
// every capture made above an offloading card) are not read, nor most TCP
// options. The decoders of the layers package are not used because they differ
// where it matters here: they refuse a segment for a bad option, and take
// padding for payload behind an IPv6 hop-by-hop header.
func decode(link uint32, frame []byte, wire int, p *packet) (Reason, bool) {
	var proto layers.EthernetType
	var off int
	switch link {
	case linkEthernet:
		off = 14
	case linkSLL:
		off = 16
	case linkSLL2:
		off = 20
	case linkNull, linkLoop:
		// An address family, in the byte order and with the values of the
		// system that recorded. The IP header says as much by its version.
		return decodeIP(frame, 4, wire, p)
	case linkRaw, linkRawBSD, linkRawOpen, linkIPv4, linkIPv6:
		return decodeIP(frame, 0, wire, p)
	default:
		return UnsupportedLink, false
	}
	if len(frame) < off {
		return short(frame, wire), false
	}
	if link == linkSLL2 {
		proto = layers.EthernetType(binary.BigEndian.Uint16(frame))
	} else {
		proto = layers.EthernetType(binary.BigEndian.Uint16(frame[off-2:]))
	}
	for proto == etherVLAN || proto == etherQinQ || proto == etherOldQinQ {
		if len(frame) < off+4 {
			return short(frame, wire), false
		}
		proto = layers.EthernetType(binary.BigEndian.Uint16(frame[off+2:]))
		off += 4
	}
	switch proto {
	case layers.EthernetTypeIPv4:
		return decodeIPv4(frame, off, wire, p)
	case layers.EthernetTypeIPv6:
		return decodeIPv6(frame, off, wire, p)
	default:
		return NotTCP, false
	}
}

// short is the reason of a frame that ends before a header does.
func short(frame []byte, wire int) Reason {
	if len(frame) < wire {
		return Truncated
	}
	return Malformed
}

// decodeIP decodes the IP packet at frame[off:], of either version.
func decodeIP(frame []byte, off, wire int, p *packet) (Reason, bool) {
	if len(frame) <= off {
		return short(frame, wire), false
	}
	switch frame[off] >> 4 {
	case 4:
		return decodeIPv4(frame, off, wire, p)
	case 6:
		return decodeIPv6(frame, off, wire, p)
	default:
		return NotTCP, false
	}
}

// decodeIPv4 decodes the packet at frame[off:] (RFC 791 section 3.1).
func decodeIPv4(frame []byte, off, wire int, p *packet) (Reason, bool) {
	ip := frame[off:]
	if len(ip) < 20 {
		return short(frame, wire), false
	}
	header := int(ip[0]&0x0f) * 4
	total := int(binary.BigEndian.Uint16(ip[2:]))
	if total == 0 {
		total = wire - off // recorded before segmentation offload filled it in
	}
	if ip[0]>>4 != 4 || header < 20 || total < header || total > wire-off {
		return Malformed, false
	}
	if layers.IPProtocol(ip[9]) != layers.IPProtocolTCP {
		return NotTCP, false
	}
	const moreFragmentsOrOffset = 0x3fff
	if binary.BigEndian.Uint16(ip[6:])&moreFragmentsOrOffset != 0 {
		return Fragment, false
	}
	if len(ip) < header {
		return short(frame, wire), false
	}
	mapped(&p.flow.SrcIP, ip[12:16])
	mapped(&p.flow.DstIP, ip[16:20])
	return decodeTCP(ip[header:min(total, len(ip))], total-header, p)
}

// decodeIPv6 decodes the packet at frame[off:] (RFC 8200 sections 3 and 4).
func decodeIPv6(frame []byte, off, wire int, p *packet) (Reason, bool) {
	ip := frame[off:]
	if len(ip) < 40 {
		return short(frame, wire), false
	}
	total := int(binary.BigEndian.Uint16(ip[4:])) + 40
	if total == 40 {
		total = wire - off // jumbogram (RFC 2675), or before segmentation offload
	}
	if ip[0]>>4 != 6 || total > wire-off {
		return Malformed, false
	}
	copy(p.flow.SrcIP[:], ip[8:24])
	copy(p.flow.DstIP[:], ip[24:40])

	next, at := layers.IPProtocol(ip[6]), 40
	for extension(next) {
		if at+8 > total {
			return Malformed, false
		}
		if at+8 > len(ip) {
			return short(frame, wire), false
		}
		following, size := layers.IPProtocol(ip[at]), (int(ip[at+1])+1)*8
		switch next {
		case layers.IPProtocolIPv6Fragment:
			size = 8
			// Neither offset nor more to come: an atomic fragment, which is
			// a whole packet (RFC 6946).
			if binary.BigEndian.Uint16(ip[at+2:])&0xfff9 != 0 {
				if following != layers.IPProtocolTCP && !extension(following) {
					return NotTCP, false
				}
				return Fragment, false
			}
		case layers.IPProtocolAH:
			size = (int(ip[at+1]) + 2) * 4 // RFC 4302 section 2.2
		}
		next, at = following, at+size
	}
	if next != layers.IPProtocolTCP {
		return NotTCP, false
	}
	if at > total {
		return Malformed, false
	}
	if at > len(ip) {
		return short(frame, wire), false
	}
	return decodeTCP(ip[at:min(total, len(ip))], total-at, p)
}

// extension reports whether p is an IPv6 extension header that may stand
// before TCP.
func extension(p layers.IPProtocol) bool {
	switch p {
	case layers.IPProtocolIPv6HopByHop, layers.IPProtocolIPv6Routing, layers.IPProtocolIPv6Fragment,
		layers.IPProtocolIPv6Destination, layers.IPProtocolAH:
		return true
	default:
		return false
	}
}

// decodeTCP decodes what was captured of a TCP segment that was length bytes
// long, header included (RFC 9293 section 3.1).
func decodeTCP(tcp []byte, length int, p *packet) (Reason, bool) {
	if len(tcp) < 20 {
		return short(tcp, length), false
	}
	header := int(tcp[12]>>4) * 4
	if header < 20 || header > length {
		return Malformed, false
	}
	p.flow.SrcPort = binary.BigEndian.Uint16(tcp)
	p.flow.DstPort = binary.BigEndian.Uint16(tcp[2:])
	p.seq = binary.BigEndian.Uint32(tcp[4:])
	p.ack = binary.BigEndian.Uint32(tcp[8:])
	p.flags = capture.Flags(tcp[13])
	p.payload = tcp[min(header, len(tcp)):]
	p.length = length - header
	if subflow(tcp[20:min(header, len(tcp))], p) {
		p.flags |= capture.FlagSubflow
	}
	return 0, true
}

// subflow reports whether the options of a segment say that its connection is a
// subflow of Multipath TCP, as is_subflow in bpf/packet.h does.
func subflow(options []byte, p *packet) bool {
	const end, nop, mptcp, join = 0, 1, 30, 1
	opens := p.flags&capture.FlagSYN != 0
	if !opens && (p.length == 0 || len(options) <= 12) {
		return false
	}
	for range 16 {
		switch {
		case len(options) < 3:
			return false
		case options[0] == mptcp:
			return !opens || options[2]>>4 == join
		case options[0] == nop:
			options = options[1:]
		case options[0] == end || options[1] < 2:
			return false
		default:
			options = options[min(int(options[1]), len(options)):]
		}
	}
	return true
}

// mapped sets ip to the IPv4-mapped form of v4 (RFC 4291 section 2.5.5.2).
func mapped(ip *[16]byte, v4 []byte) {
	*ip = [16]byte{10: 0xff, 11: 0xff}
	copy(ip[12:], v4)
}
