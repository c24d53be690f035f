package attach

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// attachAttempts is how often another priority is tried when somebody took
// the chosen one at the same moment.
const attachAttempts = 8

// clsact attaches programs as filters of clsact qdiscs.
type clsact struct {
	nl       *netlink.Handle
	priority uint16 // preferred
	owner    *owner // made when the first filter is
}

func (c *clsact) close() {
	if c.owner != nil {
		c.owner.close()
		c.owner = nil
	}
}

// attach adds a filter for program, and the qdisc if it is missing. On error
// neither remains.
func (c *clsact) attach(ifindex int, d Direction, program *ebpf.Program) (_ attachment, err error) {
	info, err := program.Info()
	if err != nil {
		return nil, err
	}
	id, _ := info.ID()
	if c.owner == nil {
		if c.owner, err = newOwner(); err != nil {
			return nil, err
		}
	}
	created, err := c.createQdisc(ifindex)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil && created {
			err = errors.Join(err, c.removeQdisc(ifindex))
		}
	}()
	ours := created
	if !created {
		if ours, err = usableQdisc(ifindex, d); err != nil {
			return nil, err
		}
	}
	for attempt := range attachAttempts {
		f, err := c.add(ifindex, d, program, c.owner.mark(ours), id, attempt)
		if errors.Is(err, errTaken) {
			continue
		}
		if err != nil {
			return nil, err
		}
		return &clsactFilter{c, f, ours}, nil
	}
	return nil, fmt.Errorf("%w, %d times in a row", errTaken, attachAttempts)
}

// errTaken says that a priority was found free and then taken by somebody else.
var errTaken = errors.New("the filter's priority was taken by somebody else")

// add adds a filter at a priority nobody uses, or fails with errTaken. From
// the second attempt on it does not insist on the best priority: others who
// compete for it have the same idea of what is best.
func (c *clsact) add(ifindex int, d Direction, program *ebpf.Program, name string, id ebpf.ProgramID, attempt int) (filter, error) {
	all, err := filters(ifindex, d)
	if err != nil {
		return filter{}, err
	}
	priority, err := freePriority(all, c.priority, mathrand.IntN(attempt+1))
	if err != nil {
		return filter{}, err
	}
	f := filter{
		ifindex: ifindex, direction: d,
		priority: priority, protocol: unix.ETH_P_ALL,
		handle: randomHandle(), kind: "bpf", name: name, program: id,
	}
	err = c.nl.FilterAdd(&netlink.BpfFilter{
		FilterAttrs:  f.attrs(),
		Fd:           program.FD(),
		Name:         name,
		DirectAction: true,
	})
	if errors.Is(err, unix.EEXIST) {
		return filter{}, errTaken
	}
	if err != nil {
		return filter{}, fmt.Errorf("add filter at priority %d: %w", priority, err)
	}
	// Filters of one kind may share a priority, so nothing kept somebody else
	// from adding one to it in the meantime. Whoever notices gives way.
	if all, err = filters(ifindex, d); err == nil {
		for _, other := range all {
			if other.priority == priority && other.handle != 0 && other.handle != f.handle {
				err = errTaken
			}
		}
	}
	if err != nil {
		if _, undo := c.remove(f); undo != nil {
			err = undo // not taken: do not try again
		}
		return filter{}, err
	}
	return f, nil
}

// randomHandle returns a handle nobody else picks: the first free one, or 1,
// is what others use, and whoever replaces handle 1 must not hit our filter.
func randomHandle() uint32 {
	var b [4]byte
	rand.Read(b[:]) // never fails
	return binary.NativeEndian.Uint32(b[:])>>1 | 1<<16
}

// freePriority returns the priority to use beside the filters all, as
// Options.Priority says, or the one after skip better ones.
func freePriority(all []filter, preferred uint16, skip int) (uint16, error) {
	used := make(map[uint16]bool, len(all))
	for _, f := range all {
		used[f.priority] = true
	}
	var best uint16
	consider := func(p uint16) (enough bool) {
		if used[p] || p == 0 || p == 1 && preferred != 1 {
			return false
		}
		best = p
		skip--
		return skip < 0
	}
	for p := preferred; p > 0; p-- {
		if consider(p) {
			return best, nil
		}
	}
	for p := preferred + 1; p != 0; p++ { // until it wraps
		if consider(p) {
			return best, nil
		}
	}
	if best == 0 {
		return 0, errors.New("no free filter priority")
	}
	return best, nil
}

// attrs identifies f in requests.
func (f filter) attrs() netlink.FilterAttrs {
	return netlink.FilterAttrs{
		LinkIndex: f.ifindex,
		Parent:    parentOf(f.direction),
		Handle:    f.handle,
		Priority:  f.priority,
		Protocol:  f.protocol,
	}
}

// same reports whether other is f as it was added: nothing less identifies a
// filter that may be removed.
func (f filter) same(other filter) bool {
	return f.handle != 0 && f == other
}

// remove removes f and reports whether it was there.
func (c *clsact) remove(f filter) (bool, error) {
	all, err := filters(f.ifindex, f.direction)
	if err != nil || !slices.ContainsFunc(all, f.same) {
		return false, err
	}
	// By handle: a request without one removes every filter of the priority.
	err = c.nl.FilterDel(&netlink.BpfFilter{FilterAttrs: f.attrs(), Fd: -1})
	if gone(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("remove %v: %w", f, err)
	}
	return true, nil
}

// removeWithQdisc removes f and, if ours says that the qdisc was made by an
// agent, the qdisc unless something is left on it. If f is not there, the
// qdisc need not be the one that was ours, and stays.
func (c *clsact) removeWithQdisc(f filter, ours bool) (bool, error) {
	removed, err := c.remove(f)
	if err != nil || !removed || !ours {
		return removed, err
	}
	return true, c.removeQdisc(f.ifindex)
}

// gone reports whether err says that what was to be removed is not there
// (ENOENT), or its interface (ENODEV), or its qdisc (EINVAL).
func gone(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EINVAL)
}

// cleanDead removes the filters of dead owners from an interface and returns
// their names.
func (c *clsact) cleanDead(ifindex int) ([]string, error) {
	return c.clean(ifindex, func(id string) (bool, error) {
		lives, err := alive(id)
		return !lives, err
	})
}

// cleanOwn removes what is left of us on an interface because removing it
// failed when it was due.
func (c *clsact) cleanOwn(ifindex int) error {
	if c.owner == nil {
		return nil
	}
	_, err := c.clean(ifindex, func(id string) (bool, error) { return id == c.owner.id, nil })
	return err
}

// clean removes the filters of the owners that are condemned, and returns
// their names.
func (c *clsact) clean(ifindex int, condemned func(id string) (bool, error)) (removed []string, err error) {
	var errs []error
	for _, d := range []Direction{Ingress, Egress} {
		all, err := filters(ifindex, d)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for _, f := range all {
			id, qdisc, ok := parseMark(f.name)
			if !ok || f.handle == 0 {
				continue
			}
			yes, err := condemned(id)
			if err == nil && yes {
				if yes, err = c.removeWithQdisc(f, qdisc); yes {
					removed = append(removed, f.name)
				}
			}
			if err != nil {
				errs = append(errs, err)
			}
		}
	}
	return removed, errors.Join(errs...)
}

// clsactFilter is a program attached as a filter.
type clsactFilter struct {
	c      *clsact
	filter filter
	ours   bool // the qdisc was made by an agent
}

func (a *clsactFilter) state() (bool, []string, error) {
	all, err := filters(a.filter.ifindex, a.filter.direction)
	if err != nil {
		return false, nil, err
	}
	var attached bool
	var ahead []string
	// tcx programs run before any filter; kernels without it have none.
	programs, _ := tcxPrograms(a.filter.ifindex, tcxPoint(a.filter.direction))
	for _, p := range programs {
		ahead = append(ahead, describeTCX(p.ID, nameOf(p.ID)))
	}
	for _, f := range all {
		_, qdisc, agent := parseMark(f.name)
		// An agent that made the qdisc at the moment we attached had not
		// said so yet.
		a.ours = a.ours || qdisc
		switch {
		case a.filter.same(f):
			attached = true
		case f.priority < a.filter.priority && f.chain == 0 && f.handle != 0 && !agent:
			ahead = append(ahead, f.String())
		}
	}
	return attached, ahead, nil
}

func (a *clsactFilter) detach() error {
	_, err := a.c.removeWithQdisc(a.filter, a.ours)
	return err
}
