package attach

import (
	"fmt"
	"log/slog"
	"testing"

	"github.com/vishvananda/netlink"
)

// A Site does as it is told, finds what has changed in between, and leaves
// nothing.
func TestSite(t *testing.T) {
	modes(t, func(t *testing.T, m Mode) {
		a, b := pair(t, "a0", "b0")
		c, said := newCounters(t), new(log)
		vanishing := ""
		s, err := NewSite(Options{
			Programs: c.programs(), Mode: m, Logger: slog.New(slog.NewTextHandler(said, nil)),
			Select: func(l netlink.Link) Want {
				if l.Attrs().Name == vanishing {
					must(t, netlink.LinkDel(l)) // before anything can be attached
				}
				return Want{Ingress: l.Attrs().Name != "lo"}
			},
		})
		must(t, err)
		expect := func(names ...string) {
			t.Helper()
			var got []string
			for _, h := range s.Hooks() {
				got = append(got, h.Name)
			}
			if fmt.Sprint(got) != fmt.Sprint(names) {
				t.Errorf("attached to %v, want %v", got, names)
			}
		}
		expect()
		for range 2 { // as often as one likes
			must(t, s.Sync())
			expect("b0", "a0")
		}
		send(t, b, 3)
		expectCount(t, "a0", c.ingressEth, 3)

		// Interfaces come, go, and vanish while they are being attached to.
		pair(t, "a1", "b1")
		must(t, s.Sync())
		expect("b0", "a0", "b1", "a1")
		vanishing = "a1"
		must(t, s.Sync())
		must(t, s.Sync())
		expect("b0", "a0")
		pair(t, "a2", "b2")
		vanishing = "b2"
		must(t, s.Sync())
		must(t, s.Sync())
		expect("b0", "a0")

		must(t, s.Detach())
		expect()
		expectAttached(t, a)
		send(t, b, 1)
		expectCount(t, "a0", c.ingressEth, 3)

		must(t, s.Sync()) // again
		expect("b0", "a0")
		must(t, netlink.LinkDel(a))
		s.Abandon()
		expect()
		if text := said.String(); text != "" {
			t.Errorf("logged:\n%s", text)
		}
	})
}
