package capture

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/google/go-cmp/cmp"
	"github.com/google/gopacket/layers"
)

func from4(flags Flags, seq uint32, payload string) packet {
	return packet{src: server4, dst: client4, seq: seq, ack: 7777, flags: flags, payload: payload}
}

func from6(flags Flags, seq uint32, payload string) packet {
	return packet{src: server6, dst: client6, seq: seq, ack: 7777, flags: flags, payload: payload}
}

// What the program takes out of packets that come from a target.
func TestProgramResponses(t *testing.T) {
	on := newResponseKernel(t, 2, 1<<20, 0, target4, target6)
	off := newKernel(t, 2, 1<<20, 0, target4, target6)
	with := func(p packet, change func(*packet)) packet { change(&p); return p }
	ok4, ok6 := from4(FlagACK|FlagPSH, 1000, "HTTP/1.1 204 No Content\r\n\r\n"), from6(FlagACK|FlagPSH, 2000, "HTTP/1.1 200 OK\r\n")
	extended := with(ok6, func(p *packet) {
		p.firstNext = layers.IPProtocolIPv6HopByHop
		p.extensions = append(p.extensions, extension(layers.IPProtocolIPv6Fragment, 1), fragmentHeader(layers.IPProtocolTCP, 0, false))
	})
	const ip = 14

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
		{"IPv4", ok4.bytes(t), ok4, false, false, copied},
		{"IPv6", ok6.bytes(t), ok6, false, false, copied},
		{"IPv4 egress", ok4.bytes(t), ok4, false, true, copied},
		{"IPv6 egress", ok6.bytes(t), ok6, false, true, copied},
		{"no Ethernet", with(ok4, func(p *packet) { p.noEthernet = true }).bytes(t), ok4, true, false, copied},
		{"no Ethernet egress", with(ok6, func(p *packet) { p.noEthernet = true }).bytes(t), ok6, true, true, copied},
		{"VLAN", with(ok4, func(p *packet) { p.vlans = []uint16{5} }).bytes(t), ok4, false, true, copied},
		{"extension headers", extended.bytes(t), ok6, false, true, copied},
		{"BIG TCP IPv4", patch(ok4.bytes(t), ip+2, 0), ok4, false, true, copied},
		{"BIG TCP IPv6", patch(ok6.bytes(t), ip+4, 0), ok6, false, true, copied},
		{"padding", with(from4(FlagACK, 5, "tiny"), func(p *packet) { p.padding = 30 }).bytes(t), from4(FlagACK, 5, "tiny"), false, false, copied},
		{"SYN ACK", from4(FlagSYN|FlagACK, 50, "").bytes(t), from4(FlagSYN|FlagACK, 50, ""), false, true, copied},
		{"FIN", from6(FlagFIN|FlagACK, 51, "").bytes(t), from6(FlagFIN|FlagACK, 51, ""), false, true, copied},
		{"RST", from4(FlagRST, 61, "").bytes(t), from4(FlagRST, 61, ""), false, true, copied},

		{"pure ACK", from4(FlagACK, 1, "").bytes(t), packet{}, false, true, skip(SkippedPureACK)},
		{"first fragment", with(ok4, func(p *packet) { p.more = true }).bytes(t), packet{}, false, true, skip(SkippedFragment)},
		{"length beyond the packet", patch(ok4.bytes(t), ip+2, 2000), packet{}, false, true, skip(SkippedMalformed)},

		{"another port", with(ok4, func(p *packet) { p.src = netip.AddrPortFrom(p.src.Addr(), 81) }).bytes(t), packet{}, false, true, unseen},
		{"another address", with(ok4, func(p *packet) { p.src = netip.AddrPortFrom(client4.Addr(), 80) }).bytes(t), packet{}, false, true, unseen},
		{"a target's address in the other version", with(ok6, func(p *packet) { p.src = netip.AddrPortFrom(client6.Addr(), 80) }).bytes(t), packet{}, false, true, unseen},
		{"ports cut off", ok4.bytes(t)[:ip+22], packet{}, false, true, unseen},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, k := range []*kernel{on, off} {
				k.t = t
				k.forget()
				prog := [2][2]*ebpf.Program{{k.TapIngressEth, k.TapEgressEth}, {k.TapIngressL3, k.TapEgressL3}}[b2i(tt.l3)][b2i(tt.egress)]
				beforeTo, beforeFrom := k.countBoth()
				k.run(prog, tt.bytes)
				to, from := k.countBoth()
				want := tt.count
				if k == off {
					want = unseen
				}
				if diff := cmp.Diff(want, from.minus(beforeFrom)); diff != "" {
					t.Errorf("responses counted (-want +got):\n%s", diff)
				}
				if diff := cmp.Diff(unseen, to.minus(beforeTo)); diff != "" {
					t.Errorf("requests counted (-want +got):\n%s", diff)
				}
				var wanted []Segment
				if want["copied"] == 1 {
					wanted = []Segment{{
						Flow: flowOf(tt.of.dst, tt.of.src), Seq: tt.of.seq, Ack: tt.of.ack, Flags: tt.of.flags | FlagResponse,
						Ifindex: 1, Payload: []byte(tt.of.payload),
					}}
				}
				got := k.segments()
				for i := range got {
					got[i].Time = 0
				}
				if diff := cmp.Diff(wanted, got); diff != "" {
					t.Errorf("segments (-want +got):\n%s", diff)
				}
			}
		})
	}
}

// A later fragment has no ports, and so no direction: it is counted once.
func TestProgramResponseFragment(t *testing.T) {
	k := newResponseKernel(t, 1, 1<<20, 0, target4)
	p := from4(FlagACK, 1, "x")
	p.fragOffset = 100
	k.run(k.TapEgressEth, p.bytes(t))
	to, from := k.countBoth()
	if diff := cmp.Diff([]tally{{"seen": 1, SkippedFragment: 1}, {}}, []tally{to, from}); diff != "" {
		t.Error(diff)
	}
}

// roleStep is a packet from one end to the other and what it is taken for.
type roleStep struct {
	from, to netip.AddrPort
	egress   bool
	flags    Flags
	seq      uint32
	want     string // "request", "response", or "" for neither
}

func (k *kernel) roles(steps []roleStep) (got []string) {
	k.t.Helper()
	k.forget()
	for _, s := range steps {
		prog := k.TapIngressEth
		if s.egress {
			prog = k.TapEgressEth
		}
		p := packet{src: s.from, dst: s.to, seq: s.seq, flags: s.flags}
		if s.flags&FlagSYN == 0 {
			p.payload = "x"
		}
		k.run(prog, p.bytes(k.t))
		segments := k.segments()
		if len(segments) > 1 {
			k.t.Fatalf("%d segments of one packet", len(segments))
		}
		role := ""
		for _, seg := range segments {
			role = "request"
			client, target := s.from, s.to
			if seg.Flags&FlagResponse != 0 {
				role, client, target = "response", s.to, s.from
			}
			if seg.Flow != flowOf(client, target) {
				k.t.Errorf("a %s from %v to %v has flow %v to %v", role, s.from, s.to, seg.Flow.Source(), seg.Flow.Destination())
			}
		}
		got = append(got, role)
	}
	return got
}

func wanted(steps []roleStep) (want []string) {
	for _, s := range steps {
		want = append(want, s.want)
	}
	return want
}

// Between two targets, a packet is the request of one or the response of the
// other: who opened the connection tells. No request is lost to a response.
func TestProgramBothEndsAreTargets(t *testing.T) {
	a, b := server4, netip.MustParseAddrPort("198.51.100.30:8080")
	k := newResponseKernel(t, 1, 1<<20, 0, Target{a.Addr(), a.Port()}, Target{b.Addr(), b.Port()})
	for name, steps := range map[string][]roleStep{
		"one calls the other from its own port": {
			{a, b, false, FlagSYN, 99, "request"}, {b, a, false, FlagSYN | FlagACK, 499, "response"},
			{a, b, false, FlagACK, 100, "request"}, {b, a, false, FlagACK, 500, "response"}, {a, b, true, FlagACK, 101, "request"},
			{b, a, true, FlagRST, 501, "response"},
		},
		"and from another": {
			{netip.AddrPortFrom(a.Addr(), 40000), b, false, FlagSYN, 99, "request"},
			{b, netip.AddrPortFrom(a.Addr(), 40000), false, FlagSYN | FlagACK, 499, "response"},
			{netip.AddrPortFrom(a.Addr(), 40000), b, false, FlagACK, 100, "request"},
			{b, netip.AddrPortFrom(a.Addr(), 40000), true, FlagACK, 500, "response"},
		},
		"who opened it was not seen": {
			{a, b, false, FlagACK, 100, "request"}, {b, a, false, FlagACK, 500, "request"}, {a, b, false, FlagACK, 101, "request"},
		},
		"then the other way round": {
			{a, b, false, FlagSYN, 99, "request"}, {b, a, false, FlagACK, 500, "response"},
			{b, a, false, FlagSYN, 7000, "request"}, {a, b, false, FlagSYN | FlagACK, 8999, "response"},
			{b, a, false, FlagACK, 7001, "request"}, {a, b, false, FlagACK, 9000, "response"},
		},
		"with itself": {
			{a, a, false, FlagSYN, 99, "request"}, {a, a, false, FlagSYN | FlagACK, 99, "request"}, {a, a, false, FlagACK, 100, "request"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			k.t = t
			if diff := cmp.Diff(wanted(steps), k.roles(steps)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// From a port without an address only what goes back to where requests came
// from is a response: at egress, or at ingress of a mirror port.
func TestProgramResponsesOfAnyAddress(t *testing.T) {
	k := newResponseKernel(t, 1, 1<<20, 0, Target{Port: 80})
	steps := []roleStep{
		{client4, server4, false, FlagSYN, 99, "request"},
		{server4, client4, true, FlagSYN | FlagACK, 499, "response"},
		{server4, client4, true, FlagACK, 500, "response"},
		{client6, server6, false, FlagACK, 100, "request"},
		{server6, client6, false, FlagACK, 500, "response"},
		{client4, elsewhere4, true, FlagACK, 1, ""}, // sent to another host
		{elsewhere4, client4, false, FlagACK, 1, ""},
		{netip.AddrPortFrom(client4.Addr(), 80), netip.AddrPortFrom(server4.Addr(), 443), true, FlagSYN, 1, ""}, // sent from that port by chance
	}
	if diff := cmp.Diff(wanted(steps), k.roles(steps)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

var elsewhere4 = netip.MustParseAddrPort("198.51.100.66:80")

// Responses have an owner among the hooks, apart from that of the requests: A
// and B are two interfaces at ingress, a and b the same at egress.
func TestProgramOneCopyPerResponse(t *testing.T) {
	const (
		A, B, a, b = 'A', 'B', 'a', 'b'
		copied     = "copied"
	)
	type step struct {
		hook     rune
		response bool
		flags    Flags
		seq      uint32
		payload  string
		want     string
	}
	to := func(hook rune, flags Flags, seq uint32, payload, want string) step {
		return step{hook, false, flags, seq, payload, want}
	}
	from := func(hook rune, flags Flags, seq uint32, payload, want string) step {
		return step{hook, true, flags, seq, payload, want}
	}
	tests := []struct {
		name  string
		steps []step
	}{
		{"each way has its first hook", []step{
			to(A, FlagSYN, 99, "", copied), to(b, FlagSYN, 99, "", SkippedDuplicate),
			from(B, FlagSYN|FlagACK, 499, "", copied), from(a, FlagSYN|FlagACK, 499, "", SkippedDuplicate),
			to(A, FlagACK, 100, "one", copied), to(b, FlagACK, 100, "one", SkippedDuplicate),
			from(B, FlagACK, 500, "two", copied), from(a, FlagACK, 500, "two", SkippedDuplicate),
			from(B, FlagACK|FlagFIN, 503, "", copied), from(a, FlagACK|FlagFIN, 503, "", SkippedDuplicate),
		}},
		{"path changes", []step{
			from(A, FlagACK, 100, "one", copied), from(B, FlagACK, 103, "two", copied), from(A, FlagACK, 103, "two", SkippedDuplicate),
		}},
		{"same 4-tuple again", []step{
			from(A, FlagSYN|FlagACK, 9000, "", copied), from(A, FlagACK, 9001, strings.Repeat("x", 1000), copied),
			from(B, FlagSYN|FlagACK, 50, "", copied), from(A, FlagSYN|FlagACK, 50, "", SkippedDuplicate),
			from(B, FlagACK, 51, "new", copied), from(A, FlagACK, 51, "new", SkippedDuplicate),
		}},
	}
	ns := newNetns(t)
	left, right := newVeth(t, ns, ns, "left", "right")
	k := newResponseKernel(t, 1, 1<<20, 0, target4)
	inNetns(t, ns, func() (struct{}, error) {
		for _, tt := range tests {
			k.forget()
			for i, s := range tt.steps {
				prog, link := k.TapIngressEth, left
				if s.hook == a || s.hook == b {
					prog = k.TapEgressEth
				}
				if s.hook == B || s.hook == b {
					link = right
				}
				p := to4(s.flags, s.seq, s.payload)
				if s.response {
					p = from4(s.flags, s.seq, s.payload)
				}
				beforeTo, beforeFrom := k.countBoth()
				if err := k.try(prog, p.bytes(t), uint32(link.Attrs().Index)); err != nil {
					return struct{}{}, err
				}
				to, from := k.countBoth()
				got := to.minus(beforeTo)
				if s.response {
					got = from.minus(beforeFrom)
				}
				if diff := cmp.Diff(tally{"seen": 1, s.want: 1}, got); diff != "" {
					t.Errorf("%s, step %d (-want +got):\n%s", tt.name, i, diff)
				}
			}
		}
		k.segments()
		return struct{}{}, nil
	})
}

// A verdict is about the connection, whichever way its packets go, and ends
// with it.
func TestProgramIgnoreStopsResponses(t *testing.T) {
	k := newResponseKernel(t, 1, 1<<20, 0, target4)
	steps := []struct {
		packet packet
		ignore bool // before the packet
		want   string
	}{
		{to4(FlagSYN, 99, ""), false, "copied"},
		{from4(FlagSYN|FlagACK, 499, ""), false, "copied"},
		{to4(FlagACK, 100, "\x16\x03\x01"), false, "copied"},
		{from4(FlagACK, 500, "\x16\x03\x03"), true, SkippedIgnored},
		{to4(FlagACK, 103, "x"), false, SkippedIgnored},
		{from4(FlagACK|FlagFIN, 503, "y"), false, SkippedIgnored},
		{to4(FlagSYN, 9000, ""), false, "copied"},
		{from4(FlagSYN|FlagACK, 5000, ""), false, "copied"},
		{from4(FlagACK, 5001, "HTTP/1.1"), false, "copied"},
	}
	for i, s := range steps {
		if s.ignore {
			k.ignore(flowOf(client4, server4))
		}
		beforeTo, beforeFrom := k.countBoth()
		k.run(k.TapIngressEth, s.packet.bytes(t))
		to, from := k.countBoth()
		got := to.minus(beforeTo)
		if s.packet.src == server4 {
			got = from.minus(beforeFrom)
		}
		if diff := cmp.Diff(tally{"seen": 1, s.want: 1}, got); diff != "" {
			t.Errorf("step %d (-want +got):\n%s", i, diff)
		}
	}
}

// Responses leave a quarter of the ring to requests, and what is lost is
// marked in its own direction.
func TestProgramResponsesYieldTheRing(t *testing.T) {
	const ringBytes = 32 << 10
	k := newResponseKernel(t, 1, ringBytes, 0, target4)
	payload := strings.Repeat("p", 1000)
	record := ringHeadSize + recordHead + len(payload)
	most := (ringBytes*3/4-len(payload))/record + 1
	const sent = 40
	for i := range sent {
		k.run(k.TapEgressEth, from4(FlagACK, uint32(1+i*len(payload)), payload).bytes(t))
	}
	_, from := k.countBoth()
	if diff := cmp.Diff(tally{"seen": sent, "copied": uint64(most), LostRingFull: uint64(sent - most)}, from); diff != "" {
		t.Errorf("responses (-want +got):\n%s", diff)
	}
	_, lost, err := readCounters(k.Counters)
	if err != nil {
		t.Fatal(err)
	}
	if want := uint64((sent - most) * len(payload)); lost.LostBytes != want || lost.CopiedBytes != uint64(most*len(payload)) {
		t.Errorf("copied %d bytes and lost %d, want %d lost", lost.CopiedBytes, lost.LostBytes, want)
	}
	k.run(k.TapIngressEth, to4(FlagACK, 1, payload).bytes(t))
	if diff := cmp.Diff(tally{"seen": 1, "copied": 1}, k.count()); diff != "" {
		t.Errorf("a request (-want +got):\n%s", diff)
	}
	if n := countMarks(k.segments()); n != 0 {
		t.Errorf("%d segments are marked before the loss", n)
	}
	k.run(k.TapIngressEth, to4(FlagACK, 1001, "request").bytes(t))
	k.run(k.TapEgressEth, from4(FlagACK, 100_000, "response").bytes(t))
	k.run(k.TapEgressEth, from4(FlagACK, 100_008, "response").bytes(t))
	var flags []Flags
	for _, s := range k.segments() {
		flags = append(flags, s.Flags)
	}
	if diff := cmp.Diff([]Flags{FlagACK, FlagACK | FlagResponse | FlagLost, FlagACK | FlagResponse}, flags); diff != "" {
		t.Errorf("flags after the loss (-want +got):\n%s", diff)
	}

	// The other way round: requests may take all of it.
	for i := range sent {
		k.run(k.TapIngressEth, to4(FlagACK, uint32(2000+i*len(payload)), payload).bytes(t))
	}
	k.segments()
	k.run(k.TapEgressEth, from4(FlagACK, 100_016, "response").bytes(t))
	k.run(k.TapIngressEth, to4(FlagACK, 90_000, "request").bytes(t))
	flags = nil
	for _, s := range k.segments() {
		flags = append(flags, s.Flags)
	}
	if diff := cmp.Diff([]Flags{FlagACK | FlagResponse, FlagACK | FlagLost}, flags); diff != "" {
		t.Errorf("flags after the loss of requests (-want +got):\n%s", diff)
	}
}

func countMarks(segments []Segment) (n int) {
	for _, s := range segments {
		if s.Flags&FlagLost != 0 {
			n++
		}
	}
	return n
}

// Of the budget's credit, half is for requests alone.
func TestProgramResponsesYieldTheBudget(t *testing.T) {
	k := newResponseKernel(t, 1, 4<<20, minBudget, target4) // a packet costs 47 ms
	raw := from4(FlagACK, 1, strings.Repeat("p", 3000)).bytes(t)
	for refused := false; !refused; {
		mono, _ := k.clock.read()
		k.control.BudgetSpent = uint64(mono) // no credit but what this thread is late
		k.run(k.TapEgressEth, raw)
		_, from := k.countBoth()
		refused = from[SkippedOverBudget] > 0
	}
	k.run(k.TapIngressEth, to4(FlagACK, 1, strings.Repeat("p", 500)).bytes(t))
	if diff := cmp.Diff(tally{"seen": 1, "copied": 1}, k.count()); diff != "" {
		t.Errorf("a request (-want +got):\n%s", diff)
	}
	k.segments()
	k.control.BudgetSpent = 0 // all credit again
	k.run(k.TapEgressEth, raw)
	k.run(k.TapIngressEth, to4(FlagACK, 501, "x").bytes(t))
	var flags []Flags
	for _, s := range k.segments() {
		flags = append(flags, s.Flags)
	}
	if diff := cmp.Diff([]Flags{FlagACK | FlagResponse | FlagLost, FlagACK}, flags); diff != "" {
		t.Errorf("flags (-want +got):\n%s", diff)
	}
}

// A paused tap copies neither.
func TestProgramPauseStopsResponses(t *testing.T) {
	k := newResponseKernel(t, 1, 1<<20, 0, target4)
	k.control.pause(true)
	k.run(k.TapIngressEth, to4(FlagSYN, 99, "").bytes(t))
	k.run(k.TapEgressEth, from4(FlagSYN|FlagACK, 499, "").bytes(t))
	k.control.pause(false)
	k.run(k.TapEgressEth, from4(FlagACK, 500, "x").bytes(t))
	to, from := k.countBoth()
	want := []tally{{"seen": 1, SkippedPaused: 1}, {"seen": 2, SkippedPaused: 1, "copied": 1}}
	if diff := cmp.Diff(want, []tally{to, from}); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A request and its response share a ring, the one that ShardOf says.
func TestProgramResponsesShareTheShard(t *testing.T) {
	const shards = 8
	k := newResponseKernel(t, shards, 1<<20, 0, target4)
	var key shardKey
	if err := k.spec.Variables[tapVarShardKey].Get(&key); err != nil {
		t.Fatal(err)
	}
	for i := range 50 {
		client := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 9, byte(i * 7), byte(i)}), uint16(10000+i*31))
		want := shardOf(flowOf(client, server4), &key, shards)
		for _, p := range []packet{
			{src: client, dst: server4, flags: FlagACK, payload: "x"}, {src: server4, dst: client, flags: FlagACK, payload: "y"},
		} {
			k.run(k.TapIngressEth, p.bytes(t))
			ring := slices.IndexFunc(k.rings, func(r *ring) bool { return r.available() > 0 })
			if k.segments(); ring != want {
				t.Fatalf("from %v in ring %d, want %d", p.src, ring, want)
			}
		}
	}
}

// Responses are taken from the side of a pod that requests are taken from, and
// nothing in them changes it.
func TestProgramSidesOfResponses(t *testing.T) {
	const (
		copied   = "copied"
		other    = SkippedOtherSide
		hello    = "\x16\x03\x01\x02\x00\x01..."
		finished = "\x14\x03\x03\x00\x01\x01\x17\x03\x03\x00\x35..."
	)
	pod, localhost := server4, netip.MustParseAddrPort("127.0.0.1:80")
	type step struct {
		outside bool
		target  netip.AddrPort
		back    bool
		flags   Flags
		seq     uint32
		ack     uint32
		payload string
		want    string
	}
	k := newResponseKernel(t, 1, 1<<20, 0)
	i := k.pod(7, target4)
	ns := newNetns(t)
	_, eth0 := newVeth(t, ns, ns, "left", "eth0")
	steps := []step{
		{true, pod, false, FlagSYN, 99, 0, "", copied}, {true, pod, true, FlagSYN | FlagACK, 499, 100, "", copied},
		{false, localhost, false, FlagSYN, 99, 0, "", other}, {false, localhost, true, FlagSYN | FlagACK, 499, 100, "", other},
		// What a server says does not make a handshake.
		{true, pod, true, FlagACK, 500, 100, hello, copied}, {true, pod, true, FlagACK, 600, 200, finished, copied},
		{false, pod, true, FlagACK, 500, 100, "x", other},
		{true, pod, false, FlagACK, 100, 500, hello, copied},
		{true, pod, true, FlagACK, 800, 200, finished, copied},
		{true, pod, false, FlagACK, 200, 900, finished, other}, // it is complete: lo from now on
		{true, pod, true, FlagACK, 900, 300, finished, other},
		{false, localhost, false, FlagACK, 100, 7, "GET /", copied}, {false, localhost, true, FlagACK, 500, 7, "HTTP/1.1", copied},
		{false, netip.MustParseAddrPort("127.0.0.6:80"), true, FlagACK, 500, 7, "HTTP/1.1", copied},
		{true, localhost, true, FlagACK, 500, 7, "HTTP/1.1", ""}, // forged
		{false, netip.MustParseAddrPort("127.0.0.1:81"), true, FlagACK, 500, 7, "HTTP/1.1", ""},
	}
	inNetns(t, ns, func() (struct{}, error) {
		for n, s := range steps {
			prog, ifindex := i.programs.ingress.Eth, uint32(1)
			client := netip.MustParseAddrPort("127.0.0.1:40000")
			if s.outside {
				client, ifindex = client4, uint32(eth0.Attrs().Index)
				if s.back {
					prog = i.programs.egress.Eth
				}
			}
			p := packet{src: client, dst: s.target, seq: s.seq, ack: s.ack, flags: s.flags, payload: s.payload}
			if s.back {
				p.src, p.dst = p.dst, p.src
			}
			beforeTo, beforeFrom := k.countBoth()
			if err := k.try(prog, p.bytes(t), ifindex); err != nil {
				return struct{}{}, err
			}
			to, from := k.countBoth()
			got := []tally{to.minus(beforeTo), from.minus(beforeFrom)}
			want := []tally{{}, {}}
			if s.want != "" {
				want[b2i(s.back)] = tally{"seen": 1, s.want: 1}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("step %d: requests and responses (-want +got):\n%s", n, diff)
			}
			for _, seg := range k.segments() {
				f := flowOf(client, s.target)
				f.Instance = i.id
				if seg.Flow != f || (seg.Flags&FlagResponse != 0) != s.back {
					t.Errorf("step %d: flow %v to %v, flags %#x", n, seg.Flow.Source(), seg.Flow.Destination(), seg.Flags)
				}
			}
		}
		return struct{}{}, nil
	})
}

// Without responses a pod has no programs at egress.
func TestInstanceWithoutResponses(t *testing.T) {
	k := newKernel(t, 1, 1<<20, 0)
	if p := k.pod(1).programs.attachable(); p.IngressEth == nil || p.IngressL3 == nil || p.EgressEth != nil || p.EgressL3 != nil {
		t.Errorf("programs: %+v", p)
	}
}
