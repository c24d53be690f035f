package capture

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"
)

// Target is an endpoint whose incoming packets are captured. An Addr that is
// unspecified or the zero value stands for any address.
type Target struct {
	Addr netip.Addr
	Port uint16
}

// anyAddr reports whether the target is for every address.
func (t Target) anyAddr() bool { return !t.Addr.IsValid() || t.Addr.IsUnspecified() }

func (t Target) String() string {
	if t.anyAddr() {
		return fmt.Sprintf("*:%d", t.Port)
	}
	return netip.AddrPortFrom(t.Addr, t.Port).String()
}

// key is the target as the kernel program looks it up.
func (t Target) key() tapTarget {
	k := tapTarget{Port: t.Port}
	if t.anyAddr() {
		return k
	}
	a := t.Addr.As16() // the IPv4-mapped form of an IPv4 address
	for i := range k.Addr {
		k.Addr[i] = binary.NativeEndian.Uint32(a[4*i:])
	}
	return k
}

// maxTargets bounds the targets of all instances. The kernel map holds twice as
// many, because a new set goes in before the old one goes out.
const maxTargets = 16384

var errTooManyTargets = fmt.Errorf("more than %d targets", maxTargets)

// targetPorts are the ports of the targets of all instances, which the kernel
// program looks at before anything else.
type targetPorts struct {
	control *controlPage
	uses    map[uint16]int // targets with that port
	targets int
}

func newTargetPorts(control *controlPage) *targetPorts {
	return &targetPorts{control: control, uses: make(map[uint16]int)}
}

func (p *targetPorts) add(port uint16) {
	p.targets++
	if p.uses[port]++; p.uses[port] == 1 {
		p.control.setPort(port)
	}
}

func (p *targetPorts) remove(port uint16) {
	p.targets--
	if p.uses[port]--; p.uses[port] == 0 {
		delete(p.uses, port)
		p.control.clearPort(port)
	}
}

// targetTable is the set of targets the kernel program looks for in one
// instance.
type targetTable struct {
	m     *ebpf.Map
	ports *targetPorts           // of all instances
	keys  map[tapTarget]struct{} // what is in m of this one
}

func newTargetTable(m *ebpf.Map, ports *targetPorts) targetTable {
	return targetTable{m: m, ports: ports, keys: make(map[tapTarget]struct{})}
}

// replace makes next the set of targets. New ones are added before old ones
// are removed, so that a target in both is captured without a pause. After an
// error the kernel still holds what it held, plus perhaps some of the new.
func (t *targetTable) replace(next map[tapTarget]struct{}) error {
	if n := t.ports.targets - len(t.keys) + len(next); n > maxTargets {
		return fmt.Errorf("%w (%d addresses and ports)", errTooManyTargets, n)
	}
	for k := range next {
		if _, ok := t.keys[k]; ok {
			continue
		}
		if err := t.m.Put(k, uint8(1)); err != nil {
			return fmt.Errorf("add a target: %w", err)
		}
		t.keys[k] = struct{}{}
		t.ports.add(k.Port) // last: the port alone captures nothing
	}
	for k := range t.keys {
		if _, ok := next[k]; ok {
			continue
		}
		if err := t.m.Delete(k); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("remove a target: %w", err)
		}
		t.ports.remove(k.Port)
		delete(t.keys, k)
	}
	return nil
}
