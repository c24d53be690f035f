package agent

import (
	"encoding/binary"
	"hash/maphash"
	"net/netip"
	"sync/atomic"

	"github.com/shadowtap/shadowtap/pkg/httpstream"
	"github.com/shadowtap/shadowtap/pkg/reassembly"
)

// budget bounds the bytes of traffic that the agent holds: messages being
// collected, waiting or in flight, and segments out of order. Its methods are
// safe for concurrent use.
//
// Whoever sends much slowly could hold all of it. So once half is in use, no
// source may hold more than is still free: one that is hostile gets half, of
// k of them each 1/(k+1), and something is always left for those who hold
// little (dynamic thresholds, Choudhury and Hahne, 1998). The last eighth is
// for small messages only. Where honest and hostile clients share an address,
// as behind a proxy, messages that hold next to nothing are let through.
//
// If there are so many sources that even little is too much, messages that
// hold much for long make room: see shard.makeRoom.
//
// A source is counted in one of many counters, which a secret of this budget
// chooses, rather than in a table with entries to look up, share and expire.
// Two sources share a counter by a chance of 1 in 65,536.
type budget struct {
	limit   int64
	used    atomic.Int64
	seed    maphash.Seed
	sources []atomic.Int64
	plea    atomic.Pointer[httpstream.Claim] // that a shard could not make room for by itself
}

const (
	numSources = 1 << 16
	// tiny is the part of what is free, one in so many, that a message may
	// hold whatever its source does.
	tiny = 1024
	// small is the part of the limit, one in so many, that a message may hold
	// to be one of the small ones.
	small = 1024
)

func newBudget(limit int64) *budget {
	return &budget{limit: limit, seed: maphash.MakeSeed(), sources: make([]atomic.Int64, numSources)}
}

// source numbers the client of a flow: its IPv4 address, or the /64 its IPv6
// address is from, of which a host can use any. What talks over loopback is
// another client in every network.
func (b *budget) source(f reassembly.Flow) uint32 {
	var network [20]byte
	switch addr := netip.AddrFrom16(f.SrcIP).Unmap(); {
	case addr.IsLoopback():
		binary.NativeEndian.PutUint32(network[16:], f.Instance)
		fallthrough
	case addr.Is4():
		copy(network[:], f.SrcIP[:])
	default:
		copy(network[:], f.SrcIP[:8])
	}
	return uint32(maphash.Bytes(b.seed, network[:]))
}

// reserve takes n bytes for a message, or a flow out of order, of a source
// that holds held already; or none, and reports false.
func (b *budget) reserve(source uint32, held, n int) bool {
	share := b.sources[source%numSources].Add(int64(n))
	used := b.used.Add(int64(n))
	free := b.limit - used
	room := free
	if !b.small(held + n) {
		room -= b.limit / 8
	}
	if free >= 0 && (used <= free || share <= room || int64(held+n) <= free/tiny) {
		return true
	}
	b.release(source, n)
	return false
}

// small reports whether a message that holds n bytes is one of the small ones.
func (b *budget) small(n int) bool { return int64(n) <= b.limit/small }

func (b *budget) release(source uint32, n int) {
	b.used.Add(int64(-n))
	b.sources[source%numSources].Add(int64(-n))
}
