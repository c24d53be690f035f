package capture

import (
	"bytes"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: loads a program into the kernel")
	}
}

// kernel is the loaded program without anything it is attached to: packets
// are run through it with BPF_PROG_TEST_RUN, and its rings are read here.
type kernel struct {
	*objects
	t       testing.TB
	spec    *ebpf.CollectionSpec
	loader  *instanceLoader // made by the first call of pod
	maps    []*ebpf.Map
	rings   []*ring
	control *controlPage
	clock   clock
	table   targetTable

	responses bool
	rare      map[*ebpf.Program]*rareProgram // by what stands in for it
}

// rareProgram is a program that few tests run. To verify one takes the kernel
// most of 100 ms, so it is loaded when it is first run; until then another one
// has its place, whose verdict run does not let pass.
type rareProgram struct {
	name   string
	loaded *ebpf.Program
}

var rarePrograms = []string{tapProgTapEgressEth, tapProgTapEgressL3, tapProgTapIngressL3}

func newKernel(t testing.TB, shards, ringBytes int, maxBytesPerSecond uint64, targets ...Target) *kernel {
	t.Helper()
	return loadKernel(t, shards, ringBytes, maxBytesPerSecond, false, targets...)
}

// newResponseKernel is newKernel with Config.Responses.
func newResponseKernel(t testing.TB, shards, ringBytes int, maxBytesPerSecond uint64, targets ...Target) *kernel {
	t.Helper()
	return loadKernel(t, shards, ringBytes, maxBytesPerSecond, true, targets...)
}

func loadKernel(t testing.TB, shards, ringBytes int, maxBytesPerSecond uint64, responses bool, targets ...Target) *kernel {
	t.Helper()
	needRoot(t)
	spec, err := newSpec(shards, ringBytes, maxBytesPerSecond, responses)
	if err != nil {
		t.Fatal(err)
	}
	return loadSpec(t, spec, responses, targets...)
}

func loadSpec(t testing.TB, spec *ebpf.CollectionSpec, responses bool, targets ...Target) *kernel {
	t.Helper()
	standIns := spec.Copy()
	for _, name := range rarePrograms {
		standIns.Programs[name].Instructions = asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()}
	}
	objs, maps, err := load(standIns)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		closeMaps(maps)
		if err := objs.Close(); err != nil {
			t.Error(err)
		}
	})
	k := &kernel{objects: objs, t: t, spec: spec, maps: maps, responses: responses}
	k.rare = make(map[*ebpf.Program]*rareProgram)
	for i, standIn := range []*ebpf.Program{objs.TapEgressEth, objs.TapEgressL3, objs.TapIngressL3} {
		k.rare[standIn] = &rareProgram{name: rarePrograms[i]}
	}
	t.Cleanup(func() {
		for _, rare := range k.rare {
			rare.loaded.Close()
		}
	})
	if k.control, err = mapControl(objs.Control); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := k.control.close(); err != nil {
			t.Error(err)
		}
	})
	for _, m := range maps {
		r, err := mapRing(m)
		if err != nil {
			t.Fatal(err)
		}
		k.rings = append(k.rings, r)
		t.Cleanup(func() {
			if err := r.close(); err != nil {
				t.Error(err)
			}
		})
	}
	if k.clock, err = newClock(); err != nil {
		t.Fatal(err)
	}
	k.alive()
	k.table = newTargetTable(objs.Targets, newTargetPorts(k.control))
	if err := k.table.replace(newKeys(targets...)); err != nil {
		t.Fatal(err)
	}
	return k
}

func newKeys(targets ...Target) map[tapTarget]struct{} {
	keys := make(map[tapTarget]struct{})
	for _, target := range targets {
		keys[target.key()] = struct{}{}
	}
	return keys
}

// alive gives a sign of life from an hour ahead: nothing here gives another one
// in the program's time, however slow the machine is.
func (k *kernel) alive() { k.control.aliveForNow(k.clock) }

func (c *controlPage) aliveForNow(clk clock) {
	mono, _ := clk.read()
	c.beat(mono + int64(time.Hour))
}

// skb is the part of struct __sk_buff that a test may set, up to ifindex.
type skb struct {
	_       [10]uint32
	Ifindex uint32
}

// run runs one packet through a program and checks what must hold for any:
// the verdict lets it pass, and not a byte of it changed.
func (k *kernel) run(prog *ebpf.Program, packet []byte) {
	k.t.Helper()
	k.runAt(prog, packet, 0)
}

// runAt is run with the packet on the given interface of the calling thread's
// network namespace.
func (k *kernel) runAt(prog *ebpf.Program, packet []byte, ifindex uint32) {
	k.t.Helper()
	if err := k.try(prog, packet, ifindex); err != nil {
		k.t.Fatal(err)
	}
}

func (k *kernel) try(prog *ebpf.Program, packet []byte, ifindex uint32) error {
	k.t.Helper()
	prog = k.verified(prog)
	opts := ebpf.RunOptions{Data: packet, DataOut: make([]byte, len(packet)+256)}
	if ifindex != 0 {
		opts.Context = skb{Ifindex: ifindex}
	}
	verdict, err := prog.Run(&opts)
	if err != nil {
		return err
	}
	if int32(verdict) != -1 {
		k.t.Fatalf("verdict %d, want -1 (TCX_NEXT, TC_ACT_UNSPEC)", int32(verdict))
	}
	if !bytes.Equal(opts.DataOut, packet) {
		k.t.Fatalf("the packet changed:\n%x\n%x", packet, opts.DataOut)
	}
	return nil
}

// verified returns the program that prog stands in for, or prog itself.
func (k *kernel) verified(prog *ebpf.Program) *ebpf.Program {
	k.t.Helper()
	rare := k.rare[prog]
	if rare == nil {
		return prog
	}
	if rare.loaded == nil {
		only := k.spec.Copy()
		only.Programs = map[string]*ebpf.ProgramSpec{rare.name: only.Programs[rare.name]}
		loader := instanceLoader{maps: &k.tapMaps}
		c, err := ebpf.NewCollectionWithOptions(only, *loader.options())
		if err != nil {
			k.t.Fatal(err)
		}
		rare.loaded = c.DetachProgram(rare.name)
		c.Close()
	}
	return rare.loaded
}

// segments takes everything out of the rings.
func (k *kernel) segments() []Segment {
	k.t.Helper()
	var all []Segment
	for _, r := range k.rings {
		for {
			record, ok := r.next()
			if !ok {
				break
			}
			if len(record) == 0 {
				continue
			}
			var s Segment
			if err := s.decode(record, 0); err != nil {
				k.t.Fatal(err)
			}
			s.Payload = slices.Clone(s.Payload)
			all = append(all, s)
		}
		r.release()
	}
	return all
}

// tally is Counters without what is 0, for comparison: reasons to packets.
type tally map[string]uint64

// count returns the counters of requests and checks their invariant.
func (k *kernel) count() tally {
	k.t.Helper()
	requests, _ := k.countBoth()
	return requests
}

func (k *kernel) countBoth() (requests, responses tally) {
	k.t.Helper()
	to, from, err := readCounters(k.Counters)
	if err != nil {
		k.t.Fatal(err)
	}
	return flatten(k.t, to), flatten(k.t, from)
}

func flatten(t testing.TB, c Counters) tally {
	t.Helper()
	sum := c.Copied
	all := tally{"seen": c.Seen, "copied": c.Copied}
	for _, reasons := range []map[string]uint64{c.Skipped, c.Lost} {
		for reason, n := range reasons {
			all[reason] = n
			sum += n
		}
	}
	if sum != c.Seen {
		t.Errorf("seen %d packets, accounted for %d: %+v", c.Seen, sum, c)
	}
	for reason, n := range all {
		if n == 0 {
			delete(all, reason)
		}
	}
	return all
}

// minus returns what was counted since before.
func (a tally) minus(before tally) tally {
	diff := make(tally)
	for reason, n := range a {
		if d := n - before[reason]; d != 0 {
			diff[reason] = d
		}
	}
	return diff
}
