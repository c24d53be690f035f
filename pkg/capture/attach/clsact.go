package attach

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"

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
	for range attachAttempts {
		f, err := c.add(ifindex, d, program, c.owner.mark(ours), id)
		if errors.Is(err, errTaken) {
			continue
		}
		if err != nil {
			return nil, err
		}
		return &clsactFilter{c, d, f}, nil
	}
	return nil, fmt.Errorf("%w, %d times in a row", errTaken, attachAttempts)
}

// createQdisc creates the qdisc and reports true, unless the interface has
// one. Its exclusive flag makes the request fail then; it never changes one.
func (c *clsact) createQdisc(ifindex int) (bool, error) {
	err := c.nl.QdiscAdd(clsactOf(ifindex))
	if errors.Is(err, unix.EEXIST) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("create clsact qdisc: %w", err)
	}
	return true, nil
}

// usableQdisc reports whether the qdisc of an interface was made by an agent,
// this or another one, and fails if it has no place for filters of direction
// d. clsact's predecessor, the ingress qdisc, has not: it accepts filters for
// egress and runs them on ingress.
func usableQdisc(ifindex int, d Direction) (ours bool, err error) {
	if ours, err = madeByUs(ifindex); err != nil || ours || d == Ingress {
		return ours, err
	}
	kind, err := ingressQdisc(ifindex)
	if err != nil {
		return false, err
	}
	if kind != "clsact" {
		return false, fmt.Errorf("the interface has a qdisc of kind %q, which has no place for %s filters and is not ours to replace", kind, d)
	}
	return false, nil
}

func clsactOf(ifindex int) *netlink.GenericQdisc {
	return &netlink.GenericQdisc{
		QdiscAttrs: netlink.QdiscAttrs{
			LinkIndex: ifindex,
			Handle:    netlink.MakeHandle(0xffff, 0),
			Parent:    netlink.HANDLE_CLSACT,
		},
		QdiscType: "clsact",
	}
}

// madeByUs reports whether a filter says that the qdisc was made by an agent.
func madeByUs(ifindex int) (bool, error) {
	for _, d := range []Direction{Ingress, Egress} {
		all, err := filters(ifindex, d)
		if err != nil {
			return false, err
		}
		for _, f := range all {
			if _, qdisc, ok := parseMark(f.name); ok && qdisc {
				return true, nil
			}
		}
	}
	return false, nil
}

// errTaken says that a priority was found free and then taken by somebody else.
var errTaken = errors.New("the filter's priority was taken by somebody else")

// add adds a filter at a priority nobody uses, or fails with errTaken.
func (c *clsact) add(ifindex int, d Direction, program *ebpf.Program, name string, id ebpf.ProgramID) (filter, error) {
	all, err := filters(ifindex, d)
	if err != nil {
		return filter{}, err
	}
	priority, err := freePriority(all, c.priority)
	if err != nil {
		return filter{}, err
	}
	f := filter{
		ifindex: ifindex, parent: parentOf(d),
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
	// Filters of one kind may share a priority, so nobody kept somebody else
	// from adding one to it in the meantime. Of two agents one has to stay.
	if all, err = filters(ifindex, d); err == nil {
		for _, other := range all {
			_, _, agent := parseMark(other.name)
			if other.priority == priority && other.handle != f.handle && other.handle != 0 &&
				(!agent || other.handle < f.handle) {
				err = errTaken
			}
		}
	}
	if err != nil {
		return filter{}, errors.Join(err, c.remove(f))
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
// Options.Priority says.
func freePriority(all []filter, preferred uint16) (uint16, error) {
	used := make(map[uint16]bool, len(all))
	for _, f := range all {
		used[f.priority] = true
	}
	for p := preferred; p > 1 || p == preferred && p > 0; p-- {
		if !used[p] {
			return p, nil
		}
	}
	for p := preferred; p != 0; p++ { // until it wraps
		if !used[p] && p > 1 {
			return p, nil
		}
	}
	return 0, errors.New("no free filter priority")
}

// attrs identifies f in requests.
func (f filter) attrs() netlink.FilterAttrs {
	return netlink.FilterAttrs{
		LinkIndex: f.ifindex,
		Parent:    f.parent,
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

// remove removes f if it is still there, and the qdisc if f says it is ours
// and it is empty now.
func (c *clsact) remove(f filter) error {
	d := Ingress
	if f.parent == parentOf(Egress) {
		d = Egress
	}
	all, err := filters(f.ifindex, d)
	if err != nil {
		return err
	}
	for _, other := range all {
		if !f.same(other) {
			continue
		}
		// By handle: a request without one removes every filter of the
		// priority.
		err := c.nl.FilterDel(&netlink.BpfFilter{FilterAttrs: f.attrs(), Fd: -1})
		if err != nil && !gone(err) {
			return fmt.Errorf("remove %v: %w", f, err)
		}
		if _, qdisc, _ := parseMark(f.name); qdisc {
			return c.removeQdisc(f.ifindex)
		}
	}
	return nil
}

// removeQdisc removes a clsact qdisc that was made by us unless somebody has
// a filter on it. The kernel cannot do both at once: what is added between the
// look and the removal is lost. That is as short as it can be, and nobody who
// found the qdisc there may count on it to stay.
func (c *clsact) removeQdisc(ifindex int) error {
	for _, d := range []Direction{Ingress, Egress} {
		all, err := filters(ifindex, d)
		if err != nil || len(all) > 0 {
			return err
		}
	}
	if err := c.nl.QdiscDel(clsactOf(ifindex)); err != nil && !gone(err) {
		return fmt.Errorf("remove clsact qdisc: %w", err)
	}
	return nil
}

// gone reports whether err says that what was to be removed is not there
// (ENOENT), or its interface (ENODEV), or its qdisc (EINVAL).
func gone(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EINVAL)
}

// clean removes the filters of dead owners from an interface and returns
// their names.
func (c *clsact) clean(ifindex int) (removed []string, err error) {
	var errs []error
	for _, d := range []Direction{Ingress, Egress} {
		all, err := filters(ifindex, d)
		if err != nil {
			return removed, err
		}
		for _, f := range all {
			id, _, ok := parseMark(f.name)
			if !ok || f.handle == 0 {
				continue
			}
			lives, err := alive(id)
			if err == nil && !lives {
				if err = c.remove(f); err == nil {
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
	c         *clsact
	direction Direction
	filter    filter
}

func (a *clsactFilter) state() (bool, []string, error) {
	all, err := filters(a.filter.ifindex, a.direction)
	if err != nil {
		return false, nil, err
	}
	var attached bool
	var ahead []string
	// tcx programs run before any filter; kernels without it have none.
	programs, _ := tcxPrograms(a.filter.ifindex, tcxPoint(a.direction))
	for _, p := range programs {
		ahead = append(ahead, describeTCX(p.ID, nameOf(p.ID)))
	}
	for _, f := range all {
		_, _, agent := parseMark(f.name)
		switch {
		case a.filter.same(f):
			attached = true
		case f.priority < a.filter.priority && f.chain == 0 && f.handle != 0 && !agent:
			ahead = append(ahead, f.String())
		}
	}
	return attached, ahead, nil
}

func (a *clsactFilter) detach() error { return a.c.remove(a.filter) }
