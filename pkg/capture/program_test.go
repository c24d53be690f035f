package capture

import (
	"net/netip"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/google/go-cmp/cmp"
	"github.com/google/gopacket/layers"
)

var (
	target4 = Target{server4.Addr(), server4.Port()}
	target6 = Target{server6.Addr(), server6.Port()}
)

func TestFlowLayout(t *testing.T) {
	f, k := Flow{}, tapFlow{}
	if unsafe.Sizeof(f) != unsafe.Sizeof(k) ||
		unsafe.Offsetof(f.DstIP) != unsafe.Offsetof(k.Dst) ||
		unsafe.Offsetof(f.SrcPort) != unsafe.Offsetof(k.Sport) ||
		unsafe.Offsetof(f.DstPort) != unsafe.Offsetof(k.Dport) {
		t.Errorf("Flow and struct flow of bpf/contract.h differ: %d and %d bytes", unsafe.Sizeof(f), unsafe.Sizeof(k))
	}
	if got := unsafe.Sizeof(tapRecord{}); got != 72 {
		t.Errorf("record head of %d bytes, the contract says 72", got)
	}
}

// What the program takes out of packets of every shape.
func TestProgramPackets(t *testing.T) {
	k := newKernel(t, 2, 1<<20, 0, target4, target6)
	with := func(p packet, change func(*packet)) packet { change(&p); return p }
	get4, get6 := to4(FlagACK|FlagPSH, 1000, "GET / HTTP/1.1\r\n\r\n"), to6(FlagACK|FlagPSH, 2000, "GET /6 HTTP/1.1\r\n\r\n")
	manyExtensions := with(get6, func(p *packet) {
		p.firstNext = layers.IPProtocolIPv6HopByHop
		p.extensions = append(p.extensions,
			extension(layers.IPProtocolIPv6Destination, 1), extension(layers.IPProtocolIPv6Routing, 2),
			extension(layers.IPProtocolIPv6Destination, 3), extension(layers.IPProtocolIPv6Destination, 1),
			extension(layers.IPProtocolIPv6Destination, 1), extension(layers.IPProtocolTCP, 1))
	})
	tooManyExtensions := with(manyExtensions, func(p *packet) {
		p.extensions = append(p.extensions[:5:5], extension(layers.IPProtocolIPv6Destination, 1), extension(layers.IPProtocolTCP, 1))
	})
	fragment6 := func(offset uint16, more bool) packet {
		return with(get6, func(p *packet) {
			p.firstNext = layers.IPProtocolIPv6Fragment
			p.extensions = append(p.extensions, fragmentHeader(layers.IPProtocolTCP, offset, more))
		})
	}
	const ip = 14 // offset of the IP header behind an Ethernet header

	copied, unseen := tally{"seen": 1, "copied": 1}, tally{}
	skip := func(reason string) tally { return tally{"seen": 1, reason: 1} }
	tests := []struct {
		name   string
		bytes  []byte
		of     packet // whose payload, flags and seq are expected
		l3     bool
		egress bool
		count  tally
	}{
		{"IPv4", get4.bytes(t), get4, false, false, copied},
		{"IPv6", get6.bytes(t), get6, false, false, copied},
		{"IPv4 egress", get4.bytes(t), get4, false, true, copied},
		{"IPv6 egress", get6.bytes(t), get6, false, true, copied},
		{"one byte", to4(FlagACK, 9, "x").bytes(t), to4(FlagACK, 9, "x"), false, false, copied},
		{"no Ethernet IPv4", with(get4, func(p *packet) { p.noEthernet = true }).bytes(t), get4, true, false, copied},
		{"no Ethernet IPv6", with(get6, func(p *packet) { p.noEthernet = true }).bytes(t), get6, true, false, copied},
		{"no Ethernet egress", with(get6, func(p *packet) { p.noEthernet = true }).bytes(t), get6, true, true, copied},
		{"VLAN", with(get4, func(p *packet) { p.vlans = []uint16{5} }).bytes(t), get4, false, false, copied},
		{"QinQ", with(get6, func(p *packet) { p.vlans = []uint16{5, 6}; p.outer = layers.EthernetTypeQinQ }).bytes(t), get6, false, false, copied},
		{"802.1Q twice", with(get4, func(p *packet) { p.vlans = []uint16{5, 6} }).bytes(t), get4, false, false, copied},
		{"three VLANs", with(get4, func(p *packet) { p.vlans = []uint16{5, 6, 7} }).bytes(t), get4, false, false, unseen},
		{"IPv4 options", with(get4, func(p *packet) {
			p.ipOptions = []layers.IPv4Option{{OptionType: 7, OptionLength: 39, OptionData: make([]byte, 37)}}
		}).bytes(t), get4, false, false, copied},
		{"TCP options", with(get4, func(p *packet) {
			p.tcpOptions = []layers.TCPOption{{OptionType: 8, OptionLength: 10, OptionData: make([]byte, 8)}}
		}).bytes(t), get4, false, false, copied},
		{"Ethernet padding", with(to4(FlagACK, 5, "tiny"), func(p *packet) { p.padding = 30 }).bytes(t), to4(FlagACK, 5, "tiny"), false, false, copied},
		{"Ethernet padding IPv6", with(to6(FlagACK, 5, "tiny"), func(p *packet) { p.padding = 3 }).bytes(t), to6(FlagACK, 5, "tiny"), false, false, copied},
		{"BIG TCP IPv4", patch(get4.bytes(t), ip+2, 0), get4, false, false, copied},
		{"BIG TCP IPv6", patch(get6.bytes(t), ip+4, 0), get6, false, false, copied},
		{"six extension headers", manyExtensions.bytes(t), get6, false, false, copied},
		{"seven extension headers", tooManyExtensions.bytes(t), get6, false, false, unseen},
		{"atomic fragment IPv6", fragment6(0, false).bytes(t), get6, false, false, copied},

		{"SYN", to4(FlagSYN, 50, "").bytes(t), to4(FlagSYN, 50, ""), false, false, copied},
		{"SYN with data", to6(FlagSYN, 60, "early").bytes(t), to6(FlagSYN, 60, "early"), false, false, copied},
		{"FIN", to4(FlagFIN|FlagACK, 51, "").bytes(t), to4(FlagFIN|FlagACK, 51, ""), false, false, copied},
		{"RST", to6(FlagRST, 61, "").bytes(t), to6(FlagRST, 61, ""), false, false, copied},

		{"pure ACK", to4(FlagACK, 1, "").bytes(t), packet{}, false, false, skip(SkippedPureACK)},
		{"padded pure ACK", with(to4(FlagACK, 1, ""), func(p *packet) { p.padding = 6 }).bytes(t), packet{}, false, false, skip(SkippedPureACK)},
		{"first fragment IPv4", with(get4, func(p *packet) { p.more = true }).bytes(t), packet{}, false, false, skip(SkippedFragment)},
		{"last fragment IPv4", with(get4, func(p *packet) { p.fragOffset = 100 }).bytes(t), packet{}, false, false, skip(SkippedFragment)},
		{"late fragment IPv4", with(get4, func(p *packet) { p.fragOffset, p.more = 0x1000, true }).bytes(t), packet{}, false, false, skip(SkippedFragment)},
		{"first fragment IPv6", fragment6(0, true).bytes(t), packet{}, false, false, skip(SkippedFragment)},
		{"last fragment IPv6", fragment6(100, false).bytes(t), packet{}, false, false, skip(SkippedFragment)},
		{"IPv4 length beyond the packet", patch(get4.bytes(t), ip+2, 2000), packet{}, false, false, skip(SkippedMalformed)},
		{"IPv4 length within the TCP header", patch(get4.bytes(t), ip+2, 30), packet{}, false, false, skip(SkippedMalformed)},
		{"IPv6 length beyond the packet", patch(get6.bytes(t), ip+4, 2000), packet{}, false, false, skip(SkippedMalformed)},
		{"TCP header too short", patch(get4.bytes(t), ip+20+12, 4<<12), packet{}, false, false, skip(SkippedMalformed)},
		{"TCP header beyond the packet", patch(get4.bytes(t), ip+20+12, 15<<12), packet{}, false, false, skip(SkippedMalformed)},
		{"TCP header cut off", get4.bytes(t)[:ip+20+10], packet{}, false, false, skip(SkippedMalformed)},

		{"from the target", packet{src: server4, dst: client4, flags: FlagACK, payload: "x"}.bytes(t), packet{}, false, false, unseen},
		{"another port", with(get4, func(p *packet) { p.dst = netip.MustParseAddrPort("198.51.100.20:81") }).bytes(t), packet{}, false, false, unseen},
		{"another address", with(get4, func(p *packet) { p.dst = netip.MustParseAddrPort("198.51.100.21:80") }).bytes(t), packet{}, false, false, unseen},
		{"UDP", func() []byte { b := get4.bytes(t); b[ip+9] = 17; return b }(), packet{}, false, false, unseen},
		{"ports cut off", get4.bytes(t)[:ip+22], packet{}, false, false, unseen},
		{"IPv4 header length 4", func() []byte { b := get4.bytes(t); b[ip] = 0x41; return b }(), packet{}, false, false, unseen},
		{"IP version 5", func() []byte { b := get4.bytes(t); b[ip] = 0x55; return b }(), packet{}, false, false, unseen},
		{"ARP", patch(get4.bytes(t), 12, 0x0806), packet{}, false, false, unseen},
		{"Ethernet where none is expected", get4.bytes(t), packet{}, true, false, unseen},
	}
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			k.t = t
			prog := [2][2]*ebpf.Program{{k.TapIngressEth, k.TapEgressEth}, {k.TapIngressL3, k.TapEgressL3}}[b2i(tt.l3)][b2i(tt.egress)]
			// Every case is a connection of its own. The source port is the
			// first thing behind the IP header, wherever that is.
			k.forget()
			before := k.count()
			start, _ := k.clock.read()
			k.run(prog, tt.bytes)
			end, _ := k.clock.read()
			if diff := cmp.Diff(tt.count, k.count().minus(before)); diff != "" {
				t.Errorf("case %d counted (-want +got):\n%s", i, diff)
			}
			got := k.segments()
			var want []Segment
			if tt.count["copied"] == 1 {
				want = append(want, Segment{
					Flow: flowOf(tt.of.src, tt.of.dst), Seq: tt.of.seq, Ack: tt.of.ack, Flags: tt.of.flags,
					Ifindex: 1, Payload: []byte(tt.of.payload),
				})
			}
			for i := range got {
				if got[i].Time < start || got[i].Time > end {
					t.Errorf("time %d is not between %d and %d", got[i].Time, start, end)
				}
				got[i].Time = 0
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("segments (-want +got):\n%s", diff)
			}
		})
	}
}

// forget removes all flow state.
func (k *kernel) forget() {
	k.t.Helper()
	for _, m := range []*ebpf.Map{k.Flows, k.ResponseFlows} {
		var key tapFlow
		var value tapFlowState
		var keys []tapFlow
		for it := m.Iterate(); it.Next(&key, &value); {
			keys = append(keys, key)
		}
		for _, key := range keys {
			if err := m.Delete(key); err != nil {
				k.t.Fatal(err)
			}
		}
	}
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// A target without an address takes what comes in for its port, whatever the
// address, and nothing that goes out.
func TestProgramAnyAddress(t *testing.T) {
	k := newKernel(t, 1, 1<<20, 0, Target{Port: 80}, Target{server4.Addr(), 8080})
	for _, p := range []packet{to4(FlagSYN, 1, ""), to6(FlagSYN, 2, "")} {
		k.run(k.TapIngressEth, p.bytes(t))
		k.run(k.TapEgressEth, p.bytes(t))
	}
	exact := to4(FlagSYN, 3, "")
	exact.dst = netip.AddrPortFrom(server4.Addr(), 8080)
	k.run(k.TapEgressEth, exact.bytes(t))
	exact.dst = netip.AddrPortFrom(client4.Addr(), 8080)
	k.run(k.TapIngressEth, exact.bytes(t))
	if diff := cmp.Diff(tally{"seen": 3, "copied": 3}, k.count()); diff != "" {
		t.Error(diff)
	}
	var seqs []uint32
	for _, s := range k.segments() {
		seqs = append(seqs, s.Seq)
	}
	if diff := cmp.Diff([]uint32{1, 2, 3}, seqs); diff != "" {
		t.Error(diff)
	}
}

// The largest payload BPF_PROG_TEST_RUN takes; more is in the live tests.
func TestProgramPayloadSizes(t *testing.T) {
	k := newKernel(t, 1, 1<<22, 0, target4)
	want := uint64(0)
	for n := 1; n <= 3400; n += 1 + n/50 {
		p := to4(FlagACK, uint32(n), strings.Repeat("0123456789", 340)[:n])
		k.run(k.TapIngressEth, p.bytes(t))
		got := k.segments()
		if len(got) != 1 || string(got[0].Payload) != p.payload {
			t.Fatalf("payload of %d bytes: got %d records", n, len(got))
		}
		want += uint64(n)
	}
	c, _, err := readCounters(k.Counters)
	if err != nil {
		t.Fatal(err)
	}
	if c.CopiedBytes != want || c.LostBytes != 0 || c.Records != c.Copied {
		t.Errorf("copied %d bytes in %d records of %d packets, lost %d; want %d bytes", c.CopiedBytes, c.Records, c.Copied, c.LostBytes, want)
	}
}

func TestProgramPauseAndHeartbeat(t *testing.T) {
	k := newKernel(t, 1, 1<<20, 0, target4)
	seq := uint32(0)
	send := func() tally {
		before := k.count()
		k.run(k.TapIngressEth, to4(FlagACK, seq, "x").bytes(t))
		seq++
		return k.count().minus(before)
	}
	copied, paused := tally{"seen": 1, "copied": 1}, tally{"seen": 1, SkippedPaused: 1}
	now := func() int64 { mono, _ := k.clock.read(); return mono }
	steps := []struct {
		name string
		do   func()
		want tally
	}{
		{"running", func() {}, copied},
		{"paused", func() { k.control.pause(true) }, paused},
		{"resumed", func() { k.control.pause(false) }, copied},
		// Not as close to the limit of 10 s as this thread may lose its processor.
		{"agent silent for a second", func() { k.control.beat(now() - int64(time.Second)) }, copied},
		{"agent silent for 11 s", func() { k.control.beat(now() - int64(11*time.Second)) }, paused},
		{"no sign of life ever", func() { k.control.beat(0) }, paused},
		{"heartbeat from a clock a little ahead", func() { k.control.beat(now() + int64(time.Minute)) }, copied},
	}
	if now() < int64(20*time.Second) {
		t.Skip("the machine booted less than 20 s ago")
	}
	for _, s := range steps {
		s.do()
		if diff := cmp.Diff(s.want, send()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", s.name, diff)
		}
	}
}
