package reassembly

import (
	"bytes"
	"slices"
)

// maxFragments bounds the runs of bytes that wait in one flow, and with them
// the work an out-of-order segment can cause.
const maxFragments = 512

// text is a run of payload on its way into a stream.
type text struct {
	p     []byte
	now   int64
	seq   uint32 // of p[0]
	ack   uint32 // of its segment
	acked bool   // ack is meaningful
	whole bool   // p[0] is the first byte of its segment
}

func (t *text) trim(n int) {
	if n > 0 {
		t.p, t.seq, t.whole = t.p[n:], t.seq+uint32(n), false
	}
}

// fragment is a run of bytes that waits for those in front of it.
type fragment struct {
	text     // now is when it arrived; p is nil in a condemned fragment
	size int // length in sequence space: len(p), unless condemned
}

func (f *fragment) end() uint32 { return f.seq + uint32(f.size) }

// queue is what a flow that waits for a hole to fill holds back: fragments
// that neither overlap nor reach back to the next byte expected, in sequence
// order, and the end of the stream if it came too early.
//
// Fragments stay in a sorted slice rather than in a list or a tree: with at
// most maxFragments of them, a binary search and a move within one array
// beat both, in the worst case too.
type queue struct {
	owner      *record
	next, prev *queue // in the list of those that wait
	since      int64  // when the stream last moved, or began to wait

	array []fragment // all of it, to go back to the front
	frags []fragment // the live tail of array
	bytes int        // payload in frags
	cost  int        // memory in frags

	end    uint32 // where FIN or RST stands
	endAt  int64  // when it arrived
	endWhy CloseReason
}

func newQueue() *queue {
	q := &queue{array: make([]fragment, 8)}
	q.frags = q.array[:0]
	return q
}

// front is where the stream could go on after the hole, and when that arrived.
// The queue is not empty.
func (q *queue) front() (seq uint32, at int64) {
	if len(q.frags) == 0 {
		return q.end, q.endAt
	}
	f := &q.frags[0]
	if q.endWhy != 0 && distance(q.end, f.seq) >= 0 {
		return q.end, q.endAt
	}
	return f.seq, f.now
}

func (q *queue) empty() bool { return len(q.frags) == 0 && q.endWhy == 0 }

// find is the index of the first fragment that ends after seq.
func (q *queue) find(seq uint32) int {
	lo, hi := 0, len(q.frags)
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		if distance(seq, q.frags[mid].end()) > 0 {
			hi = mid
		} else {
			lo = mid + 1
		}
	}
	return lo
}

// conflicts reports whether t differs from a waiting copy of the same bytes.
func (q *queue) conflicts(t *text) bool {
	for i := q.find(t.seq); i < len(q.frags); i++ {
		f := &q.frags[i]
		d := distance(t.seq, f.seq)
		if d >= len(t.p) {
			break
		}
		if f.p == nil {
			continue
		}
		mine, theirs := t.p[max(d, 0):], f.p[max(-d, 0):]
		n := min(len(mine), len(theirs))
		if !bytes.Equal(mine[:n], theirs[:n]) {
			return true
		}
	}
	return false
}

// trusted is how many bytes of t come before a condemned fragment.
func (q *queue) trusted(t *text) int {
	for i := q.find(t.seq); i < len(q.frags); i++ {
		d := distance(t.seq, q.frags[i].seq)
		if d >= len(t.p) {
			break
		}
		if q.frags[i].p == nil {
			return d
		}
	}
	return len(t.p)
}

// condemn makes one hole that stays a hole of t and of every fragment that
// it overlaps, of which there is at least one. If there is such a hole already
// it grows: holes cost no memory that is counted, so there is one at most. It
// returns the payload bytes that were waiting there.
func (q *queue) condemn(t *text, pool *bufferPool) (dropped int) {
	lo, hi := t.seq, t.seq+uint32(len(t.p))
	for i := range q.frags {
		if f := &q.frags[i]; f.p == nil {
			if distance(f.seq, lo) > 0 {
				lo = f.seq
			}
			if distance(hi, f.end()) > 0 {
				hi = f.end()
			}
		}
	}
	i := q.find(lo)
	j := i
	for ; j < len(q.frags) && distance(q.frags[j].seq, hi) > 0; j++ {
		f := &q.frags[j]
		if distance(f.seq, lo) > 0 {
			lo = f.seq
		}
		if distance(hi, f.end()) > 0 {
			hi = f.end()
		}
		dropped += len(f.p)
		q.free(f, pool)
	}
	q.frags[i] = fragment{
		text: text{seq: lo, now: q.frags[i].now},
		size: distance(lo, hi),
	}
	q.frags = slices.Delete(q.frags, i+1, j)
	q.shrink()
	return dropped
}

// insert copies the bytes of t that are not waiting already, up to the first
// bound that is reached. Of the first used bytes of t, fresh were stored and
// the others are retransmissions. t lies ahead of the stream and conflicts
// with nothing.
func (q *queue) insert(t text, pool *bufferPool, maxCost int) (used, fresh int) {
	i := q.find(t.seq)
	for len(t.p) > 0 {
		n := len(t.p)
		if i < len(q.frags) {
			f := &q.frags[i]
			if distance(f.seq, t.seq) >= 0 {
				n = min(n, distance(t.seq, f.end()))
				t.trim(n)
				used += n
				i++
				continue
			}
			n = min(n, distance(t.seq, f.seq))
		}
		piece := t
		piece.p = t.p[:n]
		n, added := q.put(i, piece, pool, maxCost)
		if n == 0 {
			break
		}
		if added {
			i++
		}
		t.trim(n)
		used += n
		fresh += n
	}
	q.bytes += fresh
	return used, fresh
}

// put stores a first part of t, which touches no other fragment's bytes, in
// front of fragment i: at the end of the one before, if t continues its
// burst, else in a fragment of its own.
func (q *queue) put(i int, t text, pool *bufferPool, maxCost int) (n int, added bool) {
	c := class(len(t.p))
	if i > 0 {
		f := &q.frags[i-1]
		if f.p != nil && f.end() == t.seq && f.acked == t.acked && f.ack == t.ack {
			// The boundary of these segments need not be kept: the second one
			// is no start wherever it is delivered.
			if n := min(len(t.p), cap(f.p)-len(f.p)); n > 0 {
				f.p = append(f.p, t.p[:n]...)
				f.size += n
				return n, false
			}
			c = max(c, min(class(cap(f.p))+1, len(classes)-1))
		}
	}
	if len(q.frags) >= maxFragments || q.cost+cost(c) > maxCost {
		return 0, false
	}
	b := pool.get(c, q.owner.source, q.cost)
	if b == nil {
		return 0, false
	}
	n = min(len(t.p), cap(b))
	t.p = append(b, t.p[:n]...)
	q.cost += cost(c)
	if len(q.frags) == cap(q.frags) && cap(q.frags) < cap(q.array) {
		live := copy(q.array, q.frags)
		clear(q.array[live:])
		q.frags = q.array[:live]
	}
	q.frags = slices.Insert(q.frags, i, fragment{text: t, size: n})
	if cap(q.frags) > cap(q.array) {
		q.array = q.frags[:cap(q.frags)]
	}
	return n, true
}

// pop takes the first fragment out. Its buffer belongs to the caller.
func (q *queue) pop() fragment {
	f := q.frags[0]
	q.frags[0] = fragment{}
	q.frags = q.frags[1:]
	q.bytes -= len(f.p)
	if f.p != nil {
		q.cost -= cost(class(cap(f.p)))
	}
	q.shrink()
	return f
}

// shrink keeps the array from being more than four times as long as it is full,
// which is what its fragments pay for.
func (q *queue) shrink() {
	if cap(q.array) <= maxFreeEntries || cap(q.array) <= 4*len(q.frags) {
		return
	}
	array := make([]fragment, max(2*len(q.frags), maxFreeEntries))
	q.frags = array[:copy(array, q.frags)]
	q.array = array
}

// free gives back the buffer of a fragment that stays in the slice.
func (q *queue) free(f *fragment, pool *bufferPool) {
	if f.p == nil {
		return
	}
	q.bytes -= len(f.p)
	q.cost -= pool.put(f.p, q.owner.source)
	f.p = nil
}

// clear gives back everything and returns the payload bytes that were waiting.
func (q *queue) clear(pool *bufferPool) (dropped int) {
	dropped = q.bytes
	for i := range q.frags {
		q.free(&q.frags[i], pool)
	}
	clear(q.frags)
	*q = queue{array: q.array, frags: q.array[:0]}
	return dropped
}

// waiting lists the queues in the order of their since.
type waiting struct{ first, last *queue }

func (w *waiting) add(q *queue) {
	q.prev, q.next = w.last, nil
	if w.last == nil {
		w.first = q
	} else {
		w.last.next = q
	}
	w.last = q
}

func (w *waiting) remove(q *queue) {
	if q.prev == nil {
		w.first = q.next
	} else {
		q.prev.next = q.next
	}
	if q.next == nil {
		w.last = q.prev
	} else {
		q.next.prev = q.prev
	}
	q.prev, q.next = nil, nil
}
