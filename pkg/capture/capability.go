package capture

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// neededCapabilities is for messages; see checkCapabilities.
const neededCapabilities = "CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON"

// checkCapabilities returns an error that wraps os.ErrPermission and names
// what the calling thread lacks of the capabilities(7) that loading and
// attaching take.
//
// The kernel would refuse too, but not always intelligibly: without
// CAP_PERFMON its verifier follows so many more paths that it gives up on the
// program, after most of a minute, as "too large".
func checkCapabilities() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return fmt.Errorf("read this thread's capabilities: %w", err)
	}
	has := func(c int) bool { return data[c/32].Effective>>(c%32)&1 != 0 }

	var missing []string
	// CAP_SYS_ADMIN includes what was split off from it in Linux 5.8.
	if !has(unix.CAP_BPF) && !has(unix.CAP_SYS_ADMIN) {
		missing = append(missing, "CAP_BPF")
	}
	if !has(unix.CAP_NET_ADMIN) {
		missing = append(missing, "CAP_NET_ADMIN")
	}
	if !has(unix.CAP_PERFMON) && !has(unix.CAP_SYS_ADMIN) {
		missing = append(missing, "CAP_PERFMON")
	}
	if len(missing) == 0 {
		return nil
	}
	return fmt.Errorf("load the tap: %w: missing %s (it takes root, or %s)",
		os.ErrPermission, strings.Join(missing, ", "), neededCapabilities)
}
