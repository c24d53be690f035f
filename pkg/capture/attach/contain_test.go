package attach

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/vishvananda/netlink"
)

// TestPanicWithALink: all other links get their programs nevertheless, and this
// one when it is looked at again.
func TestPanicWithALink(t *testing.T) {
	modes(t, func(t *testing.T, m Mode) {
		pair(t, "a0", "b0")
		pair(t, "c0", "d0")
		var faulty atomic.Bool
		var faults atomic.Int64
		faulty.Store(true)
		wanted := on("a0", "b0", "c0", "d0")
		c := newCounters(t)
		f := follow(t, Options{
			Programs: c.programs(), Mode: m,
			Select: func(l netlink.Link) Want {
				if name := l.Attrs().Name; faulty.Load() && (name == "b0" || name == "c0") {
					panic(name)
				}
				return wanted(l)
			},
			Guard: func(step func()) (fault error) {
				defer func() {
					if v := recover(); v != nil {
						faults.Add(1)
						fault = fmt.Errorf("panic: %v", v)
					}
				}()
				step()
				return nil
			},
		})
		f.until("a0 ingress", "a0 egress", "d0 ingress", "d0 egress")
		if faults.Load() < 2 {
			t.Errorf("%d panics", faults.Load())
		}
		faulty.Store(false)
		f.Resync()
		f.until("b0 ingress", "b0 egress", "a0 ingress", "a0 egress", "d0 ingress", "d0 egress", "c0 ingress", "c0 egress") // as they were made
		f.stop()
	})
}
