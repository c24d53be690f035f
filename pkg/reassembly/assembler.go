package reassembly

// Assembler turns segments into streams. It is not safe for concurrent use:
// one per shard, fed by the goroutine that reads the shard.
type Assembler struct {
	cfg   Config
	clock int64 // the latest time seen; does not go back
	grain int64 // how exactly record.touched is kept, in nanoseconds
	// Until then, a flow met in the middle may be one that was given up.
	distrusted int64

	flows    table
	halfOpen halfOpen
	open     int
	waiting  waiting
	queues   []*queue // free ones
	pool     bufferPool
	stats    Stats
}

// New returns an Assembler. cfg.NewStream must not be nil.
func New(cfg Config) *Assembler {
	cfg = cfg.withDefaults()
	return &Assembler{
		cfg:   cfg,
		grain: int64(min(cfg.IdleTimeout/64, maxGrain)),
		flows: newTable(),
		pool: bufferPool{
			max:     cfg.MaxBufferedTotal,
			reserve: cfg.Reserve,
			release: cfg.Release,
		},
	}
}

// Stats returns the counters. Like everything else it belongs to the
// goroutine that feeds the Assembler.
func (a *Assembler) Stats() Stats {
	s := a.stats
	s.FlowsOpen = a.open
	s.FlowsTracked = len(a.flows.records)
	s.Memory = a.pool.used
	s.MemoryPeak = a.pool.peak
	return s
}

// Segment takes one segment of a flow. s and its payload are not kept.
func (a *Assembler) Segment(f Flow, s *Segment) {
	a.clock = max(a.clock, s.Time)
	a.stats.Segments++
	a.stats.BytesReceived += uint64(len(s.Payload))
	r := a.flows.find(f)
	if r != nil {
		a.touch(r)
		// Nearly every segment is the next one of an established flow.
		const control = FlagSYN | FlagFIN | FlagRST | FlagACK | FlagURG | FlagLost
		if s.Seq == r.expect && s.Flags&control == FlagACK &&
			r.state == established && r.queue == nil && r.stray == strayNone {
			if len(s.Payload) > 0 {
				a.deliver(r, &text{
					p: s.Payload, now: s.Time, seq: s.Seq,
					ack: s.Ack, acked: true, whole: !s.Continues,
				})
			}
			return
		}
	}
	switch {
	case s.Flags&FlagRST != 0:
		a.discard(len(s.Payload)) // diagnostic text (RFC 9293 section 3.5.3)
		a.reset(r, s)
	case s.Flags&FlagSYN != 0:
		a.synchronize(f, r, s)
	case s.Flags&FlagACK == 0:
		a.reject(s)
	case r == nil || r.state == closed:
		a.pickUp(f, r, s)
	case r.state == ignored:
		a.stats.BytesIgnored += uint64(len(s.Payload))
		if s.Flags&FlagFIN != 0 {
			r.expect = s.Seq + uint32(len(s.Payload))
			a.bury(r)
		}
	default:
		a.accept(r, s, s.Seq)
	}
}

// reset handles RST. Its sequence number must be the next one; a RST ahead of
// the stream waits for the stream to get there.
func (a *Assembler) reset(r *record, s *Segment) {
	switch {
	case r == nil || r.state == closed:
		return
	case r.state == ignored:
		r.expect = s.Seq
		a.bury(r)
		return
	}
	d := distance(r.expect, s.Seq)
	lost := s.Flags&FlagLost != 0
	switch {
	case d == 0:
	case lost && 0 < d && d <= maxWindow:
		a.skipTo(r, s.Seq, s.Time)
	case d < 0 || d > maxAhead:
		a.stats.Rejected++
		return
	}
	if r.stream != nil {
		a.endAt(r, s.Seq, CloseRST, s.Time)
	}
}

// synchronize handles SYN.
func (a *Assembler) synchronize(f Flow, r *record, s *Segment) {
	if s.Flags&FlagFIN != 0 {
		a.reject(s)
		return
	}
	switch {
	case r == nil:
	case s.Seq == r.isn:
		// Sent again, or, for a flow picked up midstream, seen late.
		if r.stream != nil {
			a.accept(r, s, s.Seq+1)
		} else {
			a.unwanted(r, len(s.Payload))
		}
		return
	case r.state == established:
		// Not believed before data follows it.
		r.stray, r.strayAt = straySYN, s.Seq+1
		a.discard(len(s.Payload))
		return
	}
	r = a.start(f, s.Seq, true, s.Time)
	if r.stream == nil {
		a.stats.BytesIgnored += uint64(len(s.Payload))
		return
	}
	a.accept(r, s, s.Seq+1) // data on a SYN: TCP Fast Open (RFC 7413)
}

// pickUp starts a stream in the middle, at the first bytes of a flow that is
// not known, or that was closed and is clearly another connection now.
func (a *Assembler) pickUp(f Flow, r *record, s *Segment) {
	revived := false
	if r != nil {
		d := distance(r.expect, s.Seq)
		// A peer that goes on sending was not closed: the RST was forged and
		// the receiver knew, or the FIN was.
		revived = r.doubted && 0 <= d && d <= maxAhead
		if !revived && -r.past() <= d && d <= maxAhead {
			a.discard(len(s.Payload)) // a late retransmission, or data after FIN
			return
		}
	}
	if r == nil {
		if isn, ok := a.halfOpen.find(f, s.Seq); ok {
			if r = a.start(f, isn, true, s.Time); r.stream == nil {
				a.stats.BytesIgnored += uint64(len(s.Payload))
				return
			}
			a.accept(r, s, s.Seq)
			return
		}
	}
	// One byte may be a keep-alive probe, with a byte of garbage in place of
	// the last one that was acknowledged (RFC 9293 section 3.8.4): no place
	// to begin.
	if len(s.Payload) <= 1 {
		a.discard(len(s.Payload))
		return
	}
	if r = a.start(f, s.Seq-1, false, s.Time); r.stream == nil {
		a.stats.BytesIgnored += uint64(len(s.Payload))
		return
	}
	r.begun = r.begun || revived
	a.accept(r, s, s.Seq)
}

// accept takes the payload, which begins at seq, and the FIN of a segment of
// a flow that has a stream.
func (a *Assembler) accept(r *record, s *Segment, seq uint32) {
	fin := s.Flags&FlagFIN != 0
	if len(s.Payload) == 0 && !fin && s.Flags&FlagLost == 0 {
		return
	}
	if r = a.locate(r, s, seq); r == nil {
		return
	}
	if s.Flags&FlagURG != 0 && len(s.Payload) > 0 {
		a.urgent(r, s, seq)
	} else {
		a.take(r, text{
			p: s.Payload, now: s.Time, seq: seq,
			ack: s.Ack, acked: s.Flags&FlagACK != 0, whole: !s.Continues,
		}, s.Flags&FlagLost != 0)
	}
	if fin && r.stream != nil {
		a.endAt(r, seq+uint32(len(s.Payload)), CloseFIN, s.Time)
	}
}

// locate decides what a segment's place means for the stream. It returns the
// record the segment belongs to, with a stream that stands no further from
// it than take allows, or nil if the segment is done with.
func (a *Assembler) locate(r *record, s *Segment, seq uint32) *record {
	d := distance(r.expect, seq)
	lost := s.Flags&FlagLost != 0
	switch {
	case d == 0:
		r.stray = strayNone
		return r
	case r.stray == straySYN && seq == r.strayAt,
		// The first segment behind the SYN was overtaken, and the place is not
		// one where the old connection may be sending.
		r.stray == straySYN && (d < -maxAhead || d > maxAhead) && r.near(seq):
		r = a.start(r.key, r.strayAt-1, true, s.Time)
	case -maxWindow <= d && (d <= maxAhead || lost && d <= maxWindow):
		return r
	case lost || r.stray == strayData && seq == r.strayAt:
		a.resume(r, seq, s.Time)
	default:
		if len(s.Payload) > 0 {
			r.stray, r.strayAt = strayData, seq+uint32(len(s.Payload))
		}
		a.reject(s)
		return nil
	}
	if r.stream == nil {
		a.unwanted(r, len(s.Payload))
		return nil
	}
	return r
}

// urgent passes over a segment with urgent data, of which the receiver may take
// a byte out of the stream.
func (a *Assembler) urgent(r *record, s *Segment, seq uint32) {
	end := seq + uint32(len(s.Payload))
	if distance(r.expect, end) <= 0 {
		a.stats.BytesRetransmitted += uint64(len(s.Payload))
		return
	}
	a.discard(len(s.Payload))
	a.flush(r, s.Time)
	if distance(r.expect, end) < 0 {
		end = r.expect // what waited goes further
	}
	if r.stream != nil {
		a.resume(r, end, s.Time)
	}
}

func (a *Assembler) discard(n int) { a.stats.BytesDiscarded += uint64(n) }

func (a *Assembler) reject(s *Segment) {
	a.stats.Rejected++
	a.discard(len(s.Payload))
}

// unwanted counts bytes of a flow that has no stream any more.
func (a *Assembler) unwanted(r *record, n int) {
	if r.state == ignored {
		a.stats.BytesIgnored += uint64(n)
	} else {
		a.discard(n)
	}
}

// StreamOf returns the stream that a segment is of without giving it the
// segment: for a flow that is not known, or not any more, one is asked for. It is
// nil if the flow is ignored.
func (a *Assembler) StreamOf(f Flow, s *Segment) Stream {
	a.clock = max(a.clock, s.Time)
	syn, isn := s.Flags&FlagSYN != 0, s.Seq
	if !syn {
		isn--
	}
	r := a.flows.find(f)
	if r == nil || r.state == closed || r.state == ignored && syn && isn != r.isn {
		r = a.start(f, isn, syn, s.Time)
	}
	return r.stream
}

// Next returns the sequence number of the next byte that the flow's stream will
// be given, and whether it is known: the flow has a stream.
func (a *Assembler) Next(f Flow) (seq uint32, known bool) {
	if r := a.flows.find(f); r != nil && r.stream != nil {
		return r.expect, true
	}
	return 0, false
}
