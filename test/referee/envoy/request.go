package envoy

import "strings"

// Request is an HTTP/1.1 request as it is on the wire.
type Request struct {
	Method string
	// Target is the request-target.
	Target string
	// Fields are the names and values of the header field lines in order,
	// Host among them.
	Fields [][2]string
	// Source is the address and port of the client.
	Source string
	// Choice is what chance chooses among weighted clusters: the place of one,
	// counted around if there are fewer.
	Choice int
}

// headers is a request as the router sees it, after the HTTP connection
// manager has taken it in.
type headers struct {
	method, scheme, authority string
	path                      string      // with the query
	fields                    [][2]string // lower-case names, without host
	source                    string
}

// receive does what the codec and the connection manager do before routing,
// with the settings of Istio: absolute-form targets are allowed, fragments are
// stripped, paths are normalised. ok is false if the request is answered there
// with 400 or 404.
func receive(r *Request) (h *headers, ok bool) {
	h = &headers{method: r.Method, scheme: "http", source: r.Source}
	for _, f := range r.Fields {
		name := strings.ToLower(f[0])
		if name == "host" {
			h.authority = f[1]
			continue
		}
		h.fields = append(h.fields, [2]string{name, f[1]})
	}
	target := r.Target
	if !strings.HasPrefix(target, "/") {
		scheme, rest, absolute := strings.Cut(target, "://")
		if !absolute {
			return nil, false // "*" or an authority: no path to route by
		}
		end := strings.IndexAny(rest, "/?#")
		if end < 0 {
			end = len(rest)
		}
		h.scheme, h.authority, target = strings.ToLower(scheme), rest[:end], rest[end:]
		if !strings.HasPrefix(target, "/") {
			target = "/" + target
		}
	}
	target, _, _ = strings.Cut(target, "#")
	path, query, hasQuery := strings.Cut(target, "?")
	path, ok = normalize(path)
	if !ok {
		return nil, false
	}
	if hasQuery {
		path += "?" + query
	}
	h.path = path
	return h, true
}

// get is the value of a header as matchers see it: several lines of one name
// are joined with commas. The pseudo-headers are headers too, and "host" is
// another name of ":authority".
func (h *headers) get(name string) (value string, ok bool) {
	name = strings.ToLower(name)
	switch name {
	case ":method":
		return h.method, true
	case ":scheme":
		return h.scheme, true
	case ":path":
		return h.path, true
	case ":authority", "host":
		return h.authority, true
	}
	var values []string
	for _, f := range h.fields {
		if f[0] == name {
			values = append(values, f[1])
		}
	}
	return strings.Join(values, ","), values != nil
}

// first is the first value of a header, as format strings see it.
func (h *headers) first(name string) (value string, ok bool) {
	for _, f := range h.fields {
		if f[0] == strings.ToLower(name) {
			return f[1], true
		}
	}
	return h.get(name)
}

// remove removes every line of a header.
func (h *headers) remove(name string) {
	var kept [][2]string
	for _, f := range h.fields {
		if f[0] != strings.ToLower(name) {
			kept = append(kept, f)
		}
	}
	h.fields = kept
}

// add adds a line to a header.
func (h *headers) add(name, value string) {
	h.fields = append(h.fields, [2]string{strings.ToLower(name), value})
}

// pathOnly is the path without its query.
func (h *headers) pathOnly() string {
	path, _, _ := strings.Cut(h.path, "?")
	return path
}

// param is the first value of a query parameter, not decoded
// (Http::Utility::QueryParamsMulti::parseQueryString).
func (h *headers) param(name string) (value string, ok bool) {
	_, query, _ := strings.Cut(h.path, "?")
	for _, pair := range strings.Split(query, "&") {
		key, value, _ := strings.Cut(pair, "=")
		if key == name && key != "" {
			return value, true
		}
	}
	return "", false
}
