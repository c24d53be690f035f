package capture

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/features"
	"github.com/cilium/ebpf/rlimit"
)

const (
	minRingBytes = 4 << 20
	maxRingBytes = 16 << 20
	// The rings are allocated when they are made, so all of them together get
	// this much unless told otherwise.
	allRingBytes = 64 << 20
	// BIG TCP packets are up to half a MiB; the limits of one record and of
	// one ring are the kernel's.
	ringBytesLimit = 1 << 30
	shardsLimit    = len(tapControl{}.Shards)
)

// ringLayout returns the number of rings and the size of each. 0 stands for a
// default: as many shards as there are processors, rounded down to a power of
// two, at most 16; rings of 4 to 16 MiB, together at most 64 MiB.
func ringLayout(shards, ringBytes int) (int, int, error) {
	if shards == 0 {
		shards = min(floorPow2(runtime.NumCPU()), shardsLimit)
	}
	if shards < 1 || shards > shardsLimit || shards&(shards-1) != 0 {
		return 0, 0, fmt.Errorf("%d shards: must be a power of two up to %d", shards, shardsLimit)
	}
	if ringBytes == 0 {
		ringBytes = min(max(allRingBytes/shards, minRingBytes), maxRingBytes)
	}
	if page := os.Getpagesize(); ringBytes < page || ringBytes > ringBytesLimit || ringBytes&(ringBytes-1) != 0 {
		return 0, 0, fmt.Errorf("ring size %d: expected a power of two from %d to %d bytes", ringBytes, page, ringBytesLimit)
	}
	return shards, ringBytes, nil
}

func floorPow2(n int) int {
	p := 1
	for p*2 <= n {
		p *= 2
	}
	return p
}

// minBudget is the least rate the kernel's arithmetic can express.
const minBudget = 64 << 10

// budgetCost is the time one byte takes of a budget in bytes per second, in
// 2^-20 ns; see bpf/budget.h. 0 is no budget.
func budgetCost(bytesPerSecond uint64) (uint64, error) {
	if bytesPerSecond == 0 {
		return 0, nil
	}
	if bytesPerSecond < minBudget {
		return 0, fmt.Errorf("max capture rate %d: expected 0 for no bound, or at least %d bytes per second", bytesPerSecond, minBudget)
	}
	return max(1, (1e9<<20)/bytesPerSecond), nil
}

// newSpec returns the program as it is to be loaded.
func newSpec(shards, ringBytes int, maxBytesPerSecond uint64, responses bool) (*ebpf.CollectionSpec, error) {
	cost, err := budgetCost(maxBytesPerSecond)
	if err != nil {
		return nil, err
	}
	spec, err := loadTap()
	if err != nil {
		return nil, err
	}
	spec.Maps[tapMapRings].MaxEntries = uint32(shards)
	spec.Maps[tapMapRings].InnerMap.MaxEntries = uint32(ringBytes)
	if !responses {
		spec.Maps[tapMapResponseFlows].MaxEntries = 1
	}
	for name, value := range map[string]any{
		tapVarShardMask:  uint32(shards - 1),
		tapVarShardKey:   newShardKey(),
		tapVarRingHalf:   uint64(ringBytes / 2),
		tapVarBudgetCost: cost,
		tapVarResponses:  responses,

		tapVarTunnelHeaders: keepsTunnelHeaders(),
	} {
		if err := spec.Variables[name].Set(value); err != nil {
			return nil, fmt.Errorf("set %s: %w", name, err)
		}
	}
	return spec, nil
}

// keepsTunnelHeaders reports whether the kernel is so old that a packet that
// comes out of a tunnel may still begin with the headers of the tunnel; if in
// doubt yes, which costs a little time. See find_ip_behind in bpf/packet.h.
func keepsTunnelHeaders() bool {
	version, err := features.LinuxVersionCode()
	return err != nil || version < 5<<16|14<<8
}

// objects are the programs that serve the Tap's own network namespace, and the
// maps, which those of the others use, too.
type objects struct {
	TapEgressEth  *ebpf.Program `ebpf:"tap_egress_eth"`
	TapEgressL3   *ebpf.Program `ebpf:"tap_egress_l3"`
	TapIngressEth *ebpf.Program `ebpf:"tap_ingress_eth"`
	TapIngressL3  *ebpf.Program `ebpf:"tap_ingress_l3"`
	tapMaps
}

func (o *objects) Close() error {
	return _TapClose(o.TapEgressEth, o.TapEgressL3, o.TapIngressEth, o.TapIngressL3, &o.tapMaps)
}

// load brings the program and its maps into the kernel. The ring buffers come
// in shard order and are owned by the caller, like the objects.
func load(spec *ebpf.CollectionSpec) (objs *objects, rings []*ebpf.Map, err error) {
	if err := checkCapabilities(); err != nil {
		return nil, nil, err
	}
	if err := rlimit.RemoveMemlock(); err != nil {
		return nil, nil, loadError(fmt.Errorf("lift the limit on locked memory: %w", err))
	}
	objs = new(objects)
	if err := spec.LoadAndAssign(objs, nil); err != nil {
		return nil, nil, loadError(err)
	}
	defer func() {
		if err != nil {
			closeMaps(rings)
			_ = objs.Close()
			objs, rings = nil, nil
		}
	}()
	ring := spec.Maps[tapMapRings].InnerMap
	for i := range spec.Maps[tapMapRings].MaxEntries {
		m, err := ebpf.NewMap(ring)
		if err != nil {
			return objs, rings, loadError(fmt.Errorf("allocate ring %d of %d bytes: %w", i, ring.MaxEntries, err))
		}
		rings = append(rings, m)
		if err := objs.Rings.Put(i, m); err != nil {
			return objs, rings, fmt.Errorf("put ring %d in place: %w", i, err)
		}
	}
	return objs, rings, nil
}

// shardKey are the coefficients of symmetric_hash in bpf/ship.h.
type shardKey [7]uint64

// newShardKey returns the secret by which the program spreads flows over the
// shards, another one for every load.
func newShardKey() (key shardKey) {
	var random [8 * len(key)]byte
	_, _ = rand.Read(random[:]) // does not fail
	for i := range key {
		key[i] = binary.NativeEndian.Uint64(random[8*i:])
	}
	return key
}

func closeMaps(ms []*ebpf.Map) {
	for _, m := range ms {
		_ = m.Close()
	}
}

// refusal is an error of the kernel's verifier with as much of its log as a
// person can use: the end, where the reason is, without the endless lines that
// list every register.
type refusal struct {
	err      error
	verifier *ebpf.VerifierError
}

const (
	refusalLines = 25
	refusalWidth = 120
)

func (r *refusal) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "the kernel's verifier refused the tap: %v", r.verifier.Cause)
	for _, line := range r.verifier.Log[max(0, len(r.verifier.Log)-refusalLines):] {
		if len(line) > refusalWidth {
			line = line[:refusalWidth] + " ..."
		}
		b.WriteString("\n\t")
		b.WriteString(line)
	}
	return b.String()
}

func (r *refusal) Unwrap() error { return r.err }

// loadError turns the kernel's refusal into something its reader can act upon.
func loadError(err error) error {
	if ve, ok := errors.AsType[*ebpf.VerifierError](err); ok {
		return &refusal{err: err, verifier: ve}
	}
	if errors.Is(err, os.ErrPermission) {
		return fmt.Errorf("load the tap: it takes root, or %s, in the initial user namespace"+
			" (before Linux 5.11 also CAP_SYS_RESOURCE): %w", neededCapabilities, err)
	}
	return fmt.Errorf("load the tap: %w", err)
}
