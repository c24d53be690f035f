package capture

import (
	"errors"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// withCaps runs f on a thread of its own that has only these capabilities.
func withCaps(t *testing.T, caps []int, f func()) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends here
		var data [2]unix.CapUserData
		for _, c := range caps {
			data[c/32].Effective |= 1 << (c % 32)
			data[c/32].Permitted |= 1 << (c % 32)
		}
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		err := unix.Capset(&header, &data[0])
		if err == nil {
			f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// The capabilities an error names are enough, and each of them is needed.
func TestOpenCapabilities(t *testing.T) {
	needRoot(t)
	tap, err := Open(Config{}) // the library's probes have run with all of them
	if err != nil {
		t.Fatal(err)
	}
	tap.Close()
	caps := map[string]int{"CAP_BPF": unix.CAP_BPF, "CAP_NET_ADMIN": unix.CAP_NET_ADMIN, "CAP_PERFMON": unix.CAP_PERFMON}
	var all []int
	for _, c := range caps {
		all = append(all, c)
	}
	withCaps(t, all, func() {
		tap, err := Open(Config{})
		if err != nil {
			t.Error(err)
			return
		}
		if err := tap.Close(); err != nil {
			t.Error(err)
		}
	})
	for missing, without := range caps {
		var some []int
		for _, c := range all {
			if c != without {
				some = append(some, c)
			}
		}
		withCaps(t, some, func() {
			tap, err := Open(Config{})
			if err == nil {
				t.Errorf("opened without %s", missing)
				tap.Close()
				return
			}
			if !errors.Is(err, os.ErrPermission) || !strings.Contains(err.Error(), missing) {
				t.Errorf("without %s the error is: %v", missing, err)
			}
		})
	}
}

func TestRefusal(t *testing.T) {
	log := make([]string, 1000)
	for i := range log {
		log[i] = strings.Repeat("r", 1000)
	}
	log = append(log, "R6 unbounded memory access")
	cause := &ebpf.VerifierError{Cause: unix.EACCES, Log: log}
	err := loadError(cause)
	if !errors.Is(err, unix.EACCES) {
		t.Error("the cause is not wrapped")
	}
	text := err.Error()
	if !strings.HasSuffix(text, log[len(log)-1]) || !strings.Contains(text, "permission denied") {
		t.Errorf("the reason is missing: %s", text)
	}
	if len(text) > 4000 {
		t.Errorf("%d bytes are too many to read", len(text))
	}
}

func TestBudgetCost(t *testing.T) {
	for rate, want := range map[uint64]uint64{0: 0, minBudget: 1e9 << 20 / minBudget, 1e9: 1 << 20, 1 << 62: 1} {
		if got, err := budgetCost(rate); got != want || err != nil {
			t.Errorf("%d bytes/s: %d, %v, want %d", rate, got, err, want)
		}
	}
	if _, err := budgetCost(minBudget - 1); err == nil {
		t.Error("a budget too small to count was accepted")
	}
}
