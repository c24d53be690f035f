package capture

import (
	"fmt"
	"os"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// controlPage is the control map's only value, mapped into memory: words that
// the agent and the kernel program exchange without a system call. See struct
// control in bpf/contract.h for who writes what.
type controlPage struct {
	*tapControl
	mem []byte
}

func mapControl(m *ebpf.Map) (*controlPage, error) {
	page := os.Getpagesize()
	size := (int(unsafe.Sizeof(tapControl{})) + page - 1) / page * page
	mem, err := unix.Mmap(m.FD(), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map the control words: %w", err)
	}
	return &controlPage{tapControl: (*tapControl)(unsafe.Pointer(&mem[0])), mem: mem}, nil
}

func (c *controlPage) close() error { return unix.Munmap(c.mem) }

// pause turns the kill switch: while it is on, nothing is copied.
func (c *controlPage) pause(on bool) {
	var v uint32
	if on {
		v = 1
	}
	atomic.StoreUint32(&c.Paused, v)
}

// beat tells the program that the agent lives; mono is CLOCK_MONOTONIC in ns.
func (c *controlPage) beat(mono int64) { atomic.StoreUint64(&c.Heartbeat, uint64(mono)) }

// wake is the word in which a shard's reader says when it wants to be woken.
func (c *controlPage) wake(shard int) *uint32 { return (*uint32)(&c.Shards[shard].Wake) }

func (c *controlPage) setPort(port uint16) { atomic.OrUint64(&c.Ports[port/64], 1<<(port%64)) }
func (c *controlPage) clearPort(port uint16) {
	atomic.AndUint64(&c.Ports[port/64], ^(1 << (port % 64)))
}
