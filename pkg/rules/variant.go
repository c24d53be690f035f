package rules

import (
	"hash/maphash"
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
	seed := maphash.MakeSeed()
	alike := map[uint64][]int{a.edit.hash(seed): {0}} // there may be too many to compare each with all
	chosen := 0
	for i := range own {
		if arrive[i] == nil {
			continue
		}
		chosen++
		if !c.charge(meta, own[i].thenCost(a.edit)) {
			return
		}
		e := own[i].then(a.edit)
		hash := e.hash(seed)
		same := slices.IndexFunc(alike[hash], func(j int) bool { return reflect.DeepEqual(e, edits[j]) })
		if same >= 0 {
			number[i] = alike[hash][same]
			continue
		}
		number[i] = len(edits)
		edits = append(edits, e)
		alike[hash] = append(alike[hash], number[i])
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

// hash is the same for edits that do the same. What values read of other edits
// is left out: it follows from the edits that were joined.
func (e *edit) hash(seed maphash.Seed) uint64 {
	var h maphash.Hash
	h.SetSeed(seed)
	text := func(s string) {
		maphash.WriteComparable(&h, len(s))
		h.WriteString(s)
	}
	if e == nil {
		return h.Sum64()
	}
	text(e.host)
	for _, name := range e.remove {
		text(name)
	}
	for i := range e.lines {
		l := &e.lines[i]
		text(l.name)
		maphash.WriteComparable(&h, l.overwrite)
		for j := range l.value {
			p := &l.value[j]
			text(p.text)
			text(p.other)
			maphash.WriteComparable(&h, [2]int{int(p.kind), p.max})
		}
	}
	return h.Sum64()
}
