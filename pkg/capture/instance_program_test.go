package capture

import (
	"net/netip"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/google/go-cmp/cmp"
)

// pod is an instance of the loaded program without a namespace.
func (k *kernel) pod(id uint32, targets ...Target) *Instance {
	k.t.Helper()
	if k.loader == nil {
		loader, err := newInstanceLoader(k.spec, &k.tapMaps, k.responses)
		if err != nil {
			k.t.Fatal(err)
		}
		k.loader = loader
		k.t.Cleanup(func() { loader.close() })
	}
	programs, err := k.loader.load(id)
	if err != nil {
		k.t.Fatal(err)
	}
	k.t.Cleanup(func() { programs.close() })
	i := &Instance{
		tap: &Tap{objs: k.objects}, id: id, programs: programs,
		table: newTargetTable(k.Targets, k.table.ports), ports: make(map[uint16]struct{}),
	}
	if err := i.SetTargets(targets, false); err != nil {
		k.t.Fatal(err)
	}
	return i
}

// What each of two instances and the host sees is a connection of its own,
// though all the numbers on it are the same, and is for them alone.
func TestInstancesAreApart(t *testing.T) {
	k := newKernel(t, 4, 1<<20, 0, target4)
	hook := map[string]*ebpf.Program{
		"host": k.TapIngressEth,
		"one":  k.pod(1, target4).programs.ingress.Eth,
		"two":  k.pod(2, target4).programs.ingress.Eth,
		"bare": k.pod(3).programs.ingress.Eth,
	}
	ns := newNetns(t)
	_, eth0 := newVeth(t, ns, ns, "left", "eth0")
	inNetns(t, ns, func() (struct{}, error) {
		for i, step := range []struct {
			hook, want string
		}{
			{"host", "copied"}, {"one", "copied"}, {"two", "copied"}, {"bare", ""}, {"one", "copied"}, {"host", "copied"},
		} {
			k.alive()
			before := k.count()
			if err := k.try(hook[step.hook], to4(FlagACK, 100, "x").bytes(t), uint32(eth0.Attrs().Index)); err != nil {
				return struct{}{}, err
			}
			got := k.count().minus(before)
			if want := (tally{"seen": 1, step.want: 1}); step.want != "" && cmp.Diff(want, got) != "" || step.want == "" && len(got) > 0 {
				t.Errorf("step %d, %s: counted %v, want %q", i, step.hook, got, step.want)
			}
		}
		return struct{}{}, nil
	})
	got := map[uint32]int{}
	for _, s := range k.segments() {
		f := flowOf(client4, server4)
		f.Instance = s.Flow.Instance
		if f != s.Flow {
			t.Errorf("flow %+v", s.Flow)
		}
		got[s.Flow.Instance]++
	}
	if diff := cmp.Diff(map[uint32]int{0: 2, 1: 2, 2: 1}, got); diff != "" {
		t.Errorf("segments by instance (-want +got):\n%s", diff)
	}
}

// From which side of a pod requests are taken. O is the outside (eth0), L the
// inside (lo).
func TestProgramSides(t *testing.T) {
	const (
		O, L   = 'O', 'L'
		copied = "copied"
		other  = SkippedOtherSide

		hello    = "\x16\x03\x01\x02\x00\x01..."
		finished = "\x14\x03\x03\x00\x01\x01\x17\x03\x03\x00\x35..."
		exchange = "\x16\x03\x03\x00\x25\x10..."
		early    = "\x17\x03\x03\x00\x99..."
		alert    = "\x15\x03\x03\x00\x02\x02\x16"
		get      = "GET / HTTP/1.1\r\n\r\n"
	)
	pod, localhost := server4, netip.MustParseAddrPort("127.0.0.1:80")
	type step struct {
		hook     rune
		dst      netip.AddrPort
		flags    Flags
		seq, ack uint32
		payload  string
		want     string // "" is unseen
	}
	syn := func(hook rune, dst netip.AddrPort, want string) step {
		return step{hook, dst, FlagSYN, 99, 0, "", want}
	}
	data := func(hook rune, dst netip.AddrPort, seq, ack uint32, payload, want string) step {
		return step{hook, dst, FlagACK, seq, ack, payload, want}
	}
	plain := []step{
		syn(O, pod, copied), data(O, pod, 100, 7, get, copied),
		syn(L, pod, other), data(L, pod, 100, 7, get, other),
		syn(L, localhost, other), data(L, localhost, 100, 7, get, other),
	}
	// What decrypted requests look like once the side has changed.
	inside := []step{
		syn(L, pod, copied), data(L, pod, 100, 7, get, copied), data(O, pod, 500, 9, "\x17\x03\x03", other),
		syn(L, netip.MustParseAddrPort("127.0.0.6:80"), copied), data(L, localhost, 100, 7, get, copied),
		syn(O, pod, other), data(O, pod, 100, 7, get, other),
	}
	handshake := []step{syn(O, pod, copied), data(O, pod, 100, 7, hello, copied)}
	then := func(parts ...[]step) (all []step) {
		for _, p := range parts {
			all = append(all, p...)
		}
		return all
	}
	one := func(s step) []step { return []step{s} }
	tests := []struct {
		name    string
		proxied bool
		steps   []step
	}{
		{"plain", false, plain},
		{"TLS 1.3", false, then(handshake, one(data(O, pod, 200, 8, finished, other)), inside)},
		{"TLS 1.2", false, then(handshake, one(data(O, pod, 200, 8, exchange, other)), inside)},
		{"TLS 1.3 without compatibility mode", false, then(handshake, one(data(O, pod, 200, 8, early, other)), inside)},
		{"long hello", false, then(handshake, []step{
			data(O, pod, 110, 7, "\x16\x03\x03 is any bytes here", copied), data(O, pod, 300, 8, finished, other)}, inside)},
		{"hello again", false, then(handshake, one(data(O, pod, 100, 7, hello, copied)), plain)},
		{"a hello to a port that speaks HTTP", false, then(handshake, one(data(O, pod, 200, 8, alert, copied)), plain)},
		{"a record without a hello", false, then(plain, one(data(O, pod, 118, 8, finished, copied)), plain)},
		{"a hello that is not the beginning", false, then(plain, []step{
			data(O, pod, 118, 8, hello, copied), data(O, pod, 200, 9, finished, copied)}, plain)},
		{"a handshake inside", false, then(
			[]step{syn(L, pod, other), data(L, pod, 100, 7, hello, other), data(L, pod, 200, 8, finished, other)}, plain)},
		{"a proxy is known", true, then(inside, one(data(O, pod, 200, 8, finished, other)), inside)},
		{"loopback from outside", false, []step{syn(O, localhost, ""), data(O, localhost, 100, 7, get, "")}},
		{"other addresses", false, []step{
			syn(L, netip.MustParseAddrPort("198.51.100.21:80"), ""), syn(L, netip.MustParseAddrPort("127.0.0.1:81"), "")}},
	}

	k := newKernel(t, 1, 1<<20, 0)
	ns := newNetns(t)
	_, eth0 := newVeth(t, ns, ns, "left", "eth0")
	for n, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			i := k.pod(uint32(n+1), target4)
			if err := i.SetTargets([]Target{target4}, tt.proxied); err != nil {
				t.Fatal(err)
			}
			inNetns(t, ns, func() (struct{}, error) {
				for n, s := range tt.steps {
					ifindex := uint32(1)
					if s.hook == O {
						ifindex = uint32(eth0.Attrs().Index)
					} else {
						s.seq += 7000 // the proxy's connection is another one
					}
					p := packet{src: client4, dst: s.dst, seq: s.seq, ack: s.ack, flags: s.flags, payload: s.payload}
					k.alive()
					before := k.count()
					if err := k.try(i.programs.ingress.Eth, p.bytes(t), ifindex); err != nil {
						return struct{}{}, err
					}
					want := tally{}
					if s.want != "" {
						want = tally{"seen": 1, s.want: 1}
					}
					if diff := cmp.Diff(want, k.count().minus(before)); diff != "" {
						t.Errorf("step %d %c %v (-want +got):\n%s", n, s.hook, s.dst, diff)
					}
					for _, seg := range k.segments() {
						if seg.Flow.Destination() != s.dst || seg.Flow.Instance != i.id {
							t.Errorf("step %d: flow %+v", n, seg.Flow)
						}
					}
				}
				return struct{}{}, nil
			})
			if err := i.SetTargets(nil, false); err != nil {
				t.Fatal(err)
			}
		})
	}
	keys, ports := k.inKernel()
	if len(keys)+len(ports) > 0 {
		t.Errorf("targets %v and ports %v are left", keys, ports)
	}
	var port tapPodPort
	var side tapSide
	if k.Sides.Iterate().Next(&port, &side) {
		t.Errorf("port %+v is left", port)
	}
}

// A side stays what the program found out when other targets change.
func TestProgramSideIsKept(t *testing.T) {
	k := newKernel(t, 1, 1<<20, 0)
	i := k.pod(1, target4)
	if err := k.Sides.Put(i.port(80), tapSideSIDE_LOOPBACK); err != nil {
		t.Fatal(err)
	}
	other := Target{server4.Addr(), 81}
	for _, targets := range [][]Target{{target4, other}, {other}, {other, target4}} {
		if err := i.SetTargets(targets, false); err != nil {
			t.Fatal(err)
		}
		var side tapSide
		err := k.Sides.Lookup(i.port(80), &side)
		switch {
		case len(targets) == 1 && err == nil:
			t.Error("the side of a port that is none is kept")
		case len(targets) == 2 && err != nil:
			t.Error(err)
		case len(targets) == 2 && (side == tapSideSIDE_LOOPBACK) != (targets[0] == target4):
			t.Errorf("%v: side %d", targets, side)
		}
	}
}

func BenchmarkInstance(b *testing.B) {
	k := newKernel(b, 1, 1<<20, 0)
	k.pod(1)
	b.ResetTimer()
	for n := range b.N {
		p, err := k.loader.load(uint32(n + 2))
		if err != nil {
			b.Fatal(err)
		}
		if err := p.close(); err != nil {
			b.Fatal(err)
		}
	}
}
