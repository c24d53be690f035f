package torture

import "slices"

// network says what happens to the packets of a case. Chances are one in so
// many segments, or bursts where it says so; 0 is never.
type network struct {
	cut func(g *generator) int // the length of the next segment, in bytes

	reorder  int // bursts whose segments arrive in another order
	repeat   int // segments that come again, at once or much later
	overlap  int // segments that begin earlier or end later, with equal bytes
	forge    int // bursts behind which garbage comes that no receiver takes
	probe    int // bursts behind which a keep-alive probe comes
	synData  bool
	lives    int  // connections that use the same addresses and ports in turn
	lose     int  // segments that the tap never gets
	truncate int  // segments of which a recording holds only the first bytes
	dispute  int  // segments that come twice, with different bytes
	midway   bool // the tap gets nothing of the beginning
	// wholeLines never cuts a request line that begins a segment: whether one
	// in two parts is recognised after a loss depends on whether these had to
	// wait for something and were put together meanwhile.
	wholeLines bool
	pipeline   int // the most requests that a client sends without waiting
	messages   int // the most requests of a connection
}

// loses reports whether the tap gets less than the server, so that it may
// have to look for the start of a request. A body that contains requests could
// mislead it then: such bodies are only sent where nothing is lost.
func (n *network) loses() bool {
	return n.lose+n.truncate+n.dispute > 0 || n.midway
}

// ending is what becomes of a connection.
type ending int

const (
	byFIN ending = iota
	byRST
	openEnd // nothing more comes
	replaced
)

// part is a segment of the stream as the client cut it.
type part struct {
	span
	ack  uint32 // bytes the server had sent by then
	gets int    // how many bytes of it, from its first, the tap gets and believes
	last bool   // of its burst
	// void is set where the tap knows that nothing will fill what is missing,
	// told where it knows once another packet of the connection comes.
	void, told bool
}

// connection is what one client sends, and what the tap gets to see of it.
type connection struct {
	messages []*message
	starts   []int // of each message in the stream
	stream   []byte
	parts    []part
	synced   bool // the tap sees the first byte
	end      ending
	packets  []packet
	// onBurst, if set, is told by send that everything up to a place of the
	// stream is sent and answered, and in what time.
	onBurst func(to int, p period)
}

// connection makes requests with consecutive ids from first on, no more than
// most, and the packets that carry them.
func (g *generator) connection(n *network, ends tuple, first, most int, before ending) *connection {
	c := &connection{synced: !n.midway, end: ending(g.IntN(3))}
	count := min(most, 1+g.IntN(n.messages))
	type burst struct {
		from, to int
		answer   uint32 // bytes that the server sends behind it
	}
	var bursts []burst
	from, room := 0, 0
	for i := range count {
		m := g.message(first+i, i == count-1)
		c.messages = append(c.messages, m)
		c.starts = append(c.starts, len(c.stream))
		c.stream = append(c.stream, m.raw...)
		if m.pause {
			bursts = append(bursts, burst{from, c.starts[i] + m.head, interim})
			from = c.starts[i] + m.head
		}
		if room--; room < 0 || i == count-1 || m.pause {
			bursts = append(bursts, burst{from, len(c.stream), interim + 1 + g.Uint32N(2000)})
			from, room = len(c.stream), g.IntN(max(1, n.pipeline))
		}
	}
	if c.end != openEnd && g.chance(4) || c.end == openEnd && g.chance(2) {
		// The client goes away in the middle of its last request.
		last := len(c.messages) - 1
		c.stream = c.stream[:c.starts[last]+1+g.IntN(len(c.messages[last].raw)-1)]
	}
	ack := g.Uint32()
	for _, b := range bursts {
		for at := b.from; at < min(b.to, len(c.stream)); {
			k := n.cut(g)
			if n.wholeLines {
				k = max(k, c.lineAt(at))
			}
			k = min(k, b.to-at, len(c.stream)-at)
			c.parts = append(c.parts, part{span: span{at, at + k}, ack: ack, gets: k})
			at += k
		}
		c.parts[len(c.parts)-1].last = true
		ack += b.answer
	}
	w := &wire{generator: g, network: n, connection: c, ends: ends, isn: g.Uint32()}
	if g.chance(2) {
		w.isn = ^g.Uint32N(uint32(len(c.stream)) + 2) // the numbers wrap on the way
	}
	if w.isn == g.isn {
		w.isn-- // a SYN with the number of the last connection's is that one again
	}
	g.isn = w.isn
	w.send(before)
	return c
}

// lineAt is the length of the request line that begins at a place of the
// stream, 0 if none does.
func (c *connection) lineAt(at int) int {
	if i, ok := slices.BinarySearch(c.starts, at); ok {
		return c.messages[i].line
	}
	return 0
}

// wire turns the parts of a connection into packets.
type wire struct {
	*generator
	*network
	*connection
	ends tuple
	isn  uint32
}

func (w *wire) seq(at int) uint32 { return w.isn + 1 + uint32(at) }

func (w *wire) segment(s span, ack uint32) packet {
	return packet{tuple: w.ends, seq: w.seq(s.from), ack: ack, flags: flagACK, payload: w.stream[s.from:s.to], wire: s.len()}
}

// send makes the packets; before is how the connection before this one on the
// same addresses and ports ended. If the tap was not told of that end, the
// new connection is believed when the byte behind its SYN comes, so nothing
// may overtake that.
func (w *wire) send(before ending) {
	next := 0
	if w.midway {
		next = w.midwayFrom()
	} else {
		syn := packet{tuple: w.ends, seq: w.isn, flags: flagSYN}
		if w.synData && before != openEnd && w.chance(3) {
			// TCP Fast Open; the bytes come again behind the handshake.
			syn.payload = w.stream[:min(w.parts[0].to, 1400)]
			syn.wire = len(syn.payload)
		}
		w.packets = append(w.packets, syn)
		if w.chance(10) {
			w.packets = append(w.packets, syn)
		}
	}
	inOrder := before == openEnd
	for next < len(w.parts) {
		end := next
		for !w.parts[end].last {
			end++
		}
		w.burst(next, end+1, inOrder)
		inOrder = false
		next = end + 1
		w.between(w.parts[end])
	}
	w.finish(before)
}

// midwayFrom chooses where the tap begins to see the connection.
func (w *wire) midwayFrom() int {
	first := w.IntN(min(len(w.parts), 20))
	for first < len(w.parts)-1 && w.parts[first].len() < 2 {
		first++ // one byte may be a probe
	}
	for i := range first {
		w.parts[i].gets = 0
	}
	if w.parts[first].len() < 2 {
		w.parts[first].gets = 0
		first++
	}
	for first < len(w.parts) && first > 0 && !w.parts[first-1].last {
		// Bursts are sent from their beginning: send the rest of this one here.
		w.packets = append(w.packets, w.segment(w.parts[first].span, w.parts[first].ack))
		first++
	}
	return first
}

// burst sends parts [from, to), which the client sends without waiting.
func (w *wire) burst(from, to int, inOrder bool) {
	var list []packet
	for i := from; i < to; i++ {
		p := &w.parts[i]
		s := p.span
		switch {
		case w.lose > 0 && w.chance(w.lose):
			p.gets = 0
			continue
		case w.truncate > 0 && w.chance(w.truncate):
			p.gets, p.told = w.IntN(p.len()), true
			cut := w.segment(s, p.ack)
			cut.payload = cut.payload[:p.gets]
			list = append(list, cut)
			continue
		case w.dispute > 0 && i+1 < to && w.chance(w.dispute):
			// The next part waits for this one, and while it does, comes again
			// with other bytes. Nobody can know which the receiver believes.
			list = append(list, w.disputed(i+1)...)
			list = append(list, w.segment(s, p.ack))
			w.parts[i+1].gets, w.parts[i+1].void = 0, true
			i++
			continue
		case w.overlap > 0 && w.chance(w.overlap):
			s.from = max(w.parts[from].from, s.from-w.IntN(300))
			s.to = min(w.parts[to-1].to, s.to+w.IntN(300), s.from+maxPayload)
			s.to = max(s.to, p.to)
			if s.len() > maxPayload {
				s = p.span
			}
		}
		list = append(list, w.segment(s, p.ack))
	}
	if w.reorder > 0 && !inOrder && len(list) > 1 && w.chance(w.reorder) {
		w.shuffle(list)
	}
	for _, p := range list {
		w.packets = append(w.packets, p)
		if w.repeat > 0 && w.chance(w.repeat) {
			again := w.packets[len(w.packets)-1]
			if w.chance(2) {
				again = w.old()
			}
			w.packets = append(w.packets, again)
		}
	}
}

// disputed are two versions of a part.
func (w *wire) disputed(i int) []packet {
	p := w.parts[i]
	s := p.span
	s.from += w.IntN(s.len())
	s.to = s.from + 1 + w.IntN(s.len())
	other := w.segment(s, p.ack)
	other.payload = slices.Clone(other.payload)
	other.payload[w.IntN(len(other.payload))] ^= byte(1 + w.IntN(255))
	return []packet{w.segment(p.span, p.ack), other}
}

// old is a segment that was sent before.
func (w *wire) old() packet {
	for range 4 {
		if p := w.packets[w.IntN(len(w.packets))]; p.flags == flagACK && p.wire > 0 {
			return p
		}
	}
	return w.packets[len(w.packets)-1]
}

// maxApart is fewer than the separate runs of bytes that may wait on one
// connection; with more holes than that the oldest is given up.
const maxApart = 400

// shuffle changes the order: of all, of neighbours, or the first comes last,
// so that everything else has to wait for it.
func (w *wire) shuffle(list []packet) {
	swap := func(i, j int) { list[i], list[j] = list[j], list[i] }
	switch {
	case len(list) <= maxApart && w.chance(3):
		w.Shuffle(len(list), swap)
	case w.chance(2):
		for i := range len(list) - 1 {
			if w.chance(2) {
				swap(i, i+1)
			}
		}
	default:
		first := list[0]
		copy(list, list[1:])
		list[len(list)-1] = first
	}
}

// between sends what no receiver takes for data.
func (w *wire) between(last part) {
	at := w.seq(last.to)
	if w.probe > 0 && w.chance(w.probe) {
		// RFC 9293 section 3.8.4: one byte of garbage in place of the last.
		garbage := []byte{byte(w.Uint32())}[:w.IntN(2)]
		w.packets = append(w.packets, packet{tuple: w.ends, seq: at - 1, ack: last.ack, flags: flagACK, payload: garbage, wire: len(garbage)})
	}
	if w.forge == 0 || !w.chance(w.forge) {
		return
	}
	forged := packet{tuple: w.ends, ack: last.ack}
	switch w.IntN(4) {
	case 0: // other bytes for what was read long ago
		back := min(last.to, 1+w.IntN(1400))
		forged.flags, forged.seq = flagACK, at-uint32(back)
		forged.payload = w.content(back)
	case 1: // RFC 5961 section 3: not at the next byte, so no reset
		forged.flags, forged.seq = flagRST, at-1-w.Uint32N(1<<20)
	case 2:
		forged.flags, forged.seq = flagRST, at+1<<25+w.Uint32N(1<<20)
	case 3: // RFC 5961 section 4
		forged.flags, forged.seq = flagSYN, at+1<<28+w.Uint32N(1<<20)
	}
	forged.wire = len(forged.payload)
	w.packets = append(w.packets, forged)
}

func (w *wire) finish(before ending) {
	if len(w.packets) == 0 {
		return
	}
	end := packet{tuple: w.ends, seq: w.seq(len(w.stream)), ack: w.parts[len(w.parts)-1].ack}
	switch w.end {
	case openEnd:
		return
	case byRST:
		end.flags = flagRST | flagACK
	case byFIN:
		end.flags = flagFIN | flagACK
		last := &w.packets[len(w.packets)-1]
		switch {
		case w.chance(3) && last.flags == flagACK && last.seq+uint32(last.wire) == end.seq && last.wire > 0:
			last.flags |= flagFIN
			return
		case w.reorder > 0 && before != openEnd && w.chance(3) && len(w.packets) > 1 && last.flags == flagACK && last.wire > 0:
			// It overtakes the last segment.
			w.packets = slices.Insert(w.packets, len(w.packets)-1, end)
			return
		}
	}
	w.packets = append(w.packets, end)
	if w.repeat > 0 && w.chance(2) {
		w.packets = append(w.packets, w.old(), end)
	}
}
