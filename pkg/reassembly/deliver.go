package reassembly

// take brings a run of payload into the stream: at once if it is next, later
// if there is a hole in front of it. With lost the hole is given up. The run
// lies between maxWindow behind the stream and maxAhead in front of it, or
// maxWindow with lost.
func (a *Assembler) take(r *record, t text, lost bool) {
	if lost && len(t.p) == 0 && distance(r.expect, t.seq) > 0 {
		a.skipTo(r, t.seq, t.now)
	}
	stored := false
	for len(t.p) > 0 {
		if r.stream == nil { // since a callback, or the end of the stream
			a.unwanted(r, len(t.p))
			return
		}
		d := distance(r.expect, t.seq)
		if d < 0 {
			n := min(-d, len(t.p))
			a.stats.BytesRetransmitted += uint64(n)
			t.trim(n)
			continue
		}
		q := r.queue
		if q != nil && q.conflicts(&t) {
			a.condemn(r, &t, lost)
			return
		}
		if d == 0 {
			next := t
			if q != nil {
				next.p = t.p[:q.trusted(&t)]
			}
			t.trim(len(next.p))
			a.deliver(r, &next)
			if r.queue != nil {
				a.drain(r, t.now)
			}
			continue
		}
		if lost {
			a.skipTo(r, t.seq, t.now)
			continue
		}
		q = a.wait(r)
		used, fresh := q.insert(t, &a.pool, a.cfg.MaxBufferedPerFlow)
		a.stats.BytesBuffered += fresh
		a.stats.BytesRetransmitted += uint64(used - fresh)
		if fresh > 0 && r.state == probation && r.syn {
			a.flows.set(r, established, a.clock) // it only was overtaken
		}
		if fresh > 0 && !stored {
			a.stats.OutOfOrder++
			stored = true
		}
		t.trim(used)
		if len(t.p) > 0 {
			a.makeRoom(r, &t)
		}
	}
}

// makeRoom gives up the oldest hole, which frees memory, or the hole in front
// of t, which makes t the next bytes.
func (a *Assembler) makeRoom(r *record, t *text) {
	if q := r.queue; !q.empty() {
		if to, _ := q.front(); distance(to, t.seq) > 0 {
			a.skip(r, t.now)
			return
		}
	}
	a.skipTo(r, t.seq, t.now)
}

// condemn makes a gap of t and of what waits in its place.
func (a *Assembler) condemn(r *record, t *text, lost bool) {
	a.stats.Conflicts++
	n := r.queue.condemn(t, &a.pool)
	a.stats.BytesBuffered -= n
	a.discard(n + len(t.p))
	if lost && distance(r.expect, t.seq) > 0 {
		a.skipTo(r, t.seq, t.now)
	}
	if r.stream != nil {
		a.drain(r, t.now)
	}
}

// deliver hands t, the next bytes, to the stream.
func (a *Assembler) deliver(r *record, t *text) {
	start := t.whole && (!r.begun || r.acked && t.acked && answered(r.ack, t.ack))
	if r.state == probation && (r.begun || r.syn) {
		a.flows.set(r, established, a.clock)
	}
	r.expect += uint32(len(t.p))
	r.begun = true
	if !r.acked || distance(r.ack, t.ack) > 0 {
		r.ack, r.acked = t.ack, t.acked
	}
	a.stats.BytesDelivered += uint64(len(t.p))
	a.ack, a.acked = t.ack, t.acked
	r.stream.Data(t.p, start, t.now)
	a.acked = false
}

// answered reports whether a peer that acknowledged old and now acknowledges
// now has been sent a final response meanwhile: more than the 25 bytes of
// "HTTP/1.1 100 Continue" and two line ends, which come in the middle of a
// request (RFC 9110 section 15.2.1).
func answered(old, now uint32) bool { return distance(old, now) > 25 }

// drain delivers what waits at the place the stream has reached.
func (a *Assembler) drain(r *record, now int64) {
	for r.stream != nil && r.queue != nil {
		q := r.queue
		if q.endWhy != 0 {
			d := distance(r.expect, q.end)
			if d == 0 {
				a.finish(r, q.endWhy, now)
				return
			}
			if d < 0 {
				// Bytes went past the place: it was no end.
				a.stats.Conflicts++
				q.endWhy = 0
			}
		}
		if len(q.frags) == 0 || distance(r.expect, q.frags[0].seq) > 0 {
			break
		}
		a.release(r, now)
	}
	if q := r.queue; q != nil {
		if q.empty() {
			a.dropQueue(r)
			return
		}
		a.waiting.remove(q)
		q.since = a.clock
		a.waiting.add(q)
	}
}

// release takes the first fragment out of the queue, which the stream has
// reached, and delivers what is new of it.
func (a *Assembler) release(r *record, now int64) {
	f := r.queue.pop()
	a.stats.BytesBuffered -= len(f.p)
	old := min(distance(f.seq, r.expect), f.size)
	switch {
	case f.p == nil:
		if old < f.size {
			a.gap(r, f.size-old, now)
		}
		return
	case old < f.size:
		t := f.text
		t.now = now
		t.trim(old)
		a.deliver(r, &t)
	}
	a.stats.BytesRetransmitted += uint64(old)
	a.pool.put(f.p, r.source)
}

// gap tells the stream that its next n bytes are lost.
func (a *Assembler) gap(r *record, n int, now int64) {
	r.expect += uint32(n)
	r.begun, r.acked = true, false
	a.stats.Gaps++
	a.stats.GapBytes += uint64(n)
	r.stream.Gap(int64(n), now)
}

// skip gives up the hole the stream waits at. A RST behind it that the stream
// has not reached goes with it: the receiver asks its peer whether it meant it
// (RFC 5961 section 3.2), and nothing here tells what the answer was. A FIN is
// believed, but not for good.
func (a *Assembler) skip(r *record, now int64) {
	to, _ := r.queue.front()
	if to == r.queue.end {
		switch r.queue.endWhy {
		case CloseRST:
			a.stats.Rejected++
			r.queue.endWhy = 0
			a.drain(r, now)
			return
		case CloseFIN:
			before := r.expect
			a.gap(r, distance(r.expect, to), now)
			a.drain(r, now)
			if r.state == closed {
				r.expect, r.doubted = before, true
			}
			return
		}
	}
	a.gap(r, distance(r.expect, to), now)
	a.drain(r, now)
}

// skipTo gives up every hole in front of seq, which lies ahead. The stream
// then stands at seq, or past it where bytes at seq were waiting.
func (a *Assembler) skipTo(r *record, seq uint32, now int64) {
	for r.stream != nil && r.queue != nil && !r.queue.empty() {
		to, _ := r.queue.front()
		if distance(to, seq) < 0 {
			break
		}
		a.skip(r, now)
	}
	if r.stream == nil {
		return
	}
	if d := distance(r.expect, seq); d > 0 {
		a.gap(r, d, now)
	}
	if r.queue != nil {
		a.drain(r, now)
	}
}

// resume goes on at seq, an unknown distance away.
func (a *Assembler) resume(r *record, seq uint32, now int64) {
	if r.queue != nil {
		r.queue.endWhy = 0 // the stream has not ended where it should have
	}
	a.flush(r, now)
	if r.stream == nil {
		return
	}
	r.stray = strayNone
	r.expect = seq
	r.begun, r.acked = true, false
	a.stats.Gaps++
	r.stream.Gap(-1, now)
}

// flush gives up every hole: what waits is delivered across them.
func (a *Assembler) flush(r *record, now int64) {
	for r.stream != nil && r.queue != nil {
		if r.queue.empty() {
			a.drain(r, now)
			return
		}
		a.skip(r, now)
	}
}

// endAt notes that the stream ends at seq, and ends it if it is there.
func (a *Assembler) endAt(r *record, seq uint32, why CloseReason, now int64) {
	switch d := distance(r.expect, seq); {
	case d == 0:
		a.finish(r, why, now)
	case d < 0:
		a.stats.Rejected++
	default:
		q := a.wait(r)
		if q.endWhy == 0 || distance(q.end, seq) < 0 {
			q.end, q.endWhy, q.endAt = seq, why, a.clock
		}
	}
}
