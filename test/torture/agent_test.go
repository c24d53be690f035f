package torture

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"
)

// patience bounds every wait for something that must happen.
const patience = 2 * time.Minute

// agent is a running shadowtap that reads a recording as it is made.
type agent struct {
	cmd     *exec.Cmd
	account string
	log     bytes.Buffer // read once the agent has ended
	done    chan struct{}
	exit    error

	watch   sync.WaitGroup
	mu      sync.Mutex
	peakKiB int
	anonKiB int // peak of what is neither code nor ring buffers
}

// startAgent starts the program; start is exec.Cmd.Start or its like.
func startAgent(t testing.TB, start func(*exec.Cmd) error, stdin io.Reader, args ...string) *agent {
	t.Helper()
	a := &agent{account: filepath.Join(t.TempDir(), "account.json"), done: make(chan struct{})}
	a.cmd = exec.Command(program, append([]string{"run", "--agent-name", agentName, "--account", a.account,
		"--drain-timeout", "60s", "--log-level", "warn"}, args...)...)
	a.cmd.Stdin, a.cmd.Stderr = stdin, &a.log
	must(t, start(a.cmd))
	go func() {
		a.exit = a.cmd.Wait()
		close(a.done)
	}()
	a.watch.Go(func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			a.sample()
			select {
			case <-a.done:
				return
			case <-tick.C:
			}
		}
	})
	t.Cleanup(func() {
		_ = a.cmd.Process.Kill()
		<-a.done
		a.watch.Wait()
	})
	return a
}

// sample reads the peak of the agent's resident memory. rusage would be of no
// use: it begins with that of the process that forked.
func (a *agent) sample() {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", a.cmd.Process.Pid))
	if err != nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for field, peak := range map[string]*int{"VmHWM:": &a.peakKiB, "RssAnon:": &a.anonKiB} {
		_, rest, ok := bytes.Cut(status, []byte(field))
		if !ok {
			return // it has ended
		}
		if kib, err := strconv.Atoi(string(bytes.Fields(rest)[0])); err == nil {
			*peak = max(*peak, kib)
		}
	}
}

// peakAnonMiB is the peak of the agent's memory without its code and the ring
// buffers, as far as samples tell.
func (a *agent) peakAnonMiB() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return (a.anonKiB + 1023) >> 10
}

// cpu is the processor time the agent took; it has ended.
func (a *agent) cpu() time.Duration {
	return a.cmd.ProcessState.SystemTime() + a.cmd.ProcessState.UserTime()
}

// ended waits for the agent to end by itself and returns its account and the
// peak of its resident memory in MiB.
func (a *agent) ended() (acc account, peakMiB int, err error) {
	select {
	case <-a.done:
	case <-time.After(patience):
		return acc, 0, errors.New("shadowtap does not end")
	}
	a.watch.Wait()
	if a.exit != nil {
		return acc, 0, fmt.Errorf("shadowtap ended with %w\n%s", a.exit, a.log.String())
	}
	text, err := os.ReadFile(a.account)
	if err == nil {
		err = json.Unmarshal(text, &acc)
	}
	return acc, (a.peakKiB + 1023) >> 10, err
}

// rulesFor replaces the prefix of every request's target and mirrors all of
// them to the shadow.
func rulesFor(t testing.TB, shadow net.Addr) string {
	t.Helper()
	host, port, err := net.SplitHostPort(shadow.String())
	must(t, err)
	name := filepath.Join(t.TempDir(), "rules.yaml")
	must(t, os.WriteFile(name, fmt.Appendf(nil, `apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: served}
spec:
  hosts: [served]
  resolution: STATIC
  ports: [{name: http, number: 80, protocol: HTTP, targetPort: 80}]
  endpoints:
  - {address: %q, labels: {version: v1}}
  - {address: %q, labels: {version: v1}}
  - {address: %q, ports: {http: %s}, labels: {version: v2}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: served}
spec:
  host: served
  subsets:
  - {name: v1, labels: {version: v1}}
  - {name: v2, labels: {version: v2}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: torture}
spec:
  hosts: [torture.test]
  http:
  - match: [{uri: {prefix: %s}}]
    rewrite: {uri: %s}
    route: [{destination: {host: served, subset: v1}}]
    mirror: {host: served, subset: v2}
`, served4.Addr(), served6.Addr(), host, port, servedPrefix, shadowPrefix), 0o600))
	return name
}
