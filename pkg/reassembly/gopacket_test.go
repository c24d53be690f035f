package reassembly

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/tcpassembly"
)

// gopacketStream writes down what tcpassembly delivers.
type gopacketStream struct {
	data   []byte
	skips  []int
	closed int
}

func (s *gopacketStream) Reassembled(rs []tcpassembly.Reassembly) {
	for _, r := range rs {
		if r.Skip != 0 {
			s.skips = append(s.skips, r.Skip)
		}
		s.data = append(s.data, r.Bytes...)
	}
}
func (s *gopacketStream) ReassemblyComplete() { s.closed++ }

// gopacketAssembler feeds tcpassembly with our segments.
type gopacketAssembler struct {
	*tcpassembly.Assembler
	streams []*gopacketStream
	net     gopacket.Flow
}

func (g *gopacketAssembler) New(_, _ gopacket.Flow) tcpassembly.Stream {
	g.streams = append(g.streams, new(gopacketStream))
	return g.streams[len(g.streams)-1]
}

func newGopacketAssembler() *gopacketAssembler {
	g := &gopacketAssembler{net: gopacket.NewFlow(layers.EndpointIPv4, []byte{10, 0, 0, 1}, []byte{10, 0, 0, 2})}
	g.Assembler = tcpassembly.NewAssembler(tcpassembly.NewStreamPool(g))
	return g
}

func gopacketTCP(s *Segment) *layers.TCP {
	tcp := &layers.TCP{
		BaseLayer: layers.BaseLayer{Payload: s.Payload},
		SrcPort:   1000, DstPort: 80, Seq: s.Seq, Ack: s.Ack,
		SYN: s.Flags&FlagSYN != 0, FIN: s.Flags&FlagFIN != 0, RST: s.Flags&FlagRST != 0, ACK: s.Flags&FlagACK != 0,
	}
	tcp.SetInternalPortsForTesting()
	return tcp
}

func (g *gopacketAssembler) segment(s *Segment) { g.Assemble(g.net, gopacketTCP(s)) }

// collector keeps everything its flow delivers.
type collector struct {
	data   []byte
	gaps   int
	closed CloseReason
}

func (c *collector) Data(p []byte, _ bool, _ int64)  { c.data = append(c.data, p...) }
func (c *collector) Gap(int64, int64)                { c.gaps++ }
func (c *collector) Closed(why CloseReason, _ int64) { c.closed = why }

// FuzzAgainstTCPAssembly shuffles, repeats and overlaps the segments of a
// complete connection and expects the stream from both assemblers.
func FuzzAgainstTCPAssembly(f *testing.F) {
	for seed := range uint64(40) {
		f.Add(seed, -uint32(20*seed), uint16(100*seed), uint8(seed))
	}
	f.Fuzz(func(t *testing.T, seed uint64, isn uint32, size uint16, disorder uint8) {
		rnd := rand.New(rand.NewPCG(seed, 0))
		stream := make([]byte, size)
		for i := range stream {
			stream[i] = byte(rnd.Uint32())
		}
		var segments []Segment
		piece := func(at, n int) {
			segments = append(segments, Segment{
				Seq: isn + 1 + uint32(at), Ack: rnd.Uint32N(3), Flags: FlagACK, Payload: stream[at:min(at+n, len(stream))],
			})
		}
		for at := 0; at < len(stream); {
			n := min(1+rnd.IntN(1+rnd.IntN(500)), len(stream)-at)
			piece(at, n)
			if rnd.IntN(4) == 0 {
				piece(max(at-rnd.IntN(300), 0), 1+rnd.IntN(600))
			}
			at += n
		}
		for i := range segments {
			j := min(i+rnd.IntN(1+int(disorder)), len(segments)-1)
			segments[i], segments[j] = segments[j], segments[i]
		}
		segments = append([]Segment{{Seq: isn, Flags: FlagSYN}}, segments...)
		segments = append(segments, Segment{Seq: isn + 1 + uint32(len(stream)), Flags: FlagACK | FlagFIN})

		ours, theirs := new(collector), newGopacketAssembler()
		a := New(Config{NewStream: func(Flow, bool, int64) Stream { return ours }})
		for i := range segments {
			a.Segment(Flow{}, &segments[i])
			theirs.segment(&segments[i])
		}
		if !bytes.Equal(ours.data, stream) || ours.gaps != 0 || ours.closed != CloseFIN {
			t.Errorf("we delivered %d bytes of %d, %d gaps, closed: %v", len(ours.data), size, ours.gaps, ours.closed)
		}
		if g := theirs.streams[0]; !bytes.Equal(g.data, ours.data) || g.skips != nil || g.closed != 1 {
			t.Errorf("tcpassembly delivered %d bytes of %d, skips %v", len(g.data), size, g.skips)
		}
	})
}

// TestWhyNotTCPAssembly holds the package comment to the truth: where one of
// these fails after an update of gopacket, its reason is gone.
func TestWhyNotTCPAssembly(t *testing.T) {
	ack := func(seq uint32, p string) *Segment {
		return &Segment{Seq: seq, Flags: FlagACK, Payload: []byte(p)}
	}
	feed := func(segments ...*Segment) *gopacketAssembler {
		g := newGopacketAssembler()
		for _, s := range segments {
			g.segment(s)
		}
		return g
	}
	synSegment := &Segment{Seq: 0, Flags: FlagSYN}

	g := feed(ack(1, "GET"), ack(4, " / "))
	if got := string(g.streams[0].data); got != "" {
		t.Errorf("delivers %q before a flush without the SYN", got)
	}
	g.FlushAll()
	if s := g.streams[0]; string(s.data) != "GET / " || !slices.Equal(s.skips, []int{-1}) {
		t.Errorf("delivers %q, skips %v at a flush without the SYN", s.data, s.skips)
	}

	g = feed(synSegment, ack(4, "d"))
	g.FlushAll()
	if s := g.streams[0]; !slices.Equal(s.skips, []int{3}) {
		t.Errorf("skips %v after the SYN", s.skips)
	}

	g = feed(synSegment, ack(4, "def"), ack(3, "cXX"), ack(1, "ab"))
	if got := string(g.streams[0].data); got != "abcXXf" {
		t.Errorf("delivers %q of contradicting copies", got)
	}

	g = feed(synSegment, ack(1, "abc"), &Segment{Seq: 1, Flags: FlagRST})
	if g.streams[0].closed != 1 {
		t.Error("does not believe a RST of the past")
	}

	g = feed(synSegment, ack(1, "abc"), &Segment{Seq: 5000, Flags: FlagSYN}, ack(5001, "new"))
	if len(g.streams) != 1 || string(g.streams[0].data) != "abc" {
		t.Error("opens another stream for another SYN")
	}

	fin := &Segment{Seq: 4, Flags: FlagACK | FlagFIN}
	if g = feed(synSegment, ack(1, "abc"), fin, ack(1, "abc")); len(g.streams) != 2 {
		t.Error("opens no stream for a retransmission after FIN")
	}
}

// benchmarkFlows spreads segments over that many connections.
const benchmarkFlows = 1000

func benchmarkFlow(i int) Flow {
	var f Flow
	f.SrcIP = [16]byte{10: 0xff, 11: 0xff, 12: 10, 13: 1, 14: byte(i >> 8), 15: byte(i)}
	f.DstIP = [16]byte{10: 0xff, 11: 0xff, 12: 10, 13: 2, 14: 0, 15: 1}
	f.SrcPort, f.DstPort = uint16(20000+i), 80
	return f
}

// The orders of the benchmarks: segment numbers of one connection.
var benchmarkOrders = []struct {
	name string
	next func(n uint32) uint32
}{
	{"in-order", func(n uint32) uint32 { return n }},
	{"swapped-pairs", func(n uint32) uint32 { return n ^ 1 }},
}

// BenchmarkAssembler takes 1 KB segments round robin from 1000 connections.
func BenchmarkAssembler(b *testing.B) {
	for _, order := range benchmarkOrders {
		b.Run(order.name, func(b *testing.B) {
			q := new(quiet)
			a := New(Config{NewStream: func(Flow, bool, int64) Stream { return q }})
			flows := make([]Flow, benchmarkFlows)
			for i := range flows {
				flows[i] = benchmarkFlow(i)
				a.Segment(flows[i], &Segment{Flags: FlagSYN})
			}
			s := Segment{Flags: FlagACK, Payload: make([]byte, 1024)}
			b.SetBytes(1024)
			b.ReportAllocs()
			b.ResetTimer()
			i, n := 0, uint32(0)
			for range b.N {
				s.Seq = 1 + order.next(n)*1024
				s.Time += 1000
				a.Segment(flows[i], &s)
				if i++; i == benchmarkFlows {
					i, n = 0, n+1
				}
			}
			if q.gaps != 0 {
				b.Fatalf("%d gaps", q.gaps)
			}
		})
	}
}

// BenchmarkGopacketTCPAssembly is the same with gopacket/tcpassembly.
func BenchmarkGopacketTCPAssembly(b *testing.B) {
	for _, order := range benchmarkOrders {
		b.Run(order.name, func(b *testing.B) {
			q := new(quietGopacket)
			a := tcpassembly.NewAssembler(tcpassembly.NewStreamPool(q))
			nets := make([]gopacket.Flow, benchmarkFlows)
			tcps := make([]*layers.TCP, benchmarkFlows)
			payload := make([]byte, 1024)
			for i := range nets {
				f := benchmarkFlow(i)
				nets[i] = gopacket.NewFlow(layers.EndpointIPv4, f.SrcIP[12:], f.DstIP[12:])
				tcps[i] = gopacketTCP(&Segment{Flags: FlagSYN})
				a.Assemble(nets[i], tcps[i])
				tcps[i].SYN, tcps[i].Payload = false, payload
			}
			b.SetBytes(1024)
			b.ReportAllocs()
			b.ResetTimer()
			i, n := 0, uint32(0)
			for range b.N {
				tcps[i].Seq = 1 + order.next(n)*1024
				a.Assemble(nets[i], tcps[i])
				if i++; i == benchmarkFlows {
					i, n = 0, n+1
				}
			}
		})
	}
}

type quietGopacket struct{ bytes int }

func (q *quietGopacket) New(_, _ gopacket.Flow) tcpassembly.Stream { return q }
func (q *quietGopacket) Reassembled(rs []tcpassembly.Reassembly) {
	for i := range rs {
		q.bytes += len(rs[i].Bytes)
	}
}
func (q *quietGopacket) ReassemblyComplete() {}

// BenchmarkConnection opens, feeds and closes a connection per operation.
func BenchmarkConnection(b *testing.B) {
	q := new(quiet)
	a := New(Config{NewStream: func(Flow, bool, int64) Stream { return q }})
	s := Segment{Payload: make([]byte, 1024)}
	f := benchmarkFlow(0)
	b.ReportAllocs()
	for i := range b.N {
		f.SrcPort, f.SrcIP[15] = uint16(i), byte(i>>16)
		s.Time += 10_000
		s.Seq, s.Flags = uint32(i)<<12, FlagSYN
		p := s.Payload
		s.Payload = nil
		a.Segment(f, &s)
		s.Payload = p
		s.Seq, s.Flags = s.Seq+1, FlagACK
		a.Segment(f, &s)
		s.Payload = nil
		s.Seq, s.Flags = s.Seq+uint32(len(p)), FlagACK|FlagFIN
		a.Segment(f, &s)
		s.Payload = p
		if i%100 == 0 {
			a.Advance(s.Time)
		}
	}
	if q.closed != b.N {
		b.Fatalf("%d of %d closed", q.closed, b.N)
	}
}

// BenchmarkHostileFragments sends single bytes that never touch, shuffled.
func BenchmarkHostileFragments(b *testing.B) {
	for _, order := range []string{"forwards", "backwards", "shuffled"} {
		b.Run(order, func(b *testing.B) {
			q := new(quiet)
			a := New(Config{NewStream: func(Flow, bool, int64) Stream { return q }})
			a.Segment(Flow{}, &Segment{Flags: FlagSYN})
			s := Segment{Flags: FlagACK, Payload: []byte("x")}
			b.ReportAllocs()
			for i := range uint32(b.N) {
				block, j := i/1000*2000, i%1000
				switch order {
				case "backwards":
					j = 999 - j
				case "shuffled":
					j = j * 389 % 1000
				}
				s.Seq, s.Ack = 2+block+2*j, i
				a.Segment(Flow{}, &s)
			}
			if n := a.Stats().BytesReceived; n != uint64(b.N) {
				b.Fatal(fmt.Sprint(n, " bytes"))
			}
		})
	}
}
