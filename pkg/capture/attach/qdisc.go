package attach

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

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

// ingressQdisc returns the kind of the qdisc that holds the filters of an
// interface, "clsact" or "ingress", and nothing if it has none. The kernel
// only lists the qdiscs of all interfaces (asking for one tells everybody who
// listens about it), so this is for when there is no other way to know.
func ingressQdisc(ifindex int) (string, error) {
	var messages [][]byte
	var err error
	for range dumpAttempts {
		req := nl.NewNetlinkRequest(unix.RTM_GETQDISC, unix.NLM_F_DUMP)
		req.AddData(&nl.TcMsg{Family: nl.FAMILY_ALL, Ifindex: int32(ifindex)})
		messages, err = req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWQDISC)
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	if err != nil {
		return "", fmt.Errorf("list qdiscs: %w", err)
	}
	for _, m := range messages {
		if len(m) < nl.SizeofTcMsg {
			return "", fmt.Errorf("qdisc message of %d bytes", len(m))
		}
		msg := nl.DeserializeTcMsg(m)
		if msg.Ifindex != int32(ifindex) || msg.Parent != netlink.HANDLE_CLSACT {
			continue
		}
		attrs, err := nl.ParseRouteAttr(m[nl.SizeofTcMsg:])
		if err != nil {
			return "", fmt.Errorf("qdisc message: %w", err)
		}
		for _, a := range attrs {
			if a.Attr.Type == nl.TCA_KIND {
				return text(a), nil
			}
		}
	}
	return "", nil
}
