package capture

import (
	"errors"
	"maps"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"

	"github.com/shadowtap/shadowtap/pkg/capture/attach"
)

// inKernel reads the targets back from where the program sees them.
func (k *kernel) inKernel() (keys map[tapTarget]struct{}, ports []uint16) {
	k.t.Helper()
	keys = make(map[tapTarget]struct{})
	var key tapTarget
	var value uint8
	it := k.Targets.Iterate()
	for it.Next(&key, &value) {
		keys[key] = struct{}{}
	}
	if err := it.Err(); err != nil {
		k.t.Fatal(err)
	}
	for p := range 1 << 16 {
		if k.control.Ports[p/64]>>(p%64)&1 != 0 {
			ports = append(ports, uint16(p))
		}
	}
	return keys, ports
}

func TestTargetTable(t *testing.T) {
	k := newKernel(t, 1, 1<<20, 0)
	a, b := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("2001:db8::1")
	steps := [][]Target{
		{},
		{{a, 80}},
		{{a, 80}, {b, 80}, {a, 1}, {a, 65535}},
		{{b, 80}, {a, 65535}},
		{{Port: 80}},
		{{netip.IPv4Unspecified(), 80}, {netip.IPv6Unspecified(), 64}},
		{},
	}
	for i, targets := range steps {
		want := newKeys(targets...)
		if err := k.table.replace(want); err != nil {
			t.Fatal(err)
		}
		keys, ports := k.inKernel()
		var wantPorts []uint16
		for _, target := range targets {
			wantPorts = append(wantPorts, target.Port)
		}
		slices.Sort(wantPorts)
		if wantPorts = slices.Compact(wantPorts); !maps.Equal(keys, want) || !slices.Equal(ports, wantPorts) {
			t.Errorf("step %d: kernel has %v, ports %v; want %v, %v", i, keys, ports, want, wantPorts)
		}
	}
	full := make(map[tapTarget]struct{})
	for i := range maxTargets {
		full[Target{netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), 80}.key()] = struct{}{}
	}
	other := make(map[tapTarget]struct{})
	for i := range maxTargets {
		other[Target{netip.AddrFrom4([4]byte{10, 2, byte(i >> 8), byte(i)}), 81}.key()] = struct{}{}
	}
	for _, set := range []map[tapTarget]struct{}{full, other} { // both at once for a moment
		if err := k.table.replace(set); err != nil {
			t.Fatal(err)
		}
	}
	other[Target{a, 80}.key()] = struct{}{}
	if err := k.table.replace(other); !errors.Is(err, errTooManyTargets) {
		t.Errorf("one too many: %v", err)
	}
}

func TestTargetKey(t *testing.T) {
	v4, mapped := Target{netip.MustParseAddr("10.0.0.1"), 80}, Target{netip.MustParseAddr("::ffff:10.0.0.1"), 80}
	if v4.key() != mapped.key() {
		t.Error("the two forms of an IPv4 address are different targets")
	}
	for _, target := range []Target{{Port: 80}, {netip.IPv4Unspecified(), 80}, {netip.IPv6Unspecified(), 80}} {
		if target.key() != (tapTarget{Port: 80}) {
			t.Errorf("%v is not for any address", target)
		}
	}
	for want, target := range map[string]Target{"*:80": {Port: 80}, "10.0.0.1:80": v4, "[2001:db8::1]:443": {netip.MustParseAddr("2001:db8::1"), 443}} {
		if got := target.String(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestSelection(t *testing.T) {
	var (
		host = hostAddrs{
			addrs:    []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("2001:db8::1")},
			loopback: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
		}
		local     = Target{netip.MustParseAddr("10.0.0.1"), 80}
		mapped    = Target{netip.MustParseAddr("::ffff:10.0.0.1"), 80}
		loopback  = Target{netip.MustParseAddr("127.0.0.53"), 80}
		remote    = Target{netip.MustParseAddr("10.0.0.2"), 80}
		anywhere  = Target{Port: 80}
		none      = attach.Want{}
		in        = attach.Want{Ingress: true}
		both      = attach.Want{Ingress: true, Egress: true}
		expansion = []Target{{host.addrs[0], 80}, {host.addrs[1], 80}, {host.addrs[2], 80}}
	)
	tests := []struct {
		name     string
		patterns []string
		targets  []Target
		lo, eth0 attach.Want
		keys     []Target
	}{
		{"nothing", nil, nil, none, none, nil},
		{"own address", nil, []Target{local}, in, in, []Target{local}},
		{"own address, mapped", nil, []Target{mapped}, in, in, []Target{local}},
		{"own loopback prefix", nil, []Target{loopback}, in, in, []Target{loopback}},
		{"another host's", nil, []Target{remote}, none, both, []Target{remote}},
		{"both", nil, []Target{local, remote}, in, both, []Target{local, remote}},
		{"any", nil, []Target{anywhere}, in, in, expansion},
		{"any, on named interfaces", []string{"eth0"}, []Target{anywhere}, none, in, []Target{anywhere}},
		{"any, on a glob", []string{"l?", "nope"}, []Target{anywhere}, in, none, []Target{anywhere}},
		{"own address, on named interfaces", []string{"eth*"}, []Target{local}, none, in, []Target{local}},
		{"another host's, on named interfaces", []string{"eth*", "lo"}, []Target{remote}, none, both, []Target{remote}},
		{"any and another host's, on named interfaces", []string{"*"}, []Target{anywhere, remote}, in, both, []Target{anywhere, remote}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newSelection(tt.patterns, false, tt.targets, host)
			if got := s.want("lo", net.FlagUp|net.FlagLoopback); got != tt.lo {
				t.Errorf("lo: %+v, want %+v", got, tt.lo)
			}
			if got := s.want("eth0", net.FlagUp); got != tt.eth0 {
				t.Errorf("eth0: %+v, want %+v", got, tt.eth0)
			}
			// Responses go out wherever their requests come in, but for lo.
			answers := newSelection(tt.patterns, true, tt.targets, host)
			if got := answers.want("lo", net.FlagUp|net.FlagLoopback); got != tt.lo {
				t.Errorf("lo, with responses: %+v, want %+v", got, tt.lo)
			}
			if got, want := answers.want("eth0", net.FlagUp), (attach.Want{Ingress: tt.eth0.Ingress, Egress: tt.eth0.Ingress}); got != want {
				t.Errorf("eth0, with responses: %+v, want %+v", got, want)
			}
			if diff := cmp.Diff(newKeys(tt.keys...), s.keys, cmp.AllowUnexported(tapTarget{})); diff != "" {
				t.Errorf("keys (-want +got):\n%s", diff)
			}
		})
	}
}

func TestOpenRejects(t *testing.T) {
	for name, cfg := range map[string]Config{
		"pattern":   {Interfaces: []string{"eth0", "[eth"}},
		"shards":    {Shards: 3},
		"ring size": {RingBytes: 12345},
		"poll":      {Poll: time.Second},
	} {
		if tap, err := Open(cfg); err == nil {
			t.Errorf("%s: accepted", name)
			tap.Close()
		}
	}
	needRoot(t)
	if tap, err := Open(Config{MaxBytesPerSecond: 1}); err == nil {
		t.Error("budget: accepted")
		tap.Close()
	}
}

func TestPortsOfABondAreLeftToIt(t *testing.T) {
	targets := []Target{{netip.MustParseAddr("192.0.2.1"), 80}}
	both := attach.Want{Ingress: true, Egress: true}
	port := &netlink.Device{LinkAttrs: netlink.LinkAttrs{Name: "eth0", Flags: net.FlagUp, Slave: &netlink.BondSlave{}}}
	if got := newSelection(nil, false, targets, hostAddrs{}).wantLink(port); got != (attach.Want{}) {
		t.Errorf("a port of a bond: %+v", got)
	}
	if got := newSelection([]string{"eth*"}, false, targets, hostAddrs{}).wantLink(port); got != both {
		t.Errorf("a port of a bond that was asked for: %+v", got)
	}
	port.Slave = nil
	if got := newSelection(nil, false, targets, hostAddrs{}).wantLink(port); got != both {
		t.Errorf("an interface of its own: %+v", got)
	}
}
