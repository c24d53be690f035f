package pcap

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"io"
	"slices"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/shadowtap/shadowtap/pkg/capture"
)

// FuzzRead feeds Read anything. Whatever it makes of it, every byte it hands
// over stands in the file in one piece, every packet is accounted for and the
// sink's calls are in order (which recorder checks).
func FuzzRead(f *testing.F) {
	le := binary.LittleEndian
	ether := request(f, 1000, "GET / HTTP/1.1\r\n\r\n")
	n := uint32(len(ether))
	f.Add(pcapFile(f, linkEthernet, ether, cut{ether, 60}, ether[:30]))
	f.Add(pcapFile(f, linkSLL2, sll2(layers.EthernetTypeIPv4, ether[14:])))
	f.Add(pcapFile(f, linkRaw, frameOf(f, ipv6(6), tcp(1), gopacket.Payload("x"))))
	f.Add(gzipped(pcapFile(f, linkEthernet, ether)))
	f.Add(slices.Concat(section(le), iface(le, 1, 0, 9, 0, 1, 0, 0x8a, 0, 0, 0), enhanced(le, 0, 1, n, n, ether), simple(le, n, ether)))
	f.Add(slices.Concat(section(binary.BigEndian), iface(binary.BigEndian, 101, 40, 2, 0, 4, 0, 'e', 't', 'h', '0'), block(le, 5)))
	f.Fuzz(func(t *testing.T, file []byte) {
		sink := recorder{t: t}
		st, err := Read(t.Context(), bytes.NewReader(file), &sink, Options{})
		if sink.open {
			t.Error("a batch was left open")
		}
		sum := st.Copied
		for _, n := range st.Skipped {
			sum += n
		}
		if sum != st.Packets {
			t.Errorf("%d packets are not accounted for: %+v", int64(st.Packets-sum), st)
		}
		if err == nil && st.Packets == 0 && len(sink.batches) != 0 {
			t.Error("a batch without a packet")
		}
		plain := file
		if z, err := gzip.NewReader(bytes.NewReader(file)); err == nil {
			plain, _ = io.ReadAll(z)
		}
		var copied, whole uint64
		for _, s := range sink.segments {
			copied += uint64(len(s.Payload))
			if !s.Continues {
				whole++
			}
			if !bytes.Contains(plain, s.Payload) {
				t.Errorf("payload %q is not in the file", s.Payload)
			}
		}
		if copied != st.CopiedBytes || whole != st.Copied {
			t.Errorf("%d segments with %d bytes delivered, counted %+v", whole, copied, st)
		}
	})
}

// FuzzDecode compares decode with gopacket's decoders: where those find TCP
// over IP without any complaint, decode finds the same segment.
func FuzzDecode(f *testing.F) {
	for _, l := range []uint32{linkEthernet, linkRaw} {
		f.Add(l == linkRaw, frameOf(f, ipv4(), tcp(1), gopacket.Payload("x")))
		f.Add(l == linkRaw, frameOf(f, ipv6(6), tcp(1), gopacket.Payload("x")))
	}
	f.Add(false, request(f, 1000, "xyz", capture.FlagSYN))
	f.Add(false, frameOf(f, ethernet(layers.EthernetTypeDot1Q), &layers.Dot1Q{Type: layers.EthernetTypeIPv6},
		ipv6(layers.IPProtocolIPv6HopByHop), gopacket.Payload(append([]byte{6, 0, 1, 4, 0, 0, 0, 0}, request(f, 1, "x")[34:]...))))
	f.Fuzz(func(t *testing.T, raw bool, frame []byte) {
		link, first := linkEthernet, gopacket.Decoder(layers.LayerTypeEthernet)
		if raw {
			link, first = linkRaw, layers.LinkTypeRaw
		}
		var p packet
		why, ok := decode(link, frame, len(frame), &p)
		if why == Truncated {
			t.Error("a complete frame is called truncated")
		}
		if ok && len(p.payload) != p.length {
			t.Errorf("payload of %d bytes instead of %d from a complete frame", len(p.payload), p.length)
		}

		want := gopacket.NewPacket(frame, first, gopacket.DecodeOptions{NoCopy: true})
		if want.ErrorLayer() != nil || want.Metadata().Truncated {
			return
		}
		var segment *layers.TCP
		for _, l := range want.Layers() {
			switch l := l.(type) {
			case *layers.Ethernet:
				if l.Length != 0 {
					return // 802.3, which gopacket also looks into
				}
			case *layers.IPv4:
				if l.Version != 4 || l.Length == 0 {
					return
				}
			case *layers.IPv6:
				if l.Version != 6 || l.Length == 0 {
					return
				}
			case *layers.IPv6HopByHop:
				return // gopacket takes its size for bytes beyond the packet's length
			case *layers.Dot1Q, *layers.IPv6Routing, *layers.IPv6Destination, gopacket.Payload, *gopacket.Payload:
			case *layers.TCP:
				segment = l
			default:
				return // a tunnel or an upper layer guessed from the port
			}
			if segment != nil {
				break
			}
		}
		if segment == nil {
			return
		}
		if !ok {
			t.Fatalf("%v, but gopacket finds\n%v", why, want)
		}
		if p.seq != segment.Seq || p.ack != segment.Ack || p.flow.SrcPort != uint16(segment.SrcPort) || p.flow.DstPort != uint16(segment.DstPort) ||
			p.flags&capture.FlagSYN != 0 != segment.SYN || p.flags&capture.FlagFIN != 0 != segment.FIN || !bytes.Equal(p.payload, segment.Payload) {
			t.Errorf("%+v, but gopacket finds\n%v", p, want)
		}
	})
}
