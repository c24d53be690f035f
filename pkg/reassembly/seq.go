package reassembly

// Distances that TCP makes plausible, in bytes.
const (
	// maxAhead is how far in front of the stream a segment may be to wait for
	// its turn. It is several times the windows that auto-tuning reaches, and
	// yet small enough that a blindly forged segment misses it 255 times in
	// 256.
	maxAhead = 16 << 20
	// maxWindow is the largest window that can be offered (RFC 7323 section
	// 2.3). What lies no further back is a retransmission; resuming there
	// would deliver bytes twice.
	maxWindow = 1 << 30
)

// distance is how far to lies after from in sequence space: negative if it
// lies before (RFC 1982 section 3.2).
func distance(from, to uint32) int { return int(int32(to - from)) }
