package agent

import (
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"github.com/shadowtap/shadowtap/pkg/reassembly"
)

func TestBudgetIsExact(t *testing.T) {
	b := newBudget(10)
	if !b.reserve(1, 0, 5) || !b.reserve(1, 0, 0) || b.reserve(2, 0, 6) || !b.reserve(2, 0, 2) {
		t.Error("the limit does not hold")
	}
	b.release(1, 5)
	b.release(2, 2)
	if b.used.Load() != 0 {
		t.Errorf("%d used", b.used.Load())
	}
	for i := range b.sources {
		if n := b.sources[i].Load(); n != 0 {
			t.Errorf("%d left with source %d", n, i)
		}
	}
}

// hoard lets a source reserve until it is refused.
func hoard(b *budget, source uint32, held, piece int) (total int) {
	for b.reserve(source, held, piece) {
		total += piece
	}
	return total
}

// However many sources take what they can get, about as much is left as each of
// them holds, and an eighth for small messages.
func TestBudgetIsShared(t *testing.T) {
	const limit, piece = 64 << 20, 32 << 10
	for _, hostile := range []int{1, 2, 5, 50} {
		b := newBudget(limit)
		for again := true; again; {
			again = false
			for s := range uint32(hostile) {
				if b.reserve(s+1, limit, piece) {
					again = true
				}
			}
		}
		fair := limit * 3 / 4 / (hostile + 1)
		free := limit - int(b.used.Load())
		if free < fair-hostile*piece {
			t.Errorf("%d sources leave %d bytes, want %d", hostile, free, fair)
		}
		if got := hoard(b, 0, limit, piece); got < fair/2-2*piece {
			t.Errorf("beside %d sources another one gets %d bytes, want %d", hostile, got, fair/2)
		}
		if got := hoard(b, 1000, 0, piece); got < limit/16-piece {
			t.Errorf("beside %d sources small messages get %d bytes, want %d", hostile, got, limit/16)
		}
	}
}

// A small request from the address of somebody who took his whole share is
// not refused.
func TestBudgetLetsSmallMessagesThrough(t *testing.T) {
	b := newBudget(64 << 20)
	hoard(b, 1, 1<<20, 1<<20)
	if b.reserve(1, 1<<20, 2048) {
		t.Error("a large message grew")
	}
	if !b.reserve(1, 0, 2048) || !b.reserve(1, 2048, 4096) {
		t.Error("a small one was refused")
	}
	left := func() int { return int(b.limit - b.used.Load()) }
	before := left()
	hoard(b, 1, 0, 2048)
	if left() < 1<<20 || left() > before {
		t.Errorf("small messages of one source leave %d bytes", left())
	}
	if got := hoard(b, 2, 0, 32<<10); got < 512<<10 {
		t.Errorf("%d bytes are left for small messages of another source", got)
	}
}

func TestBudgetSources(t *testing.T) {
	b := newBudget(1)
	of := func(addr string) uint32 {
		addr, instance, _ := strings.Cut(addr, " in ")
		n, _ := strconv.Atoi(instance)
		return b.source(reassembly.Flow{SrcIP: netip.MustParseAddr(addr).As16(), SrcPort: 1, Instance: uint32(n)})
	}
	for _, test := range []struct {
		a, b string
		same bool
	}{
		{"192.0.2.1", "192.0.2.1", true},
		{"192.0.2.1", "192.0.2.2", false},
		{"2001:db8::1", "2001:db8::ffff:1", true},
		{"2001:db8::1", "2001:db8:0:1::1", false},
		{"::1", "192.0.2.1", false},
		{"127.0.0.1 in 1", "127.0.0.1 in 1", true},
		{"127.0.0.1 in 1", "127.0.0.1 in 2", false},
		{"::1 in 1", "::1 in 2", false},
		{"192.0.2.1 in 1", "192.0.2.1 in 2", true},
	} {
		if same := of(test.a) == of(test.b); same != test.same {
			t.Errorf("%s and %s are one source: %v, want %v", test.a, test.b, same, test.same)
		}
	}
	other, alike := newBudget(1), 0
	for i := range byte(4) {
		f := reassembly.Flow{SrcIP: [16]byte{i}}
		if other.source(f) == b.source(f) {
			alike++
		}
	}
	if alike == 4 {
		t.Error("every budget numbers sources alike")
	}
}
