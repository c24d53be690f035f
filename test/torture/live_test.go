package torture

import (
	"bufio"
	"context"
	"errors"
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

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"

	"github.com/shadowtap/shadowtap/pkg/netlab"
)

// path is a network that the kernel's TCP crosses.
type path struct {
	name    string
	mtu     int
	offload bool
	lossy   bool // in front of the tap and behind it
	short   bool // part of the short form, too
}

var paths = []path{
	{"live: MTU 576", 576, true, false, false},
	{"live: MTU 576, no offload", 576, false, false, true},
	{"live: MTU 1500", 1500, true, false, false},
	{"live: MTU 1500, no offload", 1500, false, false, false},
	{"live: MTU 65535", 65535, true, false, true},
	{"live: MTU 65535, no offload", 65535, false, false, false},
	{"live: MTU 1500, 2 % lost twice", 1500, true, true, true},
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
	ends := [2]netlab.End{
		{Namespace: client, Name: "eth0", MTU: p.mtu, Addresses: []netip.Prefix{netip.MustParsePrefix("10.99.0.1/24")}},
		{Namespace: node, Name: "eth0", MTU: p.mtu, Addresses: []netip.Prefix{netip.PrefixFrom(served4.Addr(), 24)}},
	}
	servers := []netip.AddrPort{served4}
	if p.mtu >= 1280 { // RFC 8200 section 5
		ends[0].Addresses = append(ends[0].Addresses, netip.MustParsePrefix("fd99::1/64"))
		ends[1].Addresses = append(ends[1].Addresses, netip.PrefixFrom(served6.Addr(), 64))
		servers = append(servers, served6)
	}
	must(t, netlab.Connect(ends[0], ends[1]))
	for _, e := range ends {
		must(t, e.Namespace.SetOffload("eth0", p.offload))
		if p.lossy {
			losePackets(t, e.Namespace, map[string]ebpf.AttachType{"client": ebpf.AttachTCXEgress, "node": ebpf.AttachTCXIngress}[e.Namespace.Name()])
		}
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
	source := &requests{generator: newGenerator(seed, usual, true), ledger: &l, left: n}
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
	l.settle(acc, attack{})
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

// losePackets drops 2 % of what passes a hook of eth0.
func losePackets(t *testing.T, ns *netlab.Namespace, hook ebpf.AttachType) {
	t.Helper()
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.SchedCLS,
		Instructions: asm.Instructions{
			asm.FnGetPrandomU32.Call(),
			asm.Mod.Imm(asm.R0, 100),
			asm.JLT.Imm(asm.R0, 2, "lose"),
			asm.Mov.Imm(asm.R0, -1), // TCX_NEXT
			asm.Return(),
			asm.Mov.Imm(asm.R0, 2).WithSymbol("lose"), // TCX_DROP
			asm.Return(),
		},
		License: "GPL",
	})
	must(t, err)
	t.Cleanup(func() { _ = program.Close() })
	must(t, ns.Do(func() error {
		eth0, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		attached, err := link.AttachTCX(link.TCXOptions{Interface: eth0.Index, Program: program, Attach: hook})
		if errors.Is(err, ebpf.ErrNotSupported) {
			t.Skipf("this kernel has no tcx: %v", err)
		}
		if err == nil {
			t.Cleanup(func() { _ = attached.Close() })
		}
		return err
	}))
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
