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

func newClock() (clock, error) {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return clock{}, fmt.Errorf("read CLOCK_MONOTONIC: %w", err)
	}
	return clock{origin: time.Now(), mono: ts.Nano()}, nil
}

// read returns the present time on both clocks, in nanoseconds: CLOCK_MONOTONIC,
// and since the Unix epoch.
func (c clock) read() (mono, wall int64) {
	now := time.Now()
	return c.mono + int64(now.Sub(c.origin)), now.UnixNano()
}
