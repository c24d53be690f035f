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

// maxTargets bounds one set of targets. The kernel map holds two, because a
// new set goes in before the old one goes out.
const maxTargets = 16384

var errTooManyTargets = fmt.Errorf("more than %d targets", maxTargets)

// targetTable is the set of targets the kernel program looks for.
type targetTable struct {
	m       *ebpf.Map
	control *controlPage
	keys    map[tapTarget]struct{} // what is in m
}

// replace makes next the set of targets. New ones are added before old ones
// are removed, so that a target in both is captured without a pause. After an
// error the kernel still holds what it held, plus perhaps some of the new.
func (t *targetTable) replace(next map[tapTarget]struct{}) error {
	if len(next) > maxTargets {
		return fmt.Errorf("%w (%d addresses and ports)", errTooManyTargets, len(next))
	}
	for k := range next {
		if _, ok := t.keys[k]; ok {
			continue
		}
		if err := t.m.Put(k, uint8(1)); err != nil {
			return fmt.Errorf("add a target: %w", err)
		}
		t.keys[k] = struct{}{}
		t.control.setPort(k.Port) // last: the port alone captures nothing
	}
	wanted := make(map[uint16]bool, len(next))
	for k := range next {
		wanted[k.Port] = true
	}
	for k := range t.keys {
		if _, ok := next[k]; ok {
			continue
		}
		if !wanted[k.Port] {
			t.control.clearPort(k.Port)
		}
		if err := t.m.Delete(k); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("remove a target: %w", err)
		}
		delete(t.keys, k)
	}
	return nil
}
