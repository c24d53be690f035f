package agent

import (
	"maps"
	"net/netip"
	"strings"
	"testing"

	"github.com/shadowtap/shadowtap/pkg/capture/netns"
)

func TestUncovered(t *testing.T) {
	a, b := netip.MustParseAddrPort("10.0.0.1:80"), netip.MustParseAddrPort("10.0.0.1:81")
	in := func(inode uint64, inside []uint16, endpoints ...netip.AddrPort) netPlace {
		return netPlace{Namespace: netns.ID{Inode: inode}, Inside: inside, Endpoints: endpoints}
	}
	for name, tt := range map[string]struct {
		place, other netPlace
		want         int
	}{
		"the same":           {in(1, []uint16{80}, a), in(1, []uint16{80}, a), 0},
		"more there":         {in(1, nil, a), in(1, []uint16{80}, b, a), 0},
		"another namespace":  {in(1, nil, a), in(2, nil, a), 1},
		"another endpoint":   {in(1, nil, a, b), in(1, nil, a), 1},
		"another side":       {in(1, []uint16{80}, a), in(1, nil, a), 1},
		"nothing is wanted":  {in(1, nil), in(2, nil), 0},
		"the one of another": {netPlace{Namespace: netns.ID{Inode: 1, Cookie: 1}, Endpoints: []netip.AddrPort{a}}, in(1, nil, a), 1},
	} {
		if got := uncovered([]netPlace{tt.place}, []netPlace{tt.other}); len(got) != tt.want {
			t.Errorf("%s: %d uncovered, want %d", name, len(got), tt.want)
		}
	}
}

// knows is a tap that captures in some namespaces.
type knows struct {
	handoverTap
	numbers map[netns.ID]uint32
	unused  uint32
}

func (k *knows) hold() func() { return func() {} }

func (k *knows) instanceOf(p netPlace) (uint32, bool) {
	n, ok := k.numbers[p.Namespace]
	return n, ok
}

func (k *knows) UnusedInstance() uint32 {
	k.unused++
	return k.unused
}

// TestRenumbering: flows keep their namespace under another number, and those
// of namespaces that are gone stay apart, and are known to be that.
func TestRenumbering(t *testing.T) {
	one, two, gone := netns.ID{Inode: 1}, netns.ID{Inode: 2}, netns.ID{Inode: 3}
	tap := &knows{numbers: map[netns.ID]uint32{one: 7, two: 0}, unused: 100}
	r := newRenumbering(tap, []netPlace{{Instance: 0, Namespace: one}, {Instance: 3, Namespace: two}, {Instance: 9, Namespace: gone}})
	for _, step := range []struct{ their, want uint32 }{{3, 0}, {0, 7}, {9, 101}, {8, 102}, {9, 101}, {0, 7}} {
		if got := r.of(step.their); got != step.want {
			t.Errorf("number %d is %d here, want %d", step.their, got, step.want)
		}
	}
	if want := map[uint32]bool{101: true, 102: true}; !maps.Equal(r.gone, want) {
		t.Errorf("gone are %v, want %v", r.gone, want)
	}
}

// TestMayGiveTo: no agent hands over to one that would see other flows.
func TestMayGiveTo(t *testing.T) {
	established := make(chan struct{})
	close(established)
	here, there := netns.ID{Inode: 1}, netns.ID{Inode: 2}
	hello := func(inPods bool, home netns.ID) *handoverMessage {
		return &handoverMessage{InPods: inPods, Places: []netPlace{{Namespace: home}}}
	}
	inPods := Config{NetNS: []string{"/run/netns/*"}, TakeoverDir: "/run/shadowtap"}
	for name, tt := range map[string]struct {
		agent *Agent
		hello *handoverMessage
		want  string
	}{
		"both on the host":     {&Agent{home: here, established: established}, hello(false, here), ""},
		"both in pods":         {&Agent{home: here, established: established, cfg: inPods}, hello(true, there), ""},
		"only this in pods":    {&Agent{home: here, established: established, cfg: inPods}, hello(false, here), "one of the two"},
		"only the new in pods": {&Agent{home: here, established: established}, hello(true, here), "one of the two"},
		"another network":      {&Agent{home: here, established: established, cfg: Config{TakeoverDir: "/d"}}, hello(false, there), "another network namespace"},
		"not established":      {&Agent{home: here, established: make(chan struct{})}, hello(false, here), "about to take over"},
	} {
		err := tt.agent.mayGiveTo(tt.hello)
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want %q", name, err, tt.want)
		}
	}
}
