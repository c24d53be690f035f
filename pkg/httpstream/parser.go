package httpstream

// Handler receives what a RequestParser finds. Its methods are called from
// inside the parser's and must not call back into it.
type Handler interface {
	// Seen is called once for every request, when its start is recognised.
	// Exactly one Request or Dropped follows.
	Seen()
	// Request hands over a complete request with one reference, which the
	// handler must Release.
	Request(r *Request)
	// Dropped ends a seen request that cannot be handed over. detail is nil
	// or says what was wrong with an Invalid one.
	Dropped(reason Reason, detail error)
	// Ignore says that nothing on this connection will be understood any
	// more; the parser discards what else it is fed.
	Ignore(p Protocol)
	// Skipped reports n bytes that belong to no request that was seen: they
	// passed while the parser was looking for the start of a message.
	Skipped(n int64)
}

// Config bounds the parsers that share it. It must not change while in use.
type Config struct {
	// MaxHead is the largest head, and apart from it the largest trailer
	// section, in bytes. Default 128 KiB, at most LargestHead. A larger one is
	// followed line by line to where the message ends, for as long as no line
	// has more than 1 MiB.
	MaxHead int
	// MaxBody is the largest content, in bytes without chunk framing.
	// Default 10 MiB, at most LargestBody.
	MaxBody int64
	// Pool is where requests come from. Default: an unbounded one.
	Pool *Pool
}

// Defaults of Config.
const (
	DefaultMaxHead = 128 << 10
	DefaultMaxBody = 10 << 20
	maxFields      = 1000
)

// The largest useful values of Config.MaxBody and MaxHead, in bytes. Places in
// a message are held as 32 bits, and chunk framing may be eight times the
// content.
const (
	LargestBody = 256 << 20
	LargestHead = 16 << 20
)

// withDefaults fills in what is zero.
func (c Config) withDefaults() *Config {
	if c.MaxHead <= 0 {
		c.MaxHead = DefaultMaxHead
	}
	if c.MaxBody <= 0 {
		c.MaxBody = DefaultMaxBody
	}
	if c.Pool == nil {
		c.Pool = NewPool(nil, nil)
	}
	return &c
}

// NewConfig returns c with its defaults filled in, for Reset.
func NewConfig(c Config) *Config { return c.withDefaults() }

type state uint8

const (
	stSniff  state = iota // first bytes of a connection, or after an h2c upgrade was asked for
	stSeek                // looking for the start of a message, boundary unknown
	stStart               // at a message boundary
	stLine                // in the request line
	stHeader              // in the header section
	stLength              // in a body of known length
	stChunkLine
	stChunkData
	stChunkEnd // the CRLF behind chunk data
	stTrailer
	stLast // behind a message that closes the connection
	stDead // ignored or closed
)

// RequestParser frames the requests of one direction of one connection. The
// zero value must be Reset before use, and ended by Close, Abandon or its own
// Ignore before it is Reset again. It is not safe for concurrent use.
type RequestParser struct {
	cfg *Config
	h   Handler
	now int64
	req *Request // the message being collected; nil between messages and when dropped

	lineAt    int      // offset in req.raw of the line being collected
	remaining int64    // bytes left of the body or chunk
	overhead  int64    // bytes of chunk framing so far
	lineLen   int      // bytes of that line so far
	trailerN  int      // bytes of the trailer section so far
	contentN  int64    // bytes of content announced so far
	spill     *Request // its bytes are a split line of a message that is not kept

	source uint32 // whom the pool charges

	state   state
	seen    bool  // a message is open: Seen was called, its end was not
	guessed bool  // the boundary this message started at was inferred
	fresh   bool  // nothing of this connection was understood or passed over yet
	chunkCR uint8 // bytes of the CRLF behind chunk data so far

	conn connectionFields // of the message that was last begun
}

// Reset makes p ready for a new connection. synced is whether its first byte
// will be the first byte of the connection; otherwise p looks for the start
// of a message.
func (p *RequestParser) Reset(cfg *Config, h Handler, synced bool) {
	*p = RequestParser{cfg: cfg, h: h, state: stSeek, fresh: true}
	if synced {
		p.state = stSniff
	}
}

// Charge makes the requests that begin from now on count as held by source,
// a number that the pool's budget understands (NewFairPool). It is 0 after
// Reset.
func (p *RequestParser) Charge(source uint32) { p.source = source }

// Pending reports whether a message has begun and not ended.
func (p *RequestParser) Pending() bool { return p.seen }

// Feed gives p the next bytes of the stream; it keeps no reference to b.
// start says that b[0] may be the start of a message even if what came
// before is unknown. now is in nanoseconds since the Unix epoch.
func (p *RequestParser) Feed(b []byte, start bool, now int64) {
	p.now = now
	for len(b) > 0 {
		n := 0
		switch p.state {
		case stSniff:
			n = p.sniff(b)
		case stSeek:
			n = p.seek(b, start)
		case stStart, stLast:
			n = p.begin(b)
		case stLine, stHeader:
			n = p.head(b)
		case stLength:
			n = p.length(b)
		case stChunkLine, stTrailer:
			n = p.chunkLines(b)
		case stChunkData:
			n = p.chunkData(b)
		case stChunkEnd:
			n = p.chunkEnd(b)
		case stDead:
			return
		}
		b = b[n:]
		start = false
	}
}

// Gap says that n bytes of the stream were lost, or an unknown number of them
// if n is negative. The message they belong to is dropped. If they lie wholly
// inside a body of known length the parser still knows where it is; else it
// looks for the start of a message again.
func (p *RequestParser) Gap(n int64, now int64) {
	p.now = now
	switch p.state {
	case stDead:
		return
	case stLength, stChunkData:
		if n >= 0 && n <= p.remaining {
			p.drop(Gap, nil)
			p.remaining -= n
			p.bodyAdvanced()
			return
		}
	}
	p.drop(Gap, nil)
	p.state = stSeek
}

// Abandon ends the connection and gives back what p holds, without a word to
// the handler: for a handler that has failed.
func (p *RequestParser) Abandon() {
	if p.req != nil {
		p.req.Release()
		p.req = nil
	}
	p.dropSpill()
	p.seen, p.state = false, stDead
}

// Held returns how many bytes of the Pool's budget p holds for a message that
// is not complete, and since when, in nanoseconds since the Unix epoch; 0 if
// none.
func (p *RequestParser) Held() (n int, since int64) {
	switch {
	case p.req != nil:
		return p.req.cost(), p.req.Start
	case p.spill != nil:
		return p.spill.cost(), p.spill.Start
	}
	return 0, 0
}

// GiveUp gives back what p holds, for want of memory; an open message is
// dropped. It may be called while another parser's method runs, but not while
// one of p's does.
func (p *RequestParser) GiveUp() {
	switch p.state {
	case stLine, stHeader, stChunkLine, stTrailer:
		if p.lineLen > 0 {
			p.state = stSeek // a part of the line is lost
		}
	}
	p.drop(NoMemory, nil)
}

// Close ends the connection; an open message is dropped for the reason given.
func (p *RequestParser) Close(reason Reason) {
	p.drop(reason, nil)
	p.state = stDead
}

// open starts a message at the current position.
func (p *RequestParser) open() {
	p.seen = true
	p.h.Seen()
	p.lineAt, p.lineLen, p.overhead, p.contentN = 0, 0, 0, 0
	p.conn = connectionFields{}
	p.state = stLine
	p.req = p.cfg.Pool.getRequest(p.source, p.now)
	if p.req == nil {
		p.drop(NoMemory, nil)
	}
}

// store appends bytes of the message. If they cannot be held the message is
// dropped and store reports false.
func (p *RequestParser) store(b []byte) bool {
	if p.req == nil {
		return true
	}
	if p.req.append(b) {
		return true
	}
	p.drop(NoMemory, nil)
	return false
}

// finish hands the complete message over, if it was not dropped before.
func (p *RequestParser) finish() {
	p.state, p.guessed, p.fresh = stStart, false, false
	switch {
	case p.conn.last:
		p.state = stLast
	case p.conn.h2c:
		p.state = stSniff
	}
	if !p.seen {
		return
	}
	r := p.req
	p.req, p.seen = nil, false
	r.contentN, r.End = p.contentN, p.now
	p.h.Request(r)
}

// drop ends an open message without handing it over.
func (p *RequestParser) drop(reason Reason, detail error) {
	p.dropSpill()
	if p.req != nil {
		p.req.Release()
		p.req = nil
	}
	if p.seen {
		p.seen = false
		p.h.Dropped(reason, detail)
	}
}

// refuse drops an invalid message. Where the boundary had only been inferred
// the inference was wrong and the search goes on; else no later boundary of
// this connection can be trusted.
func (p *RequestParser) refuse(reason Reason, detail error) {
	p.drop(reason, detail)
	if p.guessed {
		p.guessed = false
		p.state = stSeek
		return
	}
	p.ignore(Broken)
}

func (p *RequestParser) dropSpill() {
	if p.spill != nil {
		p.spill.Release()
		p.spill = nil
	}
}

func (p *RequestParser) ignore(proto Protocol) {
	p.state = stDead
	p.h.Ignore(proto)
}

// begin skips the empty lines that RFC 9112 section 2.2 tolerates before a
// request line and opens a message at the first other byte. There must be none
// behind a message that closes the connection: the server will not process it.
func (p *RequestParser) begin(b []byte) int {
	for i, c := range b {
		if c == '\r' || c == '\n' {
			continue
		}
		if i > 0 {
			p.h.Skipped(int64(i))
		}
		if p.state == stLast {
			p.seen = true
			p.h.Seen()
			p.refuse(Invalid, errBehindLast)
			return len(b)
		}
		p.open()
		return i
	}
	p.h.Skipped(int64(len(b)))
	return len(b)
}

// length passes bytes of a body of known length.
func (p *RequestParser) length(b []byte) int {
	n := int(min(int64(len(b)), p.remaining))
	p.store(b[:n])
	p.remaining -= int64(n)
	p.bodyAdvanced()
	return n
}

// bodyAdvanced moves on when a body or chunk is complete.
func (p *RequestParser) bodyAdvanced() {
	if p.remaining > 0 {
		return
	}
	switch p.state {
	case stLength:
		p.finish()
	case stChunkData:
		p.state, p.chunkCR = stChunkEnd, 0
	}
}
