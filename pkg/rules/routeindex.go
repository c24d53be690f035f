package rules

import "slices"

// indexFrom is the number of routes from which looking them up is faster than
// trying them one by one.
const indexFrom = 16

// routeIndex finds the routes of a virtual host that a path can match, so that
// the many routes of a gateway cost no more than a few. It holds places in the
// list of routes, in ascending order under each key.
type routeIndex struct {
	exact    map[string][]int32 // routes for one path
	prefixes map[string][]int32 // the others, by what the path must begin with
	lengths  []int              // of the keys of prefixes, ascending
}

func newRouteIndex(routes []*Route) *routeIndex {
	if len(routes) < indexFrom {
		return nil
	}
	x := &routeIndex{exact: map[string][]int32{}, prefixes: map[string][]int32{}}
	for i, rt := range routes {
		uri := &rt.match.uri
		if uri.kind == exact && !uri.fold {
			x.exact[uri.value] = append(x.exact[uri.value], int32(i))
			continue
		}
		lead := uri.lead()
		x.prefixes[lead] = append(x.prefixes[lead], int32(i))
		if at, found := slices.BinarySearch(x.lengths, len(lead)); !found {
			x.lengths = slices.Insert(x.lengths, at, len(lead))
		}
	}
	return x
}

// first is the first of routes that matches: the first of the first ones under
// all keys.
func (x *routeIndex) first(routes []*Route, v *view) *Route {
	best := firstOf(routes, x.exact[string(v.path)], len(routes), v)
	for _, n := range x.lengths {
		if n > len(v.path) {
			break
		}
		best = firstOf(routes, x.prefixes[string(v.path[:n])], best, v)
	}
	if best == len(routes) {
		return nil
	}
	return routes[best]
}

// firstOf is the first place in list, if it is before best, whose route
// matches, else best.
func firstOf(routes []*Route, list []int32, best int, v *view) int {
	for _, i := range list {
		if int(i) >= best {
			break
		}
		if failed, _ := routes[i].match.check(v); failed == matched {
			return int(i)
		}
	}
	return best
}

// first is the first route that matches, nil if none does.
func (h *virtualHost) first(v *view) *Route {
	if h.index != nil {
		return h.index.first(h.routes, v)
	}
	for _, rt := range h.routes {
		if failed, _ := rt.match.check(v); failed == matched {
			return rt
		}
	}
	return nil
}
