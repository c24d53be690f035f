package agent

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestMeetingInADirectory: agents find each other by a directory, one that looks
// does not find itself, and what dead ones left there is in nobody's way.
func TestMeetingInADirectory(t *testing.T) {
	t.Parallel()
	m := meeting{dir: filepath.Join(t.TempDir(), "run/meet")}
	begin := func() func() {
		t.Helper()
		end, err := m.begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return end
	}
	defer begin()()
	sit := func() *seat {
		t.Helper()
		s, _, err := m.listen()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		return s
	}
	finds := func(own, want *seat) {
		t.Helper()
		conn, err := m.dial(t.Context(), own)
		switch {
		case want == nil && !errors.Is(err, errNobody):
			t.Errorf("found %v, %v", conn, err)
		case want != nil && err != nil:
			t.Error(err)
		case want != nil:
			if at := conn.RemoteAddr().String(); at != m.address(want.number).Name {
				t.Errorf("found the one at %s", at)
			}
			_ = conn.Close()
		}
	}
	finds(nil, nil)
	first := sit()
	finds(nil, first)
	finds(first, nil)
	second := sit()
	finds(second, first)
	finds(first, second)
	if s, others, err := m.listen(); s != nil || !others || err == nil {
		t.Errorf("a third seat: %v, %v, %v", s, others, err)
	}
	if info, err := os.Stat(m.address(first.number).Name); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	_ = first.Close()
	_ = first.Close() // which does not take away what is another's by then
	if _, err := os.Stat(m.address(first.number).Name); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket's file is left: %v", err)
	}
	finds(second, nil)

	// A process that was killed leaves its file.
	l, err := net.ListenUnix("unix", m.address(first.number))
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	_ = l.Close()
	finds(second, nil)
	finds(second, sit())
}

// TestMeetingOneAtATime: two agents that start at once do not both find nobody.
func TestMeetingOneAtATime(t *testing.T) {
	t.Parallel()
	m := meeting{dir: t.TempDir()}
	if err := os.Chmod(m.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	end, err := m.begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	began := make(chan error)
	go func() {
		other, err := m.begin(t.Context())
		if err == nil {
			other()
		}
		began <- err
	}()
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := m.begin(cancelled); !errors.Is(err, context.Canceled) {
		t.Errorf("begun beside another: %v", err)
	}
	select {
	case err := <-began:
		t.Errorf("begun beside another: %v", err)
	default:
	}
	end()
	if err := <-began; err != nil {
		t.Error(err)
	}
}

// TestMeetingNeedsASafeDirectory: where others can put something, an agent would
// look for its like at theirs.
func TestMeetingNeedsASafeDirectory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	open, foreign := filepath.Join(dir, "open"), filepath.Join(dir, "foreign")
	for _, d := range []string{open, foreign} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(open, 0o777); err != nil {
		t.Fatal(err)
	}
	tests := map[string]string{file: "not a directory", open: "others must not be able to write"}
	if os.Geteuid() == 0 {
		if err := os.Chown(foreign, 65534, 65534); err != nil {
			t.Fatal(err)
		}
		tests[foreign] = "belongs to user 65534"
	}
	for dir, want := range tests {
		if _, err := (meeting{dir: dir}).begin(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", dir, err, want)
		}
	}
	for _, dir := range []string{"relative", "/" + strings.Repeat("d", 91)} {
		c := DefaultConfig()
		c.Port, c.TakeoverDir = 80, dir
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), "--takeover-dir") {
			t.Errorf("%s: %v", dir, err)
		}
	}
}
