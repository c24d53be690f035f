package e2e

import (
	"context"
	"net"
	"os/exec"
	"strings"
	"sync"
	"testing"
)

// TestGracefulStopUnderLoad: a stop while requests are coming in loses none
// that was captured: the account is exact, and what it says the shadow
// answered is what the shadow received.
func TestGracefulStopUnderLoad(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	v1, v2 := serve(t, l.v1, v4.v1At(), nil), serve(t, l.v2, v4.v2At(), nil)
	a := startAgent(t, l.node, "-f", rulesFile(t, seedRules(t, v4)))
	c := l.clients(v4.v1At())
	stop := make(chan struct{})
	wait := c.load(4, 0, stop, func(i int) request {
		if i%5 == 0 {
			return request{method: "POST", body: strings.Repeat("x", 20_000)}
		}
		return request{}
	})
	a.until("mirroring", func(acc account) bool { return acc.Requests.Mirrored >= 500 })
	final := a.stop()
	n := len(c.messages())
	eventually(t, "production going on after the stop", func() error {
		if len(c.messages()) < n+100 && !t.Failed() {
			return errNotYet
		}
		return nil
	})
	close(stop)
	wait()
	checkReceived(t, c.messages(), v1.messages())

	r, s := final.Requests, final.Shadow
	copies := byID(v2.messages())
	checkCopies(t, v1.messages(), v2.messages(), seedRewrite, func(m message) bool { return len(copies[m.id()]) > 0 })
	if got := uint64(len(v2.messages())); got != r.Mirrored || got != s.Sent || got != s.Answered["2xx"] {
		t.Errorf("the shadow got %d requests; the account says %+v %+v", got, r, s)
	}
	if got := r.Dropped["shutdown"]; sum(r.Dropped) != got || got > 4 {
		t.Errorf("dropped %v, want at most the 4 requests that were coming in", r.Dropped)
	}
}

// TestStopSendsWhatIsQueued: copies that are waiting when the agent is told to
// stop are still sent.
func TestStopSendsWhatIsQueued(t *testing.T) {
	t.Parallel()
	const n = 40
	l := newLab(t)
	gate := make(chan struct{})
	v1 := serve(t, l.v1, v4.v1At(), nil)
	v2 := serve(t, l.v2, v4.v2At(), func(c net.Conn, m message) error {
		<-gate
		return answerID(c, m)
	})
	open := sync.OnceFunc(func() { close(gate) })
	t.Cleanup(open) // before the server waits for its connections
	a := startAgent(t, l.node, "-f", rulesFile(t, seedRules(t, v4)), "--in-flight", "2", "--timeout", "1h")
	c := l.clients(v4.v1At())
	conn := c.open()
	for range n {
		must(t, conn.do(request{}))
	}
	a.until("all being queued", func(acc account) bool { return acc.Requests.Mirrored == n && acc.Flows.Open == 1 })

	a.terminate()
	a.until("the end of capture", func(acc account) bool { return acc.Flows.Open == 0 })
	if left := append(allTCXPrograms(t, l.node), filterPrograms(filters(t, l.node))...); len(left) > 0 {
		t.Errorf("programs %v are attached after the end of capture", left)
	}
	must(t, conn.do(request{})) // captured by nobody
	open()
	a.ended().expect(t, outcome{mirrored: n})
	checkCopies(t, v1.messages()[:n], v2.messages(), seedRewrite, nil)
}

// TestErrorsEndWithTwo: what cannot work is an error at once, with a text that
// says why.
func TestErrorsEndWithTwo(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		args []string
		want string
	}{
		"nothing to do": {[]string{"run"}, "--file"},
		"no such file":  {[]string{"run", "-f", "/does/not/exist.yaml"}, "/does/not/exist.yaml"},
		"broken rules":  {[]string{"run", "-f", rulesFile(t, "kind: [")}, "rules.yaml:1"},
		"both forms":    {[]string{"run", "-f", "x.yaml", "--port", "80", "--to", "http://10.0.0.1"}, "exclude"},
		"bad URL":       {[]string{"run", "--port", "80", "--to", "ftp://10.0.0.1"}, "ftp"},
		"bad percent":   {[]string{"run", "--port", "80", "--to", "http://10.0.0.1", "--percent", "101"}, "101"},
		"bad attach":    {[]string{"run", "--port", "80", "--to", "http://10.0.0.1", "--attach", "xdp"}, "xdp"},
		"bad glob":      {[]string{"run", "--port", "80", "--to", "http://10.0.0.1", "-i", "[", "--admin", ""}, "["},
		"no such pcap":  {[]string{"run", "--port", "80", "--to", "http://10.0.0.1", "--pcap", "/does/not/exist.pcap", "--admin", ""}, "/does/not/exist.pcap"},
		"unknown flag":  {[]string{"run", "--frobnicate"}, "--frobnicate"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var stderr strings.Builder
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			cmd := exec.CommandContext(ctx, program, test.args...)
			cmd.Stderr = &stderr
			must(t, newNamespace(t, "nowhere").Start(cmd))
			err := cmd.Wait()
			if code := cmd.ProcessState.ExitCode(); code != 2 {
				t.Errorf("exit code %d (%v), want 2", code, err)
			}
			if !strings.Contains(stderr.String(), test.want) {
				t.Errorf("error %q, want it to mention %q", stderr.String(), test.want)
			}
		})
	}
}
