package e2e

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/shadowtap/shadowtap/pkg/netlab"
)

// pod makes a namespace one that has a file, in a directory of such, as a
// container runtime does. The file goes with remove, and the pod with it.
func pod(t testing.TB, ns *netlab.Namespace, file string) (remove func()) {
	t.Helper()
	// The namespace of a thread has no name that another process can use.
	cmd := exec.Command("sleep", "3600")
	must(t, ns.Start(cmd))
	must(t, os.Symlink(fmt.Sprintf("/proc/%d/ns/net", cmd.Process.Pid), file))
	return func() {
		must(t, os.Remove(file))
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
}

// podRules are the seed's rules with v1 at several addresses.
func podRules(t testing.TB, v1 ...string) string {
	var endpoints strings.Builder
	for _, address := range v1 {
		fmt.Fprintf(&endpoints, "  - address: %s\n    labels: {app: httpbin, version: v1}\n", address)
	}
	const one = "  - address: \"10.99.0.2\"\n    labels: {app: httpbin, version: v1}\n"
	seed := seedRules(t, v4)
	if !strings.Contains(seed, one) {
		t.Fatalf("the seed has changed:\n%s", seed)
	}
	return strings.Replace(seed, one, endpoints.String(), 1)
}

// attachment is where the agent is attached. The agent's own namespace has no
// name.
type attachment struct{ Name, Namespace string }

func (a *agent) attachments() ([]attachment, error) {
	body, err := a.get("/api/v1/rules")
	if err != nil {
		return nil, err
	}
	var status struct{ Interfaces []attachment }
	err = json.Unmarshal(body, &status)
	return status.Interfaces, err
}

// attachedIn returns nil once the agent is attached in a namespace.
func (a *agent) attachedIn(file string) error {
	all, err := a.attachments()
	if err == nil && !slices.Contains(all, attachment{"eth0", file}) {
		err = fmt.Errorf("attached to %+v", all)
	}
	return err
}

// inNoPod reports whether the agent is attached nowhere but on the node.
func (a *agent) inNoPod() bool {
	all, err := a.attachments()
	return err == nil && !slices.ContainsFunc(all, func(at attachment) bool { return at.Namespace != "" })
}

// twoPods is a lab with v1 in two pods, in which all interfaces have the same
// numbers.
type twoPods struct {
	*lab
	files            string // directory of the pods' namespaces
	other            *netlab.Namespace
	one, two, shadow *server
}

func newTwoPods(t *testing.T) *twoPods {
	t.Helper()
	p := &twoPods{lab: newLab(t), files: t.TempDir(), other: newNamespace(t, "other v1")}
	p.cable(p.other, "v1-1", "10.99.4.2", "10.99.4.1", "fd99:4::2", "fd99:4::1")
	pod(t, p.v1, filepath.Join(p.files, "one"))
	pod(t, p.other, filepath.Join(p.files, "two"))
	p.one, p.two = serve(t, p.v1, v4.v1At(), nil), serve(t, p.other, "10.99.4.2:80", nil)
	p.shadow = serve(t, p.v2, v4.v2At(), nil)
	return p
}

// startAgent returns once the agent is attached in both pods.
func (p *twoPods) startAgent(t *testing.T, args ...string) *agent {
	t.Helper()
	a := startAgent(t, p.node, append([]string{"-f", rulesFile(t, podRules(t, v4.v1, "10.99.4.2")), "--netns", p.files + "/*"}, args...)...)
	for _, file := range []string{"one", "two"} {
		must(t, a.attachedIn(filepath.Join(p.files, file)))
	}
	return a
}

// load has each pod asked n times by the client, by the other pod and by
// others, and returns what was sent.
func (p *twoPods) load(t *testing.T, n int, others ...*netlab.Namespace) (sent []message) {
	t.Helper()
	all := []*clients{
		{from: p.client, address: v4.v1At()}, {from: p.client, address: "10.99.4.2:80"},
		{from: p.v1, address: "10.99.4.2:80"}, {from: p.other, address: v4.v1At()},
	}
	for _, ns := range others {
		all = append(all, &clients{from: ns, address: v4.v1At()})
	}
	var waits []func()
	for i, c := range all {
		c.t, c.echoes, c.n = t, true, i*1000
		waits = append(waits, c.load(2, n/2, nil, plain))
	}
	for i, c := range all {
		waits[i]()
		sent = append(sent, c.messages()...)
	}
	return sent
}

// TestPodsOnce: two pods, one of which asks the other, and the node: each
// request is mirrored once.
func TestPodsOnce(t *testing.T) {
	t.Parallel()
	for _, attach := range []string{"auto", "clsact"} {
		t.Run(attach, func(t *testing.T) {
			t.Parallel()
			p := newTwoPods(t)
			a := p.startAgent(t, "--attach", attach)
			sent := p.load(t, 40, p.node)
			final := a.stop()
			received := append(p.one.messages(), p.two.messages()...)
			checkReceived(t, sent, received)
			checkCopies(t, received, p.shadow.messages(), seedRewrite, nil)
			final.expect(t, outcome{mirrored: 200})
			if n := final.Packets.Skipped["duplicate"]; n != 0 {
				t.Errorf("%d packets were seen twice", n)
			}
		})
	}
}

// proxy takes connections in a pod and hands what comes on them, as wrap makes
// of them, on to another address. dial is how it connects there.
func proxy(t testing.TB, ns *netlab.Namespace, from, to string, wrap func(net.Conn) net.Conn, dial *net.Dialer) {
	t.Helper()
	l := listen(t, ns, from)
	relay := func(to, from net.Conn) {
		_, _ = io.Copy(to, from)
		_ = to.Close()
	}
	go func() {
		for {
			down, err := l.Accept()
			if err != nil {
				return
			}
			down = wrap(down)
			var up net.Conn
			if err := ns.Do(func() (err error) { up, err = dial.Dial("tcp", to); return err }); err != nil {
				t.Errorf("proxy: %v", err)
				return
			}
			go relay(up, down)
			go relay(down, up)
		}
	}()
	t.Cleanup(func() { _ = l.Close() })
}

// TestPodsProxied: where a proxy in the pod hands requests on over lo, each is
// mirrored once, and from plain text.
func TestPodsProxied(t *testing.T) {
	t.Parallel()
	for name, setup := range map[string]struct {
		tls   bool   // the proxy decrypts
		proxy string // where it listens
		app   string // where the application listens, and the proxy finds it
		by    string // the proxy's own address towards it
		nat   bool   // connections from outside are redirected to the proxy
	}{
		"plain text":                     {false, "10.99.0.2:80", "127.0.0.1:80", "", false},
		"TLS, application on loopback":   {true, "10.99.0.2:80", "127.0.0.1:80", "", false},
		"TLS, application on loopback 2": {true, "10.99.0.2:80", "127.0.0.2:80", "", false},
		"TLS, redirected":                {true, "0.0.0.0:15006", "10.99.0.2:80", "127.0.0.6", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			wrap, dial := func(c net.Conn) net.Conn { return c }, &net.Dialer{}
			if setup.tls {
				config := &tls.Config{Certificates: []tls.Certificate{certificate(t, l.v1)}}
				wrap = func(c net.Conn) net.Conn { return tls.Server(c, config) }
			}
			if setup.by != "" {
				dial.LocalAddr = &net.TCPAddr{IP: net.ParseIP(setup.by)}
			}
			if setup.nat {
				redirect(t, l.v1, 80, 15006)
			}
			proxy(t, l.v1, setup.proxy, setup.app, wrap, dial)
			app, v2 := serve(t, l.v1, setup.app, nil), serve(t, l.v2, v4.v2At(), nil)
			file := filepath.Join(t.TempDir(), "pod")
			pod(t, l.v1, file)
			a := startAgent(t, l.node, "-f", rulesFile(t, seedRules(t, v4)), "--netns", file)
			must(t, a.attachedIn(file))

			c := l.clients(v4.v1At())
			for range 5 {
				conn := c.open()
				if setup.tls {
					conn.Conn = tls.Client(conn.Conn, &tls.Config{InsecureSkipVerify: true})
					conn.r = bufio.NewReader(conn.Conn)
				}
				for range 10 {
					must(t, conn.do(request{}))
				}
				must(t, conn.Close())
			}
			final := a.stop()
			checkReceived(t, c.messages(), app.messages())
			checkCopies(t, app.messages(), v2.messages(), seedRewrite, nil)
			final.expect(t, outcome{mirrored: 50})
			if n := final.Packets.Skipped["other_side"]; n == 0 {
				t.Errorf("nothing passed on the other side: %+v", final.Packets)
			}
		})
	}
}

// redirect sends connections that come in for a port to another, as a service
// mesh does.
func redirect(t *testing.T, ns *netlab.Namespace, from, to uint16) {
	t.Helper()
	nft, err := exec.LookPath("nft")
	if err != nil {
		t.Skip("nft is not installed")
	}
	cmd := exec.Command(nft, "-f", "-")
	cmd.Stdin = strings.NewReader(fmt.Sprintf(`table ip mesh {
	chain prerouting {
		type nat hook prerouting priority dstnat;
		iifname "eth0" tcp dport %d redirect to :%d
	}
}`, from, to))
	var out lockedBuffer
	cmd.Stdout, cmd.Stderr = &out, &out
	must(t, ns.Start(cmd))
	if err := cmd.Wait(); err != nil {
		t.Skipf("this kernel cannot redirect: %v: %s", err, out.String())
	}
}

// TestPodChurn: pods come, serve and go, and take addresses that others had.
// Each request is mirrored, and nothing is left behind.
func TestPodChurn(t *testing.T) {
	t.Parallel()
	const pods, addresses = 100, 10
	l := newLab(t)
	v2 := serve(t, l.v2, v4.v2At(), nil)
	var endpoints []string
	for n := range addresses {
		endpoints = append(endpoints, fmt.Sprintf("10.99.8.%d", 4*n+2))
	}
	files := filepath.Join(t.TempDir(), "netns") // made when the first pod is
	a := startAgent(t, l.node, "-f", rulesFile(t, podRules(t, endpoints...)), "--netns", files+"/*")
	must(t, os.Mkdir(files, 0o755))

	var sent, received []message
	var before int
	for n := range pods {
		if n == 1 {
			before = a.descriptors()
		}
		address := endpoints[n%addresses]
		ns, err := netlab.New("pod")
		must(t, err)
		gateway := netip.MustParseAddr(address).Prev()
		file := filepath.Join(files, fmt.Sprint("pod-", n))
		remove := pod(t, ns, file)
		must(t, netlab.Connect(
			netlab.End{Namespace: l.node, Name: "pod0", Addresses: prefixes(gateway.String() + "/30")},
			netlab.End{Namespace: ns, Name: "eth0", Addresses: prefixes(address + "/30")}))
		must(t, ns.Route(netip.MustParsePrefix("0.0.0.0/0"), gateway))
		s := serve(t, ns, address+":80", nil)
		eventually(t, "the agent in the pod", func() error { return a.attachedIn(file) })

		c := &clients{t: t, from: l.client, address: address + ":80", echoes: true, n: 100 * n}
		conn := c.open()
		for range 3 {
			must(t, conn.do(request{}))
		}
		sent, received = append(sent, c.messages()...), append(received, s.messages()...)
		if n%2 == 0 {
			_ = conn.Close() // the other half vanishes without a word
		}
		s.close()
		remove()
		must(t, l.node.Delete("pod0"))
		must(t, ns.Close())
	}
	acc := a.until("the end of all", func(acc account) bool {
		return acc.Requests.Mirrored == uint64(len(sent)) && acc.Flows.Open == 0 && a.inNoPod() && a.descriptors() <= before
	})
	if acc.Flows.Total < pods {
		t.Errorf("flows %+v", acc.Flows)
	}
	final := a.stop()
	checkReceived(t, sent, received)
	checkCopies(t, received, v2.messages(), seedRewrite, nil)
	final.expect(t, outcome{mirrored: len(sent)})
}

// descriptors is how many files the agent has open, programs, maps and netlink
// sockets among them, but not the connections that its mirrors keep.
func (a *agent) descriptors() (n int) {
	proc := fmt.Sprintf("/proc/%d/", a.cmd.Process.Pid)
	connections := map[string]bool{}
	for _, table := range []string{"net/tcp", "net/tcp6"} {
		text, err := os.ReadFile(proc + table)
		must(a.t, err)
		for line := range strings.Lines(string(text)) {
			if fields := strings.Fields(line); len(fields) > 9 {
				connections["socket:["+fields[9]+"]"] = true
			}
		}
	}
	entries, err := os.ReadDir(proc + "fd")
	must(a.t, err)
	for _, e := range entries {
		if to, err := os.Readlink(proc + "fd/" + e.Name()); err == nil && !connections[to] {
			n++
		}
	}
	return n
}
