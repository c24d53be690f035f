package attach

import (
	"context"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
)

func TestAttach(t *testing.T) {
	modes(t, func(t *testing.T, m Mode) {
		a, b := pair(t, "a0", "b0")
		c := newCounters(t)
		f := follow(t, Options{Programs: c.programs(), Mode: m, Select: on("a0")})
		f.until("a0 ingress", "a0 egress")
		for _, h := range f.Hooks() {
			if h.Mode != m || h.Ifindex != a.Attrs().Index || h.Since.IsZero() {
				t.Errorf("hook %+v", h)
			}
		}
		if m == TCX {
			expectAttached(t, a, "ingress tcx tap_ingress_eth", "egress tcx tap_egress_eth")
		} else {
			expectAttached(t, a, "qdisc clsact", "ingress bpf pref 10 shadowtap", "egress bpf pref 10 shadowtap")
		}
		expectAttached(t, b)
		send(t, b, 3)
		send(t, a, 2)
		expectCount(t, "ingress", c.ingressEth, 3)
		expectCount(t, "egress", c.egressEth, 2)
		f.stop()
		expectAttached(t, a)
		send(t, b, 1)
		expectCount(t, "ingress", c.ingressEth, 3)
	})
}

// TestAuto checks that Auto takes what the kernel has.
func TestAuto(t *testing.T) {
	t.Parallel()
	enterLab(t)
	c := newCounters(t)
	pair(t, "a0", "b0")
	f := follow(t, Options{Programs: c.programs(), Select: on("a0")})
	f.until("a0 ingress", "a0 egress")
	if got := f.Hooks()[0].Mode; got != TCX && got != Clsact {
		t.Errorf("attached by %v", got)
	}
	f.stop()

	t.Run("without tcx", func(t *testing.T) {
		enterLab(t)
		need(t, Clsact)
		a, _ := pair(t, "a0", "b0")
		f, err := New(Options{Programs: c.programs(), Select: on("a0")})
		must(t, err)
		f.tcxGone = true
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- f.Run(ctx) }()
		<-f.Ready()
		expectAttached(t, a, "qdisc clsact", "ingress bpf pref 10 shadowtap", "egress bpf pref 10 shadowtap")
		cancel()
		must(t, <-done)
		expectAttached(t, a)
		if err := f.Run(t.Context()); err == nil {
			t.Error("Run worked twice")
		}
	})
}

func TestMode(t *testing.T) {
	for _, m := range []Mode{Auto, TCX, Clsact} {
		var got Mode
		if err := got.Set(m.String()); err != nil || got != m {
			t.Errorf("Set(%q): %v, %v", m.String(), got, err)
		}
	}
	if m, err := ParseMode("xdp"); err == nil {
		t.Errorf("ParseMode(xdp) = %v", m)
	}
}

func TestNewRefuses(t *testing.T) {
	none := func(netlink.Link) Want { return Want{} }
	some := Programs{IngressEth: new(ebpf.Program)}
	for name, o := range map[string]Options{
		"no select":   {Programs: some},
		"no programs": {Select: none},
		"mode":        {Programs: some, Select: none, Mode: 9},
	} {
		if _, err := New(o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestLayer(t *testing.T) {
	for encap, want := range map[string]int{
		"ether": 2, "loopback": 2,
		"none": 3, "ipip": 3, "tunnel6": 3, "sit": 3, "gre": 3, "ppp": 3, "unknown519": 3,
		"infiniband": 0, "ieee802.11/radiotap": 0, "unknown804": 0, "": 0,
	} {
		if got := layer(encap); got != want {
			t.Errorf("layer(%q) = %d, want %d", encap, got, want)
		}
	}
}
