package compare

import (
	"bytes"
	"cmp"
	"slices"
)

// json compares two JSON documents: objects without regard to the order of
// their members, arrays element by element, numbers by what they are. A name
// that an object has twice is two members, compared in their order.
func (x *comparison) json() {
	x.trail.reset()
	x.node(0, 0)
}

func (x *comparison) node(a, b int32) {
	if x.more {
		return
	}
	m, n := &x.docs[0].nodes[a], &x.docs[1].nodes[b]
	if m.kind != n.kind {
		x.jsonDiffers(ChangeType, a, b)
		return
	}
	switch m.kind {
	case isNull:
	case isArray:
		x.array(a, b)
	case isObject:
		x.object(a, b)
	default:
		s, t := x.docs[0].text(a), x.docs[1].text(b)
		if bytes.Equal(s, t) || m.kind == isNumber && equalNumbers(s, t) {
			return
		}
		change := ChangeValue
		if m.kind == isText || m.kind == isString && !sameForm(s, t) {
			change = ChangeForm
		}
		x.jsonDiffers(change, a, b)
	}
}

func (x *comparison) array(a, b int32) {
	m, n := &x.docs[0].nodes[a], &x.docs[1].nodes[b]
	if m.size != n.size {
		x.jsonDiffers(ChangeLength, a, b)
	}
	x.trail.element()
	i, j := a+1, b+1
	for range min(m.size, n.size) {
		x.node(i, j)
		i, j = x.docs[0].nodes[i].next, x.docs[1].nodes[j].next
	}
	x.trail.back()
}

// object compares member by member as long as both have the same order, and
// sorts what is left.
func (x *comparison) object(a, b int32) {
	d, e := &x.docs[0], &x.docs[1]
	i, j := a+1, b+1
	endI, endJ := d.nodes[a].next, e.nodes[b].next
	for i < endI && j < endJ && bytes.Equal(d.text(i), e.text(j)) {
		x.member(i, j)
		i, j = d.nodes[i+1].next, e.nodes[j+1].next
	}
	if i == endI && j == endJ {
		return
	}
	// What is below sorts in the same slices, behind what is ours.
	fromA, fromB := len(x.members[0]), len(x.members[1])
	x.sort(0, i, endI)
	x.sort(1, j, endJ)
	toA, toB := len(x.members[0]), len(x.members[1])
	for p, q := fromA, fromB; (p < toA || q < toB) && !x.more; {
		order := 0
		switch {
		case p == toA:
			order = 1
		case q == toB:
			order = -1
		default:
			order = bytes.Compare(d.text(x.members[0][p]), e.text(x.members[1][q]))
		}
		switch {
		case order < 0:
			i := x.members[0][p]
			x.trail.member(d.text(i))
			x.jsonDiffers(ChangeMissing, i+1, -1)
			x.trail.back()
			p++
		case order > 0:
			j := x.members[1][q]
			x.trail.member(e.text(j))
			x.jsonDiffers(ChangeAdded, -1, j+1)
			x.trail.back()
			q++
		default:
			x.member(x.members[0][p], x.members[1][q])
			p++
			q++
		}
	}
	x.members[0], x.members[1] = x.members[0][:fromA], x.members[1][:fromB]
}

func (x *comparison) member(i, j int32) {
	x.trail.member(x.docs[0].text(i))
	x.node(i+1, j+1)
	x.trail.back()
}

// sort appends the names of members from i to end, in order.
func (x *comparison) sort(side int, i, end int32) {
	d, from := &x.docs[side], len(x.members[side])
	for ; i < end; i = d.nodes[i+1].next {
		x.members[side] = append(x.members[side], i)
	}
	slices.SortFunc(x.members[side][from:], func(p, q int32) int {
		if c := bytes.Compare(d.text(p), d.text(q)); c != 0 {
			return c
		}
		return cmp.Compare(p, q)
	})
}

// jsonDiffers records that the values a of production and b of the shadow
// differ, unless that is to be ignored. -1 is no value.
func (x *comparison) jsonDiffers(change string, a, b int32) {
	at := hash(hashSeed, x.trail.shown)
	id := placeID(PartBody, x.trail.shown, change)
	if x.known(id) {
		return
	}
	for _, m := range x.masks {
		if m.covers(x.trail.steps) {
			return
		}
	}
	v1, v2 := x.docs[0].value(a), x.docs[1].value(b)
	if v1.text != nil && v2.text != nil && x.ignoresValues(v1.text, v2.text) {
		return
	}
	if f := x.differ(PartBody, string(x.trail.shown), change); f != nil {
		f.at, f.v1, f.v2 = at, v1, v2
		f.learn = change == ChangeValue && v1.kind != isBool
	}
}

func (d *document) value(i int32) (v value) {
	if i < 0 {
		return value{note: "-"}
	}
	n := &d.nodes[i]
	v.kind, v.size = n.kind, int(n.size)
	if n.kind != isArray && n.kind != isObject {
		v.text = d.text(i)
		if v.text == nil {
			v.text = []byte{}
		}
	}
	return v
}

// learn digests what production says at each place that could be noise. It
// looks at all values there, not only at those that differ, or the digest
// would depend on the shadow's.
func (x *comparison) learn() {
	for i := range x.found {
		if f := &x.found[i]; f.learn && f.at != 0 {
			x.trail.reset()
			x.learnNode(0)
			return
		}
	}
}

func (x *comparison) learnNode(i int32) {
	d := &x.docs[0]
	n := d.nodes[i]
	switch n.kind {
	case isArray:
		x.trail.element()
		for j := i + 1; j < n.next; j = d.nodes[j].next {
			x.learnNode(j)
		}
		x.trail.back()
	case isObject:
		for j := i + 1; j < n.next; j = d.nodes[j+1].next {
			x.trail.member(d.text(j))
			x.learnNode(j + 1)
			x.trail.back()
		}
	default:
		at := hash(hashSeed, x.trail.shown)
		for k := range x.found {
			if f := &x.found[k]; f.learn && f.at == at {
				f.evidence = hashInt(f.evidence, hash(uint64(n.kind)+hashSeed, d.text(i)))
			}
		}
	}
}
