package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/shadowtap/shadowtap/pkg/netlab"
)

// adminAddress is where the agent serves its account, on the node's loopback.
const adminAddress = "127.0.0.1:9901"

// agent is the shadowtap under demonstration, a child process on the node.
type agent struct {
	cmd     *exec.Cmd
	command string // as a user would type it
	log     bytes.Buffer
	records *mailbox[record]
	admin   http.Client
	account string        // path of the file that gets its final account
	done    chan struct{} // closed when it has ended
	exit    error         // how it ended; read after done
}

// record is one line of its output: a mirrored request.
type record struct {
	Rule struct {
		Kind, Namespace, Name, Route string
	}
	Mirrors []struct {
		Host, Subset string
		Percentage   float64
		Endpoints    []string
		Request      struct {
			Method, Target, Version string
			Headers                 [][2]string
		}
	}
}

// id is the demo's id of the request.
func (r record) id() string {
	for _, m := range r.Mirrors {
		for _, h := range m.Request.Headers {
			if strings.EqualFold(h[0], idHeader) {
				return h[1]
			}
		}
	}
	return ""
}

// startAgent runs shadowtap on the node and returns when it is ready, that is
// when every packet from now on passes its programs.
func startAgent(ctx context.Context, self, dir string, node *netlab.Namespace) (*agent, error) {
	rules := filepath.Join(dir, "standalone.yaml")
	if err := os.WriteFile(rules, rulesYAML, 0o600); err != nil {
		return nil, err
	}
	a := &agent{
		command: "shadowtap run -f standalone.yaml -o json",
		records: newMailbox[record](),
		admin:   http.Client{Transport: &http.Transport{DialContext: node.Dial, DisableKeepAlives: true}, Timeout: patience},
		account: filepath.Join(dir, "account.json"),
		done:    make(chan struct{}),
	}
	a.cmd = exec.Command(self, "run", "-f", rules, "-o", "json",
		"--admin", adminAddress, "--account", a.account, "--agent-name", "demo")
	a.cmd.Stderr = &a.log
	stdout, err := a.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := node.Start(a.cmd); err != nil {
		return nil, err
	}
	go a.follow(stdout)

	ctx, cancel := context.WithTimeoutCause(ctx, 2*patience, fmt.Errorf("not ready within %v", 2*patience))
	defer cancel()
	err = a.poll(ctx, "/readyz", func([]byte) (bool, error) { return true, nil })
	if err != nil {
		a.kill()
		return nil, a.explain(fmt.Errorf("start shadowtap: %w", err))
	}
	return a, nil
}

// follow reads the agent's output to its end and then reaps the process.
func (a *agent) follow(stdout io.Reader) {
	defer close(a.done)
	lines := json.NewDecoder(stdout)
	for {
		var r record
		err := lines.Decode(&r)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			a.exit = fmt.Errorf("its output: %w", err)
			_ = a.cmd.Process.Kill()
			break
		}
		a.records.put(r.id(), r)
	}
	a.exit = errors.Join(a.exit, a.cmd.Wait())
}

// alive gives a context that also ends with the agent.
func (a *agent) alive(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		select {
		case <-a.done:
			cancel(a.ended())
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(nil) }
}

// ended says that the agent is not there any more, though it should be.
func (a *agent) ended() error { return errors.Join(errors.New("shadowtap ended"), a.exit) }

// poll asks the admin API until it answers 200 and what it says is accepted.
func (a *agent) poll(ctx context.Context, path string, accept func(body []byte) (bool, error)) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if body, err := a.get(ctx, path); err == nil {
			if ok, err := accept(body); ok || err != nil {
				return err
			}
		}
		select {
		case <-tick.C:
		case <-a.done:
			return a.ended()
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (a *agent) get(ctx context.Context, path string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+adminAddress+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := a.admin.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, errors.New(resp.Status)
	}
	return io.ReadAll(io.LimitReader(resp.Body, maxBody))
}

// waitFiltered waits until n requests are accounted for as not mirrored by the
// rules.
func (a *agent) waitFiltered(ctx context.Context, n int) error {
	return a.poll(ctx, "/api/v1/account", func(body []byte) (bool, error) {
		var acc account
		err := json.Unmarshal(body, &acc)
		return acc.Requests.Filtered >= int64(n), err
	})
}

// stop ends the agent as an operator would and returns its final account.
func (a *agent) stop(ctx context.Context) (*account, error) {
	if err := a.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return nil, fmt.Errorf("stop shadowtap: %w", err)
	}
	select {
	case <-a.done:
	case <-ctx.Done():
		return nil, fmt.Errorf("stop shadowtap: %w", context.Cause(ctx))
	}
	if a.exit != nil {
		return nil, fmt.Errorf("shadowtap: %w", a.exit)
	}
	final, err := os.ReadFile(a.account)
	if err != nil {
		return nil, fmt.Errorf("the final account: %w", err)
	}
	acc := new(account)
	if err := json.Unmarshal(final, acc); err != nil {
		return nil, fmt.Errorf("the final account: %w", err)
	}
	return acc, nil
}

// kill ends the agent if it is still there. Its hooks end with it or, at the
// latest, with the namespace they are in.
func (a *agent) kill() {
	_ = a.cmd.Process.Kill()
	<-a.done
	a.admin.CloseIdleConnections()
}

// explain ends the agent and adds its log to an error.
func (a *agent) explain(err error) error {
	a.kill()
	if text := strings.TrimSpace(a.log.String()); text != "" {
		return fmt.Errorf("%w\n--- log of shadowtap ---\n%s", err, text)
	}
	return err
}
