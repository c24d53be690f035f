package capture

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
)

// The cost of the program per packet, as BPF_PROG_TEST_RUN measures it: warm
// caches, and what the kernel spends on the loop included (see null).
func BenchmarkProgram(b *testing.B) { benchmarkProgram(b, newKernel(b, 1, 64<<20, 0, target4)) }

// The same with responses.
func BenchmarkProgramResponses(b *testing.B) {
	benchmarkProgram(b, newResponseKernel(b, 1, 64<<20, 0, target4))
}

func benchmarkProgram(b *testing.B, k *kernel) {
	payload := strings.Repeat("p", 1000)
	otherPort, otherAddr := to4(FlagACK, 1, payload), to4(FlagACK, 1, payload)
	otherPort.dst = netip.AddrPortFrom(server4.Addr(), 81)
	otherAddr.dst = netip.AddrPortFrom(client4.Addr(), 80)
	// On lo, which is where BPF_PROG_TEST_RUN has its packets come in.
	pod := k.pod(1, target4)
	if err := pod.SetTargets([]Target{target4}, true); err != nil {
		b.Fatal(err)
	}
	response := from4(FlagACK, 1, payload).bytes(b)
	arp := patch(to4(FlagACK, 1, payload).bytes(b), 12, 0x0806)
	for _, bm := range []struct {
		name   string
		prog   *ebpf.Program
		packet []byte
		copied bool
	}{
		{"null", k.TapIngressEth, arp, false},
		{"other_port", k.TapIngressEth, otherPort.bytes(b), false},
		{"other_address", k.TapIngressEth, otherAddr.bytes(b), false},
		{"pure_ack", k.TapIngressEth, to4(FlagACK, 1, "").bytes(b), false},
		{"copied_1KB", k.TapIngressEth, to4(FlagACK, 1, payload).bytes(b), true},
		{"copied_3KB", k.TapIngressEth, to4(FlagACK, 1, strings.Repeat("p", 3000)).bytes(b), true},
		{"response_ack", k.TapEgressEth, from4(FlagACK, 1, "").bytes(b), false},
		{"response_1KB", k.TapEgressEth, response, k.responses},
		{"pod_null", pod.programs.ingress.Eth, arp, false},
		{"pod_other_port", pod.programs.ingress.Eth, otherPort.bytes(b), false},
		{"pod_copied_1KB", pod.programs.ingress.Eth, to4(FlagACK, 1, payload).bytes(b), true},
		{"pod_response_1KB", pod.programs.ingress.Eth, response, k.responses},
	} {
		b.Run(bm.name, func(b *testing.B) {
			b.ReportAllocs()
			var total time.Duration
			for left := b.N; left > 0; {
				// No more at once than the ring takes.
				n := min(left, 10_000)
				k.alive()
				beforeTo, beforeFrom := k.countBoth()
				_, d, err := k.verified(bm.prog).Benchmark(bm.packet, n, nil)
				if err != nil {
					b.Fatal(err)
				}
				total += d * time.Duration(n)
				left -= n
				requests, responses := k.countBoth()
				copied := requests.minus(beforeTo)["copied"] + responses.minus(beforeFrom)["copied"]
				if bm.copied && copied < uint64(n) {
					b.Fatalf("copied %d of %d", copied, n)
				}
				k.discard()
			}
			b.ReportMetric(float64(total.Nanoseconds())/float64(b.N), "ns/packet")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// discard empties the rings without looking.
func (k *kernel) discard() {
	for _, r := range k.rings {
		for _, ok := r.next(); ok; _, ok = r.next() {
		}
		r.release()
	}
}

type nullSink struct{ bytes int }

func (*nullSink) Begin(int64)          {}
func (s *nullSink) Segment(g *Segment) { s.bytes += len(g.Payload) }
func (*nullSink) End()                 {}

// The cost of handing over a record, from the ring to a Sink that does nothing.
func BenchmarkReader(b *testing.B) {
	k := newKernel(b, 1, 64<<20, 0, target4)
	sink := &nullSink{}
	r, err := newReader(k.rings[0], k.maps[0].FD(), k.control, 0, k.clock, &Config{Poll: time.Hour, Guard: unguarded}, sink)
	if err != nil {
		b.Fatal(err)
	}
	defer r.close()
	packet := to4(FlagACK, 1, strings.Repeat("p", 1000)).bytes(b)
	b.ReportAllocs()
	b.SetBytes(1000)
	b.ResetTimer()
	for done := 0; done < b.N; {
		b.StopTimer()
		fill(b, k, k.TapIngressEth, packet, min(10_000, b.N-done))
		b.StartTimer()
		n, err := r.drain()
		if err != nil {
			b.Fatal(err)
		}
		done += n
	}
}

func fill(b *testing.B, k *kernel, prog *ebpf.Program, packet []byte, n int) {
	b.Helper()
	k.alive()
	if _, _, err := prog.Benchmark(packet, n, nil); err != nil {
		b.Fatal(err)
	}
}
