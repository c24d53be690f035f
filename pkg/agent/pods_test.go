package agent

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/shadowtap/shadowtap/pkg/capture"
)

func TestPlan(t *testing.T) {
	addr, port := netip.MustParseAddr, netip.MustParseAddrPort
	var (
		endpoints = []netip.AddrPort{port("10.0.0.1:80"), port("10.0.0.1:81"), port("10.0.0.2:80"), port("[fd00::1]:80"), port("192.0.2.1:80")}
		inPods    = map[netip.Addr]bool{addr("10.0.0.1"): true, addr("fd00::1"): true}
		node      = map[netip.Addr]Workload{
			addr("10.0.0.1"): {}, addr("fd00::1"): {Sidecar: true}, addr("10.0.0.2"): {}, addr("192.0.2.1"): {HostNetwork: true},
		}
	)
	for _, tt := range []struct {
		name      string
		endpoints []netip.AddrPort
		workloads map[netip.Addr]Workload
		host      []netip.AddrPort
		missing   int
	}{
		{"workloads not known", endpoints, nil, []netip.AddrPort{port("10.0.0.2:80"), port("192.0.2.1:80")}, 0},
		{"workloads known", endpoints, node, []netip.AddrPort{port("192.0.2.1:80")}, 1},
		{"not in the network of the host", []netip.AddrPort{port("192.0.2.2:80")},
			map[netip.Addr]Workload{addr("192.0.2.2"): {HostNetwork: true}}, nil, 1},
		{"none here", endpoints, map[netip.Addr]Workload{}, nil, 0},
		{"any address", []netip.AddrPort{netip.AddrPortFrom(netip.Addr{}, 80)}, nil, []netip.AddrPort{netip.AddrPortFrom(netip.Addr{}, 80)}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			host, missing := newPlan(tt.endpoints, tt.workloads).host(tt.endpoints, inPods, func(a netip.Addr) bool { return a == addr("192.0.2.1") })
			if diff := cmp.Diff(tt.host, host, cmpopts.EquateComparable(netip.AddrPort{})); diff != "" || missing != tt.missing {
				t.Errorf("%d missing, want %d; on the host (-want +got):\n%s", missing, tt.missing, diff)
			}
		})
	}

	l := newPlan(append(endpoints, netip.AddrPortFrom(netip.IPv6Unspecified(), 90)), node)
	mapped := netip.AddrPortFrom(addr("::ffff:10.0.0.1"), 82)
	m := newPlan([]netip.AddrPort{mapped}, nil)
	for _, tt := range []struct {
		plan      plan
		addresses []netip.Addr
		targets   []capture.Target
		proxied   bool
	}{
		{l, []netip.Addr{addr("10.0.0.1")}, []capture.Target{{Addr: addr("10.0.0.1"), Port: 80}, {Addr: addr("10.0.0.1"), Port: 81}, {Addr: addr("10.0.0.1"), Port: 90}}, false},
		{l, []netip.Addr{addr("10.9.9.9"), addr("fd00::1")}, []capture.Target{
			{Addr: addr("10.9.9.9"), Port: 90}, {Addr: addr("fd00::1"), Port: 80}, {Addr: addr("fd00::1"), Port: 90}}, true},
		{m, []netip.Addr{addr("10.0.0.1")}, []capture.Target{{Addr: addr("10.0.0.1"), Port: 82}}, false},
		{m, nil, nil, false},
	} {
		if diff := cmp.Diff(tt.targets, tt.plan.targets(tt.addresses), cmpopts.EquateComparable(netip.Addr{})); diff != "" {
			t.Errorf("%v (-want +got):\n%s", tt.addresses, diff)
		}
		if got := tt.plan.proxied(tt.addresses); got != tt.proxied {
			t.Errorf("%v: proxied %v", tt.addresses, got)
		}
	}
}

// What a request to a loopback address arrived at, as the rules see it.
func TestPodEndpoint(t *testing.T) {
	v4, v6 := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")
	p := &podSource{}
	p.local.Store(&map[uint32]podAddresses{1: {v4: v4, v6: v6}, 2: {v4: v4}, 3: {v6: v6}})
	for _, tt := range []struct {
		instance  uint32
		dst, want string
	}{
		{0, "127.0.0.1:80", "127.0.0.1:80"},
		{1, "127.0.0.1:80", "10.0.0.1:80"}, {1, "[::1]:80", "[fd00::1]:80"}, {1, "10.0.0.7:80", "10.0.0.7:80"},
		{2, "127.0.0.9:81", "10.0.0.1:81"}, {2, "[::1]:80", "10.0.0.1:80"},
		{3, "127.0.0.1:80", "[fd00::1]:80"}, {4, "127.0.0.1:80", "127.0.0.1:80"},
	} {
		dst := netip.MustParseAddrPort(tt.dst)
		f := capture.Flow{DstIP: dst.Addr().As16(), DstPort: dst.Port(), Instance: tt.instance}
		if got := p.Endpoint(f).String(); got != tt.want {
			t.Errorf("instance %d, %s: %s, want %s", tt.instance, tt.dst, got, tt.want)
		}
	}
}
