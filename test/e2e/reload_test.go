package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// rulesRewritingTo is the seed's rules with another rewrite.
func rulesRewritingTo(t testing.TB, prefix string) string {
	t.Helper()
	rules := strings.Replace(seedRules(t, v4), "rewrite:\n      uri: /\n", "rewrite:\n      uri: "+prefix+"\n", 1)
	if !strings.Contains(rules, "uri: "+prefix+"\n") {
		t.Fatal("the seed's rules have no rewrite to change")
	}
	return rules
}

// replaceFile changes a file as editors do: a new one is renamed over it.
func replaceFile(t testing.TB, path, content string) {
	t.Helper()
	must(t, os.WriteFile(path+".new", []byte(content), 0o644))
	must(t, os.Rename(path+".new", path))
}

// overwrite changes a file in its place, in one step: a file that is emptied
// first may be read before there is something in it again.
func overwrite(t testing.TB, path, content string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	must(t, err)
	defer f.Close()
	_, err = f.WriteString(content)
	must(t, err)
	must(t, f.Truncate(int64(len(content))))
}

// overwriteUnseen changes a file through a shared mapping, which file watchers
// are not told of (inotify(7)). The length must stay.
func overwriteUnseen(t testing.TB, path, content string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	mapping, err := unix.Mmap(int(f.Fd()), 0, len(content), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	must(t, err)
	copy(mapping, content)
	must(t, unix.Munmap(mapping))
}

func TestRulesChangeUnderLoad(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(t testing.TB, a *agent, path, rules string){
		"the file is replaced": func(t testing.TB, _ *agent, path, rules string) { replaceFile(t, path, rules) },
		"the file is rewritten": func(t testing.TB, _ *agent, path, rules string) {
			overwrite(t, path, rules)
		},
		"SIGHUP": func(t testing.TB, a *agent, path, rules string) {
			overwriteUnseen(t, path, rules)
			must(t, a.cmd.Process.Signal(syscall.SIGHUP))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			v1, v2 := serve(t, l.v1, v4.v1At(), nil), serve(t, l.v2, v4.v2At(), nil)
			path := rulesFile(t, rulesRewritingTo(t, "/old"))
			a := startAgent(t, l.node, "-f", path)
			c := l.clients(v4.v1At())
			stop := make(chan struct{})
			wait := c.load(4, 0, stop, plain)
			received := func(prefix string, n int) {
				eventually(t, fmt.Sprintf("%d copies to %s", n, prefix), func() error {
					got := 0
					for _, m := range v2.messages() {
						if strings.HasPrefix(m.target(), prefix) {
							got++
						}
					}
					if got < n && !t.Failed() {
						return fmt.Errorf("%d so far", got)
					}
					return nil
				})
			}
			received("/old", 200)
			change(t, a, path, rulesRewritingTo(t, "/new"))
			received("/new", 200)
			close(stop)
			wait()
			final := a.stop()

			checkReceived(t, c.messages(), v1.messages())
			rewritten := map[string]string{} // by id
			for _, m := range v2.messages() {
				rewritten[m.id()] = m.target()[:len("/old")]
			}
			// On each connection the old rule up to some request, then the new.
			switched := map[int]bool{}
			for _, m := range v1.messages() {
				switch to := rewritten[m.id()]; {
				case to == "/new":
					switched[m.conn] = true
				case switched[m.conn]:
					t.Errorf("request %s: %q after the new rule was in use on its connection", m.id(), to)
				}
			}
			checkCopiesBy(t, v1.messages(), v2.messages(), func(m message) string {
				return rewritten[m.id()] + strings.TrimPrefix(m.target(), "/httpbin")
			})
			final.expect(t, outcome{mirrored: len(c.messages())})
		})
	}
}

// TestShadowMovesUnderLoad: the rules send copies elsewhere. Each request goes
// to the old or to the new shadow, exactly once, and the account covers both.
func TestShadowMovesUnderLoad(t *testing.T) {
	t.Parallel()
	for name, edit := range map[string]func(rules string) string{
		"another endpoint":    func(rules string) string { return strings.ReplaceAll(rules, v4.v2, v4.client) },
		"another destination": func(rules string) string { return strings.NewReplacer(v4.v2, v4.client, "v2", "v3").Replace(rules) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			v1, v2 := serve(t, l.v1, v4.v1At(), nil), serve(t, l.v2, v4.v2At(), nil)
			other := serve(t, l.client, at(v4.client, 80), nil)
			path := rulesFile(t, seedRules(t, v4))
			a := startAgent(t, l.node, "-f", path)
			c := l.clients(v4.v1At())
			stop := make(chan struct{})
			wait := c.load(4, 0, stop, plain)
			v2.wait(t, 200)
			replaceFile(t, path, edit(seedRules(t, v4)))
			other.wait(t, 200)
			close(stop)
			wait()
			final := a.stop()
			checkReceived(t, c.messages(), v1.messages())
			checkCopies(t, v1.messages(), slices.Concat(v2.messages(), other.messages()), seedRewrite, nil)
			final.expect(t, outcome{mirrored: len(c.messages())})
		})
	}
}

// load is how rules were loaded.
type load struct {
	At     string `json:"loaded_at"`
	Failed bool
}

// loaded is how the rules were loaded the last time.
func (a *agent) loaded() (last load) {
	a.t.Helper()
	body, err := a.get("/api/v1/rules")
	must(a.t, err)
	must(a.t, json.Unmarshal(body, &last))
	return last
}

// TestManyReloadsUnderLoad: destinations come and go, dozens of times, and
// nothing is lost or doubled on the way.
func TestManyReloadsUnderLoad(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	v1, v2 := serve(t, l.v1, v4.v1At(), nil), serve(t, l.v2, v4.v2At(), nil)
	path := rulesFile(t, seedRules(t, v4))
	a := startAgent(t, l.node, "-f", path)
	c := l.clients(v4.v1At())
	stop := make(chan struct{})
	wait := c.load(4, 0, stop, plain)
	for round := range 40 {
		before := a.loaded()
		// The same shadow under another name is another destination.
		replaceFile(t, path, strings.ReplaceAll(seedRules(t, v4), "v2", fmt.Sprint("v", 2+round%3)))
		must(t, a.cmd.Process.Signal(syscall.SIGHUP))
		eventually(t, "a reload", func() error {
			if now := a.loaded(); now == before || now.Failed {
				return fmt.Errorf("%+v", now)
			}
			return nil
		})
	}
	close(stop)
	wait()
	final := a.stop()
	checkReceived(t, c.messages(), v1.messages())
	checkCopies(t, v1.messages(), v2.messages(), seedRewrite, nil)
	final.expect(t, outcome{mirrored: len(c.messages())})
}

// TestBrokenRulesKeepTheOldOnes: a broken file changes nothing but the log and
// the status, and mending it is enough.
func TestBrokenRulesKeepTheOldOnes(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	v1, v2 := serve(t, l.v1, v4.v1At(), nil), serve(t, l.v2, v4.v2At(), nil)
	path := rulesFile(t, rulesRewritingTo(t, "/old"))
	a := startAgent(t, l.node, "-f", path)
	conn := l.clients(v4.v1At()).open()
	status := func() (s struct {
		Failed   bool
		Problems []string
	}) {
		body, err := a.get("/api/v1/rules")
		must(t, err)
		must(t, json.Unmarshal(body, &s))
		return s
	}
	copyTo := func(prefix string) {
		t.Helper()
		must(t, conn.do(request{}))
		n := len(v1.messages())
		if got := v2.wait(t, n)[n-1].target(); !strings.HasPrefix(got, prefix) {
			t.Fatalf("the copy is to %s, want %s", got, prefix)
		}
	}
	copyTo("/old")
	for what, broken := range map[string]string{
		"no YAML":         "spec: [",
		"an unknown host": strings.Replace(rulesRewritingTo(t, "/new"), "mirror:\n      host: httpbin", "mirror:\n      host: nowhere", 1),
	} {
		replaceFile(t, path, broken)
		eventually(t, what+" being reported", func() error {
			if s := status(); !s.Failed || len(s.Problems) == 0 || !strings.Contains(s.Problems[0], path) {
				return fmt.Errorf("%+v", s)
			}
			return nil
		})
		if !strings.Contains(a.log.String(), status().Problems[0][:len(path)]) {
			t.Errorf("%s: the log does not name the file", what)
		}
		copyTo("/old")
		replaceFile(t, path, rulesRewritingTo(t, "/old"))
		eventually(t, "the mended file being in use", func() error {
			if s := status(); s.Failed {
				return fmt.Errorf("%+v", s)
			}
			return nil
		})
	}
	replaceFile(t, path, rulesRewritingTo(t, "/new"))
	eventually(t, "the new rule", func() error {
		must(t, conn.do(request{}))
		n := len(v1.messages())
		if got := v2.wait(t, n)[n-1].target(); !strings.HasPrefix(got, "/new") {
			return fmt.Errorf("the copy is to %s", got)
		}
		return nil
	})
	a.stop().expect(t, outcome{mirrored: len(v1.messages())})
}
