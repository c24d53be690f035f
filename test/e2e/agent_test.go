package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/shadowtap/shadowtap/pkg/netlab"
)

// account is the program's account, as documented.
type account struct {
	Packets struct {
		Seen, Copied  uint64
		Skipped, Lost map[string]uint64
	}
	Flows struct {
		Open, Total uint64
		Ignored     map[string]uint64
	}
	Requests struct {
		Seen, Mirrored, Filtered uint64
		SampledOut               uint64 `json:"sampled_out"`
		Looped                   uint64
		Dropped                  map[string]uint64
		Pending                  uint64
	}
	Shadow struct {
		Sent             uint64
		Answered, Failed map[string]uint64
		Pending          uint64
	}
}

func sum(m map[string]uint64) (n uint64) {
	for _, v := range m {
		n += v
	}
	return n
}

// readAccount reads what --account wrote.
func readAccount(t testing.TB, path string) (acc account) {
	t.Helper()
	text, err := os.ReadFile(path)
	must(t, err)
	must(t, json.Unmarshal(text, &acc))
	return acc
}

// balanced is the law of accounting: nothing is lost in silence, at any time.
func (acc account) balanced() error {
	r, s := acc.Requests, acc.Shadow
	var errs []error
	if all := r.Mirrored + r.Filtered + r.SampledOut + r.Looped + sum(r.Dropped) + r.Pending; all != r.Seen {
		errs = append(errs, fmt.Errorf("%d requests seen, %d accounted for: %+v", r.Seen, all, r))
	}
	if all := sum(s.Answered) + sum(s.Failed) + s.Pending; all != s.Sent {
		errs = append(errs, fmt.Errorf("%d copies sent, %d accounted for: %+v", s.Sent, all, s))
	}
	return errors.Join(errs...)
}

// agent is a running shadowtap.
type agent struct {
	t       testing.TB
	ns      *netlab.Namespace
	cmd     *exec.Cmd
	log     lockedBuffer
	stdout  lockedBuffer
	admin   http.Client
	address string // of the admin API
	account string
	done    chan struct{}
	exit    error

	ending   atomic.Bool // it is told to end, its admin API may go away
	sampling context.CancelFunc
	samplers sync.WaitGroup
}

// startAgent runs shadowtap in a namespace and returns once it is ready. Until
// it is stopped its account is read over and over and must always be balanced.
func startAgent(t testing.TB, ns *netlab.Namespace, args ...string) *agent {
	t.Helper()
	a := launch(t, ns, args...)
	eventually(t, "readiness", func() error {
		select {
		case <-a.done:
			t.Fatalf("shadowtap ended before it was ready: %v", a.exit)
		default:
		}
		_, err := a.get("/readyz")
		return err
	})
	ctx, cancel := context.WithCancel(context.Background())
	a.sampling = cancel
	a.samplers.Go(func() { a.sample(ctx) })
	return a
}

// launch starts shadowtap and does not wait for anything.
func launch(t testing.TB, ns *netlab.Namespace, args ...string) *agent {
	t.Helper()
	a := &agent{
		t: t, ns: ns,
		admin:    http.Client{Transport: &http.Transport{DialContext: ns.Dial}, Timeout: patience},
		address:  "127.0.0.1:9901", // the default
		account:  filepath.Join(t.TempDir(), "account.json"),
		done:     make(chan struct{}),
		sampling: func() {},
	}
	if i := slices.Index(args, "--admin"); i >= 0 {
		a.address = args[i+1]
	}
	// Not to be limited by a machine that is slower than the program's defaults
	// are made for: what is lost then is no defect.
	args = append([]string{"run", "--agent-name", "e2e", "--account", a.account,
		"--queue", "100000", "--connect-timeout", "1m", "--timeout", "1m", "--drain-timeout", "1m"}, args...)
	a.cmd = exec.Command(program, args...)
	a.cmd.Stdout, a.cmd.Stderr = &a.stdout, &a.log
	must(t, ns.Start(a.cmd))
	go func() {
		a.exit = a.cmd.Wait()
		close(a.done)
	}()
	t.Cleanup(func() {
		a.kill()
		if t.Failed() {
			t.Logf("log of shadowtap %q:\n%s", args, a.log.String())
		}
	})
	return a
}

// sample checks the account while the agent runs.
func (a *agent) sample(ctx context.Context) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for n := 1; ; n++ {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		acc, err := a.read()
		if err != nil {
			if !a.ending.Load() {
				a.t.Errorf("read the account: %v", err)
			}
			return
		}
		if err := acc.balanced(); err != nil {
			a.t.Errorf("sample %d of the running account: %v", n, err)
			return
		}
	}
}

// get reads a page of the admin API. That closes a connection on which nothing
// comes for seconds, and on a busy machine this process may not run for so long.
func (a *agent) get(path string) ([]byte, error) {
	resp, err := a.admin.Get("http://" + a.address + path)
	for deadline := time.Now().Add(patience); hungUp(err) && time.Now().Before(deadline); {
		resp, err = a.admin.Get("http://" + a.address + path)
	}
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", path, resp.Status, body)
	}
	return body, err
}

// hungUp reports whether a server closed the connection without an answer.
func hungUp(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// read returns the account as it stands.
func (a *agent) read() (acc account, err error) {
	body, err := a.get("/api/v1/account")
	if err == nil {
		err = json.Unmarshal(body, &acc)
	}
	return acc, err
}

// until waits for the account to be as a test wants it.
func (a *agent) until(what string, ok func(account) bool) account {
	a.t.Helper()
	var acc account
	eventually(a.t, what, func() (err error) {
		if acc, err = a.read(); err == nil && !ok(acc) {
			err = fmt.Errorf("account %+v", acc)
		}
		return err
	})
	return acc
}

// stop ends the agent with SIGTERM, which must succeed, and returns its final
// account, which must be closed.
func (a *agent) stop() account {
	a.t.Helper()
	a.terminate()
	return a.ended()
}

// terminate tells the agent to end and does not wait for it.
func (a *agent) terminate() {
	a.t.Helper()
	a.ending.Store(true)
	must(a.t, a.cmd.Process.Signal(syscall.SIGTERM))
}

// ended waits for the agent to end by itself and returns its final account.
func (a *agent) ended() account {
	a.t.Helper()
	select {
	case <-a.done:
	case <-time.After(patience):
		a.t.Fatalf("shadowtap is still running %v after it was to stop", patience)
	}
	a.stopSampling()
	if a.exit != nil {
		a.t.Fatalf("shadowtap ended with %v", a.exit)
	}
	acc := readAccount(a.t, a.account)
	if err := acc.balanced(); err != nil {
		a.t.Errorf("final account: %v", err)
	}
	if acc.Requests.Pending != 0 || acc.Shadow.Pending != 0 {
		a.t.Errorf("final account: %d requests and %d copies pending, want none", acc.Requests.Pending, acc.Shadow.Pending)
	}
	if p := acc.Packets; p.Copied+sum(p.Skipped)+sum(p.Lost) != p.Seen {
		a.t.Errorf("final account: packets do not add up: %+v", p)
	}
	return acc
}

func (a *agent) stopSampling() {
	a.sampling()
	a.samplers.Wait()
	a.admin.CloseIdleConnections()
}

// kill ends the agent as a crash would.
func (a *agent) kill() {
	a.ending.Store(true)
	_ = a.cmd.Process.Kill()
	<-a.done
	a.stopSampling()
}

// outcome is what a test expects an account to say; everything that is not
// named is expected to be zero.
type outcome struct {
	mirrored, filtered, sampledOut, looped int
	dropped, answered, failed              map[string]uint64
}

// expect compares the requests and copies of a final account with an outcome.
func (acc account) expect(t testing.TB, want outcome) {
	t.Helper()
	r, s := acc.Requests, acc.Shadow
	if r.Mirrored != uint64(want.mirrored) || r.Filtered != uint64(want.filtered) ||
		r.SampledOut != uint64(want.sampledOut) || r.Looped != uint64(want.looped) || !equal(r.Dropped, want.dropped) {
		t.Errorf("requests %+v, want %+v", r, want)
	}
	if want.answered == nil && want.failed == nil {
		want.answered = map[string]uint64{"2xx": uint64(want.mirrored)}
	}
	if s.Sent != uint64(want.mirrored) || !equal(s.Answered, want.answered) || !equal(s.Failed, want.failed) {
		t.Errorf("copies %+v, want %+v", s, want)
	}
	if n := sum(acc.Packets.Lost); n != 0 {
		t.Errorf("%d packets lost", n)
	}
}

// equal compares counters by reason, of which those at zero may be absent.
func equal(a, b map[string]uint64) bool {
	zero := func(_ string, n uint64) bool { return n == 0 }
	a, b = maps.Clone(a), maps.Clone(b)
	maps.DeleteFunc(a, zero)
	maps.DeleteFunc(b, zero)
	return maps.Equal(a, b)
}

// lockedBuffer is a buffer that is read while it is being written.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
