package netlab

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The commands of linux/ethtool.h that read and set one offload.
const (
	ethtoolGTSO, ethtoolSTSO = 0x1e, 0x1f
	ethtoolGGSO, ethtoolSGSO = 0x23, 0x24
	ethtoolGGRO, ethtoolSGRO = 0x2b, 0x2c
)

// ethtoolValue is struct ethtool_value.
type ethtoolValue struct{ cmd, data uint32 }

// ethtoolRequest is struct ifreq with its ifr_data member: a union of 24 bytes
// on 64-bit machines.
type ethtoolRequest struct {
	name [unix.IFNAMSIZ]byte
	data unsafe.Pointer
	_    [24 - unsafe.Sizeof(uintptr(0))]byte
}

// SetOffload switches segmentation (TSO, GSO) and receive (GRO) offload of an
// interface. With them, the default, a packet inside the kernel carries up to
// 64 KiB whatever the MTU; without, packets are what would be on a wire.
func (n *Namespace) SetOffload(name string, on bool) error {
	var value uint32
	if on {
		value = 1
	}
	for _, cmd := range []uint32{ethtoolSTSO, ethtoolSGSO, ethtoolSGRO} {
		if _, err := n.ethtool(name, cmd, value); err != nil {
			return err
		}
	}
	return nil
}

// Offload reports whether segmentation and receive offload are all on.
func (n *Namespace) Offload(name string) (bool, error) {
	all := true
	for _, cmd := range []uint32{ethtoolGTSO, ethtoolGGSO, ethtoolGGRO} {
		value, err := n.ethtool(name, cmd, 0)
		if err != nil {
			return false, err
		}
		all = all && value != 0
	}
	return all, nil
}

// ethtool runs one ethtool command that has one number as argument or result.
func (n *Namespace) ethtool(name string, cmd, data uint32) (uint32, error) {
	value := &ethtoolValue{cmd: cmd, data: data}
	request := ethtoolRequest{data: unsafe.Pointer(value)}
	if copy(request.name[:unix.IFNAMSIZ-1], name) < len(name) {
		return 0, fmt.Errorf("netlab: interface name %q is longer than %d bytes", name, unix.IFNAMSIZ-1)
	}
	err := n.Do(func() error {
		// Any socket will do: it only says which namespace is meant.
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request)))
		if errno != 0 {
			return errno
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("netlab: ethtool command %#x on %s in %s: %w", cmd, name, n.name, err)
	}
	return value.data, nil
}
