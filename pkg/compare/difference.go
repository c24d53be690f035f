package compare

import (
	"regexp"
	"sync"
)

// Parts of an answer in which a Place can be.
const (
	PartStatus  = "status"
	PartHeader  = "header"
	PartTrailer = "trailer"
	PartBody    = "body"
	// PartFailure is for copies that were not answered.
	PartFailure = "failure"
)

// Changes that a Place can tell of, production's answer taken for the old one.
const (
	ChangeValue   = "value"   // another value of the same form; the only one that can be noise
	ChangeForm    = "form"    // a value of another form; see sameForm
	ChangeType    = "type"    // a value of another type
	ChangeMissing = "missing" // not there in the shadow's
	ChangeAdded   = "added"   // only there in the shadow's
	ChangeLength  = "length"  // another number of elements
	ChangeBytes   = "bytes"   // content that has no structure we know
	ChangePrefix  = "prefix"  // within what was kept of the content
	ChangeRest    = "rest"    // only behind what was kept of it
	ChangeMany    = "many"    // in more places than are counted for one pair
)

// difference is one place in which a pair differs.
type difference struct {
	part, change string
	path         string
	id           uint64 // of part, path and change
	at           uint64 // of the path
	learn        bool   // it could be noise
	evidence     uint64 // digest of production's values at the place
	v1, v2       value
}

// value is a value as far as an example needs it. The text is not to be kept.
type value struct {
	kind kind
	text []byte
	size int    // members, elements or bytes of what has no text
	note string // instead of all that
}

// policy is Options, compiled.
type policy struct {
	ignore   names // whatever compared says
	compared names // of those that are not by default
	masks    []mask
	values   []*regexp.Regexp
	inflated int
}

// ignoresField reports whether a field is not compared. Content-Length is not
// where there is content to compare.
func (p *policy) ignoresField(name string, content bool) bool {
	if has(p.ignore, name) {
		return true
	}
	return (has(notCompared, name) || content && equalFold(name, contentLength)) && !has(p.compared, name)
}

// ignoresValues reports whether two values are to be taken for equal.
func (p *policy) ignoresValues(a, b []byte) bool {
	for _, re := range p.values {
		if re.Match(a) && re.Match(b) {
			return true
		}
	}
	return false
}

// comparison is what one pair's comparison needs, used again for the next.
type comparison struct {
	*policy
	found []difference
	more  bool // there were more than fit
	// undecided: what was kept is the same, and the rest is not known.
	undecided bool

	docs    [2]document
	trail   trail
	members [2][]int32
	lines   [2][]line
	cookies [2][]cookie
	content [2]decoder
}

// comparisons keeps them. What a large document made large is not kept.
type comparisons struct{ pool sync.Pool }

func (c *comparisons) get(p *policy) *comparison {
	x, ok := c.pool.Get().(*comparison)
	if !ok {
		x = new(comparison)
	}
	x.policy = p
	return x
}

func (c *comparisons) put(x *comparison) {
	if x.size() > 1<<20 {
		return
	}
	clear(x.found)
	for i := range x.docs {
		x.docs[i].src, x.members[i] = nil, x.members[i][:0]
		x.content[i].in.Reset(nil)
		clear(x.lines[i][:cap(x.lines[i])])
		clear(x.cookies[i][:cap(x.cookies[i])])
	}
	clear(x.trail.steps[:cap(x.trail.steps)])
	x.found, x.more, x.undecided = x.found[:0], false, false
	c.pool.Put(x)
}

// size is about how much memory it holds, in bytes.
func (x *comparison) size() (n int) {
	for i := range 2 {
		n += 20*cap(x.docs[i].nodes) + cap(x.docs[i].extra) + 4*cap(x.members[i]) +
			64*cap(x.lines[i]) + 80*cap(x.cookies[i]) + x.content[i].buf.Cap()
	}
	return n
}

// differ records a difference, once for each place. It returns it, nil if it is
// known already or there is no room for it.
func (x *comparison) differ(part, path, change string) *difference {
	id := placeID(part, path, change)
	if x.known(id) {
		return nil
	}
	if len(x.found) == maxTogether {
		x.more = true
		return nil
	}
	x.found = append(x.found, difference{part: part, path: path, change: change, id: id})
	return &x.found[len(x.found)-1]
}

func (x *comparison) known(id uint64) bool {
	for i := range x.found {
		if x.found[i].id == id {
			return true
		}
	}
	return false
}
