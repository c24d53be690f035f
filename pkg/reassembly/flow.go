package reassembly

// state is what a flow's record is kept for. It decides which list it is in.
type state uint8

const (
	// probation: nothing followed the flow's first segment yet.
	probation state = iota
	// established: bytes followed in order.
	established
	// ignored: without a stream until a new SYN.
	ignored
	// closed: the stream ended; the record swallows late retransmissions,
	// which would otherwise look like a connection that was open already.
	closed
	numStates
)

// stray is what a flow knows of a place off its stream where it may go on.
type stray uint8

const (
	strayNone stray = iota
	strayData       // a segment that was not believed ended there
	straySYN        // a SYN that was not believed announced it
)

// record is what is remembered of one flow.
type record struct {
	stream  Stream // nil once ignored or closed
	queue   *queue // nil unless the stream waits for something
	touched int64  // when a segment came last, to within Assembler.grain
	// next and prev are the neighbours in the list of the record's state; next
	// also links the free records.
	next, prev *record

	key     Flow
	isn     uint32 // sequence number of the SYN; one less than the first byte's if not seen
	expect  uint32 // the next sequence number
	ack     uint32 // of the segment delivered last
	strayAt uint32
	stray   stray
	state   state
	begun   bool // bytes were delivered
	acked   bool // ack is known
	syn     bool // the SYN was seen
}

// past is how far behind the place of a flow's end a late retransmission may
// lie: anywhere in the stream, as far as its length can still be told from the
// sequence numbers.
func (r *record) past() int {
	if n := distance(r.isn, r.expect); n > maxAhead {
		return min(n, maxWindow)
	}
	return maxAhead
}

// lru lists records from the least to the most recently touched.
type lru struct {
	first, last *record
	n           int
}

func (l *lru) add(r *record) {
	r.prev, r.next = l.last, nil
	if l.last == nil {
		l.first = r
	} else {
		l.last.next = r
	}
	l.last = r
	l.n++
}

func (l *lru) remove(r *record) {
	if r.prev == nil {
		l.first = r.next
	} else {
		r.prev.next = r.next
	}
	if r.next == nil {
		l.last = r.prev
	} else {
		r.next.prev = r.prev
	}
	r.prev, r.next = nil, nil
	l.n--
}

// maxFreeRecords bounds the records kept for reuse.
const maxFreeRecords = 4096

// table finds records by flow and, per state, by age. Ignored records share
// the list of the established ones, in which they are as good a victim.
type table struct {
	records map[Flow]*record
	last    *record // found last: segments come in trains
	lists   [numStates]lru
	free    *record
	nfree   int
}

func (t *table) find(key Flow) *record {
	if t.last != nil && t.last.key == key {
		return t.last
	}
	r := t.records[key]
	if r != nil {
		t.last = r
	}
	return r
}

func (t *table) list(s state) *lru {
	if s == ignored {
		s = established
	}
	return &t.lists[s]
}

// create adds a record; there must be none for key.
func (t *table) create(key Flow, now int64) *record {
	r := t.free
	if r == nil {
		r = new(record)
	} else {
		t.free = r.next
		t.nfree--
	}
	*r = record{key: key, touched: now}
	t.records[key] = r
	t.list(r.state).add(r)
	return r
}

// set moves a record to another state, as the most recent of its list.
func (t *table) set(r *record, s state, now int64) {
	t.list(r.state).remove(r)
	r.state, r.touched = s, now
	t.list(s).add(r)
}

// remove forgets a record. It holds no stream and no queue.
func (t *table) remove(r *record) {
	t.list(r.state).remove(r)
	delete(t.records, r.key)
	if t.last == r {
		t.last = nil
	}
	*r = record{}
	if t.nfree < maxFreeRecords {
		r.next, t.free = t.free, r
		t.nfree++
	}
}

// victim is the record to make room with, or nil if there is none. Flows on
// probation yield first once they hold more than share of the table, as in a
// SYN flood; below that, a new flow would push out the one that came just
// before it, between its SYN and its request. Closed flows are next: without
// its record, a late retransmission passes for a connection that was open
// already, and its request is delivered twice.
func (t *table) victim(share int) *record {
	fresh, dead, live := &t.lists[probation], &t.lists[closed], &t.lists[established]
	switch {
	case fresh.n > share:
		return fresh.first
	case dead.n > 0:
		return dead.first
	case live.n == 0:
		return fresh.first
	}
	return live.first
}
