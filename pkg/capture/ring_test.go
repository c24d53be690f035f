package capture

import (
	"encoding/binary"
	"fmt"
	"testing"
	"unsafe"
)

func bytesOf(words []uint64) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(&words[0])), 8*len(words))
}

// fakeRing is a ring in ordinary memory, with the second mapping imitated by
// writing everything twice.
type fakeRing struct {
	ring
	prod, cons uintptr
}

func newFakeRing(size int) *fakeRing {
	f := &fakeRing{}
	f.ring = ring{consumer: &f.cons, producer: &f.prod, data: bytesOf(make([]uint64, 2*size/8)), mask: uintptr(size - 1)}
	return f
}

func (f *fakeRing) write(flags uint32, data string) {
	record := binary.NativeEndian.AppendUint32(nil, uint32(len(data))|flags)
	record = append(append(record, 0, 0, 0, 0), data...)
	for len(record)%8 != 0 {
		record = append(record, 0xee)
	}
	size := f.mask + 1
	for i, b := range record {
		at := (f.prod + uintptr(i)) & f.mask
		f.data[at], f.data[at+size] = b, b
	}
	f.prod += uintptr(len(record))
}

func TestRing(t *testing.T) {
	f := newFakeRing(64)
	read := func(want ...string) {
		t.Helper()
		for _, w := range want {
			if got, ok := f.next(); !ok || string(got) != w {
				t.Fatalf("got %q, %v, want %q", got, ok, w)
			}
		}
		if got, ok := f.next(); ok {
			t.Fatalf("got %q, want nothing", got)
		}
	}
	read()
	f.write(0, "one")
	f.write(ringDiscard, "discarded")
	f.write(0, "")
	f.write(0, "three")
	read("one", "", "three")
	if f.cons != 0 {
		t.Error("space was given back before release")
	}
	f.release()
	if f.cons != f.prod || f.available() != 0 {
		t.Errorf("consumer at %d, producer at %d", f.cons, f.prod)
	}
	// Around the end, many times, with records that are split there.
	for i := range 100 {
		want := fmt.Sprintf("record number %03d", i)
		f.write(0, want)
		read(want)
		f.release()
	}
	// A record that is being written hides the ones behind it.
	at := f.prod & f.mask
	f.write(ringBusy, "busy")
	f.write(0, "behind")
	read()
	f.release()
	binary.NativeEndian.PutUint32(f.data[at:], 4)
	read("busy", "behind")
}

func TestRingLayout(t *testing.T) {
	const mib = 1 << 20
	tests := []struct{ shards, bytes, wantShards, wantBytes int }{
		{1, 0, 1, 16 * mib}, {4, 0, 4, 16 * mib}, {8, 0, 8, 8 * mib}, {16, 0, 16, 4 * mib},
		{2, 8 * mib, 2, 8 * mib}, {3, 0, 0, 0}, {32, 0, 0, 0}, {-1, 0, 0, 0},
		{1, 5000, 0, 0}, {1, 1024, 0, 0}, {1, -4096, 0, 0}, {1, 2 << 30, 0, 0},
	}
	for _, tt := range tests {
		shards, bytes, err := ringLayout(tt.shards, tt.bytes)
		if shards != tt.wantShards || bytes != tt.wantBytes || (err != nil) != (tt.wantShards == 0) {
			t.Errorf("ringLayout(%d, %d) = %d, %d, %v", tt.shards, tt.bytes, shards, bytes, err)
		}
	}
	if shards, bytes, err := ringLayout(0, 0); err != nil || shards < 1 || shards > shardsLimit || shards*bytes > allRingBytes {
		t.Errorf("default: %d rings of %d bytes, %v", shards, bytes, err)
	}
	for n, want := range map[int]int{1: 1, 2: 2, 3: 2, 4: 4, 7: 4, 100: 64} {
		if got := floorPow2(n); got != want {
			t.Errorf("floorPow2(%d) = %d, want %d", n, got, want)
		}
	}
}
