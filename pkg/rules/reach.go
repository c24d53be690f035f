package rules

// maxShadowed bounds how many routes of a VirtualService are compared with
// each other.
const maxShadowed = 512

// shadowed warns of routes that no request can reach, because an earlier one
// takes all that they would. It finds what is evident: conditions that are the
// same or, on the path, wider.
func (c *compiler) shadowed(vs *virtualService) {
	routes := vs.routes[:min(len(vs.routes), maxShadowed)]
	for j, later := range routes {
		for i, earlier := range routes[:j] {
			if earlier.match.wider(&later.match) {
				p := vs.places[j]
				c.warnf(p.meta, p.at, "", "is never reached: %s takes every such request", vs.places[i].at)
				break
			}
		}
	}
}

// wider reports whether m certainly takes every request that o takes.
func (m *match) wider(o *match) bool {
	return m.uri.wider(&o.uri) && m.scheme.wider(&o.scheme) && m.method.wider(&o.method) &&
		m.authority.wider(&o.authority) &&
		widerFields(m.headers, o.headers) && widerFields(m.query, o.query) && sameFields(m.without, o.without) &&
		(m.port == 0 || m.port == o.port) && m.client == nil
}

// wider reports whether t certainly holds wherever o does.
func (t *text) wider(o *text) bool {
	switch {
	case t.kind == anyText:
		return true
	case t.kind == present:
		return o.kind != anyText
	case t.kind == regex:
		return t.value == ".*" && o.kind != anyText || o.kind == regex && t.value == o.value
	case t.kind == segments, o.kind != exact && o.kind != prefix, o.fold && !t.fold:
		return false
	case t.kind == exact:
		return o.kind == exact && len(t.value) == len(o.value) && t.begins([]byte(o.value))
	}
	return len(t.value) <= len(o.value) && t.begins([]byte(o.value[:len(t.value)]))
}

// widerFields reports whether each condition of a is implied by one of b.
func widerFields(a, b []fieldText) bool {
	for i := range a {
		found := false
		for j := range b {
			found = found || a[i].name == b[j].name && a[i].text.wider(&b[j].text)
		}
		if !found {
			return false
		}
	}
	return true
}

// sameFields reports whether each condition of a is also in b. For conditions
// that must not hold the narrower is the wider, so only equal ones count.
func sameFields(a, b []fieldText) bool {
	for i := range a {
		found := false
		for j := range b {
			found = found || a[i].name == b[j].name && a[i].kind == b[j].kind && a[i].value == b[j].value
		}
		if !found {
			return false
		}
	}
	return true
}
