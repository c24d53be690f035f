package capture

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// clock relates the kernel program's time to the wall clock. The program
// stamps records with bpf_ktime_get_ns, which is CLOCK_MONOTONIC: it never
// jumps, and stands still while the machine is suspended. CLOCK_REALTIME is
// stepped and slewed, so the distance between the two has to be looked up
// again and again; read does it without a system call, because Go's own
// monotonic reading is CLOCK_MONOTONIC too, only with another zero.
type clock struct {
	origin time.Time
	mono   int64 // CLOCK_MONOTONIC at origin, ns
}

func newClock() (c clock, err error) {
	// Between two readings this thread may lose its processor. Of several
	// pairs the closest is the true one.
	closest := time.Duration(1<<63 - 1)
	for range 16 {
		var ts unix.Timespec
		before := time.Now()
		if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
			return clock{}, fmt.Errorf("read CLOCK_MONOTONIC: %w", err)
		}
		now := time.Now()
		if d := now.Sub(before); d < closest {
			closest, c = d, clock{origin: now, mono: ts.Nano()}
		}
	}
	return c, nil
}

// read returns the present time on both clocks, in nanoseconds: CLOCK_MONOTONIC,
// and since the Unix epoch.
func (c clock) read() (mono, wall int64) {
	now := time.Now()
	return c.mono + int64(now.Sub(c.origin)), now.UnixNano()
}
