// Package capture turns packets into TCP segments towards the captured
// endpoints. Live capture loads the TC program of bpf/, attaches it beside
// whatever else is there and reads its ring buffers; the pcap subpackage
// produces the same segments from a file.
package capture

import (
	"net/netip"
)

// Flow identifies a TCP connection by the direction from its client to the
// captured endpoint; a response has the Flow of its request. Addresses are in
// their 16-byte form, IPv4 as IPv4-mapped IPv6 (RFC 4291 section 2.5.5.2); ports
// are in host byte order.
// Flow is comparable and cheap to hash.
type Flow struct {
	SrcIP, DstIP     [16]byte
	SrcPort, DstPort uint16
	// Instance is the network namespace that the addresses mean something
	// in: Instance.ID, or 0 for that of the Tap, and from a file.
	Instance uint32
}

// Source is the client's address and port.
func (f Flow) Source() netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom16(f.SrcIP).Unmap(), f.SrcPort)
}

// Destination is the captured endpoint's address and port.
func (f Flow) Destination() netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom16(f.DstIP).Unmap(), f.DstPort)
}

// Flags are the TCP control bits of RFC 9293 section 3.1 as they stand in
// the header, plus FlagLost, FlagResponse and FlagSubflow.
type Flags uint16

// The control bits that matter to a reader of byte streams.
const (
	FlagFIN Flags = 0x01
	FlagSYN Flags = 0x02
	FlagRST Flags = 0x04
	FlagPSH Flags = 0x08
	FlagACK Flags = 0x10
	// FlagLost is not a TCP bit: at least one earlier segment of this flow
	// and direction was seen by the kernel program but could not be handed
	// over, so a hole before this segment will not be filled unless the peer
	// retransmits.
	FlagLost Flags = 0x100
	// FlagResponse is not a TCP bit: the segment came from the captured
	// endpoint, the Destination of its Flow. Seq and Ack are as in the packet,
	// so Seq counts what the endpoint sends.
	FlagResponse Flags = 0x200
	// FlagSubflow is not a TCP bit: the flow is a subflow of Multipath TCP
	// (RFC 8684), one of several connections over which one stream may be
	// spread. Sequence numbers without a hole do not mean that no bytes of the
	// stream are missing. Once set it stays set for the segments towards the
	// endpoint, but from a file, where only those have it that say so.
	FlagSubflow Flags = 0x400
)

// Segment is one TCP segment of a Flow, or one part of a segment too large
// for a single ring buffer record; the parts of one segment carry
// consecutive sequence numbers, SYN only on the first and FIN only on the
// last.
type Segment struct {
	Flow Flow
	// Seq is the sequence number of the first byte of Payload, or of the
	// SYN where FlagSYN is set (RFC 9293 section 3.4).
	Seq uint32
	// Ack is the acknowledgement number; meaningful with FlagACK.
	Ack   uint32
	Flags Flags
	// Continues is set on every part of a segment but the first.
	Continues bool
	// Ifindex is the interface the packet was taken from, an index in the
	// flow's namespace; 0 from a file.
	Ifindex uint32
	// Time is when the packet was seen, in nanoseconds since the Unix epoch.
	Time int64
	// Payload is valid only until the Sink's method returns.
	Payload []byte
}

// Sink consumes the segments of one shard. All calls on one Sink come from
// one goroutine, and every segment of a Flow goes to the same Sink. A Sink
// must not block.
type Sink interface {
	// Begin opens a batch; now is in nanoseconds since the Unix epoch. The
	// source opens a batch at least every 500 ms (Idle), an empty one when
	// nothing arrives, so that a Sink can do its timed work here.
	Begin(now int64)
	// Segment hands over one segment; it and its payload are only valid
	// during the call.
	Segment(s *Segment)
	// End closes the batch.
	End()
}
