package rules

import "github.com/shadowtap/shadowtap/pkg/httpstream"

// A rule may make a copy's head much longer than that of the request: a value of
// a kilobyte repeats a header field a hundred times, and a rewrite of the path
// puts a kilobyte in the place of every character. Who sends the copy must know
// before it is made.

// maxBound is more memory than there is.
const maxBound = 1 << 40

// growth is what an edit adds to a head.
type growth struct {
	text     int // bytes that are always the same
	commands int // values from the request, none longer than its head
}

func (e *edit) growth() (g growth) {
	if e == nil {
		return g
	}
	g.text = len(e.host)
	for i := range e.lines {
		l := &e.lines[i]
		g.text += len(l.name) + len(": \r\n")
		g.add(l.value.growth())
	}
	return g
}

func (g *growth) add(o growth) {
	g.text, g.commands = min(maxBound, g.text+o.text), min(maxBound, g.commands+o.commands)
}

func (f format) growth() (g growth) {
	for i := range f {
		if p := &f[i]; p.kind == formatText {
			g.add(growth{text: len(p.text)})
			continue
		}
		g.add(growth{commands: 1})
		if e := f[i].after; e != nil { // it takes one of these instead
			g.add(growth{text: len(e.host)})
			for j := range e.lines {
				if l := &e.lines[j]; l.lower == f[i].text || l.lower == f[i].other {
					g.add(l.value.growth())
				}
			}
		}
	}
	return g
}

// HeadBound is a bound of how much AppendHead appends for r, in bytes.
func (m *RouteMirror) HeadBound(r *httpstream.Request) int {
	rt := m.route
	s := &m.shapes[rt.action.variant(r)]
	head := len(r.Method()) + len(r.Target()) + len(r.HeaderBlock()) + 2*maxHost // an address, the version, the form of a line
	path := len(r.Target()) + len(rt.action.path)
	if rt.rewrite == replaceRegex {
		path = rt.action.regex.bound(path)
	}
	if p := m.extra.paths(); p != nil {
		if p.regex != nil {
			path = p.regex.bound(path)
		}
		path += len(p.prefix)
	}
	return min(maxBound, head+path+len(s.header.host)+s.growth.text+min(maxBound, s.growth.commands*head))
}

// bound is a bound of the length of what apply makes of n bytes: no part of them
// is in two matches, and of n bytes there are at most n+1.
func (x *regexRewrite) bound(n int) int {
	if x == nil {
		return n
	}
	return min(maxBound, n+x.text*(n+1)+x.groups*n)
}
