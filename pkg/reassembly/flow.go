package reassembly

// state is what a flow's record is kept for. It decides which list it is in.
type state uint8

const (
	// probation: nothing followed the flow's first segment yet.
	probation state = iota
	// established: bytes followed in order.
	established
	// closed: the stream ended; the record swallows late retransmissions,
	// which would otherwise look like a connection that was open already.
	closed
	// ignored: without a stream until a new SYN. Such records share the list
	// of the established ones, in which they are as good a victim.
	ignored
	numLists = ignored
)

// order is what a list is part of.
type order uint8

const (
	inTable order = iota
	inSource
	numOrders
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
	// in are the neighbours in the list of the record's state, of the whole
	// table and of its source; in[inTable].next also links the free records.
	in [numOrders]struct{ next, prev *record }

	key     Flow
	source  uint32
	isn     uint32 // sequence number of the SYN; one less than the first byte's if not seen
	expect  uint32 // the next sequence number
	ack     uint32 // the highest delivered since the start or the last gap
	strayAt uint32
	stray   stray
	state   state
	begun   bool // bytes were delivered
	acked   bool // ack is known
	syn     bool // the SYN was seen
	doubted bool // closed, but by nothing that the receiver must have believed
}

// near reports whether seq is where a connection that begins at strayAt would
// send soon.
func (r *record) near(seq uint32) bool {
	d := distance(r.strayAt, seq)
	return 0 <= d && d <= maxAhead
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

func (l *lru) add(r *record, o order) {
	r.in[o].prev, r.in[o].next = l.last, nil
	if l.last == nil {
		l.first = r
	} else {
		l.last.in[o].next = r
	}
	l.last = r
	l.n++
}

func (l *lru) remove(r *record, o order) {
	at := &r.in[o]
	if at.prev == nil {
		l.first = at.next
	} else {
		at.prev.in[o].next = at.next
	}
	if at.next == nil {
		l.last = at.prev
	} else {
		at.next.in[o].prev = at.prev
	}
	at.prev, at.next = nil, nil
	l.n--
}

// group is records by state and age: those of the table, or of a source.
type group [numLists]lru

func (g *group) list(s state) *lru {
	if s == ignored {
		s = established
	}
	return &g[s]
}

func (g *group) len() int { return g[probation].n + g[established].n + g[closed].n }

// victim is the record to make room with, or nil if there is none. Flows on
// probation yield first once they are more than share, as in a SYN flood;
// below that, a new flow would push out the one that came just before it,
// between its SYN and its request. Closed flows are next: without its record,
// a late retransmission passes for a connection that was open already, and
// its request is delivered twice.
func (g *group) victim(share int) *record {
	fresh, dead, live := &g[probation], &g[closed], &g[established]
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

// maxFreeRecords bounds the records kept for reuse.
const maxFreeRecords = 4096

// numSources is how many sources are told apart. Two may be taken for one, by
// a chance that a secret of the caller's decides (Config.Source).
const numSources = 4096

// table finds records by flow and, per state, by age.
type table struct {
	records map[Flow]*record
	last    *record // found last: segments come in trains
	all     group
	sources []group // by source modulo numSources
	free    *record
	nfree   int
}

func newTable() table {
	return table{records: make(map[Flow]*record), sources: make([]group, numSources)}
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

// of is the records from a source.
func (t *table) of(source uint32) *group { return &t.sources[source%numSources] }

// create adds a record; there must be none for key.
func (t *table) create(key Flow, source uint32, now int64) *record {
	r := t.free
	if r == nil {
		r = new(record)
	} else {
		t.free = r.in[inTable].next
		t.nfree--
	}
	*r = record{key: key, source: source, touched: now}
	t.records[key] = r
	t.add(r)
	return r
}

func (t *table) add(r *record) {
	t.all.list(r.state).add(r, inTable)
	t.of(r.source).list(r.state).add(r, inSource)
}

func (t *table) drop(r *record) {
	t.all.list(r.state).remove(r, inTable)
	t.of(r.source).list(r.state).remove(r, inSource)
}

// set moves a record to another state, as the most recent of its list.
func (t *table) set(r *record, s state, now int64) {
	t.drop(r)
	r.state, r.touched = s, now
	t.add(r)
}

// remove forgets a record. It holds no stream and no queue.
func (t *table) remove(r *record) {
	t.drop(r)
	delete(t.records, r.key)
	if t.last == r {
		t.last = nil
	}
	*r = record{}
	if t.nfree < maxFreeRecords {
		r.in[inTable].next, t.free = t.free, r
		t.nfree++
	}
}
