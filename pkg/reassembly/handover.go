package reassembly

import (
	"math"
	"slices"
)

// FlowState is what an Assembler knows of one flow between two segments, so
// that another one, perhaps in another process, can go on from there. Since
// it says which sequence number is next, that one may be given segments that
// this one has had already: they are retransmissions to it.
type FlowState struct {
	Flow Flow
	// ISN is the sequence number of the SYN, or where it must have been if it
	// was not seen (SYN is false); Next is that of the next byte.
	ISN, Next uint32
	SYN       bool
	// Ended flows have no stream any more and are kept so that what is late
	// does not look like a new connection. Ignored ones were given to Ignore.
	// Doubted is an end that the receiver need not have believed.
	Ended, Ignored, Doubted bool
	// Begun is whether bytes were delivered, Acked whether Ack is what the
	// last of them acknowledged.
	Begun, Acked bool
	Ack          uint32
	// Established is whether bytes followed the flow's first segment.
	Established bool
	// Waiting are the runs of bytes behind a hole, in order, and End is where
	// the stream ends, for the reason EndWhy, if that is not 0. EndAt is when
	// that arrived, in nanoseconds since the Unix epoch.
	Waiting []Run
	End     uint32
	EndAt   int64
	EndWhy  CloseReason
	// StrayAt is a place off the stream where it may go on: behind a SYN that
	// was not believed (StraySYN), or behind data that was not (StrayData).
	StraySYN, StrayData bool
	StrayAt             uint32
}

// Run is bytes that wait for those in front of them.
type Run struct {
	Seq   uint32 // sequence number of its first byte
	Size  int    // in sequence space; that of Bytes, unless there are none
	Bytes []byte // none if they must never be delivered
	Acked bool   // whether Ack is meaningful
	Ack   uint32 // of the segment that it is from
	Whole bool   // it begins with the first byte of a segment
	Time  int64  // when it came, in nanoseconds since the Unix epoch
}

// Evicted reports whether a flow was forgotten to make room for others: ever, or
// if it had ended, while it would still be remembered. A flow that is met in the
// middle then may be one that somebody pushed out, and its first segment is no
// evidence of anything.
func (a *Assembler) Evicted() bool { return a.clock < a.distrusted }

// NoteEvicted says that flows were forgotten by an Assembler before this one.
func (a *Assembler) NoteEvicted() { a.distrust(math.MaxInt64) }

// Export calls each with the state of every flow and its stream, nil if it has
// none, the least recently touched first, and stops at the first error. The
// bytes are only valid during the call. It changes nothing.
func (a *Assembler) Export(each func(s FlowState, stream Stream) error) error {
	for _, l := range []state{closed, probation, established} {
		for r := a.flows.all[l].first; r != nil; r = r.in[inTable].next {
			if err := each(r.export(), r.stream); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *record) export() FlowState {
	s := FlowState{
		Flow: r.key, ISN: r.isn, Next: r.expect, SYN: r.syn,
		Ended: r.state == closed, Ignored: r.state == ignored, Doubted: r.doubted,
		Begun: r.begun, Acked: r.acked, Ack: r.ack, Established: r.state == established,
		StraySYN: r.stray == straySYN, StrayData: r.stray == strayData, StrayAt: r.strayAt,
	}
	if q := r.queue; q != nil {
		s.End, s.EndAt, s.EndWhy = q.end, q.endAt, q.endWhy
		for i := range q.frags {
			f := &q.frags[i]
			s.Waiting = append(s.Waiting, Run{
				Seq: f.seq, Size: f.size, Bytes: f.p, Acked: f.acked, Ack: f.ack, Whole: f.whole, Time: f.now,
			})
		}
	}
	return s
}

// Adopt goes on with a flow where Export left it, and returns the stream that
// NewStream made for it, if it made one. Nothing is delivered before the next
// Segment or Advance. now is in nanoseconds since the Unix epoch.
func (a *Assembler) Adopt(s FlowState, now int64) Stream {
	a.clock = max(a.clock, now)
	if s.Ended || s.Ignored {
		if r := a.flows.find(s.Flow); r != nil {
			a.retire(r, CloseReused, now)
		}
		if r := a.flows.find(s.Flow); r != nil {
			a.flows.remove(r)
		}
		source := a.makeWay(s.Flow, now)
		r := a.flows.create(s.Flow, source, a.clock)
		r.isn, r.expect, r.syn = s.ISN, s.Next, s.SYN
		if s.Ignored {
			a.flows.set(r, ignored, a.clock)
		} else {
			a.bury(r)
			r.doubted = s.Doubted
		}
		return nil
	}
	r := a.start(s.Flow, s.ISN, s.SYN, now)
	r.expect = s.Next
	if r.stream == nil {
		return nil
	}
	r.begun, r.acked, r.ack = s.Begun, s.Acked, s.Ack
	switch r.strayAt = s.StrayAt; {
	case s.StraySYN:
		r.stray = straySYN
	case s.StrayData:
		r.stray = strayData
	}
	if s.Established {
		a.flows.set(r, established, a.clock)
	}
	a.adoptWaiting(r, &s)
	return r.stream
}

func (a *Assembler) adoptWaiting(r *record, s *FlowState) {
	if len(s.Waiting) == 0 && s.EndWhy == 0 {
		return
	}
	q := a.wait(r)
	q.end, q.endAt, q.endWhy = s.End, s.EndAt, s.EndWhy
	for _, w := range s.Waiting {
		if len(w.Bytes) == 0 {
			q.frags = append(slices.Clip(q.frags), fragment{text: text{seq: w.Seq, now: w.Time}, size: w.Size})
			q.array = q.frags[:cap(q.frags)]
			continue
		}
		// What finds no room is a hole that nothing fills.
		_, fresh := q.insert(text{
			p: w.Bytes, now: w.Time, seq: w.Seq, ack: w.Ack, acked: w.Acked, whole: w.Whole,
		}, &a.pool, a.cfg.MaxBufferedPerFlow)
		a.stats.BytesReceived += uint64(fresh)
		a.stats.BytesBuffered += fresh
	}
	if q.empty() {
		a.dropQueue(r)
	}
}

// Relinquish closes every stream where it stands, with CloseHandedOver, and
// delivers nothing of what waits: another Assembler has adopted the flows. The
// Assembler is empty then and can be used again.
func (a *Assembler) Relinquish() {
	for _, s := range []state{established, probation, closed} {
		for l := &a.flows.all[s]; l.first != nil; {
			r := l.first
			stream := a.detach(r)
			a.discard(a.dropQueue(r))
			a.flows.remove(r)
			if stream != nil {
				stream.Closed(CloseHandedOver, a.clock)
			}
		}
	}
}
