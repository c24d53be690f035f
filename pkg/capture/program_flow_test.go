package capture

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What becomes of packets of one flow that are seen on several hooks. Hooks A
// and B are two interfaces at ingress, a and b the same at egress.
func TestProgramOneCopyPerPacket(t *testing.T) {
	const (
		A, B, a, b = 'A', 'B', 'a', 'b'
		copied     = "copied"
	)
	type step struct {
		hook    rune
		flags   Flags
		seq     uint32
		payload string
		want    string
	}
	data := func(hook rune, seq uint32, payload, want string) step {
		return step{hook, FlagACK, seq, payload, want}
	}
	tests := []struct {
		name  string
		steps []step
	}{
		{"owner sees first", []step{
			{A, FlagSYN, 99, "", copied}, {B, FlagSYN, 99, "", SkippedDuplicate},
			data(A, 100, "one", copied), data(B, 100, "one", SkippedDuplicate), data(b, 100, "one", SkippedDuplicate),
			data(A, 103, "two", copied), data(a, 103, "two", SkippedDuplicate),
			{A, FlagFIN | FlagACK, 106, "", copied}, {B, FlagFIN | FlagACK, 106, "", SkippedDuplicate},
			{A, FlagRST, 107, "", copied}, {B, FlagRST, 107, "", SkippedDuplicate},
		}},
		{"ingress and egress of one interface are two hooks", []step{
			data(a, 5, "x", copied), data(A, 5, "x", SkippedDuplicate), data(a, 6, "y", copied),
		}},
		{"the owner copies retransmissions", []step{
			data(A, 100, "one", copied), data(A, 100, "one", copied), data(A, 50, "old", copied),
			data(B, 100, "one", SkippedDuplicate),
		}},
		{"the other hook is too late for parts", []step{
			data(A, 100, "onetwo", copied), data(B, 100, "one", SkippedDuplicate), data(B, 103, "two", SkippedDuplicate),
		}},
		{"path changes", []step{
			data(A, 100, "one", copied), data(B, 103, "two", copied), data(A, 103, "two", SkippedDuplicate),
			data(B, 106, "three", copied), data(A, 111, "four", copied), data(B, 111, "four", SkippedDuplicate),
		}},
		{"FIN takes another path", []step{
			data(A, 100, "one", copied), {B, FlagFIN | FlagACK, 103, "", copied}, {A, FlagFIN | FlagACK, 103, "", SkippedDuplicate},
		}},
		{"partly new", []step{
			data(A, 100, "one", copied), data(B, 102, "e+", copied), data(A, 103, "+", SkippedDuplicate),
		}},
		{"sequence wrap", []step{
			data(A, 0xfffffffe, "wrap", copied), data(B, 0xfffffffe, "wrap", SkippedDuplicate),
			data(A, 2, "next", copied), data(B, 2, "next", SkippedDuplicate), data(B, 6, "path", copied),
			data(A, 0xfffffff0, "late", SkippedDuplicate),
		}},
		{"same 4-tuple again", []step{
			{A, FlagSYN, 99, "", copied}, data(A, 100, strings.Repeat("x", 1000), copied),
			{B, FlagSYN, 50, "", copied}, {A, FlagSYN, 50, "", SkippedDuplicate},
			data(B, 51, "new", copied), data(A, 51, "new", SkippedDuplicate),
		}},
		{"SYN again", []step{
			{A, FlagSYN, 99, "", copied}, {A, FlagSYN, 99, "", copied}, {B, FlagSYN, 99, "", SkippedDuplicate},
		}},
		{"SYN ACK opens nothing", []step{
			data(A, 100, "one", copied), {B, FlagSYN | FlagACK, 10, "", SkippedDuplicate}, data(A, 103, "two", copied),
		}},
		{"pure ACKs have no owner", []step{
			data(A, 100, "", SkippedPureACK), data(B, 100, "one", copied), data(A, 103, "", SkippedPureACK),
			data(B, 103, "two", copied),
		}},
	}

	ns := newNetns(t)
	left, right := newVeth(t, ns, ns, "left", "right")
	k := newKernel(t, 1, 1<<20, 0, target4)
	inNetns(t, ns, func() (struct{}, error) {
		for _, tt := range tests {
			k.forget()
			var got, want []string
			for _, s := range tt.steps {
				prog, link := k.TapIngressEth, left
				if s.hook == a || s.hook == b {
					prog = k.TapEgressEth
				}
				if s.hook == B || s.hook == b {
					link = right
				}
				before := k.count()
				if err := k.try(prog, to4(s.flags, s.seq, s.payload).bytes(t), uint32(link.Attrs().Index)); err != nil {
					return struct{}{}, err
				}
				outcome := "?"
				for reason := range k.count().minus(before) {
					if reason != "seen" {
						outcome = reason
					}
				}
				for _, seg := range k.segments() {
					if int(seg.Ifindex) != link.Attrs().Index {
						t.Errorf("%s: segment of interface %d, want %d", tt.name, seg.Ifindex, link.Attrs().Index)
					}
				}
				got, want = append(got, outcome), append(want, s.want)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tt.name, diff)
			}
		}
		return struct{}{}, nil
	})
}

// ignore does what Tap.Ignore does.
func (k *kernel) ignore(f Flow) {
	k.t.Helper()
	if err := (&Tap{objs: k.objects}).Ignore(f); err != nil {
		k.t.Fatal(err)
	}
}

func TestProgramIgnore(t *testing.T) {
	k := newKernel(t, 1, 1<<20, 0, target4)
	f := flowOf(client4, server4)
	steps := []struct {
		flags  Flags
		seq    uint32
		ignore bool // before the packet
		want   string
	}{
		{FlagSYN, 99, false, "copied"},
		{FlagACK, 100, false, "copied"},
		{FlagACK, 101, true, SkippedIgnored},
		{FlagACK | FlagFIN, 102, false, SkippedIgnored},
		{FlagSYN | FlagACK, 500, false, SkippedIgnored},
		{FlagSYN, 5000, false, "copied"}, // a new connection
		{FlagACK, 5001, false, "copied"},
		{FlagSYN, 9000, true, "copied"}, // the verdict was meant for the old one
	}
	for i, s := range steps {
		if s.ignore {
			k.ignore(f)
		}
		before := k.count()
		k.run(k.TapIngressEth, to4(s.flags, s.seq, "x").bytes(t))
		if diff := cmp.Diff(tally{"seen": 1, s.want: 1}, k.count().minus(before)); diff != "" {
			t.Errorf("step %d (-want +got):\n%s", i, diff)
		}
	}
	// A flow the kernel has never seen, and another one of the same client.
	k.ignore(flowOf(client6, server6))
	before := k.count()
	k.run(k.TapIngressEth, to4(FlagACK, 9001, "x").bytes(t))
	if diff := cmp.Diff(tally{"seen": 1, "copied": 1}, k.count().minus(before)); diff != "" {
		t.Errorf("another flow (-want +got):\n%s", diff)
	}
}

// A full ring loses packets, says so in the counters, and marks the next
// record of the flow, once.
func TestProgramRingFull(t *testing.T) {
	const ringBytes = 4096
	k := newKernel(t, 1, ringBytes, 0, target4)
	payload := strings.Repeat("p", 1000)
	record := ringHeadSize + recordHead + len(payload)
	fit := (ringBytes - 1) / record // the kernel never fills the last byte
	const sent = 10
	seq := uint32(1)
	send := func() {
		k.run(k.TapIngressEth, to4(FlagACK, seq, payload).bytes(t))
		seq += uint32(len(payload))
	}
	for range sent {
		send()
	}
	want := tally{"seen": sent, "copied": uint64(fit), LostRingFull: sent - uint64(fit)}
	if diff := cmp.Diff(want, k.count()); diff != "" {
		t.Errorf("full (-want +got):\n%s", diff)
	}
	c, _, err := readCounters(k.Counters)
	if err != nil {
		t.Fatal(err)
	}
	if want := uint64(sent-fit) * uint64(len(payload)); c.LostBytes != want {
		t.Errorf("lost %d bytes, want %d", c.LostBytes, want)
	}
	for _, s := range k.segments() {
		if s.Flags&FlagLost != 0 {
			t.Error("record before the loss is marked")
		}
	}
	send()
	send()
	var marks []bool
	for _, s := range k.segments() {
		marks = append(marks, s.Flags&FlagLost != 0)
	}
	if diff := cmp.Diff([]bool{true, false}, marks); diff != "" {
		t.Errorf("marks after the loss (-want +got):\n%s", diff)
	}
}

// The mark belongs to one flow, and a new connection starts without.
func TestProgramLostIsPerFlow(t *testing.T) {
	k := newKernel(t, 1, 4096, 0, target4)
	big := to4(FlagACK, 1, strings.Repeat("p", 3000))
	other := packet{src: server4, dst: server4, seq: 1, flags: FlagACK, payload: "other"}
	k.run(k.TapIngressEth, big.bytes(t))
	k.run(k.TapIngressEth, big.bytes(t)) // lost
	k.segments()
	k.run(k.TapIngressEth, other.bytes(t))
	k.run(k.TapIngressEth, to4(FlagSYN, 9, "").bytes(t))
	for _, s := range k.segments() {
		if s.Flags&FlagLost != 0 {
			t.Errorf("%v from %v is marked", s.Flags, s.Flow.Source())
		}
	}
	if got := k.count()[LostRingFull]; got != 1 {
		t.Errorf("%d packets lost, want 1", got)
	}
}

// The budget lets a credit pass at once, and refuses what goes beyond.
func TestProgramBudget(t *testing.T) {
	// Of 100 kB/s the credit is 12.5 kB; sending would have to take 12 s for the
	// rest to pass, too.
	const rate = 100_000
	k := newKernel(t, 1, 4<<20, rate, target4)
	p := to4(FlagACK, 1, strings.Repeat("p", 3000))
	raw := p.bytes(t)
	const packets = 400 // 1.2 MB
	start, _ := k.clock.read()
	for range packets {
		k.run(k.TapIngressEth, raw)
	}
	end, _ := k.clock.read()
	got := k.count()
	size := uint64(recordHead + len(p.payload))
	least := rate / 8 / size
	most := least + uint64(end-start)*rate/1e9/size + 2 // one more at either end
	if c := got["copied"]; c < least || c > most {
		t.Errorf("copied %d packets of %d bytes in %d us, want %d to %d", c, size, (end-start)/1000, least, most)
	}
	if got[SkippedOverBudget] == 0 {
		t.Errorf("nothing was over the budget: %v", got)
	}

	unlimited := newKernel(t, 1, 4<<20, 0, target4)
	for range packets {
		unlimited.run(unlimited.TapIngressEth, raw)
	}
	if diff := cmp.Diff(tally{"seen": packets, "copied": packets}, unlimited.count()); diff != "" {
		t.Error(diff)
	}
}

// A packet refused for the budget is a hole in its flow.
func TestProgramBudgetMarksFlow(t *testing.T) {
	k := newKernel(t, 1, 4<<20, minBudget, target4)
	raw := to4(FlagACK, 1, strings.Repeat("p", 3000)).bytes(t)
	for k.count()[SkippedOverBudget] == 0 {
		k.run(k.TapIngressEth, raw)
	}
	k.segments()
	k.control.BudgetSpent = 0 // all credit again
	k.run(k.TapIngressEth, raw)
	got := k.segments()
	if len(got) != 1 || got[0].Flags&FlagLost == 0 {
		t.Errorf("after the refusal: %d segments, want one with FlagLost", len(got))
	}
}

// Both directions of a connection, and all packets of one, share a ring; and
// connections spread over the rings.
func TestProgramShards(t *testing.T) {
	const shards = 4
	k := newKernel(t, shards, 1<<20, 0, target4, Target{client4.Addr(), client4.Port()})
	ringOf := func(p packet) int {
		k.run(k.TapIngressEth, p.bytes(t))
		found := -1
		for i, r := range k.rings {
			if r.available() > 0 {
				found = i
			}
		}
		if n := len(k.segments()); n != 1 {
			t.Fatalf("%d segments", n)
		}
		return found
	}
	if there, back := ringOf(to4(FlagACK, 1, "x")), ringOf(packet{src: server4, dst: client4, flags: FlagACK, payload: "y"}); there != back {
		t.Errorf("directions in rings %d and %d", there, back)
	}
	var used [shards]int
	for i := range 400 {
		p := to4(FlagACK, 1, "x")
		p.src = netip.AddrPortFrom(p.src.Addr(), uint16(10000+i))
		used[ringOf(p)]++
	}
	for i, n := range used {
		if n < 400/shards/2 {
			t.Errorf("ring %d got %d of 400 connections: %v", i, n, used)
		}
	}
}
