package capture

import (
	"fmt"
	"os"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// The head of every record in a BPF ring buffer, 8 bytes: the length, whose
// upper two bits are flags, and an offset only the kernel uses
// (Documentation/bpf/ringbuf.rst, kernel/bpf/ringbuf.c).
const (
	ringHeadSize = 8
	ringBusy     = 1 << 31
	ringDiscard  = 1 << 30
	ringLen      = ringDiscard - 1
)

// ring is the consumer's side of a BPF ring buffer. Records are read where
// they lie; the space they take is given back by release. Its methods must be
// called from one goroutine at a time.
type ring struct {
	// In the kernel's memory. The positions count bytes and never wrap.
	consumer, producer *uintptr
	data               []byte // mapped twice in a row, so that no record is ever split
	mask               uintptr
	pos                uintptr // what has been read; consumer lags behind it

	consumerPage, producerPages []byte
}

// mapRing maps the ring buffer m into memory.
func mapRing(m *ebpf.Map) (*ring, error) {
	page, size := os.Getpagesize(), int(m.MaxEntries())
	consumerPage, err := unix.Mmap(m.FD(), 0, page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map the ring's consumer page: %w", err)
	}
	producerPages, err := unix.Mmap(m.FD(), int64(page), page+2*size, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		_ = unix.Munmap(consumerPage)
		return nil, fmt.Errorf("map the ring's data pages: %w", err)
	}
	r := &ring{
		consumer:      (*uintptr)(unsafe.Pointer(&consumerPage[0])),
		producer:      (*uintptr)(unsafe.Pointer(&producerPages[0])),
		data:          producerPages[page:],
		mask:          uintptr(size - 1),
		consumerPage:  consumerPage,
		producerPages: producerPages,
	}
	r.pos = atomic.LoadUintptr(r.consumer)
	return r, nil
}

func (r *ring) close() error {
	err := unix.Munmap(r.producerPages)
	if e := unix.Munmap(r.consumerPage); err == nil {
		err = e
	}
	return err
}

// size is the capacity in bytes.
func (r *ring) size() int { return int(r.mask + 1) }

// available is the number of bytes written and not yet read.
func (r *ring) available() int { return int(atomic.LoadUintptr(r.producer) - r.pos) }

// next returns the next record, or false if there is none or the next one is
// still being written. The record stays valid until release.
func (r *ring) next() ([]byte, bool) {
	for r.pos != atomic.LoadUintptr(r.producer) {
		at := r.pos & r.mask
		// The kernel clears the busy bit with a full barrier after it has
		// written the record; loading it atomically orders what we read.
		head := atomic.LoadUint32((*uint32)(unsafe.Pointer(&r.data[at])))
		if head&ringBusy != 0 {
			return nil, false
		}
		n := uintptr(head & ringLen)
		r.pos += ringHeadSize + (n+7)&^7
		if head&ringDiscard == 0 {
			start := at + ringHeadSize
			return r.data[start : start+n : start+n], true
		}
	}
	return nil, false
}

// release gives the space of everything that was read back to the kernel.
func (r *ring) release() { atomic.StoreUintptr(r.consumer, r.pos) }
