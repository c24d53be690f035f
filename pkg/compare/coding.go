package compare

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"errors"
	"io"
	"strings"
)

// decoder undoes the content coding of one side.
type decoder struct {
	in      bytes.Reader
	gzip    gzip.Reader
	deflate io.ReadCloser // a flate.Reader
	buf     bytes.Buffer
}

// coding is the content coding of an answer in lower case, "" if it has none
// (RFC 9110 section 8.4).
func coding(header []Field) string {
	var c string
	for _, f := range header {
		if !equalFold(f.Name, "content-encoding") {
			continue
		}
		if c != "" {
			c += ", "
		}
		c += strings.ToLower(f.Value)
	}
	if c == "identity" {
		return ""
	}
	return c
}

// decode returns the content without its coding, at most limit bytes of it, and
// whether that is all. ok is false if the coding is none of gzip and deflate,
// or the content is broken; a content that merely ends early is not. What is
// returned is valid until the next call.
func (d *decoder) decode(coding string, body []byte, limit int) (content []byte, all, ok bool) {
	if coding == "" || len(body) == 0 {
		return body, true, true
	}
	d.in.Reset(body)
	var r io.Reader
	switch coding {
	case "gzip", "x-gzip":
		if d.gzip.Reset(&d.in) != nil {
			return nil, false, false
		}
		r = &d.gzip
	case "deflate":
		// It means zlib, and some servers send the bare format.
		if z, err := zlib.NewReader(&d.in); err == nil {
			r = z
			break
		}
		d.in.Reset(body)
		if d.deflate == nil {
			d.deflate = flate.NewReader(&d.in)
		} else if err := d.deflate.(flate.Resetter).Reset(&d.in, nil); err != nil {
			return nil, false, false
		}
		r = d.deflate
	default:
		return nil, false, false
	}
	d.buf.Reset()
	n, err := d.buf.ReadFrom(io.LimitReader(r, int64(limit)+1))
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return d.buf.Bytes(), false, true
	case err != nil:
		return nil, false, false
	case n > int64(limit):
		return d.buf.Bytes()[:limit], false, true
	}
	return d.buf.Bytes(), true, true
}
