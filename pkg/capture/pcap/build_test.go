package pcap

import (
	"bytes"
	"encoding/binary"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"

	"github.com/shadowtap/shadowtap/pkg/capture"
)

// recorder is a Sink that keeps everything and checks the order of calls.
type recorder struct {
	t        testing.TB
	open     bool
	batches  []int64 // what Begin was given
	sizes    []int   // segments per batch
	segments []capture.Segment
}

func (r *recorder) Begin(now int64) {
	if r.open {
		r.t.Error("Begin within a batch")
	}
	if n := len(r.batches); n > 0 && now < r.batches[n-1] {
		r.t.Errorf("Begin(%d) after Begin(%d)", now, r.batches[n-1])
	}
	r.open = true
	r.batches = append(r.batches, now)
	r.sizes = append(r.sizes, 0)
}

func (r *recorder) Segment(s *capture.Segment) {
	if !r.open {
		r.t.Error("Segment outside a batch")
		return
	}
	c := *s
	c.Payload = slices.Clone(s.Payload)
	r.segments = append(r.segments, c)
	r.sizes[len(r.sizes)-1]++
}

func (r *recorder) End() {
	if !r.open {
		r.t.Error("End without a batch")
	}
	r.open = false
}

// epoch is when the test packets were captured; whole microseconds, which is
// what the coarser formats keep.
var epoch = time.Unix(1_700_000_000, 123_456_000)

// The connection the packets belong to.
var (
	client4, server4 = net.IPv4(10, 0, 0, 1).To4(), net.IPv4(10, 0, 0, 2).To4()
	client6, server6 = net.ParseIP("fd00::1"), net.ParseIP("fd00::2")
)

const clientPort, serverPort = 40000, 80

func flow(src, dst net.IP) capture.Flow {
	return capture.Flow{
		SrcIP: [16]byte(src.To16()), DstIP: [16]byte(dst.To16()),
		SrcPort: clientPort, DstPort: serverPort,
	}
}

func ethernet(t layers.EthernetType) *layers.Ethernet {
	return &layers.Ethernet{
		SrcMAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, DstMAC: net.HardwareAddr{2, 0, 0, 0, 0, 2},
		EthernetType: t,
	}
}

func ipv4() *layers.IPv4 {
	return &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolTCP, SrcIP: client4, DstIP: server4}
}

func ipv6(next layers.IPProtocol) *layers.IPv6 {
	return &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: next, SrcIP: client6, DstIP: server6}
}

func tcp(seq uint32) *layers.TCP {
	return &layers.TCP{SrcPort: clientPort, DstPort: serverPort, Seq: seq, Ack: 77, ACK: true, Window: 100}
}

// frameOf serialises the layers with correct lengths and checksums.
func frameOf(t testing.TB, l ...gopacket.SerializableLayer) []byte {
	t.Helper()
	for i, layer := range l {
		if transport, ok := layer.(interface {
			SetNetworkLayerForChecksum(gopacket.NetworkLayer) error
		}); ok {
			for _, below := range l[:i] {
				if network, ok := below.(gopacket.NetworkLayer); ok {
					if err := transport.SetNetworkLayerForChecksum(network); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
	}
	b := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, l...); err != nil {
		t.Fatal(err)
	}
	return slices.Clone(b.Bytes())
}

// sll is a cooked header in front of ip (LINKTYPE_LINUX_SLL).
func sll(t layers.EthernetType, ip []byte) []byte {
	h := make([]byte, 16)
	binary.BigEndian.PutUint16(h[2:], 1) // ARPHRD_ETHER
	binary.BigEndian.PutUint16(h[4:], 6)
	binary.BigEndian.PutUint16(h[14:], uint16(t))
	return append(h, ip...)
}

// sll2 is a cooked header of the second version (LINKTYPE_LINUX_SLL2).
func sll2(t layers.EthernetType, ip []byte) []byte {
	h := make([]byte, 20)
	binary.BigEndian.PutUint16(h, uint16(t))
	binary.BigEndian.PutUint32(h[4:], 2) // interface index
	return append(h, ip...)
}

// cut is a packet of which a file holds the first n bytes only.
type cut struct {
	frame []byte
	n     int
}

// pcapFile writes frames, one per millisecond from epoch on. Elements are
// []byte or cut.
func pcapFile(t testing.TB, link uint32, frames ...any) []byte {
	t.Helper()
	var b bytes.Buffer
	w := pcapgo.NewWriterNanos(&b)
	if err := w.WriteFileHeader(maxRecord, 0); err != nil {
		t.Fatal(err)
	}
	for i, f := range frames {
		data, n := whole(f)
		info := gopacket.CaptureInfo{Timestamp: epoch.Add(time.Duration(i) * time.Millisecond), CaptureLength: n, Length: len(data)}
		if err := w.WritePacket(info, data[:n]); err != nil {
			t.Fatal(err)
		}
	}
	// pcapgo's link type is too narrow for SLL2.
	binary.LittleEndian.PutUint32(b.Bytes()[20:], link)
	return b.Bytes()
}

func whole(f any) ([]byte, int) {
	switch f := f.(type) {
	case cut:
		return f.frame, f.n
	case []byte:
		return f, len(f)
	default:
		panic("neither []byte nor cut")
	}
}
