package torture

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/shadowtap/shadowtap/pkg/netlab"
)

// path is a network that the kernel's TCP crosses.
type path struct {
	name    string
	wiring  wiring
	mtu     int
	offload bool
	window  int  // the most bytes v1 takes before it reads them; 0 is the usual
	loses   bool // the tap cannot see everything
	short   bool // part of the short form, too
}

var paths = []path{
	{name: "live: MTU 576", wiring: cable, mtu: 576, offload: true},
	{name: "live: MTU 576, no offload", wiring: cable, mtu: 576, short: true},
	{name: "live: MTU 1280", wiring: cable, mtu: 1280},
	{name: "live: MTU 1500", wiring: cable, mtu: 1500, offload: true},
	{name: "live: MTU 1500, no offload", wiring: cable, mtu: 1500},
	{name: "live: MTU 65535", wiring: cable, mtu: 65535, offload: true, short: true},
	{name: "live: MTU 65535, no offload", wiring: cable, mtu: 65535},
	{name: "live: windows closing", wiring: cable, mtu: 1500, offload: true, window: 4096},
	{name: "live: 2 % lost twice", wiring: lossyCable, mtu: 1500, offload: true, short: true},
	{name: "live: lost, late, repeated", wiring: hostileCable, mtu: 1500, short: true},
	{name: "live: 802.1Q", wiring: tagged(1), mtu: 1500, offload: true},
	{name: "live: 802.1Q in 802.1Q, no offload", wiring: tagged(2), mtu: 1500},
	{name: "live: VXLAN", wiring: tunnel, mtu: 1500, offload: true},
	{name: "live: fragments", wiring: fragmented, mtu: 1500, loses: true},
}

// liveShare of all requests goes over each path, in percent.
const liveShare = 2

// liveClients send at the same time.
const liveClients = 8

// run sends n requests over the path. The client is in one namespace; v1, the
// agent and the shadow are in another.
func (p *path) run(t *testing.T, n int, seed uint64) row {
	begin := time.Now()
	client, node := namespace(t, "client"), namespace(t, "node")
	servers := p.wiring(t, p, client, node)
	if p.window > 0 {
		must(t, node.Do(func() error {
			return os.WriteFile("/proc/sys/net/ipv4/tcp_rmem", fmt.Appendf(nil, "%d %[1]d %[1]d", p.window), 0)
		}))
	}
	for _, address := range servers {
		l, err := node.Listen("tcp", address.String())
		must(t, err)
		defer serveProduction(l).stop()
	}

	var l ledger
	listener, err := node.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	s := serveShadow(listener, l.arrived)
	defer s.stop()
	a := startAgent(t, node.Start, nil, "-f", rulesFor(t, listener.Addr()), "--admin", "127.0.0.1:9901")
	ready(t, a, node)

	var failed []error
	source := &requests{generator: newGenerator(seed, usual, !p.loses), ledger: &l, left: n}
	var wg sync.WaitGroup
	for i := range liveClients {
		wg.Go(func() {
			for c := source.next(); c != nil; c = source.next() {
				if err := c.send(client, servers[i%len(servers)]); err != nil {
					source.mu.Lock()
					failed = append(failed, err)
					source.mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	a.sample()
	must(t, a.cmd.Process.Signal(syscall.SIGTERM))
	acc, peak, err := a.ended()
	must(t, err)
	s.stop()
	for _, err := range failed {
		t.Errorf("production failed: %v", err)
	}
	if p.loses {
		l.settleLoss(acc, acc.Packets.Skipped["fragment"])
	} else {
		l.settle(acc, attack{})
	}
	l.report(t)
	return row{name: p.name, requests: n, expected: l.expected, unexplained: l.unexpl, failures: len(failed), peakMiB: peak, seconds: time.Since(begin).Seconds()}
}

func namespace(t *testing.T, name string) *netlab.Namespace {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("network namespaces and eBPF need root")
	}
	n, err := netlab.New(name)
	must(t, err)
	t.Cleanup(func() { must(t, n.Close()) })
	return n
}

// ready waits for the agent to capture.
func ready(t testing.TB, a *agent, in *netlab.Namespace) {
	t.Helper()
	transport := &http.Transport{DialContext: in.Dial, DisableKeepAlives: true}
	c := http.Client{Transport: transport, Timeout: patience}
	for deadline := time.Now().Add(patience); ; {
		resp, err := c.Get("http://127.0.0.1:9901/readyz")
		if err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return
			}
		}
		select {
		case <-a.done:
			t.Fatalf("shadowtap ended: %v\n%s", a.exit, a.log.String())
		case <-time.After(5 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatalf("shadowtap is not ready: %v", err)
		}
	}
}

// requests hands out connections to clients, each entered in the ledger.
type requests struct {
	mu        sync.Mutex
	generator *generator
	ledger    *ledger
	id, left  int
}

// next returns nil when all is sent.
func (r *requests) next() *connection {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.left == 0 {
		return nil
	}
	n := network{cut: anySize, pipeline: 4, messages: 20}
	c := r.generator.connection(&n, client(0), r.id, r.left, byFIN)
	c.packets = nil
	// What a reset or a silent end throws away before it reaches the tap is
	// the kernel's choice, so only FIN ends a live connection.
	c.end = byFIN
	r.id += len(c.messages)
	r.left -= len(c.messages)
	r.ledger.sent(c)
	return c
}

const (
	goOn = "HTTP/1.1 100 Continue\r\n\r\n"
	done = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Id: %d\r\nX-Hash: %016x\r\n\r\n"
)

// send is a client. The answers say what v1 received: production failed if
// they are not what they must be.
func (c *connection) send(from *netlab.Namespace, to netip.AddrPort) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := from.Dial(ctx, "tcp", to.String())
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	r := bufio.NewReader(conn)
	expect := func(answer string) error {
		got := make([]byte, len(answer))
		if n, err := io.ReadFull(r, got); err != nil {
			return fmt.Errorf("%w after %q, want %q", err, got[:n], answer)
		}
		if string(got) != answer {
			return fmt.Errorf("answered %q, want %q", got, answer)
		}
		return nil
	}
	answered := 0
	var begin time.Time
	for i, p := range c.parts {
		if i == 0 || c.parts[i-1].last {
			begin = time.Now()
		}
		if _, err := conn.Write(c.stream[p.from:p.to]); err != nil {
			return err
		}
		if !p.last {
			continue
		}
		for ; answered < len(c.messages); answered++ {
			m, start := c.messages[answered], c.starts[answered]
			if m.pause && start+m.head == p.to {
				if err := expect(goOn); err != nil {
					return err
				}
			}
			if start+len(m.raw) > p.to {
				break
			}
			if err := expect(fmt.Sprintf(done, m.id, sum64(m.raw))); err != nil {
				return err
			}
		}
		if c.onBurst != nil {
			c.onBurst(p.to, period{begin, time.Now()})
		}
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		return err
	}
	// v1 closes once it has everything, and so has the tap then.
	if rest, err := io.ReadAll(r); err != nil || len(rest) > 0 {
		return fmt.Errorf("at the end: %q, %v", rest, err)
	}
	return nil
}
