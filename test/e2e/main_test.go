// Package e2e tests the whole program from outside: the binary that is
// shipped, run as root on real interfaces, between real clients and servers
// that keep every byte they see. Every test has network namespaces of its own
// and leaves nothing behind; laws_test.go says which test shows which promise.
//
//	go test ./test/e2e                          builds the program once and runs everything
//	SHADOWTAP_E2E_RACE=1 go test ./test/e2e     the same with the race detector in the program
//	SHADOWTAP_REQUIRE_NGINX=1                   a missing nginx is a failure, not a skip
package e2e

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"testing"
	"time"
)

// patience bounds every wait for something that must happen. It is no
// measurement: on a slow machine the tests are slow, not red.
const patience = 2 * time.Minute

// program is the path of the shadowtap under test.
var program string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	if os.Geteuid() != 0 {
		return m.Run() // everything skips itself
	}
	dir, err := os.MkdirTemp("", "shadowtap-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	program = filepath.Join(dir, "shadowtap")
	if err := build(program); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if !given("test.parallel") {
		// The tests wait more than they compute, but they keep every byte.
		_ = flag.Set("test.parallel", strconv.Itoa(min(4*runtime.GOMAXPROCS(0), 8)))
	}
	debug.SetGCPercent(30) // with the race detector, garbage takes gigabytes
	return m.Run()
}

// given reports whether a flag is on the command line.
func given(name string) (yes bool) {
	flag.Parse()
	flag.Visit(func(f *flag.Flag) { yes = yes || f.Name == name })
	return yes
}

// build compiles the program as it is released, or with the race detector.
func build(to string) error {
	// The go command keeps a result for as long as what the test looked at is
	// unchanged, and does not know what a compiler looks at on its behalf.
	for _, tree := range []string{"../../bpf", "../../cmd", "../../pkg"} {
		err := filepath.WalkDir(tree, func(path string, _ fs.DirEntry, err error) error {
			if err == nil {
				_, err = os.Stat(path)
			}
			if errors.Is(err, fs.ErrNotExist) {
				err = nil // an editor's temporary file
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", to, "github.com/shadowtap/shadowtap/cmd/shadowtap")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if raceDetector() {
		cmd = exec.Command("go", "build", "-race", "-o", to, "github.com/shadowtap/shadowtap/cmd/shadowtap")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=1")
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the program under test: %w\n%s", err, out)
	}
	return nil
}

// needRoot skips a test that cannot work without.
func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("network namespaces and eBPF need root")
	}
}

// raceDetector reports whether the program under test has it, which takes
// several times the memory.
func raceDetector() bool { return os.Getenv("SHADOWTAP_E2E_RACE") != "" }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually waits for a condition, whose last error is the failure.
func eventually(t testing.TB, what string, condition func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := condition()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v: %v", what, patience, err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// errNotYet is the error of a condition that has nothing better to say.
var errNotYet = errors.New("not yet")

// brief shows a message's bytes in a failure.
func brief(p []byte) string {
	const most = 600
	if len(p) <= most {
		return fmt.Sprintf("%q", p)
	}
	return fmt.Sprintf("%q... (%d bytes)", bytes.Clone(p[:most]), len(p))
}
