package reassembly

import "hash/maphash"

// halfOpen remembers the SYNs of flows that were evicted before anything
// followed. In a SYN flood the table turns over within a round trip, and a flow
// whose SYN is forgotten comes back like one that was open before the tap, of
// which the first request is not believed. This takes a word per flow instead
// of a record, so it lasts many times as long.
//
// A flow has one slot, which the next one there overwrites. That two flows are
// taken for each other takes 32 bits of a secret hash and a sequence number
// nearby.
type halfOpen struct {
	seed  maphash.Seed
	slots []uint64 // the upper half of the hash, and the sequence number of the SYN
}

// halfOpenSlots is how many there are for each flow of the table.
const halfOpenSlots = 16

// note remembers the SYN of a flow out of a table of at most so many.
func (h *halfOpen) note(f Flow, isn uint32, flows int) {
	if h.slots == nil { // not before there is a need
		h.seed, h.slots = maphash.MakeSeed(), make([]uint64, flows*halfOpenSlots)
	}
	slot, tag := h.slot(f)
	*slot = tag | uint64(isn)
}

// find returns the sequence number of the SYN of a flow that goes on at seq.
func (h *halfOpen) find(f Flow, seq uint32) (isn uint32, ok bool) {
	if h.slots == nil {
		return 0, false
	}
	slot, tag := h.slot(f)
	isn = uint32(*slot)
	d := distance(isn+1, seq)
	if *slot == 0 || *slot>>32 != tag>>32 || d < 0 || d > maxAhead {
		return 0, false
	}
	*slot = 0
	return isn, true
}

func (h *halfOpen) slot(f Flow) (slot *uint64, tag uint64) {
	sum := maphash.Comparable(h.seed, f)
	return &h.slots[uint32(sum)%uint32(len(h.slots))], sum &^ (1<<32 - 1)
}
