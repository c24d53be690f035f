package rules

import (
	"bytes"
	"fmt"

	"github.com/shadowtap/shadowtap/pkg/httpstream"
)

// Header fields in which Envoy leaves what it changed of a request that has
// passed it. What rules ask is what the client sent; what the shadow gets is
// what arrived, which is as the rule would have made it already.
const (
	originalPath  = "x-envoy-original-path"
	originalHost  = "x-envoy-original-host"
	forwardedHost = "x-forwarded-host"
)

// behindProxy reports whether Envoy has rewritten r.
func behindProxy(r *httpstream.Request) bool {
	for i := range r.NumFields() {
		// The names have the same length, which few others have.
		if name, _ := r.Field(i); len(name) == len(originalPath) && (equalFold(name, originalPath) || equalFold(name, originalHost)) {
			return true
		}
	}
	return false
}

// sentPath is the request-target that the client sent, if Envoy says so.
func sentPath(r *httpstream.Request) ([]byte, bool) {
	p, ok := r.Get(originalPath)
	return p, ok && len(p) > 0 && p[0] == '/'
}

// sentHost is the authority that the client sent, if a proxy says so. The last
// of several proxies has appended its own to x-forwarded-host.
func sentHost(r *httpstream.Request) []byte {
	if h, ok := r.Get(originalHost); ok && len(h) > 0 {
		return h
	}
	h, _ := r.Get(forwardedHost)
	if i := bytes.LastIndexByte(h, ','); i >= 0 {
		h = h[i+1:]
	}
	return bytes.Trim(h, " \t")
}

// envoyEdit is what Envoy changes in the header of a copy besides what rules
// say (RouteEntryImplBase::finalizeRequestHeaders, AsyncStreamImpl with
// send_internal and send_xff).
func envoyEdit(rt *Route) *edit {
	e := &edit{lines: []line{
		{value: format{{text: "true"}}, name: "x-envoy-internal"},
		{value: format{{kind: formatForwarded}}, name: "x-forwarded-for"},
	}}
	if rt.rewrite != keepPath {
		e.lines = append(e.lines, line{value: format{{kind: formatPath, form: rt.form}}, name: originalPath})
	}
	if t := rt.action.timeout; t > 0 {
		e.lines = append(e.lines, line{value: format{{text: fmt.Sprint(t.Milliseconds())}}, name: "x-envoy-expected-rq-timeout-ms"})
	}
	for i := range e.lines {
		e.lines[i].lower, e.lines[i].overwrite = e.lines[i].name, true
	}
	return e
}

// appendForwarded appends the value of x-forwarded-for with the address of the
// proxy that would have made the copy: seen from the endpoint it is the client.
func appendForwarded(dst []byte, r *httpstream.Request) []byte {
	start := len(dst)
	for i := range r.NumFields() {
		if name, value := r.Field(i); len(name) == len("x-forwarded-for") && equalFold(name, "x-forwarded-for") {
			if len(dst) > start {
				dst = append(dst, ',')
			}
			dst = append(dst, value...)
		}
	}
	if !r.Source.IsValid() {
		return dst
	}
	if len(dst) > start {
		dst = append(dst, ',')
	}
	return r.Source.Addr().Unmap().AppendTo(dst)
}

// appendSentPath appends path and query of r as rules see them.
func appendSentPath(dst []byte, r *httpstream.Request, form Normalization) []byte {
	if p, ok := sentPath(r); ok {
		return append(dst, p...)
	}
	return appendPath(dst, r, form)
}

// appendPath appends path and query of r, the path in its normal form.
func appendPath(dst []byte, r *httpstream.Request, form Normalization) []byte {
	_, _, rest, _ := httpstream.SplitAbsolute(r.Target())
	path, query := splitPath(rest)
	if len(path) == 0 {
		dst = append(dst, '/')
	} else if form == NormalizeNone || form.isNormal(path) {
		dst = append(dst, path...)
	} else {
		dst, _ = form.appendNormalized(dst, path)
	}
	return append(dst, query...)
}
