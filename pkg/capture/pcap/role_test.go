package pcap

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/shadowtap/shadowtap/pkg/capture"
)

// back returns a frame of the connection's other direction.
func back(t testing.TB, seq uint32, data string, flags capture.Flags) []byte {
	ip, segment := ipv4(), tcp(seq)
	ip.SrcIP, ip.DstIP = ip.DstIP, ip.SrcIP
	segment.SrcPort, segment.DstPort = segment.DstPort, segment.SrcPort
	segment.SYN, segment.FIN = flags&capture.FlagSYN != 0, flags&capture.FlagFIN != 0
	return frameOf(t, ethernet(layers.EthernetTypeIPv4), ip, segment, gopacket.Payload(data))
}

// opening returns the SYN of a connection or of one the other way round.
func opening(t testing.TB, seq uint32, reversed bool) []byte {
	ip, segment := ipv4(), tcp(seq)
	if reversed {
		ip.SrcIP, ip.DstIP = ip.DstIP, ip.SrcIP
		segment.SrcPort, segment.DstPort = segment.DstPort, segment.SrcPort
	}
	segment.SYN, segment.ACK, segment.Ack = true, false, 0
	return frameOf(t, ethernet(layers.EthernetTypeIPv4), ip, segment)
}

// TestResponses checks which packets are requests and which responses, and
// that both have the client's flow.
func TestResponses(t *testing.T) {
	const synACK = capture.FlagSYN | capture.FlagACK
	server := netip.AddrPortFrom(netip.MustParseAddr("10.0.0.2"), serverPort)
	client := netip.AddrPortFrom(netip.MustParseAddr("10.0.0.1"), clientPort)
	f := flow(client4, server4)
	type seen struct {
		Flow  capture.Flow
		Seq   uint32
		Flags capture.Flags
	}
	to := func(seq uint32, flags capture.Flags) seen { return seen{f, seq, flags} }
	from := func(seq uint32, flags capture.Flags) seen { return seen{f, seq, flags | capture.FlagResponse} }
	reversed := func(s seen) seen { s.Flow = reverse(f); return s }
	only := func(ends ...netip.AddrPort) func(netip.AddrPort) bool {
		return func(a netip.AddrPort) bool {
			for _, e := range ends {
				if a == e {
					return true
				}
			}
			return false
		}
	}
	exchange := []any{
		opening(t, 99, false), back(t, 499, "", synACK), request(t, 100, "GET"), back(t, 500, "", 0),
		back(t, 500, "HTTP/1.1", 0), back(t, 508, "", capture.FlagFIN),
	}
	whole := []seen{
		to(99, capture.FlagSYN), from(499, synACK), to(100, capture.FlagACK),
		from(500, capture.FlagACK), from(508, capture.FlagACK|capture.FlagFIN),
	}
	tests := []struct {
		name   string
		o      Options
		frames []any
		want   []seen
		stats  Stats
	}{
		{
			name: "one endpoint", o: Options{Match: only(server), Responses: true}, frames: exchange, want: whole,
			stats: Stats{Packets: 6, Seen: 6, Copied: 5, CopiedBytes: 11, Responses: 3, ResponseBytes: 8, Skipped: [NumReasons]uint64{PureACK: 1}},
		},
		{
			name: "off", o: Options{Match: only(server)}, frames: exchange, want: []seen{whole[0], whole[2]},
			stats: Stats{Packets: 6, Seen: 2, Copied: 2, CopiedBytes: 3, Skipped: [NumReasons]uint64{NotTarget: 4}},
		},
		{
			name: "both ends are endpoints", o: Options{Match: only(server, client), Responses: true}, frames: exchange, want: whole,
			stats: Stats{Packets: 6, Seen: 6, Copied: 5, CopiedBytes: 11, Responses: 3, ResponseBytes: 8, Skipped: [NumReasons]uint64{PureACK: 1}},
		},
		{
			name: "every end is", o: Options{Responses: true}, frames: exchange, want: whole,
			stats: Stats{Packets: 6, Seen: 6, Copied: 5, CopiedBytes: 11, Responses: 3, ResponseBytes: 8, Skipped: [NumReasons]uint64{PureACK: 1}},
		},
		{
			name: "both, and who opened it is not known", o: Options{Responses: true}, frames: exchange[2:],
			want: []seen{
				to(100, capture.FlagACK), reversed(to(500, capture.FlagACK)), reversed(to(508, capture.FlagACK|capture.FlagFIN)),
			},
			stats: Stats{Packets: 4, Seen: 4, Copied: 3, CopiedBytes: 11, Skipped: [NumReasons]uint64{PureACK: 1}},
		},
		{
			name: "both, and then the other way round", o: Options{Responses: true},
			frames: []any{opening(t, 99, false), back(t, 500, "x", 0), opening(t, 7000, true), request(t, 9000, "y")},
			want: []seen{
				to(99, capture.FlagSYN), from(500, capture.FlagACK),
				reversed(to(7000, capture.FlagSYN)), reversed(from(9000, capture.FlagACK)),
			},
			stats: Stats{Packets: 4, Seen: 4, Copied: 4, CopiedBytes: 2, Responses: 2, ResponseBytes: 2},
		},
		{
			name: "a loss is of its direction", o: Options{Match: only(server), Responses: true},
			frames: []any{cut{back(t, 500, "HTTP/1.1", 0), headers + 4}, request(t, 100, "GET"), back(t, 508, "x", 0)},
			want:   []seen{from(500, capture.FlagACK), to(100, capture.FlagACK), from(508, capture.FlagACK|capture.FlagLost)},
			stats: Stats{
				Packets: 3, Seen: 3, Copied: 3, CopiedBytes: 8, Responses: 2, ResponseBytes: 5, Truncated: 1, TruncatedBytes: 4,
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			sink := recorder{t: t}
			st, err := Read(t.Context(), bytes.NewReader(pcapFile(t, linkEthernet, tt.frames...)), &sink, tt.o)
			if err != nil {
				t.Fatal(err)
			}
			var got []seen
			for _, s := range sink.segments {
				got = append(got, seen{s.Flow, s.Seq, s.Flags})
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("segments (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.stats, st); diff != "" {
				t.Errorf("stats (-want +got):\n%s", diff)
			}
		})
	}
}

// TestCallsAreBounded checks that what is forgotten is what was not asked for.
func TestCallsAreBounded(t *testing.T) {
	var c calls
	number := func(i int) capture.Flow {
		f := flow(client4, server4)
		f.SrcIP[0], f.SrcPort = byte(i>>16), uint16(i)
		return f
	}
	first := reverse(number(0))
	for i := range 3 * maxCalls {
		c.add(number(i))
		if n := len(c.young) + len(c.old); n > maxCalls {
			t.Fatalf("%d connections remembered", n)
		}
		if i%1000 == 0 && !c.answers(first) {
			t.Fatalf("the connection in use is forgotten after %d", i)
		}
	}
	if c.answers(reverse(number(1))) {
		t.Error("a connection that was not used is remembered")
	}
	if !c.answers(reverse(number(3*maxCalls - 1))) {
		t.Error("the last connection is forgotten")
	}
}
