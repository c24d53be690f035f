package pcap

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
)

// header is a pcap file header with the given magic.
func header(order binary.AppendByteOrder, magic uint32, snaplen, link uint32) []byte {
	b := order.AppendUint32(nil, magic)
	b = order.AppendUint16(b, 2)
	b = order.AppendUint16(b, 4)
	b = append(b, make([]byte, 8)...)
	b = order.AppendUint32(b, snaplen)
	return order.AppendUint32(b, link)
}

// record is a pcap packet at epoch, whose fraction is given in the file's
// resolution.
func record(order binary.AppendByteOrder, fraction uint32, captured, length uint32, data []byte) []byte {
	b := order.AppendUint32(nil, uint32(epoch.Unix()))
	b = order.AppendUint32(b, fraction)
	b = order.AppendUint32(b, captured)
	b = order.AppendUint32(b, length)
	return append(b, data...)
}

// block is a pcapng block.
func block(order binary.AppendByteOrder, kind uint32, body ...byte) []byte {
	for len(body)%4 != 0 {
		body = append(body, 0)
	}
	size := uint32(12 + len(body))
	b := order.AppendUint32(nil, kind)
	b = order.AppendUint32(b, size)
	b = append(b, body...)
	return order.AppendUint32(b, size)
}

func section(order binary.AppendByteOrder) []byte {
	b := order.AppendUint32(nil, 0x1a2b3c4d)
	b = order.AppendUint16(b, 1)
	b = order.AppendUint16(b, 0)
	return block(order, blockSection, order.AppendUint64(b, ^uint64(0))...)
}

func iface(order binary.AppendByteOrder, link uint16, snaplen uint32, options ...byte) []byte {
	b := order.AppendUint16(nil, link)
	b = order.AppendUint16(b, 0)
	b = order.AppendUint32(b, snaplen)
	return block(order, blockInterface, append(b, options...)...)
}

func enhanced(order binary.AppendByteOrder, id uint32, ticks uint64, captured, length uint32, data []byte) []byte {
	b := order.AppendUint32(nil, id)
	b = order.AppendUint32(b, uint32(ticks>>32))
	b = order.AppendUint32(b, uint32(ticks))
	b = order.AppendUint32(b, captured)
	b = order.AppendUint32(b, length)
	return block(order, blockEnhanced, append(b, data...)...)
}

func simple(order binary.AppendByteOrder, length uint32, data []byte) []byte {
	return block(order, blockSimple, append(order.AppendUint32(nil, length), data...)...)
}

func gzipped(b []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	w.Write(b)
	w.Close()
	return out.Bytes()
}

// TestFormats reads the same packet from every kind of file.
func TestFormats(t *testing.T) {
	le, be := binary.LittleEndian, binary.BigEndian
	ether := request(t, 1000, "x")
	raw := ether[14:]
	n, m := uint32(len(ether)), uint32(len(raw))
	const micro, nano = 123456, 123456000
	ticks := uint64(epoch.UnixMicro())
	cat := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

	var written bytes.Buffer
	w, err := pcapgo.NewNgWriter(&written, layers.LinkTypeEthernet)
	if err != nil {
		t.Fatal(err)
	}
	id, err := w.AddInterface(pcapgo.NgInterface{LinkType: layers.LinkTypeIPv4, SnapLength: 1500})
	if err != nil {
		t.Fatal(err)
	}
	for i, data := range [][]byte{ether, raw} {
		info := gopacket.CaptureInfo{Timestamp: epoch, CaptureLength: len(data), Length: len(data), InterfaceIndex: i * id}
		if err := w.WritePacket(info, data); err != nil {
			t.Fatal(err)
		}
	}
	w.Flush()

	old := le.AppendUint32(nil, 0) // interface 0, no drops
	old = le.AppendUint32(old, uint32(ticks>>32))
	old = le.AppendUint32(old, uint32(ticks))
	old = le.AppendUint32(old, n)
	old = append(le.AppendUint32(old, n), ether...)

	tests := []struct {
		name    string
		file    []byte
		packets int
		times   []time.Time // when they are not epoch
	}{
		{name: "microseconds little endian", file: cat(header(le, 0xa1b2c3d4, 65535, 1), record(le, micro, n, n, ether)), packets: 1},
		{name: "microseconds big endian", file: cat(header(be, 0xa1b2c3d4, 65535, 1), record(be, micro, n, n, ether)), packets: 1},
		{name: "nanoseconds little endian", file: cat(header(le, 0xa1b23c4d, 65535, 1), record(le, nano, n, n, ether)), packets: 1},
		{name: "nanoseconds big endian", file: cat(header(be, 0xa1b23c4d, 65535, 1), record(be, nano, n, n, ether)), packets: 1},
		{name: "packet longer than the snapshot length", file: cat(header(le, 0xa1b2c3d4, 8, 1), record(le, micro, n, n, ether)), packets: 1},
		{name: "link type with fcs length", file: cat(header(le, 0xa1b2c3d4, 8, 0x2400_0001), record(le, micro, n, n, ether)), packets: 1},
		{name: "huge snapshot length", file: cat(header(le, 0xa1b2c3d4, 0xffffffff, 1), record(le, micro, n, n, ether)), packets: 1},
		{name: "gzip", file: gzipped(cat(header(le, 0xa1b2c3d4, 65535, 1), record(le, micro, n, n, ether))), packets: 1},
		{name: "no packets", file: header(le, 0xa1b2c3d4, 65535, 1)},

		{name: "pcapng as gopacket writes it", file: written.Bytes(), packets: 2},
		{name: "pcapng gzip", file: gzipped(written.Bytes()), packets: 2},
		{name: "pcapng little endian", file: cat(section(le), iface(le, 1, 0), enhanced(le, 0, ticks, n, n, ether)), packets: 1},
		{name: "pcapng big endian", file: cat(section(be), iface(be, 1, 0), enhanced(be, 0, ticks, n, n, ether)), packets: 1},
		{name: "pcapng sections of both orders", packets: 2, file: cat(section(be), iface(be, 1, 0), enhanced(be, 0, ticks, n, n, ether),
			section(le), iface(le, 101, 0), enhanced(le, 0, ticks, m, m, raw))},
		{name: "pcapng sll2 interface", packets: 2, file: cat(section(le), iface(le, 276, 0), iface(le, 1, 0),
			enhanced(le, 0, ticks, m+20, m+20, sll2(layers.EthernetTypeIPv4, raw)), enhanced(le, 1, ticks, n, n, ether))},
		{name: "pcapng huge snapshot length", file: cat(section(le), iface(le, 1, 0xffffffff), enhanced(le, 0, ticks, n, n, ether)), packets: 1},
		{name: "pcapng obsolete packet block", file: cat(section(le), iface(le, 1, 0), block(le, blockPacket, old...)), packets: 1},
		{name: "pcapng nanosecond resolution", packets: 1,
			file: cat(section(le), iface(le, 1, 0, 9, 0, 1, 0, 9, 0, 0, 0, 0, 0, 0, 0), enhanced(le, 0, uint64(epoch.UnixNano()), n, n, ether))},
		{name: "pcapng time offset", packets: 1, file: cat(section(le),
			iface(le, 1, 0, slices.Concat([]byte{14, 0, 8, 0}, le.AppendUint64(nil, uint64(epoch.Unix())), []byte{0, 0, 0, 0})...),
			enhanced(le, 0, micro, n, n, ether))},
		{name: "pcapng other blocks", packets: 1, file: cat(section(le), block(le, 4, 1, 2, 3, 4), iface(le, 1, 0),
			block(le, 5), block(le, 10, make([]byte, 2*maxRecord)...), enhanced(le, 0, ticks, n, n, ether), block(le, 0x0bad))},
		{name: "pcapng simple packet after one with a time", packets: 2,
			file: cat(section(le), iface(le, 1, n), enhanced(le, 0, ticks, n, n, ether), simple(le, n, ether))},
		{name: "pcapng simple packet alone", packets: 1, times: []time.Time{time.Unix(0, 0)},
			file: cat(section(le), iface(le, 1, 0), simple(le, n, ether))},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			sink := recorder{t: t}
			st, err := Read(t.Context(), bytes.NewReader(tt.file), &sink, Options{})
			if err != nil {
				t.Fatal(err)
			}
			if len(sink.segments) != tt.packets || st.Packets != uint64(tt.packets) {
				t.Fatalf("%d segments of %d packets, want %d: %+v", len(sink.segments), st.Packets, tt.packets, st)
			}
			for i, s := range sink.segments {
				want := epoch
				if tt.times != nil {
					want = tt.times[i]
				}
				if string(s.Payload) != "x" || s.Time != want.UnixNano() {
					t.Errorf("segment %d: %q at %d, want %q at %d", i, s.Payload, s.Time, "x", want.UnixNano())
				}
			}
		})
	}
}

func TestSimplePacketSnapshotLength(t *testing.T) {
	le := binary.LittleEndian
	frame := request(t, 1000, "abcdef")
	n := uint32(len(frame))
	file := slices.Concat(section(le), iface(le, 1, n-4), simple(le, n, frame[:n-4]))
	sink := recorder{t: t}
	st, err := Read(t.Context(), bytes.NewReader(file), &sink, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if st.Truncated != 1 || len(sink.segments) != 1 || string(sink.segments[0].Payload) != "ab" {
		t.Errorf("%+v, %+v", st, sink.segments)
	}
}

// TestDamage checks that a damaged file yields what stands before the damage
// and an error that says where it is.
func TestDamage(t *testing.T) {
	le := binary.LittleEndian
	ether := request(t, 1000, "x")
	n := uint32(len(ether))
	cat := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	pcap := cat(header(le, 0xa1b2c3d4, 65535, 1), record(le, 0, n, n, ether))
	ng := cat(section(le), iface(le, 1, 0), enhanced(le, 0, 0, n, n, ether))
	wrongEnd := func(b []byte) []byte {
		b[len(b)-4]++
		return b
	}
	tests := []struct {
		name    string
		file    []byte
		packets uint64
		cut     bool
		want    []string // parts of the error
	}{
		{name: "empty", cut: true, want: []string{"file header"}},
		{name: "three bytes", file: pcap[:3], cut: true, want: []string{"file header"}},
		{name: "text", file: []byte("GET / HTTP/1.1\r\n\r\n"), want: []string{"neither a pcap nor a pcapng file", "0x47455420"}},
		{name: "modified pcap", file: header(le, 0xa1b2cd34, 65535, 1), want: []string{"neither"}},
		{name: "version 3", file: patched(bytes.Clone(pcap), func(b []byte) { b[4] = 3 }), want: []string{"version"}},
		{name: "cut in the file header", file: pcap[:23], cut: true, want: []string{"file header"}},
		{name: "cut in a packet header", file: cat(pcap, pcap[24:39]), packets: 1, cut: true, want: []string{"packet 2 at offset 100", "packet header"}},
		{name: "cut in a packet", file: cat(pcap, pcap[24:len(pcap)-1]), packets: 1, cut: true, want: []string{"packet 2 at offset 100"}},
		{name: "cut gzip", file: gzipped(cat(pcap, pcap[24:]))[:60], cut: true},
		{name: "captured more than there was", file: cat(pcap, record(le, 0, n, n-1, ether)), packets: 1, want: []string{"packet 2 at offset 100", "implausible"}},
		{name: "4 GiB packet", file: cat(pcap, record(le, 0, 0xffffffff, 0xffffffff, ether)), packets: 1, want: []string{"packet 2 at offset 100", "implausible"}},

		{name: "ng cut in the section header", file: ng[:27], cut: true, want: []string{"offset 0"}},
		{name: "ng cut in a block header", file: cat(ng, ng[:11]), packets: 1, cut: true, want: []string{"block header"}},
		{name: "ng cut in a packet", file: ng[:len(ng)-1], cut: true, want: []string{"packet 1 at offset 48"}},
		{name: "ng cut in a skipped block", file: cat(ng, block(le, 10, make([]byte, 100)...)[:50]), packets: 1, cut: true},
		{name: "ng byte-order magic", file: patched(bytes.Clone(ng), func(b []byte) { b[8] = 0 }), want: []string{"byte-order magic"}},
		{name: "ng version 2", file: patched(bytes.Clone(ng), func(b []byte) { b[12] = 2 }), want: []string{"ersion"}},
		{name: "ng block length 8", file: cat(ng, []byte{6, 0, 0, 0, 8, 0, 0, 0, 8, 0, 0, 0}), packets: 1, want: []string{"8 is not a block length"}},
		{name: "ng odd block length", file: cat(ng, []byte{6, 0, 0, 0, 33, 0, 0, 0, 0, 0, 0, 0}), packets: 1, want: []string{"33 is not a block length"}},
		{name: "ng lengths differ", file: cat(ng, wrongEnd(block(le, 6, make([]byte, 20)...))), packets: 1, want: []string{"at the end"}},
		{name: "ng block too short", file: cat(ng, block(le, 6, make([]byte, 16)...)), packets: 1, want: []string{"expected 32 to"}},
		{name: "ng block too long", file: cat(ng, block(le, 6, make([]byte, maxRecord)...)), packets: 1, want: []string{"implausible length"}},
		{name: "ng packet longer than its block", file: cat(ng, enhanced(le, 0, 0, n+4, n+4, ether)), packets: 1, want: []string{"implausible"}},
		{name: "ng captured more than there was", file: cat(ng, enhanced(le, 0, 0, n, n-1, ether)), packets: 1, want: []string{"implausible"}},
		{name: "ng simple packet longer than its block", file: cat(ng, simple(le, n+4, ether)), packets: 1, want: []string{"implausible"}},
		{name: "ng unknown interface", file: cat(ng, enhanced(le, 1, 0, n, n, ether)), packets: 1, want: []string{"packet of interface 1"}},
		{name: "ng no interface", file: cat(section(le), simple(le, n, ether)), want: []string{"packet of interface 0"}},
		{name: "ng too many interfaces", file: cat(section(le), bytes.Repeat(iface(le, 1, 0), maxInterfaces+1)), want: []string{"interfaces"}},

		// These make pcapgo panic or lose its place.
		{name: "ng time resolution 2^-64", file: cat(section(le), iface(le, 1, 0, 9, 0, 1, 0, 0xc0, 0, 0, 0)), want: []string{"options"}},
		{name: "ng option beyond its block", want: []string{"options"},
			file: cat(section(le), iface(le, 1, 0, 2, 0, 100, 0), enhanced(le, 0, 0, n, n, ether), enhanced(le, 0, 0, n, n, ether))},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			sink := recorder{t: t}
			st, err := Read(t.Context(), bytes.NewReader(tt.file), &sink, Options{})
			if err == nil {
				t.Fatal("no error")
			}
			if got := errors.Is(err, io.ErrUnexpectedEOF); got != tt.cut {
				t.Errorf("%v: wraps io.ErrUnexpectedEOF: %t, want %t", err, got, tt.cut)
			}
			for _, part := range append(tt.want, "pcap: ") {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%q does not say %q", err, part)
				}
			}
			if st.Packets != tt.packets || len(sink.segments) != int(tt.packets) {
				t.Errorf("%d segments of %d packets, want %d", len(sink.segments), st.Packets, tt.packets)
			}
			if sink.open {
				t.Error("a batch was left open")
			}
		})
	}
}
