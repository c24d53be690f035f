package capture

import (
	"fmt"

	"github.com/cilium/ebpf"
)

// Reasons a packet was skipped: not copied, as it should be.
const (
	SkippedPureACK    = "pure_ack"    // no payload, no SYN, FIN or RST
	SkippedFragment   = "fragment"    // part of a fragmented IP packet
	SkippedDuplicate  = "duplicate"   // already seen on another interface
	SkippedIgnored    = "ignored"     // of a flow given to Tap.Ignore
	SkippedPaused     = "paused"      // while the tap was paused or the agent gave no sign of life
	SkippedMalformed  = "malformed"   // header lengths that contradict each other
	SkippedOverBudget = "over_budget" // beyond Config.MaxBytesPerSecond
	SkippedOtherSide  = "other_side"  // before or behind a proxy in a pod, where the other one is captured
)

// Reasons a packet was lost: it should have been copied, and was not, or not
// completely.
const (
	LostRingFull   = "ring_full"  // the reader was too slow
	LostUnreadable = "unreadable" // the kernel did not give the bytes away
)

// Counters is what the kernel program did with the packets it saw, in packets
// unless the name says otherwise. Seen = Copied + sum(Skipped) + sum(Lost)
// whenever they are read. The maps always hold every reason.
type Counters struct {
	// Seen counts the TCP packets towards a target, once per interface and
	// direction, and the fragments that may have been some; of the responses
	// the TCP packets from a target.
	Seen    uint64
	Copied  uint64
	Skipped map[string]uint64
	Lost    map[string]uint64

	// Records is the number of records written to the rings.
	Records uint64
	// CopiedBytes is the TCP payload in them, LostBytes the TCP payload of
	// lost packets that is not.
	CopiedBytes, LostBytes uint64
}

// field returns where the packets with an outcome are counted.
func (c *Counters) field(o tapOutcome) (reasons map[string]uint64, reason string) {
	switch o {
	case tapOutcomeOUTCOME_PURE_ACK:
		return c.Skipped, SkippedPureACK
	case tapOutcomeOUTCOME_FRAGMENT:
		return c.Skipped, SkippedFragment
	case tapOutcomeOUTCOME_DUPLICATE:
		return c.Skipped, SkippedDuplicate
	case tapOutcomeOUTCOME_IGNORED:
		return c.Skipped, SkippedIgnored
	case tapOutcomeOUTCOME_PAUSED:
		return c.Skipped, SkippedPaused
	case tapOutcomeOUTCOME_MALFORMED:
		return c.Skipped, SkippedMalformed
	case tapOutcomeOUTCOME_OVER_BUDGET:
		return c.Skipped, SkippedOverBudget
	case tapOutcomeOUTCOME_OTHER_SIDE:
		return c.Skipped, SkippedOtherSide
	case tapOutcomeOUTCOME_RING_FULL:
		return c.Lost, LostRingFull
	case tapOutcomeOUTCOME_UNREADABLE:
		return c.Lost, LostUnreadable
	}
	panic(fmt.Sprintf("capture: no reason for outcome %d of bpf/contract.h", o))
}

func readCounters(m *ebpf.Map) (requests, responses Counters, err error) {
	requests, responses = newCounters(), newCounters()
	var perCPU []tapTallies
	for o := range tapOutcomeOUTCOMES {
		if err := m.Lookup(o, &perCPU); err != nil {
			return Counters{}, Counters{}, fmt.Errorf("read the tap's counters: %w", err)
		}
		var to, from tapTally
		for i := range perCPU {
			to.add(&perCPU[i].Requests)
			from.add(&perCPU[i].Responses)
		}
		requests.add(o, to)
		responses.add(o, from)
	}
	return requests, responses, nil
}

func newCounters() Counters {
	return Counters{Skipped: make(map[string]uint64), Lost: make(map[string]uint64)}
}

// add counts the packets with one outcome.
func (c *Counters) add(o tapOutcome, t tapTally) {
	c.Seen += t.Packets
	c.Records += t.Records
	c.CopiedBytes += t.Copied
	if o == tapOutcomeOUTCOME_COPIED {
		c.Copied = t.Packets
		return
	}
	reasons, reason := c.field(o)
	reasons[reason] = t.Packets
	if reason == LostRingFull || reason == LostUnreadable {
		c.LostBytes += t.Payload - t.Copied
	}
}

func (t *tapTally) add(u *tapTally) {
	t.Packets += u.Packets
	t.Payload += u.Payload
	t.Copied += u.Copied
	t.Records += u.Records
}
