package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// TestDryRunSendsNothing: a dry run prints what would be sent, and nobody
// gets anything.
func TestDryRunSendsNothing(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	v1, v2 := serve(t, l.v1, v4.v1At(), nil), serve(t, l.v2, v4.v2At(), nil)
	a := startAgent(t, l.node, "-f", rulesFile(t, seedRules(t, v4)), "--dry-run", "-o", "json")
	c := l.clients(v4.v1At())
	conn := c.open()
	for _, r := range variety() {
		must(t, conn.do(r))
	}
	final := a.stop()
	checkReceived(t, c.messages(), v1.messages())
	if v2.connections() != 0 {
		t.Errorf("the shadow got %d connections in a dry run", v2.connections())
	}
	checkPrinted(t, a.stdout.String(), c.messages())
	if got := final.Requests.Mirrored + final.Requests.Filtered; got != uint64(len(variety())) || final.Shadow.Sent != 0 {
		t.Errorf("account %+v", final)
	}
}

// TestOutputOfALiveRun: -o prints each request that is mirrored, --account -
// adds the account, and SIGINT ends a run as SIGTERM does.
func TestOutputOfALiveRun(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	v1, v2 := serve(t, l.v1, v4.v1At(), nil), serve(t, l.v2, v4.v2At(), nil)
	a := startAgent(t, l.node, "-f", rulesFile(t, seedRules(t, v4)), "-o", "json", "--account", "-")
	c := l.clients(v4.v1At())
	conn := c.open()
	for _, r := range variety() {
		must(t, conn.do(r))
	}
	a.ending.Store(true)
	must(t, a.cmd.Process.Signal(syscall.SIGINT))
	<-a.done
	must(t, a.exit)
	checkCopies(t, v1.messages(), v2.messages(), seedRewrite, seedMirrors)

	lines, rest, ok := strings.Cut(a.stdout.String(), "\n{\n")
	if !ok {
		t.Fatalf("no account at the end of %q", a.stdout.String())
	}
	checkPrinted(t, lines, c.messages())
	var acc account
	must(t, json.Unmarshal([]byte("{"+rest), &acc))
	if got := acc.Requests.Mirrored; got != uint64(len(v2.messages())) {
		t.Errorf("the account says %d mirrored, the shadow got %d", got, len(v2.messages()))
	}
}

// checkPrinted compares lines of JSON with the requests that the seed's rule
// takes, in the order they were sent on one connection.
func checkPrinted(t *testing.T, lines string, sent []message) {
	t.Helper()
	var got, want []string
	for line := range strings.Lines(lines) {
		var r struct {
			Matched bool
			Mirrors []struct {
				Request struct {
					Method, Target string
					Headers        [][2]string
				}
			}
		}
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("%v: %q", err, line)
		}
		if !r.Matched || len(r.Mirrors) != 1 {
			t.Fatalf("not one mirror: %q", line)
		}
		copied := r.Mirrors[0].Request
		got = append(got, fmt.Sprint(copied.Method, " ", copied.Target, " ", len(copied.Headers)))
	}
	for _, m := range sent {
		if seedMirrors(m) {
			method, target, _ := m.requestLine()
			want = append(want, fmt.Sprint(method, " ", seedRewrite(target), " ", len(m.lines())-1))
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("printed\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestTwoAgentsCoexist: agents on one host do not disturb each other, whether
// both run, one ends, or one is killed.
func TestTwoAgentsCoexist(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"tcx", "clsact"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			if mode == "tcx" {
				needTCX(t, l.node)
			}
			serve(t, l.v1, v4.v1At(), nil)
			v2 := serve(t, l.v2, v4.v2At(), nil)
			c := l.clients(v4.v1At())
			path := rulesFile(t, seedRules(t, v4))
			start := func(admin string) *agent {
				return startAgent(t, l.node, "-f", path, "--attach", mode, "--admin", admin)
			}
			copies := 0
			each := func(agents int) {
				t.Helper()
				for range 5 {
					must(t, c.open().do(request{}))
				}
				copies += 5 * agents
				if got := len(v2.wait(t, copies)); got != copies {
					t.Errorf("%d copies, want %d", got, copies)
				}
			}
			first := start("127.0.0.1:9901")
			each(1)
			second := start("127.0.0.1:9902")
			each(2)
			first.stop().expect(t, outcome{mirrored: 10})
			each(1)
			third := start("127.0.0.1:9901")
			each(2)
			second.kill()
			each(1)
			third.stop().expect(t, outcome{mirrored: 10})
		})
	}
}

// TestMemoryIsBounded: a stuck shadow and a flood of large requests cost no
// more memory than allowed; what does not fit is dropped and counted.
func TestMemoryIsBounded(t *testing.T) {
	t.Parallel()
	const n = 200 // of 2 MiB each, 400 MiB in all
	l := newLab(t)
	serve(t, l.v1, v4.v1At(), nil).keepNothing()
	serve(t, l.v2, v4.v2At(), func(c net.Conn, _ message) error { _, err := io.Copy(io.Discard, c); return err }).keepNothing()
	a := startAgent(t, l.node, "-f", rulesFile(t, seedRules(t, v4)), "--memory-limit", "64MiB", "--timeout", "1h", "--drain-timeout", "10ms")
	c := l.clients(v4.v1At())
	c.blind = true
	body := megabytes(2)
	c.load(4, n/4, nil, func(int) request { return request{method: "POST", body: body} })()

	peak := peakMemory(t, a.cmd.Process.Pid)
	final := a.stop()
	r := final.Requests
	if r.Mirrored == 0 || r.Dropped["memory"] == 0 || r.Mirrored+sum(r.Dropped) != r.Seen {
		t.Errorf("requests %+v: want some mirrored, most dropped for want of memory", r)
	}
	// Where the machine is too busy for so much at once, the kernel's rings
	// are the bound that is met first.
	if lost := sum(final.Packets.Lost); lost == 0 && (r.Seen != n || r.Mirrored+r.Dropped["memory"] != n) {
		t.Errorf("requests %+v: want all %d, mirrored or dropped for want of memory", r, n)
	}
	// The limit is for the heap; the program and its stacks come on top, and
	// the rings, of which 64 MiB count twice. Without a bound it would be 400 MB
	// more.
	if limit := 240 << 20; peak > limit && !raceDetector() {
		t.Errorf("the agent used up to %d MiB, want at most %d", peak>>20, limit>>20)
	}
	if len(c.messages()) != n {
		t.Errorf("%d requests answered by v1, want %d", len(c.messages()), n)
	}
}

// peakMemory is the most physical memory a process has used, in bytes
// (proc_pid_status(5), VmHWM).
func peakMemory(t *testing.T, pid int) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	must(t, err)
	for line := range strings.Lines(string(status)) {
		if kib, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			n, err := strconv.Atoi(strings.Fields(kib)[0])
			must(t, err)
			return n << 10
		}
	}
	t.Fatal("no VmHWM in /proc/PID/status")
	return 0
}
