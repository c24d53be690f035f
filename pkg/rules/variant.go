package rules

import (
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"

	"github.com/shadowtap/shadowtap/pkg/httpstream"
)

// A route with several destinations may change the header in another way for
// each. A proxy knows which one it has chosen; here the endpoint at which the
// request arrived tells. Envoy applies what is said of the destination first,
// then what is said of the route (WeightedClusterEntry::finalizeRequestHeaders;
// Istio does not set most_specific_header_mutations_wins).

// variants are the ways in which a route changes the header, by destination.
// Without any there is only action.edit.
type variants struct {
	edits []*edit
	// at has the number of the variant, from 1, of each endpoint; 0 is
	// action.edit.
	at map[netip.AddrPort]int
}

// variant is the number of the variant for a request, 0 for action.edit.
func (a *action) variant(r *httpstream.Request) int {
	if a.variants == nil {
		return 0
	}
	return a.variants.at[unmapped(arrival(r))]
}

// maxVariants bounds the parts of values in all variants of a route.
const maxVariants = 1 << 20

// parts are those of all values.
func (e *edit) parts() (n int) {
	if e != nil {
		for i := range e.lines {
			n += len(e.lines[i].value)
		}
	}
	return n
}

// byDestination completes a, whose edit is that of the route so far, with what
// its destinations change besides. arrive is where requests of each arrive, nil
// if there go none; at is where its header operations are written.
//
// A request that arrives where two destinations lead that differ gets what the
// route changes alone.
func (c *compiler) byDestination(meta *Meta, a *action, own []*edit, arrive []map[netip.AddrPort]struct{}, at func(int) *field) {
	if n := a.edit.parts() * len(own); n > maxVariants {
		c.errorf(meta, nil, fmt.Sprint(len(own)), "so many destinations, each with values of its own besides the %d parts of those of the route, are too many", a.edit.parts())
		return
	}
	edits := []*edit{a.edit}
	number := make([]int, len(own))
	chosen := 0
	for i := range own {
		if arrive[i] == nil {
			continue
		}
		chosen++
		e := own[i].then(a.edit)
		number[i] = slices.IndexFunc(edits, func(o *edit) bool { return reflect.DeepEqual(e, o) })
		if number[i] < 0 {
			number[i] = len(edits)
			edits = append(edits, e)
		}
	}
	v := &variants{edits: edits[1:], at: map[netip.AddrPort]int{}}
	used := make([]int, len(edits))
	for i := range own {
		if arrive[i] == nil {
			continue
		}
		used[number[i]]++
		told := false
		for _, addr := range slices.SortedFunc(maps.Keys(arrive[i]), netip.AddrPort.Compare) {
			was, known := v.at[addr]
			if !known {
				v.at[addr] = number[i]
			} else if was != number[i] {
				v.at[addr] = 0
				if !told {
					told = true
					c.warnf(meta, at(i), addr.String(), "has no effect on copies of requests that arrive there: "+
						"another destination, with other changes, leads there too")
				}
			}
		}
	}
	if i := slices.Index(used, chosen); i >= 0 {
		a.edit = edits[i] // all the same
	} else {
		a.variants = v
	}
}
