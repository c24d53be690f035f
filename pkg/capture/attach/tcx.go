package attach

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// tcx is a program attached by a tcx link.
type tcx struct {
	link    link.Link
	id      link.ID
	name    string // of the program
	ifindex int
	point   ebpf.AttachType
}

func tcxPoint(d Direction) ebpf.AttachType {
	if d == Ingress {
		return ebpf.AttachTCXIngress
	}
	return ebpf.AttachTCXEgress
}

// attachTCX attaches program before all other programs of the hook: one that
// returned TCX_PASS would end the chain for those behind it. The error wraps
// ebpf.ErrNotSupported if the kernel has no tcx.
func attachTCX(ifindex int, d Direction, program *ebpf.Program) (_ attachment, err error) {
	l, err := link.AttachTCX(link.TCXOptions{
		Interface: ifindex,
		Program:   program,
		Attach:    tcxPoint(d),
		Anchor:    link.Head(),
	})
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			l.Close()
		}
	}()
	info, err := l.Info()
	if err != nil {
		return nil, err
	}
	return &tcx{l, info.ID, nameOf(info.Program), ifindex, tcxPoint(d)}, nil
}

// state asks the interface instead of the link: a link knows its device by an
// index that means another one once the device is in another namespace.
func (t *tcx) state() (bool, []string, error) {
	programs, err := tcxPrograms(t.ifindex, t.point)
	if errors.Is(err, unix.ENODEV) {
		return false, nil, nil
	}
	if err != nil {
		return false, nil, err
	}
	var ahead []string
	for _, p := range programs {
		if id, ok := p.LinkID(); ok && id == t.id {
			return true, ahead, nil
		}
		if name := nameOf(p.ID); name == "" || name != t.name { // not another agent
			ahead = append(ahead, describeTCX(p.ID, name))
		}
	}
	return false, nil, nil
}

func (t *tcx) detach() error { return t.link.Close() }

// tcxPrograms returns the programs of a tcx hook in the order they run.
func tcxPrograms(ifindex int, point ebpf.AttachType) ([]link.AttachedProgram, error) {
	result, err := link.QueryPrograms(link.QueryOptions{Target: ifindex, Attach: point})
	if err != nil {
		return nil, fmt.Errorf("programs of interface %d: %w", ifindex, err)
	}
	return result.Programs, nil
}

func describeTCX(id ebpf.ProgramID, name string) string {
	return fmt.Sprintf("tcx program %q (id %d)", name, id)
}

// nameOf returns the name of a loaded program, or nothing if it has none or
// we lack CAP_SYS_ADMIN, which looking at others' programs takes.
func nameOf(id ebpf.ProgramID) string {
	p, err := ebpf.NewProgramFromID(id)
	if err != nil {
		return ""
	}
	defer p.Close()
	info, err := p.Info()
	if err != nil {
		return ""
	}
	return info.Name
}
