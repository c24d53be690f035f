package rules

import (
	"google.golang.org/protobuf/proto"
	networking "istio.io/api/networking/v1alpha3"
)

// The memory that compiled rules take grows with their text, except where parts
// of them are multiplied with each other: the routes of a delegate with those
// that delegate to it, hosts with gateways, subsets with endpoints, an
// expression with its repetitions. There a text of a few kilobytes can be worth
// gigabytes. So what is multiplied is counted before, or at the latest one
// route after, it is made.

// What it takes in bytes, measured and on the high side.
const (
	mergedCost   = 1 << 10 // a delegate's route in place of one that delegates, besides their texts
	matchCost    = 1 << 9  // a match of it
	textCost     = 4       // a byte of what is copied, as Go values
	hostCost     = 1 << 9  // a name of a host at a gateway
	nameCost     = 1 << 5  // a service that a host stands for
	bindCost     = 1 << 7  // a route of a host that it does not share with others
	endpointCost = 1 << 8  // an endpoint of a service that selects it
	arrivalCost  = 160     // an endpoint where requests of a route arrive
	reachCost    = 3 << 7  // an endpoint of a mirror, in pkg/replay, too
	shapeCost    = 200     // a mirror of a route, for each change that destinations make
	stepCost     = 300     // of a regular expression, which is also matched
	lineCost     = 100     // a header field that is changed
	partCost     = 80      // a part of its value
)

// costs is what was counted.
type costs struct {
	spent   int
	of      map[string]int // by namespace
	objects map[named]int
	denied  map[named]bool
	// payer, if there is one, is charged for everything: whoever delegates to
	// another object must not cost that one its own routes.
	payer *Meta
}

// charge counts n bytes for an object, unless that is more than there is for it.
// Then it reports so, once, and what the object does is of no use any more.
//
// Objects come in the order of their age, so those in use stay when one is added
// that does not fit. An object gets a quarter at most. And as soon as half is
// taken, no namespace gets more than is left for all others: whoever may write in
// one cannot take everything.
func (c *compiler) charge(meta *Meta, n int) bool {
	limit := c.options.MaxMemory
	if limit <= 0 {
		return true
	}
	k := &c.costs
	if k.payer != nil {
		meta = k.payer
	}
	who := meta.named()
	if k.denied[who] {
		return false
	}
	spent, own, of := k.spent+n, k.objects[who]+n, k.of[meta.Namespace]+n
	if own > limit/4 || spent > limit || spent > limit/2 && of > limit-spent {
		k.denied[who] = true
		c.problems = append(c.problems, Problem{
			Position: meta.Position, Object: meta.object(), Group: meta.Group,
			Message: "takes too much memory: hosts, routes, endpoints or repetitions in it are multiplied with each other, " +
				"and there is no room for all of that beside other rules",
		})
		return false
	}
	k.spent, k.objects[who], k.of[meta.Namespace] = spent, own, of
	return true
}

// chargeMerge is charge for the routes that leaf and each of its matches become
// together with root.
func (c *compiler) chargeMerge(meta *Meta, root, leaf *networking.HTTPRoute) bool {
	if c.options.MaxMemory <= 0 {
		return true // it takes time to find out
	}
	above, below := max(len(root.Match), 1), max(len(leaf.Match), 1)
	return c.charge(meta, mergedCost+matchCost*above*below+textCost*(below*proto.Size(root)+above*proto.Size(leaf)))
}

// chargeEndpoints is charge for endpoints that a service selects, which several
// may. Without room for them there are none.
func (c *compiler) chargeEndpoints(meta *Meta, endpoints []endpoint) []endpoint {
	if !c.charge(meta, len(endpoints)*endpointCost) {
		return nil
	}
	return endpoints
}

// thenCost is a bound of what e.then(o) takes: a value of o may repeat one of e
// as often as it reads it.
func (e *edit) thenCost(o *edit) int {
	if e == nil || o == nil {
		return 0
	}
	longest := len(e.host)
	for i := range e.lines {
		if text, ok := e.lines[i].value.constant(); ok {
			longest = max(longest, len(text))
		}
	}
	n := lineCost * (len(e.lines) + len(o.lines))
	for i := range o.lines {
		for j := range o.lines[i].value {
			if p := &o.lines[i].value[j]; p.kind == formatRequest {
				n += partCost + longest
			} else {
				n += partCost + len(p.text)
			}
		}
	}
	return n
}

// chargeAction is charge for what each of n routes with an action takes for its
// mirrors. If there is no room for it, the action has none.
func (c *compiler) chargeAction(meta *Meta, a *action, n int) {
	edits, places := []*edit{a.edit}, 0
	if a.variants != nil {
		edits, places = append(edits, a.variants.edits...), len(a.variants.at)
	}
	limits, values := 0, 0
	for i := range a.mirrors {
		x := a.mirrors[i].extra
		if x != nil && x.limit != nil {
			limits++
		}
		for _, e := range edits {
			values += e.thenCost(x.edits())
		}
	}
	if !c.charge(meta, n*(len(a.mirrors)*len(edits)*shapeCost+values)+(limits*len(a.captured)+places)*arrivalCost) {
		a.mirrors, a.variants = nil, nil
	}
}
