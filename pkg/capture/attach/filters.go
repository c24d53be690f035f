package attach

import (
	"errors"
	"fmt"
	"strings"
	"syscall"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// filter is a TC filter of any kind and anybody. Package netlink decodes the
// options and actions of a good many kinds, and fails the whole listing on one
// it cannot; what is needed here is in front of all that.
type filter struct {
	ifindex   int
	direction Direction
	priority  uint16
	protocol  uint16 // ETH_P_*
	chain     uint32
	handle    uint32 // 0 for the priority itself, which is listed, too
	kind      string
	name      string         // bpf only
	program   ebpf.ProgramID // bpf only
}

// String describes f as a user of tc would.
func (f filter) String() string {
	s := fmt.Sprintf("%s filter pref %d handle %#x", f.kind, f.priority, f.handle)
	if f.kind == "bpf" {
		s += fmt.Sprintf(" %q (id %d)", f.name, f.program)
	}
	return s
}

// parentOf is the parent of the filters of a direction, on clsact and, for
// ingress, on its predecessor.
func parentOf(d Direction) uint32 {
	if d == Ingress {
		return netlink.HANDLE_MIN_INGRESS
	}
	return netlink.HANDLE_MIN_EGRESS
}

// filters lists the filters of an interface and direction. An interface
// without the qdisc, or one that does not exist, has none.
func filters(ifindex int, d Direction) ([]filter, error) {
	var found []filter
	var err error
	for range dumpAttempts {
		if found, err = dumpFilters(ifindex, d); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("list %s filters: %w", d, err)
	}
	return found, nil
}

func dumpFilters(ifindex int, d Direction) ([]filter, error) {
	req := nl.NewNetlinkRequest(unix.RTM_GETTFILTER, unix.NLM_F_DUMP)
	req.AddData(&nl.TcMsg{Family: nl.FAMILY_ALL, Ifindex: int32(ifindex), Parent: parentOf(d)})
	messages, err := req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWTFILTER)
	if err != nil {
		return nil, err
	}
	found := make([]filter, 0, len(messages))
	for _, m := range messages {
		f, err := parseFilter(m)
		if err != nil {
			return nil, err
		}
		f.ifindex, f.direction = ifindex, d
		found = append(found, f)
	}
	return found, nil
}

// parseFilter decodes struct tcmsg and the attributes behind it
// (linux/rtnetlink.h, linux/pkt_cls.h).
func parseFilter(m []byte) (filter, error) {
	if len(m) < nl.SizeofTcMsg {
		return filter{}, fmt.Errorf("filter message of %d bytes", len(m))
	}
	msg := nl.DeserializeTcMsg(m)
	f := filter{handle: msg.Handle, priority: uint16(msg.Info >> 16), protocol: nl.Swap16(uint16(msg.Info))}
	attrs, err := nl.ParseRouteAttr(m[nl.SizeofTcMsg:])
	if err != nil {
		return filter{}, fmt.Errorf("filter message: %w", err)
	}
	var options []byte
	for _, a := range attrs {
		switch a.Attr.Type {
		case nl.TCA_KIND:
			f.kind = text(a)
		case nl.TCA_CHAIN:
			f.chain = number(a)
		case nl.TCA_OPTIONS:
			options = a.Value
		}
	}
	if f.kind != "bpf" {
		return f, nil
	}
	if attrs, err = nl.ParseRouteAttr(options); err != nil {
		return filter{}, fmt.Errorf("bpf filter message: %w", err)
	}
	for _, a := range attrs {
		switch a.Attr.Type {
		case nl.TCA_BPF_NAME:
			f.name = text(a)
		case nl.TCA_BPF_ID:
			f.program = ebpf.ProgramID(number(a))
		}
	}
	return f, nil
}

func text(a syscall.NetlinkRouteAttr) string {
	return strings.TrimRight(string(a.Value), "\x00")
}

func number(a syscall.NetlinkRouteAttr) uint32 {
	if len(a.Value) < 4 {
		return 0
	}
	return nl.NativeEndian().Uint32(a.Value)
}
