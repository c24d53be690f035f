package capture

import (
	"context"
	"errors"
	"fmt"
	"unsafe"
)

// One tap takes over from another without losing a packet when both are
// attached to the same interfaces and the new one's Copy returns before the
// old one's Pause is called. Packets in between are copied by both.

var errNotRunning = errors.New("tap is not running")

// Copy makes a tap that was opened with Config.Held copy packets. When it
// returns, every packet that its program let pass before has been through all
// programs of the interface.
func (t *Tap) Copy() error {
	t.control.pause(false)
	return t.settle()
}

// Deliver makes a tap that was opened with Config.Held hand over what it copied.
func (t *Tap) Deliver() { t.deliver() }

// Pause makes a running tap copy nothing more, until Resume, and returns when
// everything it has copied has been handed over. After an error it is paused
// all the same. It must not be called again before it has returned.
func (t *Tap) Pause(ctx context.Context) error {
	t.mu.Lock()
	readers := t.readers
	t.mu.Unlock()
	if readers == nil {
		return errNotRunning
	}
	if err := t.quiesce(); err != nil {
		return err
	}
	var flushed []<-chan struct{}
	for _, r := range readers {
		flushed = append(flushed, r.flush())
	}
	for _, done := range flushed {
		select {
		case <-done:
		case <-ctx.Done():
			return fmt.Errorf("wait for captured packets: %w", ctx.Err())
		}
	}
	return nil
}

// Resume undoes Pause.
func (t *Tap) Resume() { t.control.pause(false) }

func (t *Tap) setReaders(readers []*reader) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.readers = readers
}

// ShardOf returns the shard whose Sink gets the segments of a flow, from 0 to
// Shards()-1. See symmetric_hash in bpf/ship.h.
func (t *Tap) ShardOf(f Flow) int { return shardOf(f, &t.shardKey, len(t.rings)) }

func shardOf(f Flow, key *shardKey, shards int) int {
	k := (*tapFlow)(unsafe.Pointer(&f))
	h := key[6] + key[5]*uint64(k.Sport^k.Dport) + key[4]*uint64(k.Instance)
	for i := range k.Src {
		h += key[i] * uint64(k.Src[i]^k.Dst[i])
	}
	h ^= h >> 32
	h *= 0xff51afd7ed558ccd
	return int(h>>32) & (shards - 1)
}

// quiesce returns when nothing is copied any more.
func (t *Tap) quiesce() error {
	t.control.pause(true)
	return t.settle()
}

// settle returns when no CPU is inside the program any more that was when it
// was called. Detaching does not wait for those that are. Writing to a map of
// maps does: the system call returns after an RCU grace period
// (kernel/bpf/syscall.c, maybe_wait_bpf_programs), and a packet goes through
// all programs of a hook in one RCU read section.
func (t *Tap) settle() error {
	if err := t.objs.Rings.Put(uint32(0), t.ringMaps[0]); err != nil {
		return fmt.Errorf("wait for the last packets: %w", err)
	}
	return nil
}
