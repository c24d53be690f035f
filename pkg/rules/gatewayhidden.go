package rules

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// hidden warns of routes of a host that are never reached, because one that
// goes first has the same conditions. routes are in the order they are tried.
// Other routes that take more go behind those that take less.
func (c *compiler) hidden(host string, routes []rankedRoute, warned map[*Route]bool) {
	first := make(map[string]*Route, len(routes))
	for _, rt := range routes {
		key := rt.match.key()
		before := first[key]
		if before == nil {
			first[key] = rt.Route
			continue
		}
		if before == rt.Route || warned[rt.Route] {
			continue // attached by two references, or said for another host
		}
		warned[rt.Route] = true
		c.warnf(rt.rank.meta, (*field)(nil).dot("spec").dot("rules").at(rt.rank.rule).dot("matches").at(rt.rank.entry), "",
			"is never reached for host %s: %s matches the same and goes first", host, before.Rule())
	}
}

// key is the same for matches of routes of the Gateway API that have the same
// conditions: on the client, the scheme or the port there are none.
func (m *match) key() string {
	conditions := map[string]string{}
	for _, list := range []struct {
		kind   string
		fields []fieldText
	}{{"header", m.headers}, {"without", m.without}, {"query", m.query}} {
		for _, f := range list.fields {
			conditions[list.kind+" "+f.name] = fmt.Sprintf("%d%t%q", f.kind, f.fold, f.value)
		}
	}
	var b strings.Builder
	for _, t := range []*text{&m.uri, &m.method, &m.authority} {
		fmt.Fprintf(&b, "%d%t%q ", t.kind, t.fold, t.value)
	}
	for _, name := range slices.Sorted(maps.Keys(conditions)) {
		fmt.Fprintf(&b, "%q%s ", name, conditions[name])
	}
	return b.String()
}
