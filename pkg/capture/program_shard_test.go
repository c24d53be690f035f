package capture

import (
	"math/rand/v2"
	"net/netip"
	"testing"
)

// shardOf is the ring that the program puts a flow from src into.
func (k *kernel) shardOf(src netip.AddrPort) int {
	k.t.Helper()
	p := to6(FlagACK, 1, "x")
	p.src = src
	k.run(k.TapIngressEth, p.bytes(k.t))
	shard := -1
	for i, r := range k.rings {
		if r.available() > 0 {
			shard = i
		}
	}
	if n := len(k.segments()); n != 1 {
		k.t.Fatalf("%d segments", n)
	}
	return shard
}

// Who knows which of his flows share a shard of one agent knows nothing of
// the next one: neither after a restart nor on another node.
func TestProgramShardsCannotBeAimedAt(t *testing.T) {
	const shards, flows = 4, 200
	first := newKernel(t, shards, 1<<20, 0, target6)
	rnd := rand.New(rand.NewPCG(1, 2))
	var aimed []netip.AddrPort
	for len(aimed) < flows {
		ip := client6.Addr().As16()
		for i := 8; i < 16; i++ {
			ip[i] = byte(rnd.Uint32())
		}
		src := netip.AddrPortFrom(netip.AddrFrom16(ip), uint16(rnd.Uint32()))
		if first.shardOf(src) == 0 {
			aimed = append(aimed, src)
		}
	}
	second := newKernel(t, shards, 1<<20, 0, target6)
	var used [shards]int
	for _, src := range aimed {
		used[second.shardOf(src)]++
	}
	for i, n := range used {
		if n < flows/shards/3 {
			t.Errorf("shard %d got %d of %d flows aimed at another agent's shard 0: %v", i, n, flows, used)
		}
	}
}

// However an agent is keyed, neighbouring ports and addresses spread: a client
// opens its connections from such, and a subnet is full of them.
func TestProgramShardsSpreadNeighbours(t *testing.T) {
	const shards, flows = 4, 400
	for range 5 {
		k := newKernel(t, shards, 1<<20, 0, target6)
		for name, step := range map[string]func(i int) netip.AddrPort{
			"ports": func(i int) netip.AddrPort {
				return netip.AddrPortFrom(client6.Addr(), uint16(30000+2*i))
			},
			"addresses": func(i int) netip.AddrPort {
				ip := client6.Addr().As16()
				ip[14], ip[15] = byte(i>>8), byte(i)
				return netip.AddrPortFrom(netip.AddrFrom16(ip), 40000)
			},
		} {
			var used [shards]int
			for i := range flows {
				used[k.shardOf(step(i))]++
			}
			for i, n := range used {
				if n < flows/shards/3 {
					t.Errorf("%s: shard %d got %d of %d: %v", name, i, n, flows, used)
				}
			}
		}
	}
}
