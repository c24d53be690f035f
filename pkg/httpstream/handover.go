package httpstream

// Place says where in a connection's stream a parser stands.
type Place uint8

const (
	// PlaceUnknown is where it looks for the start of a message.
	PlaceUnknown Place = iota
	// PlaceFirst is the first byte of a connection, or where HTTP/2 may begin.
	PlaceFirst
	// PlaceMessage is the start of a message.
	PlaceMessage
	// PlaceNone is where nothing on the connection will be understood.
	PlaceNone
	// PlaceLast is behind a message that closes the connection.
	PlaceLast
)

// Continuation is what a parser knows between two bytes of its stream, so that
// another one, perhaps in another process, can go on from there.
type Continuation struct {
	Place Place
	// Skip is how many bytes of a message that is dropped already come before
	// the Place.
	Skip int64
	// Raw are the bytes of an open message so far, of which the first stands
	// at the Place and came at Start, in nanoseconds since the Unix epoch.
	// Guessed is whether that place was inferred.
	Raw     []byte
	Start   int64
	Guessed bool
	// Fresh: nothing of the connection was understood or passed over before.
	// H2C: HTTP/2 was offered and may begin at the Place.
	Fresh, H2C bool
}

// Continuation returns what another parser needs to go on. Its bytes are valid
// until p is given more, and p is as it was. Where a message is followed only
// for its chunks, because it is dropped already, the other parser has to find
// the start of the next one by itself.
func (p *RequestParser) Continuation() Continuation {
	c := Continuation{Fresh: p.fresh}
	switch {
	case p.state == stDead:
		c.Place = PlaceNone
	case p.state == stSniff:
		c.Place, c.H2C = PlaceFirst, p.conn.h2c
	case p.state == stStart:
		c.Place = PlaceMessage
	case p.state == stLast:
		c.Place = PlaceLast
	case p.state == stSeek:
	case p.req != nil:
		c.Place, c.Raw, c.Start, c.Guessed = PlaceMessage, p.req.raw, p.req.Start, p.guessed
	case p.state == stLength:
		c.Place, c.Skip = PlaceMessage, p.remaining
		switch {
		case p.conn.last:
			c.Place = PlaceLast
		case p.conn.h2c:
			c.Place, c.H2C = PlaceFirst, true
		}
	}
	return c
}

// Resume makes p, which was just Reset, go on where c says. An open message is
// seen again.
func (p *RequestParser) Resume(c Continuation) {
	p.fresh, p.guessed, p.conn.h2c = c.Fresh, c.Guessed, c.H2C
	switch c.Place {
	case PlaceUnknown:
		p.state = stSeek
	case PlaceFirst:
		p.state = stSniff
	case PlaceMessage:
		p.state = stStart
	case PlaceLast:
		p.state, p.conn.last = stLast, true
	default:
		p.state = stDead
	}
	switch {
	case c.Skip > 0:
		p.state, p.remaining = stLength, c.Skip
	case len(c.Raw) > 0:
		p.now = c.Start
		p.open()
		p.Feed(c.Raw, false, c.Start)
	}
}
