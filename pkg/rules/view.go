package rules

import (
	"bytes"

	"github.com/shadowtap/shadowtap/pkg/httpstream"
)

// view is a request as the conditions of rules see it. Its buffers are kept
// from one request to the next.
type view struct {
	r         *httpstream.Request
	authority []byte // as sent, with port
	path      []byte // normalised, without query
	query     []byte // with its "?"

	client *Client // nil if not known
	port   uint32  // the request was addressed to; 0 if not known
	asked  string  // scheme; empty if only the request can tell

	pathBuf, valueBuf []byte
}

// load makes v a view of r. It reports false if the request has no path that
// Envoy would route.
func (v *view) load(r *httpstream.Request, form Normalization) bool {
	v.r, v.authority, v.path, v.query = r, r.Host(), nil, nil
	_, _, target, absolute := httpstream.SplitAbsolute(r.Target())
	if form == verbatim {
		return true
	}
	if behindProxy(r) {
		if sent, ok := sentPath(r); ok {
			target, absolute = sent, false
		}
		if sent := sentHost(r); len(sent) > 0 {
			v.authority = sent
		}
	}
	if !absolute && (len(target) == 0 || target[0] != '/') {
		return false
	}
	v.path, v.query = splitPath(target)
	if len(v.path) == 0 {
		v.pathBuf = append(v.pathBuf[:0], '/')
		v.path = v.pathBuf
	}
	if !form.isNormal(v.path) {
		var ok bool
		v.pathBuf, ok = form.appendNormalized(v.pathBuf[:0], v.path)
		v.path = v.pathBuf
		return ok
	}
	return true
}

// release drops the references to the request.
func (v *view) release() { v.r, v.authority, v.path, v.query, v.client = nil, nil, nil, nil, nil }

// scheme is what the client asked for, lower-case: the scheme of an
// absolute-form target, else what a proxy that ended TLS says
// (ConnectionManagerUtility::getScheme), else http.
func (v *view) scheme() []byte {
	if s, _, _, ok := httpstream.SplitAbsolute(v.r.Target()); ok {
		v.valueBuf = append(v.valueBuf[:0], s...)
		for i, c := range v.valueBuf {
			if c >= 'A' && c <= 'Z' {
				v.valueBuf[i] = c | 0x20
			}
		}
		return v.valueBuf
	}
	if v.asked != "" {
		v.valueBuf = append(v.valueBuf[:0], v.asked...)
		return v.valueBuf
	}
	if s, ok := v.r.Get("X-Forwarded-Proto"); ok && (len(s) == len("http") && equalFold(s, "http") || len(s) == len("https") && equalFold(s, "https")) {
		return s
	}
	v.valueBuf = append(v.valueBuf[:0], "http"...)
	return v.valueBuf
}

// header is the value of a header field, given by its lower-case name. The
// values of several fields are joined with commas, as Envoy does before it
// matches them; the result is valid until the next call.
func (v *view) header(name string) (value []byte, ok bool) {
	if name == "host" && len(v.authority) > 0 {
		return v.authority, true // for Envoy they are one
	}
	joined := false
	for i := range v.r.NumFields() {
		n, b := v.r.Field(i)
		switch {
		case len(n) != len(name) || !equalFold(n, name):
		case !ok:
			value, ok = b, true
		case !joined:
			v.valueBuf = append(append(append(v.valueBuf[:0], value...), ','), b...)
			value, joined = v.valueBuf, true
		default:
			v.valueBuf = append(append(v.valueBuf, ','), b...)
			value = v.valueBuf
		}
	}
	return value, ok
}

// cookie is the value of a cookie (RFC 6265 section 4.2.1).
func (v *view) cookie(name string) (value []byte, ok bool) {
	for i := range v.r.NumFields() {
		n, b := v.r.Field(i)
		if len(n) != len("cookie") || !equalFold(n, "cookie") {
			continue
		}
		for len(b) > 0 {
			var pair []byte
			pair, b, _ = bytes.Cut(b, []byte(";"))
			if key, value, found := bytes.Cut(bytes.TrimLeft(pair, " "), []byte("=")); found && string(key) == name {
				return value, true
			}
		}
	}
	return nil, false
}

// param is the value of a query parameter.
func (v *view) param(name string) ([]byte, bool) { return param(v.query, name) }
