package reassembly

import "time"

// Flow identifies one direction of a TCP connection, from source to
// destination. Addresses are in their 16-byte form, IPv4 as IPv4-mapped IPv6
// (RFC 4291 section 2.5.5.2); ports are in host byte order.
type Flow struct {
	SrcIP, DstIP     [16]byte
	SrcPort, DstPort uint16
	// Instance tells networks apart in which the same addresses mean
	// something else.
	Instance uint32
}

// Flags are the TCP control bits of RFC 9293 section 3.1 as they stand in
// the header, plus FlagLost.
type Flags uint16

// The control bits that matter here.
const (
	FlagFIN Flags = 0x01
	FlagSYN Flags = 0x02
	FlagRST Flags = 0x04
	FlagPSH Flags = 0x08
	FlagACK Flags = 0x10
	FlagURG Flags = 0x20
	// FlagLost is not a TCP bit: the tap lost at least one earlier segment of
	// this flow, so a hole in front of this segment will not be filled.
	FlagLost Flags = 0x100
)

// Segment is one TCP segment, or one part of it.
type Segment struct {
	// Seq is the sequence number of the first byte of Payload, or of the SYN
	// where FlagSYN is set (RFC 9293 section 3.4).
	Seq uint32
	// Ack is the acknowledgement number; meaningful with FlagACK.
	Ack   uint32
	Flags Flags
	// Continues is set on every part of a segment but the first. Parts carry
	// consecutive sequence numbers, SYN only on the first, FIN only on the last.
	Continues bool
	// Time is when the segment was seen, in nanoseconds since the Unix epoch.
	Time int64
	// Payload is not kept and not modified.
	Payload []byte
}

// Stream receives one direction of one connection, in order and each byte
// once. Its methods run inside Segment, Advance or Close; of the Assembler's
// methods they may call only Ignore and Stats. now is the time of the segment
// or of the Advance that made the call possible, in nanoseconds since the
// Unix epoch: for bytes that waited behind a hole it is when the application
// could first read them, not when they were seen.
type Stream interface {
	// Data delivers the next bytes; p is valid only during the call. start
	// reports that p may begin an application message even if nothing is
	// known of what came before: p[0] is the first byte of a TCP segment, and
	// the segment is either the first of the stream or acknowledges more than
	// the one delivered before it did, by more bytes than 100 (Continue)
	// takes. Bytes sent in one burst, such as the rest of a body, acknowledge
	// the same bytes. Both segments must touch: across a gap nothing can be
	// concluded, for the peer may have answered what was lost and these be
	// the body of what was lost as well. start is a hint for picking up a
	// connection that was already open and for going on after a gap; answers
	// to requests that were pipelined set it in the middle of a message too.
	Data(p []byte, start bool, now int64)
	// Gap says that n bytes of the stream are missing at this place, an
	// unknown number if n is negative. Gaps may follow one another.
	Gap(n int64, now int64)
	// Closed ends the stream; no call follows.
	Closed(why CloseReason, now int64)
}

// CloseReason says why a stream ended.
type CloseReason uint8

// The reasons for the end of a stream.
const (
	CloseFIN        CloseReason = iota + 1 // the peer finished sending
	CloseRST                               // the peer reset the connection
	CloseReused                            // another connection began on the same addresses and ports
	CloseIdle                              // no segment for Config.IdleTimeout
	CloseEvicted                           // the table was full and another flow needed the place
	CloseShutdown                          // Assembler.Close
	CloseGone                              // Assembler.Expel
	CloseHandedOver                        // Assembler.Relinquish
)

// String returns the reason as one lower-case word, fit for a label.
func (r CloseReason) String() string {
	switch r {
	case CloseFIN:
		return "fin"
	case CloseRST:
		return "rst"
	case CloseReused:
		return "reused"
	case CloseIdle:
		return "idle"
	case CloseEvicted:
		return "evicted"
	case CloseShutdown:
		return "shutdown"
	case CloseGone:
		return "gone"
	case CloseHandedOver:
		return "handed_over"
	default:
		return "unknown"
	}
}

// Config sets up an Assembler. Only NewStream is required; every other zero
// value means its default.
type Config struct {
	// NewStream is called at the first segment of a flow: its SYN, or, with
	// midstream set, the first bytes of a connection that was open already.
	// Returning nil has the effect of Ignore. Like a Stream's methods it may
	// call Ignore and Stats, nothing else.
	NewStream func(f Flow, midstream bool, now int64) Stream

	// MaxFlows bounds the flows remembered; default 65536, at about 250 bytes
	// each.
	MaxFlows int
	// MaxBufferedPerFlow bounds the memory that the out-of-order bytes of one
	// flow take, in bytes; default 4 MiB: the receive window Linux's tcp_rmem
	// default of 6 MiB allows is about 3 MiB, so one loss at the front of a
	// full window can be waited out.
	MaxBufferedPerFlow int
	// MaxBufferedTotal bounds the same over all flows; default 32 MiB. Up to an
	// eighth of it, but no more than 1 MiB, is kept in free buffers on top, for
	// reuse.
	MaxBufferedTotal int
	// Source numbers where a flow comes from, so that many flows of one client
	// cost only this client: one that has as many flows as the table has free
	// places gives up its own for more, as in Bounds of the package comment.
	// Nil: nobody is told apart.
	Source func(f Flow) uint32
	// Reserve asks for n bytes of a budget shared with others before memory is
	// taken for out-of-order bytes of a flow from source that holds held of
	// them already; Release gives them back. A refusal is treated like a
	// reached bound. Either both are set or none.
	Reserve func(source uint32, held, n int) bool
	Release func(source uint32, n int)

	// GapTimeout is how long a stream may stand still in front of a hole
	// before the hole is declared lost; default 5 s. A retransmission that
	// repairs a real loss takes about one retransmission timeout, 200 ms to
	// 1 s; two of them may be lost in turn before 5 s have passed. What takes
	// longer is most likely a segment the tap missed and the receiver got.
	GapTimeout time.Duration
	// IdleTimeout ends a flow without any segment for that long, to within
	// 1/64 of it or one second; default 5 minutes.
	IdleTimeout time.Duration
}

func (c Config) withDefaults() Config {
	if c.MaxFlows <= 0 {
		c.MaxFlows = 1 << 16
	}
	if c.MaxBufferedPerFlow <= 0 {
		c.MaxBufferedPerFlow = 4 << 20
	}
	if c.MaxBufferedTotal <= 0 {
		c.MaxBufferedTotal = 32 << 20
	}
	if c.Reserve == nil || c.Release == nil {
		c.Reserve = func(uint32, int, int) bool { return true }
		c.Release = func(uint32, int) {}
	}
	if c.GapTimeout <= 0 {
		c.GapTimeout = 5 * time.Second
	}
	if c.IdleTimeout <= 0 {
		c.IdleTimeout = 5 * time.Minute
	}
	return c
}

// Stats are the counters of an Assembler since New. Every payload byte is in
// exactly one place:
//
//	BytesReceived = BytesDelivered + BytesRetransmitted + BytesDiscarded +
//	                BytesIgnored + BytesBuffered
type Stats struct {
	FlowsOpen      int    // flows with a stream
	FlowsTracked   int    // those, and the ignored and recently closed ones
	FlowsTotal     uint64 // streams asked for with NewStream
	FlowsMidstream uint64 // those of them whose SYN was not seen
	FlowsEvicted   uint64 // streams closed because the table was full, or their source's part of it

	Segments           uint64
	BytesReceived      uint64 // payload handed to Segment
	BytesDelivered     uint64 // handed to a Stream
	BytesRetransmitted uint64 // received more than once, or before the first byte of a midstream flow
	BytesDiscarded     uint64 // rejected, condemned, after a stream's end, or without a flow
	BytesIgnored       uint64 // of flows given to Ignore
	BytesBuffered      int    // waiting behind a hole now

	Memory     int // bytes of memory that BytesBuffered take now
	MemoryPeak int // the most they ever took

	OutOfOrder uint64 // segments that arrived before bytes in front of them
	Conflicts  uint64 // segments that contradicted a waiting copy of the same bytes, or a waiting FIN
	Rejected   uint64 // segments the receiver's TCP would not take: implausible sequence numbers or flags
	Gaps       uint64
	GapBytes   uint64 // in gaps of known length
}
