package rules

import (
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

// byDestination completes a, whose edit is that of the route so far, with what
// its destinations change besides. arrive is where requests of each arrive, nil
// if there go none; at is where its header operations are written.
//
// A request that arrives where two destinations lead that differ gets what the
// route changes alone.
func (c *compiler) byDestination(meta *Meta, a *action, own []*edit, arrive []map[netip.AddrPort]struct{}, at func(int) *field) {
	edits := []*edit{a.edit}
	number := make([]int, len(own))
	chosen := 0
	for i := range own {
		if arrive[i] == nil {
			continue
		}
		chosen++
		if name := own[i].unknown(a.edit); name != "" {
			c.errorf(meta, at(i), name, "changes a header that a value of the route reads: that is not supported yet")
		}
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

// extraValues reports a value of an annotation that reads what the route makes
// of each request: values are made of the request as it was.
func (c *compiler) extraValues(meta *Meta, a *action) {
	edits := []*edit{a.edit}
	if a.variants != nil {
		edits = append(edits, a.variants.edits...)
	}
	for i := range a.mirrors {
		x := a.mirrors[i].extra
		for _, e := range edits {
			if name := e.unknown(x.edits()); name != "" {
				c.errorf(meta, x.at.dot("headers"), name, "reads a header to which the route gives a value of each request: that is not supported yet")
				return
			}
		}
	}
}
