package e2e

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestDemo plays the demo as a user would.
func TestDemo(t *testing.T) {
	t.Parallel()
	needRoot(t)
	out, err := exec.Command(program, "demo").CombinedOutput()
	if err != nil {
		t.Fatalf("demo: %v\n%s", err, out)
	}
	for _, want := range []string{
		"VirtualService default/bookinfo, route httpbin-route",
		"//get?author=shakespeare&year=1594 HTTP/1.1 to 10.99.1.2:80",
		"507 seen = 505 mirrored + 2 filtered",
	} {
		if !strings.Contains(string(out), want) {
			t.Errorf("the demo does not say %q", want)
		}
	}
	if !strings.HasSuffix(strings.TrimSpace(string(out)), "as it does without shadowtap.") {
		t.Errorf("the demo does not end well:\n%s", out)
	}
}

// TestDemoInterrupted: wherever it is interrupted, the demo ends and takes
// everything with it.
func TestDemoInterrupted(t *testing.T) {
	t.Parallel()
	for _, moment := range []string{"shadowtap demo", "On the node", "1. ", "4. ", "8. ", "shadowtap's account"} {
		t.Run(moment, func(t *testing.T) {
			t.Parallel()
			needRoot(t)
			// Children inherit the environment, which makes them easy to find.
			mark := "SHADOWTAP_E2E_MARK=" + strings.ReplaceAll(t.TempDir(), "/", "_")
			cmd := exec.Command(program, "demo")
			cmd.Env = append(os.Environ(), mark)
			stdout, narrator := lineByLine(t)
			cmd.Stdout = narrator
			must(t, cmd.Start())
			must(t, narrator.Close())
			lines := bufio.NewScanner(stdout)
			for interrupted := false; lines.Scan(); {
				if !interrupted && strings.HasPrefix(lines.Text(), moment) {
					must(t, cmd.Process.Signal(syscall.SIGINT))
					interrupted = true
				}
			}
			err := cmd.Wait()
			// The last moment may be too late to interrupt anything.
			if err == nil && moment != "shadowtap's account" {
				t.Error("the demo ended as if nothing had happened")
			}
			eventually(t, "the children being gone", func() error {
				if left := withEnvironment(mark); len(left) > 0 {
					return fmt.Errorf("processes %v are left", left)
				}
				return nil
			})
		})
	}
}

// lineByLine is a pipe that holds one write, so that who writes cannot be at its
// end while the reader is still somewhere in the middle (pipe(2), O_DIRECT).
func lineByLine(t *testing.T) (r, w *os.File) {
	t.Helper()
	var fds [2]int
	must(t, unix.Pipe2(fds[:], unix.O_DIRECT|unix.O_CLOEXEC))
	r, w = os.NewFile(uintptr(fds[0]), "narration"), os.NewFile(uintptr(fds[1]), "narrator")
	t.Cleanup(func() { _ = r.Close() })
	_, err := unix.FcntlInt(w.Fd(), unix.F_SETPIPE_SZ, os.Getpagesize())
	must(t, err)
	return r, w
}

// withEnvironment returns the processes that have a variable.
func withEnvironment(variable string) (pids []string) {
	files, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, f := range files {
		if env, err := os.ReadFile(f); err == nil && bytes.Contains(env, []byte(variable)) {
			pids = append(pids, filepath.Base(filepath.Dir(f)))
		}
	}
	return pids
}
