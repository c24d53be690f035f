package pcap

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/shadowtap/shadowtap/pkg/capture"
)

var payload = gopacket.Payload("GET / HTTP/1.1\r\nHost: a\r\n\r\n")

// patched returns b after f changed it in place.
func patched(b []byte, f func([]byte)) []byte {
	f(b)
	return b
}

// delivered is the segment of a packet with the given payload.
func delivered(f capture.Flow, flags capture.Flags, payload []byte) []capture.Segment {
	return []capture.Segment{{
		Flow: f, Seq: 1000, Ack: 77, Flags: flags,
		Time: epoch.UnixNano(), Payload: payload,
	}}
}

func TestReadPackets(t *testing.T) {
	ip4 := frameOf(t, ipv4(), tcp(1000), payload)
	ip6 := frameOf(t, ipv6(layers.IPProtocolTCP), tcp(1000), payload)
	v4 := delivered(flow(client4, server4), capture.FlagACK, payload)
	v6 := delivered(flow(client6, server6), capture.FlagACK, payload)

	options := ipv4()
	options.Options = []layers.IPv4Option{{OptionType: 7, OptionLength: 7, OptionData: []byte{4, 0, 0, 0, 0}}}
	tcpOptions := tcp(1000)
	tcpOptions.Options = []layers.TCPOption{{OptionType: layers.TCPOptionKindTimestamps, OptionLength: 10, OptionData: make([]byte, 8)}}
	subflow := tcp(1000)
	subflow.Options = []layers.TCPOption{{OptionType: 30, OptionLength: 20, OptionData: append([]byte{0x20, 5}, make([]byte, 16)...)}}
	badOption := tcp(1000)
	badOption.Options = []layers.TCPOption{{OptionType: 99, OptionLength: 4, OptionData: make([]byte, 2)}}
	syn := tcp(1000)
	syn.SYN, syn.ACK, syn.Ack = true, false, 0
	fin := tcp(1000)
	fin.FIN = true
	rst := tcp(1000)
	rst.RST = true
	udp := ipv4()
	udp.Protocol = layers.IPProtocolUDP
	first, last := ipv4(), ipv4()
	first.Flags = layers.IPv4MoreFragments
	last.FragOffset = 100
	answer := ipv4()
	answer.SrcIP, answer.DstIP = answer.DstIP, answer.SrcIP
	answerTCP := tcp(1)
	answerTCP.SrcPort, answerTCP.DstPort = answerTCP.DstPort, answerTCP.SrcPort

	// Extension headers as RFC 8200 writes them: next header, length in
	// units of 8 bytes beyond the first 8, and padding (PadN).
	extended := func(first layers.IPProtocol, ext ...byte) []byte {
		return frameOf(t, ipv6(first), gopacket.Payload(append(ext, ip6[40:]...)))
	}
	hop := []byte{60, 0, 1, 4, 0, 0, 0, 0}
	destination := []byte{43, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	routing := []byte{6, 0, 0, 0, 0, 0, 0, 0}
	chain := bytes.Join([][]byte{hop, destination, routing}, nil)

	tests := []struct {
		name  string
		link  uint32
		frame []byte
		want  []capture.Segment
		why   Reason // when want is nil
	}{
		{name: "ethernet ipv4", link: linkEthernet, frame: frameOf(t, ethernet(layers.EthernetTypeIPv4), ipv4(), tcp(1000), payload), want: v4},
		{name: "ethernet ipv6", link: linkEthernet, frame: frameOf(t, ethernet(layers.EthernetTypeIPv6), ipv6(layers.IPProtocolTCP), tcp(1000), payload), want: v6},
		{name: "vlan", link: linkEthernet, frame: frameOf(t, ethernet(layers.EthernetTypeDot1Q),
			&layers.Dot1Q{VLANIdentifier: 5, Type: layers.EthernetTypeIPv4}, ipv4(), tcp(1000), payload), want: v4},
		{name: "qinq", link: linkEthernet, frame: frameOf(t, ethernet(layers.EthernetTypeQinQ),
			&layers.Dot1Q{VLANIdentifier: 5, Type: layers.EthernetTypeDot1Q},
			&layers.Dot1Q{VLANIdentifier: 6, Type: layers.EthernetTypeIPv6}, ipv6(layers.IPProtocolTCP), tcp(1000), payload), want: v6},
		{name: "sll ipv4", link: linkSLL, frame: sll(layers.EthernetTypeIPv4, ip4), want: v4},
		{name: "sll ipv6", link: linkSLL, frame: sll(layers.EthernetTypeIPv6, ip6), want: v6},
		{name: "sll2 ipv4", link: linkSLL2, frame: sll2(layers.EthernetTypeIPv4, ip4), want: v4},
		{name: "sll2 ipv6", link: linkSLL2, frame: sll2(layers.EthernetTypeIPv6, ip6), want: v6},
		{name: "sll vlan", link: linkSLL, frame: sll(layers.EthernetTypeDot1Q, append([]byte{0, 5, 8, 0}, ip4...)), want: v4},
		{name: "null little endian", link: linkNull, frame: append([]byte{2, 0, 0, 0}, ip4...), want: v4},
		{name: "null darwin ipv6", link: linkNull, frame: append([]byte{30, 0, 0, 0}, ip6...), want: v6},
		{name: "loop", link: linkLoop, frame: append([]byte{0, 0, 0, 2}, ip4...), want: v4},
		{name: "raw ipv4", link: linkRaw, frame: ip4, want: v4},
		{name: "raw ipv6", link: linkRaw, frame: ip6, want: v6},
		{name: "raw bsd", link: linkRawBSD, frame: ip4, want: v4},
		{name: "raw openbsd", link: linkRawOpen, frame: ip4, want: v4},
		{name: "linktype ipv4", link: linkIPv4, frame: ip4, want: v4},
		{name: "linktype ipv6", link: linkIPv6, frame: ip6, want: v6},
		{name: "802.11", link: 105, frame: ip4, why: UnsupportedLink},
		{name: "link type 256 beyond ethernet", link: 257, frame: frameOf(t, ethernet(layers.EthernetTypeIPv4), ipv4(), tcp(1000), payload), why: UnsupportedLink},

		{name: "ipv4 options", link: linkRaw, frame: frameOf(t, options, tcp(1000), payload), want: v4},
		{name: "tcp options", link: linkRaw, frame: frameOf(t, ipv4(), tcpOptions, payload), want: v4},
		{name: "subflow of multipath tcp", link: linkRaw, frame: frameOf(t, ipv4(), subflow, payload),
			want: delivered(flow(client4, server4), capture.FlagACK|capture.FlagSubflow, payload)},
		{name: "tcp option that lies about its length", link: linkRaw, want: v4,
			frame: patched(frameOf(t, ipv4(), badOption, payload), func(b []byte) { b[41] = 0 })},
		{name: "ipv6 extension headers", link: linkRaw, frame: extended(layers.IPProtocolIPv6HopByHop, chain...), want: v6},
		{name: "ipv6 authentication header", link: linkRaw, want: v6,
			frame: extended(layers.IPProtocolAH, 6, 4, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12)},
		{name: "ipv6 atomic fragment", link: linkRaw, frame: extended(layers.IPProtocolIPv6Fragment, 6, 0, 0, 0, 0, 0, 0, 9), want: v6},
		{name: "syn", link: linkRaw, frame: frameOf(t, ipv4(), syn), want: []capture.Segment{{
			Flow: flow(client4, server4), Seq: 1000, Flags: capture.FlagSYN, Time: epoch.UnixNano()}}},
		{name: "fin with data", link: linkRaw, frame: frameOf(t, ipv4(), fin, payload),
			want: delivered(flow(client4, server4), capture.FlagFIN|capture.FlagACK, payload)},
		{name: "rst", link: linkRaw, frame: frameOf(t, ipv4(), rst),
			want: delivered(flow(client4, server4), capture.FlagRST|capture.FlagACK, nil)},

		{name: "ethernet padding", link: linkEthernet, want: delivered(flow(client4, server4), capture.FlagACK, []byte("hi")),
			frame: append(frameOf(t, ethernet(layers.EthernetTypeIPv4), ipv4(), tcp(1000), gopacket.Payload("hi")), 0, 0, 0, 0)},
		{name: "ethernet padding of a pure ack", link: linkEthernet, why: PureACK,
			frame: append(frameOf(t, ethernet(layers.EthernetTypeIPv4), ipv4(), tcp(1000)), 0, 0, 0, 0, 0, 0)},
		{name: "ipv4 length 0 before offload", link: linkRaw, want: v4,
			frame: patched(bytes.Clone(ip4), func(b []byte) { b[2], b[3] = 0, 0 })},
		{name: "ipv6 length 0 before offload", link: linkRaw, want: v6,
			frame: patched(bytes.Clone(ip6), func(b []byte) { b[4], b[5] = 0, 0 })},

		{name: "pure ack", link: linkRaw, frame: frameOf(t, ipv4(), tcp(1000)), why: PureACK},
		{name: "udp", link: linkRaw, frame: frameOf(t, udp, &layers.UDP{SrcPort: clientPort, DstPort: serverPort, Length: 8}), why: NotTCP},
		{name: "arp", link: linkEthernet, frame: frameOf(t, ethernet(layers.EthernetTypeARP)), why: NotTCP},
		{name: "raw neither 4 nor 6", link: linkRaw, frame: []byte{0x50, 0, 0, 0}, why: NotTCP},
		{name: "first fragment", link: linkRaw, frame: frameOf(t, first, tcp(1000), payload), why: Fragment},
		{name: "last fragment", link: linkRaw, frame: frameOf(t, last, payload), why: Fragment},
		{name: "ipv6 fragment", link: linkRaw, frame: extended(layers.IPProtocolIPv6Fragment, 6, 0, 0, 1, 0, 0, 0, 9), why: Fragment},
		{name: "ipv6 udp fragment", link: linkRaw, frame: extended(layers.IPProtocolIPv6Fragment, 17, 0, 0, 1, 0, 0, 0, 9), why: NotTCP},
		{name: "answer", link: linkRaw, frame: frameOf(t, answer, answerTCP, payload), why: NotTarget},

		{name: "empty", link: linkEthernet, frame: nil, why: Malformed},
		{name: "short ethernet", link: linkEthernet, frame: make([]byte, 13), why: Malformed},
		{name: "short vlan", link: linkEthernet, frame: append(frameOf(t, ethernet(layers.EthernetTypeDot1Q))[:14], 0, 5, 8), why: Malformed},
		{name: "short ipv4", link: linkRaw, frame: ip4[:19], why: Malformed},
		{name: "short ipv6", link: linkRaw, frame: ip6[:39], why: Malformed},
		{name: "ipv4 header length 4", link: linkRaw, frame: patched(bytes.Clone(ip4), func(b []byte) { b[0] = 0x44 }), why: Malformed},
		{name: "ipv4 length beyond the frame", link: linkRaw, frame: ip4[:len(ip4)-1], why: Malformed},
		{name: "ipv4 length within its header", link: linkRaw, frame: patched(bytes.Clone(ip4), func(b []byte) { b[2], b[3] = 0, 19 }), why: Malformed},
		{name: "ipv6 length beyond the frame", link: linkRaw, frame: ip6[:len(ip6)-1], why: Malformed},
		{name: "ipv6 version 4", link: linkEthernet, why: Malformed,
			frame: patched(frameOf(t, ethernet(layers.EthernetTypeIPv6), ipv6(6), tcp(1000)), func(b []byte) { b[14] = 0x40 })},
		{name: "ipv6 extension beyond the packet", link: linkRaw, frame: extended(layers.IPProtocolIPv6HopByHop, 6, 255), why: Malformed},
		{name: "short tcp", link: linkRaw, frame: frameOf(t, ipv4(), gopacket.Payload(make([]byte, 19))), why: Malformed},
		{name: "tcp header length 4", link: linkRaw, frame: patched(bytes.Clone(ip4), func(b []byte) { b[32] = 0x40 }), why: Malformed},
		{name: "tcp header beyond the packet", link: linkRaw, frame: patched(frameOf(t, ipv4(), tcp(1000)), func(b []byte) { b[32] = 0xf0 }), why: Malformed},
	}
	toServer := func(dst netip.AddrPort) bool {
		return dst == netip.MustParseAddrPort("10.0.0.2:80") || dst == netip.MustParseAddrPort("[fd00::2]:80")
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			sink := recorder{t: t}
			st, err := Read(t.Context(), bytes.NewReader(pcapFile(t, tt.link, tt.frame)), &sink, Options{Match: toServer})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, sink.segments, emptyIsNil); diff != "" {
				t.Errorf("segments (-want +got):\n%s", diff)
			}
			want := Stats{Packets: 1}
			if tt.want == nil {
				want.Skipped[tt.why] = 1
				if tt.why == PureACK || tt.why == Fragment {
					want.Seen = 1
				}
			} else {
				want.Seen, want.Copied, want.CopiedBytes = 1, 1, uint64(len(tt.want[0].Payload))
			}
			if diff := cmp.Diff(want, st); diff != "" {
				t.Errorf("stats (-want +got):\n%s", diff)
			}
		})
	}
}

// emptyIsNil makes an empty payload equal to none.
var emptyIsNil = cmp.Transformer("payload", func(b []byte) string { return string(b) })

// TestReadTSO reads a packet of 200 kB, as BIG TCP leaves them.
func TestReadTSO(t *testing.T) {
	big := bytes.Repeat([]byte("0123456789abcdef"), 200_000/16)
	frame := frameOf(t, ipv6(layers.IPProtocolTCP), tcp(1000))
	frame = append(frame, big...)
	binary.BigEndian.PutUint16(frame[4:], 0)
	sink := recorder{t: t}
	st, err := Read(t.Context(), bytes.NewReader(pcapFile(t, linkRaw, frame)), &sink, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(delivered(flow(client6, server6), capture.FlagACK, big), sink.segments); diff != "" {
		t.Error(diff)
	}
	if st.CopiedBytes != uint64(len(big)) {
		t.Errorf("copied %d bytes, want %d", st.CopiedBytes, len(big))
	}
}

func TestReasonString(t *testing.T) {
	seen := map[string]bool{}
	for r := range NumReasons {
		name := r.String()
		if seen[name] || name == "" || name[0] == 'R' {
			t.Errorf("reason %d is called %q", uint8(r), name)
		}
		seen[name] = true
	}
}
