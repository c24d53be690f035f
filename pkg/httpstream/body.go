package httpstream

// A message may have maxChunkOverhead bytes of chunk framing, and
// overheadPerByte more for every byte of content: chunks of one byte, of which
// each takes five, pass; endless extensions do not.
const (
	maxChunkOverhead = 64 << 10
	overheadPerByte  = 8
)

// chunkLines consumes bytes of a chunk-size line or of the trailer section.
func (p *RequestParser) chunkLines(b []byte) int {
	limit := maxChunkLine
	if p.state == stTrailer {
		limit = p.room(p.trailerN)
	}
	line, n, tooLong := p.line(b, limit)
	switch {
	case tooLong && p.state == stTrailer:
		return p.outgrown(n)
	case tooLong:
		p.refuse(Invalid, errChunkLine)
	case line == nil:
	case len(line) < 2 || line[len(line)-2] != '\r':
		p.refuse(Invalid, errBareLF)
	case p.state == stTrailer:
		p.trailerLine(line[:len(line)-2])
	default:
		p.chunkLine(line[:len(line)-2])
	}
	return n
}

func (p *RequestParser) chunkLine(line []byte) {
	size, ok := parseChunkLine(line)
	if !ok || size > 1<<62-p.contentN {
		p.refuse(Invalid, errChunkLine)
		return
	}
	p.overhead += int64(len(line)) + 4
	if (p.overhead-maxChunkOverhead)/overheadPerByte > p.contentN+size {
		p.refuse(Invalid, errChunkOverhead)
		return
	}
	p.endLine()
	if size == 0 {
		p.state, p.trailerN = stTrailer, 0
		return
	}
	p.state, p.remaining = stChunkData, size
	p.contentN += size
	if p.contentN > p.cfg.MaxBody {
		p.drop(BodyTooLarge, nil)
	}
}

// chunkData passes bytes of a chunk.
func (p *RequestParser) chunkData(b []byte) int {
	n := int(min(int64(len(b)), p.remaining))
	p.store(b[:n])
	p.remaining -= int64(n)
	p.bodyAdvanced()
	return n
}

// chunkEnd consumes the CRLF behind chunk data.
func (p *RequestParser) chunkEnd(b []byte) int {
	if b[0] != "\r\n"[p.chunkCR] {
		p.refuse(Invalid, errChunkEnd)
		return 1
	}
	p.store(b[:1])
	if p.chunkCR++; p.chunkCR == 2 {
		p.state = stChunkLine
		p.endLine()
	}
	return 1
}

// trailerLine takes one complete line of the trailer section (RFC 9112
// section 7.1.2).
func (p *RequestParser) trailerLine(line []byte) {
	if len(line) == 0 {
		p.endLine()
		p.finish()
		return
	}
	p.trailerN += len(line) + 2
	f, err := parseField(line, uint32(p.lineAt))
	if err == nil || err == errValue {
		var c connectionFields
		if _ = c.note(line[:f.nameEnd-f.start], nil); c.lengths+c.codings+c.hosts > 0 {
			err = errTrailer
		}
	}
	switch {
	case err == errValue:
		p.drop(Invalid, err)
	case err != nil:
		p.refuse(Invalid, err)
		return
	case p.req == nil:
	case len(p.req.trailers) == maxFields:
		p.drop(Invalid, errFields)
	case !p.req.addField(&p.req.trailers, f):
		p.drop(NoMemory, nil)
	}
	p.endLine()
}
