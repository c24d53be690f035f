package capture

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"testing"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// FuzzProgramResponses turns arbitrary packets round and runs them through the
// program as responses. What becomes of such a packet is what the oracle of
// FuzzProgram says of the request that it was made of, but for the direction.
func FuzzProgramResponses(f *testing.F) {
	k := newResponseKernel(f, 1, 1<<20, 0, Target{Port: 80})
	for _, p := range []packet{
		to4(FlagACK|FlagPSH, 1, "HTTP/1.1 200 OK\r\n\r\n"), to6(FlagFIN|FlagACK, 1, "x"), to4(FlagSYN|FlagACK, 1, ""),
		to6(FlagACK, 1, ""), to4(FlagRST, 1, ""),
	} {
		f.Add(p.bytes(f), false)
	}
	l3 := to6(FlagACK, 1, "x")
	l3.noEthernet = true
	f.Add(l3.bytes(f), true)

	f.Fuzz(func(t *testing.T, data []byte, noEthernet bool) {
		want, outcome := oracle(data, noEthernet)
		turned, request, ok := turn(data, noEthernet)
		if !ok || request.SrcPort == 80 || request.DstPort != 80 {
			t.Skip("no ports, or not those of a request")
		}
		k.t = t
		k.alive()
		// What comes from a port of any address is a response if a request went
		// there.
		key := (*tapFlow)(unsafe.Pointer(&request))
		if err := k.Flows.Put(key, &tapFlowState{}); err != nil {
			t.Fatal(err)
		}
		prog := k.TapEgressEth
		if noEthernet {
			prog = k.TapEgressL3
		}
		beforeTo, beforeFrom := k.countBoth()
		if err := k.try(prog, turned, 0); errors.Is(err, unix.EINVAL) {
			t.Skip("the kernel does not take this as a packet")
		} else if err != nil {
			t.Fatal(err)
		}
		got := k.segments()
		to, from := k.countBoth()
		to, from = to.minus(beforeTo), from.minus(beforeFrom)
		if diff := cmp.Diff(tally{}, to); diff != "" {
			t.Fatalf("a response was counted as a request: %v", to)
		}
		if diff := cmp.Diff(tally{"seen": 1, outcome: 1}, from); diff != "" {
			t.Fatalf("(-oracle +program):\n%s", diff)
		}
		if outcome != "copied" {
			return
		}
		if len(got) != 1 {
			t.Fatalf("%d segments", len(got))
		}
		got[0].Time, got[0].Ifindex = 0, 0
		want.Flags |= FlagResponse
		if diff := cmp.Diff(want, got[0]); diff != "" {
			t.Fatalf("(-oracle +program):\n%s", diff)
		}
	})
}

// turn exchanges the ends of a packet, and returns its flow before. It fails
// if the packet has no ports.
func turn(data []byte, noEthernet bool) ([]byte, Flow, bool) {
	data = slices.Clone(data)
	ip, ok := oracleIP(data, noEthernet)
	if !ok || ip.laterFragment || len(ip.bytes) < max(ip.l4+4, 20) {
		return nil, Flow{}, false
	}
	b := ip.bytes
	f := flowOf(netip.AddrPortFrom(ip.src, be16(b, ip.l4)), netip.AddrPortFrom(ip.dst, be16(b, ip.l4+2)))
	src, dst := b[12:16], b[16:20]
	if b[0]>>4 == 6 {
		src, dst = b[8:24], b[24:40]
	}
	copy(src, ip.dst.AsSlice())
	copy(dst, ip.src.AsSlice())
	binary.BigEndian.PutUint16(b[ip.l4:], f.DstPort)
	binary.BigEndian.PutUint16(b[ip.l4+2:], f.SrcPort)
	return data, f, true
}
