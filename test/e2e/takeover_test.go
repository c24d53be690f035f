package e2e

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/shadowtap/shadowtap/pkg/netlab"
)

// plainPod is a pod that comes and goes, with a server and one connection.
type plainPod struct {
	file   string
	ns     *netlab.Namespace
	server *server
	c      *clients
	conn   *connection
	remove func()
}

// newPod makes a pod with an address of its own, which rules name.
func newPod(t *testing.T, l *lab, files string, n int) *plainPod {
	t.Helper()
	ns, err := netlab.New(fmt.Sprint("pod-", n))
	must(t, err)
	address := podAddress(n)
	p := &plainPod{file: filepath.Join(files, fmt.Sprint("pod-", n)), ns: ns}
	remove := pod(t, ns, p.file)
	link := fmt.Sprint("pod", n)
	gateway := netip.MustParseAddr(address).Prev()
	must(t, netlab.Connect(
		netlab.End{Namespace: l.node, Name: link, Addresses: prefixes(gateway.String() + "/30")},
		netlab.End{Namespace: ns, Name: "eth0", Addresses: prefixes(address + "/30")}))
	must(t, ns.Route(netip.MustParsePrefix("0.0.0.0/0"), gateway))
	p.server = serve(t, ns, address+":80", nil)
	p.c = &clients{t: t, from: l.client, address: address + ":80", echoes: true, n: 100000 * (n + 10)}
	p.remove = func() {
		p.server.close()
		remove()
		must(t, l.node.Delete(link))
		must(t, ns.Close())
	}
	return p
}

func podAddress(n int) string { return fmt.Sprintf("10.99.8.%d", 4*n+2) }

// do sends requests on the pod's connection.
func (p *plainPod) do(n int) {
	p.c.t.Helper()
	if p.conn == nil {
		p.conn = p.c.open()
	}
	for range n {
		must(p.c.t, p.conn.do(request{}))
	}
}

// halved is a request of which half has been sent.
type halved struct {
	*connection
	m message
}

func half(t *testing.T, c *connection) halved {
	t.Helper()
	m, err := parse(request{method: "POST", body: strings.Repeat("x", 5000)}.bytes(c.nextID()))
	must(t, err)
	_, err = c.Write(m.raw[:len(m.raw)/2])
	must(t, err)
	return halved{c, m}
}

// finish sends the other half.
func (h halved) finish(t *testing.T) {
	t.Helper()
	_, err := h.Write(h.m.raw[len(h.m.raw)/2:])
	must(t, err)
	must(t, h.answered(h.m))
}

// TestTakeoverInPods: agents take over from each other again and again, while
// connections to pods stay open, a proxy in one of them decrypts, and other pods
// come and go. Each request is mirrored once.
func TestTakeoverInPods(t *testing.T) {
	t.Parallel()
	for name, args := range map[string][]string{
		"tcx":                 {"--attach", "auto"},
		"clsact":              {"--attach", "clsact"},
		"lingering, by a dir": {"--attach", "auto", "--linger", "10m", "--takeover-dir"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			needRoot(t)
			lingers := len(args) > 2
			if lingers {
				args = append(args, filepath.Join(t.TempDir(), "meet"))
			}
			takeoverInPods(t, lingers, args...)
		})
	}
}

func takeoverInPods(t *testing.T, lingers bool, args ...string) {
	const generations = 3
	l := newLab(t)
	meshed := newNamespace(t, "meshed v1")
	l.cable(meshed, "v1-1", "10.99.4.2", "10.99.4.1", "fd99:4::2", "fd99:4::1")
	files := t.TempDir()
	pod(t, l.v1, filepath.Join(files, "plain"))
	pod(t, meshed, filepath.Join(files, "meshed"))
	config := &tls.Config{Certificates: []tls.Certificate{certificate(t, meshed)}}
	proxy(t, meshed, "10.99.4.2:80", "127.0.0.1:80", func(c net.Conn) net.Conn { return tls.Server(c, config) }, &net.Dialer{})
	servers := []*server{serve(t, l.v1, v4.v1At(), nil), serve(t, meshed, "127.0.0.1:80", nil)}
	v2 := serve(t, l.v2, v4.v2At(), nil)
	endpoints := []string{v4.v1, "10.99.4.2"}
	for n := range 2 * generations {
		endpoints = append(endpoints, podAddress(n))
	}
	rules := rulesFile(t, podRules(t, endpoints...))
	// What waits while a successor is late has room.
	args = append(args, "-f", rules, "--netns", files+"/*", "--takeover", "--queue", "1000000", "--memory-limit", "1GiB")
	start := func(n int) *agent {
		return launch(t, l.node, append([]string{"--admin", fmt.Sprintf("127.0.0.1:%d", 9901+n)}, args...)...)
	}
	ready := func(a *agent) {
		t.Helper()
		eventually(t, "readiness", func() error { _, err := a.get("/readyz"); return err })
	}
	current := start(0)
	ready(current)

	sent := []*clients{l.clients(v4.v1At()), {t: t, from: l.client, address: "10.99.4.2:80", echoes: true, n: 50000}}
	stopped := make(chan struct{})
	wait := sent[0].load(3, 0, stopped, func(int) request { time.Sleep(time.Millisecond); return request{} })
	stop := sync.OnceFunc(func() { close(stopped); wait() })
	defer stop()
	encrypted := func() *connection {
		c := sent[1].open()
		c.Conn = tls.Client(c.Conn, &tls.Config{InsecureSkipVerify: true})
		c.r = bufio.NewReader(c.Conn)
		return c
	}
	secret := encrypted()
	must(t, secret.do(request{}))
	open := sent[0].open()

	var accounts []account
	failures := 0
	var pods []*plainPod
	attached := func(p *plainPod, current, next *agent) {
		t.Helper()
		eventually(t, "an agent in the pod", func() error {
			err := current.attachedIn(p.file)
			if err != nil && next != nil && next.hasTakenOver() { // until then it copies nothing
				err = next.attachedIn(p.file)
			}
			return err
		})
	}
	for n := range generations {
		early := newPod(t, l, files, 2*n)
		attached(early, current, nil)
		early.do(3)
		plain, hidden := half(t, open), half(t, secret)
		before := early.conn
		next := start(n + 1)
		// A pod that comes meanwhile belongs to whichever is first.
		late := newPod(t, l, files, 2*n+1)
		attached(late, current, next)
		late.do(3)
		for !tookOver(t, current, next, lingers) {
			failures++
			next = start(n + 1)
		}
		ready(next)
		if lingers {
			if _, err := current.get("/readyz"); err == nil || !strings.Contains(err.Error(), "another agent has taken over") {
				t.Errorf("an agent that has handed over is ready: %v", err)
			}
			if _, err := current.get("/healthz"); err != nil {
				t.Errorf("an agent that has handed over: %v", err)
			}
			current.detached()
			current.terminate()
		}
		accounts = append(accounts, current.ended())
		current = next
		plain.finish(t)
		hidden.finish(t)
		must(t, encrypted().do(request{}))
		if early.do(3); early.conn != before {
			t.Fatal("the connection is another one")
		}
		late.do(3)
		pods = append(pods, early, late)
		early.remove() // while the next takeover begins, perhaps
		late.remove()
	}
	stop()
	var requests, received []message
	for _, p := range pods {
		sent, servers = append(sent, p.c), append(servers, p.server)
	}
	for _, c := range sent {
		requests = append(requests, c.messages()...)
	}
	for _, s := range servers {
		received = append(received, s.messages()...)
	}
	checkReceived(t, requests, received)
	accounts = append(accounts, current.stop())
	if failures > 0 {
		// The machine was too busy for a takeover, and capture paused.
		t.Logf("%d takeovers failed", failures)
		for id, copies := range byID(v2.messages()) {
			if len(copies) != 1 {
				t.Errorf("request %s: the shadow got %d copies", id, len(copies))
			}
		}
		return
	}
	checkCopies(t, received, v2.messages(), seedRewrite, nil)
	handed, mirrored := uint64(0), uint64(0)
	for _, acc := range accounts {
		handed += acc.Requests.Dropped["handed_over"]
		mirrored += acc.Requests.Mirrored
		if n := acc.Requests.Mirrored + acc.Requests.Dropped["handed_over"]; n != acc.Requests.Seen || sum(acc.Packets.Lost) > 0 {
			t.Errorf("account: %+v", acc)
		}
	}
	if mirrored != uint64(len(received)) || handed < 2*generations {
		t.Errorf("%d requests are mirrored, want %d; %d were handed over half way", mirrored, len(received), handed)
	}
}

// detached waits until an agent that lives has left all pods.
func (a *agent) detached() {
	a.t.Helper()
	eventually(a.t, "the end of its capture", func() error {
		if !a.inNoPod() {
			return errNotYet
		}
		return nil
	})
}

func (a *agent) hasTakenOver() bool {
	return strings.Contains(a.log.String(), "took over from another agent")
}

// tookOver waits until one agent has taken over from another. It reports false
// if it has ended instead: a machine that is too busy may take longer than a
// takeover may.
func tookOver(t *testing.T, current, next *agent, lingers bool) bool {
	t.Helper()
	current.ending.Store(true) // its admin API may go away
	deadline := time.After(2 * patience)
	for tick := time.NewTicker(10 * time.Millisecond); ; {
		select {
		case <-next.done:
			if !strings.Contains(next.log.String(), "take over: ") {
				t.Fatalf("the successor ended: %v\n%s", next.exit, next.log.String())
			}
			return false
		case <-current.done:
			tick.Stop()
			return true
		case <-deadline:
			t.Fatal("nobody has taken over")
		case <-tick.C:
			if lingers && next.hasTakenOver() {
				tick.Stop()
				return true
			}
		}
	}
}

// TestLingersUntilTheSuccessorIsGone: an agent that has handed over ends when
// the one that has taken over does, whoever runs it starts it again, and what
// the dead one left in the directory is in nobody's way.
func TestLingersUntilTheSuccessorIsGone(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	dir := filepath.Join(t.TempDir(), "meet")
	v2 := serve(t, l.v2, v4.v2At(), nil)
	v1 := serve(t, l.v1, v4.v1At(), nil)
	file := filepath.Join(t.TempDir(), "pod")
	pod(t, l.v1, file)
	args := func(n int) []string {
		return []string{
			"--admin", fmt.Sprintf("127.0.0.1:%d", 9901+n), "-f", rulesFile(t, seedRules(t, v4)), "--netns", file,
			"--takeover", "--takeover-dir", dir, "--linger", "10m",
		}
	}
	first := startAgent(t, l.node, args(0)...)
	c := l.clients(v4.v1At())
	c.load(1, 3, nil, plain)()
	v2.wait(t, 3)
	second := startAgent(t, l.node, args(1)...)
	first.detached()
	first.ending.Store(true)
	second.kill()
	first.ended().expect(t, outcome{mirrored: 3})
	if left, err := os.ReadDir(dir); err != nil || len(left) == 0 {
		t.Errorf("a killed agent removed its socket: %v, %v", left, err)
	}

	third := startAgent(t, l.node, args(2)...)
	c.load(1, 3, nil, plain)()
	third.stop().expect(t, outcome{mirrored: 3})
	checkReceived(t, c.messages(), v1.messages())
	checkCopies(t, v1.messages(), v2.messages(), seedRewrite, nil)
}

// TestLingersNoLonger: if the successor lives and nobody stops its predecessor,
// as when an update is taken back half way, that one ends, and when it is
// started again it takes over itself.
func TestLingersNoLonger(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	v1, v2 := serve(t, l.v1, v4.v1At(), nil), serve(t, l.v2, v4.v2At(), nil)
	file := filepath.Join(t.TempDir(), "pod")
	pod(t, l.v1, file)
	rules, dir := rulesFile(t, seedRules(t, v4)), filepath.Join(t.TempDir(), "meet")
	start := func(n int) *agent {
		return startAgent(t, l.node, "--admin", fmt.Sprintf("127.0.0.1:%d", 9901+n), "-f", rules, "--netns", file,
			"--takeover", "--takeover-dir", dir, "--linger", "100ms")
	}
	c := l.clients(v4.v1At())
	conn := c.open()
	current := start(0)
	for n := range 3 {
		must(t, conn.do(request{}))
		v2.wait(t, n+1)
		if n == 2 {
			break
		}
		current.ending.Store(true)
		next := start(n + 1)
		current.ended().expect(t, outcome{mirrored: 1})
		current = next
	}
	current.stop().expect(t, outcome{mirrored: 1})
	checkCopies(t, v1.messages(), v2.messages(), seedRewrite, nil)
}
