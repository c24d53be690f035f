package privilege

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestParseUser(t *testing.T) {
	for _, test := range []struct {
		text string
		want User
		ok   bool
	}{
		{"65534", User{65534, 65534}, true},
		{"1000:100", User{1000, 100}, true},
		{"0:0", User{}, true},
		{"", User{}, false},
		{"nobody", User{}, false},
		{"1:", User{}, false},
		{"1:2:3", User{}, false},
		{"-1", User{}, false},
		{"4294967295", User{}, false},
		{"1:4294967296", User{}, false},
	} {
		u, err := ParseUser(test.text)
		if (err == nil) != test.ok || err == nil && *u != test.want {
			t.Errorf("%q: %+v, %v", test.text, u, err)
		}
	}
}

func TestUnreadable(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: reads files of somebody else")
	}
	mine := filepath.Join(t.TempDir(), "mine")
	theirs := filepath.Join(t.TempDir(), "theirs")
	behind := filepath.Join(filepath.Dir(theirs), "dir", "file")
	for name, mode := range map[string]os.FileMode{mine: 0o600, theirs: 0o600} {
		if err := os.WriteFile(name, nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Mkdir(filepath.Dir(behind), 0o700), os.WriteFile(behind, nil, 0o644),
		os.Chown(theirs, 1, 1), os.Chown(filepath.Dir(behind), 1, 1)); err != nil {
		t.Fatal(err)
	}
	before, err := Permitted()
	if err != nil {
		t.Fatal(err)
	}
	got, err := Unreadable([]string{mine, theirs, behind, "/none", ""})
	if err != nil || !slices.Equal(got, []string{theirs, behind}) {
		t.Errorf("got %q, %v", got, err)
	}
	if after, err := Permitted(); err != nil || after != before {
		t.Errorf("capabilities %x became %x, %v", before, after, err)
	}
	if _, err := os.ReadFile(theirs); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// dropInChild is set for the process that this test starts to be confined.
const dropInChild = "PRIVILEGE_TEST_DROP"

// TestDrop lets a process of its own drop what it has. A test binary that is
// linked with cgo, as with the race detector, must refuse; then one that is not
// is made for it.
func TestDrop(t *testing.T) {
	if os.Getenv(dropInChild) != "" {
		err := Drop(Of(unix.CAP_NET_ADMIN), &User{65534, 65534})
		status, _ := os.ReadFile("/proc/thread-self/status")
		if errors.Is(err, ErrCgo) {
			os.Stdout.WriteString("cgo\n")
			os.Exit(0)
		}
		if err != nil {
			os.Stdout.WriteString(err.Error())
		}
		os.Stdout.Write(status)
		os.Exit(0)
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root: has nothing to drop")
	}
	out := child(t, "/proc/self/exe")
	if strings.HasPrefix(out, "cgo\n") {
		out = child(t, withoutCgo(t))
	}
	for _, want := range []string{"Uid:\t65534\t65534\t65534\t65534", "NoNewPrivs:\t1", "CapEff:\t0000000000001000",
		"CapPrm:\t0000000000001000", "CapBnd:\t0000000000001000", "CapAmb:\t0000000000000000", "CapInh:\t0000000000000000"} {
		if !strings.Contains(out, want+"\n") {
			t.Errorf("want %q in\n%s", want, out)
		}
	}
}

// withoutCgo builds the tests of this package without cgo.
func withoutCgo(t *testing.T) (binary string) {
	t.Helper()
	binary = filepath.Join(t.TempDir(), "privilege.test")
	cmd := exec.Command("go", "test", "-c", "-o", binary, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the tests without cgo: %v\n%s", err, out)
	}
	return binary
}

// child runs TestDrop in a process of its own and returns what it says.
func child(t *testing.T, binary string) string {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	p, err := os.StartProcess(binary, []string{os.Args[0], "-test.run=^TestDrop$"}, &os.ProcAttr{
		Env: append(os.Environ(), dropInChild+"=1"), Files: []*os.File{nil, w, w}, Sys: &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL},
	})
	_ = w.Close()
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	buf := make([]byte, 4096)
	for {
		n, err := r.Read(buf)
		out.Write(buf[:n])
		if err != nil {
			break
		}
	}
	if _, err := p.Wait(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}
