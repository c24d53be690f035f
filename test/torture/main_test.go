package torture

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"testing"
)

// program is the path of the shadowtap under test.
var program string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	// What is made is sent and forgotten: collecting it less often leaves more
	// of the machine to the program under test.
	debug.SetGCPercent(400)
	dir, err := os.MkdirTemp("", "shadowtap-torture-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	program = filepath.Join(dir, "shadowtap")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", program, "github.com/shadowtap/shadowtap/cmd/shadowtap")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build the program under test: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// size is how many requests a run sends and from which seed it makes them.
type size struct {
	requests int
	seed     uint64
}

// Without TORTURE_REQUESTS a run is short enough for every day.
const shortRequests = 3000

func sizeOfRun(t testing.TB) size {
	t.Helper()
	s := size{requests: shortRequests, seed: 1}
	var err error
	if v := os.Getenv("TORTURE_REQUESTS"); v != "" {
		s.requests, err = strconv.Atoi(v)
		must(t, err)
	}
	if v := os.Getenv("TORTURE_SEED"); v != "" {
		s.seed, err = strconv.ParseUint(v, 10, 64)
		must(t, err)
	}
	return s
}
