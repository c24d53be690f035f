package torture

// fate is what must become of a request.
type fate uint8

const (
	mirrored   fate = iota
	gap             // dropped: bytes of it did not reach the tap
	incomplete      // dropped: the connection ended inside it
	unfinished      // dropped: its end was never seen, until the tap or its patience ended
	unseen          // nothing of it could be recognised, for want of its beginning
	noMemory        // dropped: hostile clients had taken it all; only the account knows
	handedOver      // dropped: the agent that took over goes on with it; only the account knows
	numFates
)

// oracle works out what can be known of the requests of a connection by who
// gets the given parts of its stream. It is the documented behaviour of the
// program, from the other side: the oracle knows where requests begin and end
// and only asks whether that could be known. skipped is how many bytes
// arrived without being recognised as any request's.
func (c *connection) oracle() (fates []fate, skipped int) {
	o := oracle{connection: c, synced: c.synced, open: -1, fates: make([]fate, len(c.messages))}
	for i := range o.fates {
		o.fates[i] = unseen
	}
	lost, void, told := span{}, false, false
	for _, p := range c.parts {
		if p.gets > 0 && lost.len() > 0 {
			o.gap(lost)
			lost, void, told = span{}, false, false
		}
		if p.gets > 0 {
			o.data(span{p.from, p.from + p.gets}, p.ack)
		}
		if p.gets < p.len() {
			if lost.len() == 0 {
				lost.from = p.from + p.gets
			}
			lost.to = p.to
			void, told = void || p.void, told || p.told
		}
	}
	// A RST behind bytes that are missing need not be genuine, unless the tap
	// knows that it lost them.
	unended := c.end == openEnd || c.end == byRST && lost.len() > 0 && !told
	if lost.len() > 0 && (!unended || void) {
		o.gap(lost)
	}
	if o.open >= 0 {
		o.fates[o.open] = incomplete
		if unended {
			o.fates[o.open] = unfinished
		}
	}
	return o.fates, o.skipped
}

// interim is the length of a 100 (Continue) response, which the server sends
// in the middle of a request.
const interim = uint32(len("HTTP/1.1 100 Continue\r\n\r\n"))

type oracle struct {
	*connection
	synced  bool // the place in the stream is known to be at or in messages[next]
	next    int
	open    int // the message whose end has not been seen, -1 if none
	begun   bool
	acked   bool   // ack is known: bytes came, and none were missing since
	ack     uint32 // of the bytes that came last
	fates   []fate
	skipped int
}

func (o *oracle) end(i int) int { return o.starts[i] + len(o.messages[i].raw) }

// data takes bytes that follow, all of one segment.
func (o *oracle) data(s span, ack uint32) {
	mayStart := !o.begun || o.acked && ack-o.ack > interim
	o.begun, o.acked, o.ack = true, true, ack
	if !o.synced {
		for o.next < len(o.messages) && o.starts[o.next] < s.from {
			o.next++
		}
		if !mayStart || o.next == len(o.messages) || o.starts[o.next] != s.from ||
			!recognisable(o.messages[o.next], o.stream[s.from:s.to]) {
			o.skipped += s.len()
			return
		}
		o.synced = true
	}
	for o.next < len(o.messages) && o.starts[o.next] < s.to {
		if o.starts[o.next] >= s.from {
			o.open = o.next
		}
		if o.end(o.next) > s.to {
			return
		}
		if o.open == o.next {
			o.fates[o.next] = mirrored
		}
		o.open = -1
		o.next++
	}
}

// gap takes bytes that will never come.
func (o *oracle) gap(s span) {
	// What came before the tap is no gap to it.
	o.begun, o.acked = o.begun || o.connection.synced, false
	if !o.synced {
		return
	}
	if o.open >= 0 {
		o.fates[o.open] = gap
		o.open = -1
	}
	o.synced = false
	if o.next == len(o.messages) || s.from == o.starts[o.next] {
		return
	}
	for _, counted := range o.messages[o.next].counted {
		from, to := o.starts[o.next]+counted.from, o.starts[o.next]+counted.to
		if s.from >= from && s.from < to && s.to <= to {
			// Its length was announced, so the place is still known.
			o.synced = true
			if s.to == o.end(o.next) {
				o.next++
			}
			return
		}
	}
}

// recognisable reports whether a segment that begins with m shows that it
// does: by a method of which it is known that nothing precedes it, and a whole
// request line or 256 bytes of one and nothing else.
func recognisable(m *message, segment []byte) bool {
	switch string(m.raw[:m.target.from-1]) {
	case "GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE",
		"PROPFIND", "REPORT", "MKCOL", "COPY", "MOVE", "PURGE":
	default:
		return false
	}
	return len(segment) >= m.line || len(segment) >= 256 && len(segment) <= m.target.to
}
