package httpstream

import (
	"bytes"
	"errors"
)

// ParseRequest frames one complete request, such as one composed for a
// question ("what would be mirrored?"). The caller must Release it.
func ParseRequest(raw []byte) (*Request, error) {
	var c collector
	var p RequestParser
	p.Reset(NewConfig(Config{MaxBody: int64(len(raw)) + 1, MaxHead: len(raw) + 1}), &c, true)
	p.Feed(raw, true, 0)
	if c.req == nil && c.err == nil {
		p.Close(Incomplete)
	}
	switch {
	case c.err != nil:
		if c.req != nil {
			c.req.Release()
		}
		return nil, c.err
	case c.req == nil:
		return nil, errors.New("not an HTTP/1 request")
	case !bytes.Equal(c.req.raw, raw):
		c.req.Release()
		return nil, errors.New("bytes around the request")
	}
	return c.req, nil
}

// collector is the Handler of ParseRequest.
type collector struct {
	req *Request
	err error
}

func (c *collector) Seen()         {}
func (c *collector) Skipped(int64) {}
func (c *collector) Request(r *Request) {
	if c.req != nil {
		r.Release()
		c.err = errors.New("more than one request")
		return
	}
	c.req = r
}
func (c *collector) Dropped(reason Reason, detail error) {
	if c.err == nil {
		c.err = errors.New(reason.String())
		if detail != nil {
			c.err = detail
		}
	}
}
func (c *collector) Ignore(p Protocol) {
	if c.err == nil {
		c.err = errors.New("not HTTP/1 but " + p.String())
	}
}
