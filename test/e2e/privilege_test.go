package e2e

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/shadowtap/shadowtap/pkg/netlab"
)

// threads returns what each thread of the agent has in the given fields of its
// status, by name; all threads must agree.
func (a *agent) threads(fields ...string) map[string]string {
	a.t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", a.cmd.Process.Pid))
	must(a.t, err)
	if len(files) < 3 {
		a.t.Fatalf("%d threads", len(files))
	}
	all := map[string]string{}
	for _, name := range files {
		status, err := os.ReadFile(name)
		if os.IsNotExist(err) {
			continue // it has ended
		}
		must(a.t, err)
		for line := range strings.Lines(string(status)) {
			field, value, _ := strings.Cut(strings.TrimSpace(line), ":\t")
			if !slices.Contains(fields, field) {
				continue
			}
			if had, ok := all[field]; ok && had != value {
				a.t.Errorf("%s: %s is %s, of another thread %s", name, field, value, had)
			}
			all[field] = value
		}
	}
	return all
}

// TestPrivileges: once it is set up, the agent has the capabilities for
// capturing and nothing else, on every thread and for good, and that is enough
// to follow interfaces and rules, to stop and to write the account.
func TestPrivileges(t *testing.T) {
	t.Parallel()
	const capturing = "000000c000001000" // CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN
	for _, test := range []struct {
		name string
		args []string
		mode os.FileMode // of the directory of the rules
		uid  string
		caps string
	}{
		{"root, attached by tcx", []string{"--attach", "tcx"}, 0o755, "0", capturing},
		{"root, attached by clsact", []string{"--attach", "clsact"}, 0o755, "0", capturing},
		{"root, rules of somebody else", nil, 0o700, "0", "000000c000001004"},
		{"another user", []string{"--user", "65534:65533"}, 0o755, "65534", capturing},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			if slices.Contains(test.args, "tcx") {
				needTCX(t, l.node)
			}
			serve(t, l.v1, v4.v1At(), nil)
			v2 := serve(t, l.v2, v4.v2At(), nil)
			// Not below the test's own directory, which only root may enter.
			dir, err := os.MkdirTemp("", "shadowtap-rules-")
			must(t, err)
			t.Cleanup(func() { _ = os.RemoveAll(dir) })
			must(t, os.Chmod(dir, test.mode))
			if test.mode == 0o700 {
				must(t, os.Chown(dir, 65534, 65534))
			}
			rules := filepath.Join(dir, "rules.yaml")
			must(t, os.WriteFile(rules, []byte(seedRules(t, v4)), 0o644))

			a := startAgent(t, l.node, append([]string{"-f", rules}, test.args...)...)
			want := map[string]string{
				"Uid": strings.Join(slices.Repeat([]string{test.uid}, 4), "\t"), "CapEff": test.caps, "CapPrm": test.caps,
				"CapBnd": test.caps, "CapInh": "0000000000000000", "CapAmb": "0000000000000000", "NoNewPrivs": "1",
			}
			got := a.threads(slices.Collect(maps.Keys(want))...)
			for field := range want {
				if got[field] != want[field] {
					t.Errorf("%s is %q, want %q", field, got[field], want[field])
				}
			}

			must(t, l.clients(v4.v1At()).open().do(request{}))
			v2.wait(t, 1)
			// An interface that appears later.
			late := newNamespace(t, "late")
			must(t, netlab.Connect(
				netlab.End{Namespace: l.node, Name: "late0", Addresses: prefixes("10.99.3.1/24")},
				netlab.End{Namespace: late, Name: "eth0", Addresses: prefixes("10.99.3.2/24")}))
			must(t, late.Route(prefixes("10.99.0.0/16")[0], prefixes("10.99.3.1/24")[0].Addr()))
			eventually(t, "capture on the new interface", func() error {
				page, err := a.get("/api/v1/rules")
				if err == nil && !strings.Contains(string(page), `"late0"`) {
					err = fmt.Errorf("not attached: %s", page)
				}
				return err
			})
			must(t, (&clients{t: t, from: late, address: v4.v1At(), echoes: true}).open().do(request{}))
			v2.wait(t, 2)
			// Rules that change.
			before := a.loaded()
			replaceFile(t, rules, rulesRewritingTo(t, "/later/"))
			must(t, a.cmd.Process.Signal(syscall.SIGHUP))
			eventually(t, "the new rules", func() error {
				if now := a.loaded(); now == before || now.Failed {
					return fmt.Errorf("%+v", now)
				}
				return nil
			})
			must(t, l.clients(v4.v1At()).open().do(request{}))
			v2.wait(t, 3)
			if m := v2.messages()[2]; !strings.HasPrefix(m.target(), "/later/") {
				t.Errorf("with the new rules a copy is %s", m.target())
			}
			a.stop().expect(t, outcome{mirrored: 3})
		})
	}
}

// TestUserWhoCannotReadTheRules: what would only show when the rules change is
// an error at the start.
func TestUserWhoCannotReadTheRules(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	path := rulesFile(t, seedRules(t, v4))
	must(t, os.Chmod(path, 0o600))
	a := launch(t, l.node, "-f", path, "--user", "65534")
	<-a.done
	if log := a.log.String(); a.cmd.ProcessState.ExitCode() != 2 || !strings.Contains(log, "--user 65534 cannot read "+path) {
		t.Errorf("%v: %s", a.exit, log)
	}
}

// TestUserAndKubeconfig: what it refers to is read again, and its program run,
// for as long as the agent runs. The file itself is read once.
func TestUserAndKubeconfig(t *testing.T) {
	t.Parallel()
	needRoot(t)
	dir := publicDir(t)
	token, program := filepath.Join(dir, "token"), filepath.Join(dir, "login")
	must(t, os.WriteFile(token, []byte("secret"), 0o600))
	must(t, os.WriteFile(program, []byte("#!/bin/sh\n"), 0o700))
	for _, test := range []struct{ name, user, want string }{
		{"a token of root's", "tokenFile: " + token, "--user 65534 cannot read " + token},
		{"a program of root's", "exec: {apiVersion: client.authentication.k8s.io/v1, interactiveMode: Never, command: " + program + "}",
			"--user 65534 cannot run what the kubeconfig takes credentials from"},
		{"nothing else", "token: secret", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
			must(t, os.WriteFile(kubeconfig, []byte(`
apiVersion: v1
kind: Config
current-context: c
contexts: [{name: c, context: {cluster: c, user: u}}]
clusters: [{name: c, cluster: {server: "https://127.0.0.1:1"}}]
users: [{name: u, user: {`+test.user+`}}]
`), 0o600))
			a := launch(t, l.node, "--kube", "--kubeconfig", kubeconfig, "--user", "65534")
			if test.want == "" {
				eventually(t, "a request to the API server", func() error {
					if !strings.Contains(a.log.String(), "API server cannot be reached") {
						return errNotYet
					}
					return nil
				})
				must(t, a.cmd.Process.Signal(syscall.SIGTERM))
			}
			select {
			case <-a.done:
			case <-time.After(patience):
				t.Fatal("it does not end")
			}
			if log := a.log.String(); !strings.Contains(log, test.want) || (a.cmd.ProcessState.ExitCode() == 2) != (test.want != "") {
				t.Errorf("%v: %s", a.exit, log)
			}
		})
	}
}

// TestNoPrivileges: whoever may not capture is told what it takes. The exit
// code alone proves nothing, since that of a crash is 2 as well.
func TestNoPrivileges(t *testing.T) {
	t.Parallel()
	needRoot(t) // to become nobody
	rules := filepath.Join(publicDir(t), "rules.yaml")
	must(t, os.WriteFile(rules, []byte(seedRules(t, v4)), 0o644))
	for _, where := range [][]string{nil, {"--netns", "/run/netns/*"}} {
		_, stderr, err := asNobody(t, append([]string{"run", "-f", rules, "--admin", ""}, where...)...)
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 2 || !strings.Contains(stderr, "\nshadowtap: load the tap: ") ||
			!strings.HasSuffix(stderr, "(it takes root, or CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON)\n") {
			t.Errorf("%q: %v, want exit code 2 and what it takes\n%s", where, err, stderr)
		}
	}
}
