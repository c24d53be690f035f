package httpstream

// ResponseHandler is told what a ResponseParser finds. Its methods are called
// from inside the parser's and must not call back into it.
type ResponseHandler interface {
	// Begin is called at the first byte of a response. It says what is known
	// of the request that it answers: whether its method is HEAD, and where
	// the response is to be kept, nil for nowhere. If ok is false nothing was
	// asked: the parser has lost its place, and Lost does not follow.
	Begin() (toHEAD bool, keep *Response, ok bool)
	// End ends the response that began: as what was kept of it, or nil. whole
	// is false if some of its bytes are missing.
	End(kept *Response, whole bool)
	// Lost says that the parser has lost its place, or that the connection has
	// ended: what was asked and not answered will not be, as far as can be
	// told. End does not follow for a response that had begun.
	Lost(why Reason)
}

// ResponseParser frames the responses of one connection for somebody who
// listens (see ResponseFramer). Unlike requests, responses cannot be told from
// what surrounds them: they are pairs with requests, so a parser that has lost
// its place waits until its owner knows where the next response begins. The
// zero value must be Reset before use. It is not safe for concurrent use.
type ResponseParser struct {
	h       ResponseHandler
	pool    *ResponsePool
	framer  ResponseFramer
	kept    *Response
	partial []byte // a line of which the end has not come
	charge  int    // for partial
	source  uint32
	place   place
	broken  bool // bytes of the response are missing
}

// place is where in a stream of responses a parser is.
type place uint8

const (
	placeUnknown place = iota
	placeBetween       // two responses, or before the first
	placeInside        // a response
	placeBehind        // the last one: the connection is used for something else
)

// Reset makes p ready for a new connection. synced is whether its first byte
// will be the first byte of the connection. Memory comes from pool and is
// charged to source.
func (p *ResponseParser) Reset(pool *ResponsePool, source uint32, h ResponseHandler, synced bool) {
	*p = ResponseParser{h: h, pool: pool, source: source, partial: p.partial[:0]}
	if synced {
		p.place = placeBetween
	}
}

// Synced reports whether p knows where it is.
func (p *ResponseParser) Synced() bool { return p.place != placeUnknown }

// Sync says that the next byte is the first one of a response.
func (p *ResponseParser) Sync() {
	if p.place == placeBehind {
		return
	}
	p.Lose()
	p.place = placeBetween
}

// Lose says that p does not know any more where it is, without a word to the
// handler.
func (p *ResponseParser) Lose() {
	if p.place == placeBehind {
		return
	}
	p.discard()
	if p.kept != nil {
		p.kept.Release()
		p.kept = nil
	}
	p.place = placeUnknown
}

// Feed gives p the next bytes of the stream; it keeps no reference to b. now is
// in nanoseconds since the Unix epoch.
func (p *ResponseParser) Feed(b []byte, now int64) {
	for len(b) > 0 {
		switch p.place {
		case placeUnknown, placeBehind:
			return
		case placeBetween:
			if b[0] == '\r' || b[0] == '\n' {
				b = b[1:] // some servers send an empty line behind content
				continue
			}
			if !p.begin(now) {
				return
			}
		}
		b = b[p.inside(b, now):]
	}
}

func (p *ResponseParser) begin(now int64) bool {
	toHEAD, keep, ok := p.h.Begin()
	if !ok {
		p.place = placeUnknown
		return false
	}
	if keep != nil {
		keep.Start = now
	}
	p.framer.Reset(toHEAD, keep)
	p.place, p.kept, p.broken = placeInside, keep, false
	return true
}

// inside takes bytes of a response and returns how many.
func (p *ResponseParser) inside(b []byte, now int64) int {
	if len(p.partial) == 0 {
		n, err := p.framer.Parse(b)
		if p.parsed(err, now) {
			return n
		}
		if p.place == placeInside && n < len(b) {
			p.store(b[n:])
		}
		return len(b)
	}
	held := len(p.partial)
	if !p.store(b) {
		return len(b)
	}
	n, err := p.framer.Parse(p.partial)
	if !p.parsed(err, now) {
		if p.place == placeInside {
			p.partial = append(p.partial[:0], p.partial[n:]...)
			if len(p.partial) == 0 {
				p.discard()
			}
		}
		return len(b)
	}
	p.discard()
	return n - held // the end lies in b, or it would have been found before
}

// parsed deals with what Parse said, and reports whether the response is
// complete.
func (p *ResponseParser) parsed(err error, now int64) bool {
	switch {
	case err != nil:
		p.lose(Invalid)
	case p.framer.Complete():
		p.end(now)
		return true
	}
	return false
}

func (p *ResponseParser) end(now int64) {
	kept := p.kept
	p.kept, p.place = nil, placeBetween
	if p.framer.Status() == 101 {
		p.place = placeBehind
	}
	if kept != nil {
		kept.End = now
	}
	p.h.End(kept, !p.broken)
}

// store keeps bytes of an incomplete line.
func (p *ResponseParser) store(b []byte) bool {
	if n := len(p.partial) + len(b); n > p.charge {
		n = 1 << (minClassBits + classFor(n))
		if !p.pool.reserve(p.source, p.charge, n-p.charge) {
			p.lose(NoMemory)
			return false
		}
		p.charge = n
	}
	p.partial = append(p.partial, b...)
	return true
}

func (p *ResponseParser) discard() {
	if p.charge > 0 {
		p.pool.release(p.source, p.charge)
		p.charge = 0
	}
	p.partial = p.partial[:0]
	if cap(p.partial) > 1<<minClassBits {
		p.partial = nil
	}
}

// Gap says that n bytes of the stream were lost, or an unknown number of them if
// n is negative.
func (p *ResponseParser) Gap(n int64, now int64) {
	switch {
	case p.place == placeInside && len(p.partial) == 0 && p.framer.Skip(n):
		p.broken = true
		p.parsed(nil, now)
	case p.place == placeBetween, p.place == placeInside:
		p.lose(Gap)
	}
}

// lose gives up the place in the stream.
func (p *ResponseParser) lose(why Reason) {
	if p.place == placeUnknown || p.place == placeBehind {
		return
	}
	p.Lose()
	p.h.Lost(why)
}

// Close ends the connection for the reason given, whose end the server made
// itself if finished.
func (p *ResponseParser) Close(why Reason, finished bool, now int64) {
	if p.place == placeInside && finished && len(p.partial) == 0 && p.framer.EOF() {
		p.end(now)
	}
	p.lose(why)
}

// Abandon gives back what p holds without a word to the handler.
func (p *ResponseParser) Abandon() {
	p.Lose()
	p.place = placeBehind
}
