package torture

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// cgroup is a control group of a test's own, below the one that the test is
// in, and of whichever version has the controller (cgroups(7)).
type cgroup struct {
	dir string
	v2  bool
}

// newCgroup makes one, or skips the test where that cannot be.
func newCgroup(t testing.TB, controller string) *cgroup {
	t.Helper()
	mount, v2 := cgroupMount(t, controller)
	if mount == "" {
		t.Skipf("no cgroup hierarchy with the %s controller is mounted", controller)
	}
	own, err := os.ReadFile("/proc/self/cgroup")
	must(t, err)
	path := "/"
	for line := range strings.Lines(string(own)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if v2 && f[0] == "0" || !v2 && slices.Contains(strings.Split(f[1], ","), controller) {
			path = f[2]
		}
	}
	dir, err := os.MkdirTemp(filepath.Join(mount, path), "shadowtap-torture-")
	if err != nil {
		t.Skipf("no control group of our own: %v", err)
	}
	t.Cleanup(func() {
		// It is busy for a moment after its last process has ended.
		waitFor(t, "the control group being removed", func() bool { return os.Remove(dir) == nil })
	})
	g := &cgroup{dir, v2}
	if _, err := os.Stat(g.file(map[string][2]string{
		"cpu":    {"cpu.cfs_quota_us", "cpu.max"},
		"memory": {"memory.limit_in_bytes", "memory.max"},
	}[controller])); err != nil {
		t.Skipf("the %s controller is not passed on to us: %v", controller, err)
	}
	return g
}

// cgroupMount is where the hierarchy of a controller is mounted.
func cgroupMount(t testing.TB, controller string) (dir string, v2 bool) {
	t.Helper()
	mounts, err := os.Open("/proc/self/mountinfo")
	must(t, err)
	defer mounts.Close()
	for s := bufio.NewScanner(mounts); s.Scan(); {
		before, after, _ := strings.Cut(s.Text(), " - ")
		at, kind := strings.Fields(before)[4], strings.Fields(after)
		switch kind[0] {
		case "cgroup":
			if slices.Contains(strings.Split(kind[2], ","), controller) {
				return at, false
			}
		case "cgroup2":
			dir, v2 = at, true
		}
	}
	return dir, v2
}

// file is the path of a file that the versions name differently.
func (g *cgroup) file(names [2]string) string {
	name := names[0]
	if g.v2 {
		name = names[1]
	}
	return filepath.Join(g.dir, name)
}

func (g *cgroup) write(t testing.TB, names [2]string, value string) {
	t.Helper()
	must(t, os.WriteFile(g.file(names), []byte(value), 0))
}

// add moves a process into the group.
func (g *cgroup) add(t testing.TB, pid int) {
	t.Helper()
	must(t, os.WriteFile(filepath.Join(g.dir, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0))
}

// limitCPU gives the group so many milliseconds of CPU in 100.
func (g *cgroup) limitCPU(t testing.TB, ms int) {
	t.Helper()
	const v1 = "cpu.cfs_quota_us"
	if g.v2 {
		g.write(t, [2]string{v1, "cpu.max"}, fmt.Sprint(ms*1000, " 100000"))
		return
	}
	must(t, os.WriteFile(filepath.Join(g.dir, "cpu.cfs_period_us"), []byte("100000"), 0))
	g.write(t, [2]string{v1, ""}, fmt.Sprint(ms*1000))
}

// freeCPU takes the limit back.
func (g *cgroup) freeCPU(t testing.TB) {
	t.Helper()
	value := "-1"
	if g.v2 {
		value = "max"
	}
	g.write(t, [2]string{"cpu.cfs_quota_us", "cpu.max"}, value)
}

// limitMemory bounds what processes take from now on, in bytes.
func (g *cgroup) limitMemory(t testing.TB, n int) {
	t.Helper()
	g.write(t, [2]string{"memory.limit_in_bytes", "memory.max"}, strconv.Itoa(n))
}

// oomKills is how many processes the kernel has killed for want of memory.
func (g *cgroup) oomKills(t testing.TB) int {
	t.Helper()
	text, err := os.ReadFile(g.file([2]string{"memory.oom_control", "memory.events"}))
	must(t, err)
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); f[0] == "oom_kill" {
			n, err := strconv.Atoi(f[1])
			must(t, err)
			return n
		}
	}
	return 0
}
