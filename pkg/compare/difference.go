package compare

import (
	"regexp"
	"sync"
)

// Parts of an answer, for Place.Part.
const (
	PartStatus  = "status"
	PartHeader  = "header"
	PartTrailer = "trailer"
	PartBody    = "body"
	// PartFailure is no part of an answer: the copy was not answered.
	PartFailure = "failure"
)

// What the shadow's answer has instead of production's, for Place.Change.
const (
	ChangeValue   = "value"   // another value of the same form; the only change that can be noise
	ChangeForm    = "form"    // a value of another form, such as a word for a UUID
	ChangeType    = "type"    // a value of another JSON type
	ChangeMissing = "missing" // nothing
	ChangeAdded   = "added"   // something where production has nothing
	ChangeLength  = "length"  // an array with another number of elements
	ChangeBytes   = "bytes"   // other bytes, in content without a structure that is known
	ChangePrefix  = "prefix"  // other bytes, within what was kept of the content
	ChangeRest    = "rest"    // other bytes, all of them behind what was kept of the content
	ChangeMany    = "many"    // differences in more places than are counted for one pair
)

// difference is one place in which a pair differs.
type difference struct {
	part, change string
	path         string
	id           uint64 // placeID of part, path and change
	at           uint64 // hash of the path in a JSON document, else 0
	learn        bool   // it may be noise: production's values there are worth learning
	evidence     uint64 // digest of production's values at the place
	v1, v2       value  // production's and the shadow's
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
	// undecided: what was kept of the contents does not show whether they
	// differ in more than noise.
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
