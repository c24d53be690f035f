package e2e

import (
	"fmt"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"

	"github.com/shadowtap/shadowtap/pkg/netlab"
)

// TestLossyNetwork: packets are lost on their way to the tap, so that there
// are holes in what it sees, and between the tap and v1, so that it sees
// things twice. TCP repairs all of it, and so must the reassembly.
func TestLossyNetwork(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	needTCX(t, l.node)
	losePackets(t, l.client, ebpf.AttachTCXEgress)
	losePackets(t, l.v1, ebpf.AttachTCXIngress)
	v1, v2 := serve(t, l.v1, v4.v1At(), nil), serve(t, l.v2, v4.v2At(), nil)
	a := startAgent(t, l.node, "-f", rulesFile(t, seedRules(t, v4)))
	c := l.clients(v4.v1At())
	c.behind = a
	c.load(8, 25, nil, distinct(100_000))()
	final := a.stop()
	checkReceived(t, c.messages(), v1.messages())
	checkCopies(t, v1.messages(), v2.messages(), seedRewrite, nil)
	final.expect(t, outcome{mirrored: 200})
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
		if err == nil {
			t.Cleanup(func() { _ = attached.Close() })
		}
		return err
	}))
}

// distinct makes requests with bodies of about n bytes no two lines of which
// are alike, so that bytes of one request in another show.
func distinct(n int) func(i int) request {
	return func(i int) request {
		var b strings.Builder
		for line := 0; b.Len() < n; line++ {
			fmt.Fprintf(&b, "request %d of a connection, line %d\n", i, line)
		}
		if i%2 == 0 {
			return request{method: "PUT", chunks: chunked(b.String())}
		}
		return request{method: "POST", body: b.String()}
	}
}

// TestWhatCannotBeCopiedIsNotGuessed: when the tap may not or cannot copy all
// there is, requests are dropped and counted, and the shadow gets whole
// requests only.
func TestWhatCannotBeCopiedIsNotGuessed(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		args []string
		lost func(account) uint64
	}{
		"rings too small":     {[]string{"--ring-size", "64KiB"}, func(acc account) uint64 { return acc.Packets.Lost["ring_full"] }},
		"rate limit exceeded": {[]string{"--max-capture-rate", "256KiB"}, func(acc account) uint64 { return acc.Packets.Skipped["over_budget"] }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const n = 80
			l := newLab(t)
			v1, v2 := serve(t, l.v1, v4.v1At(), nil), serve(t, l.v2, v4.v2At(), nil)
			a := startAgent(t, l.node, append(test.args, "-f", rulesFile(t, seedRules(t, v4)))...)
			c := l.clients(v4.v1At())
			c.load(4, n/4, nil, distinct(500_000))()
			final := a.stop()
			checkReceived(t, c.messages(), v1.messages())
			copies := byID(v2.messages())
			checkCopies(t, v1.messages(), v2.messages(), seedRewrite, func(m message) bool { return len(copies[m.id()]) > 0 })
			r, s := final.Requests, final.Shadow
			if got := uint64(len(v2.messages())); got != r.Mirrored || got != s.Answered["2xx"] {
				t.Errorf("the shadow got %d requests; the account says %+v %+v", got, r, s)
			}
			if test.lost(final) == 0 {
				t.Errorf("packets %+v: none were lost, this test shows nothing", final.Packets)
			}
			// A gap shows by what comes after it. Where that is lost, too, to the
			// end of the connection, its last request is open until the agent
			// stops; on a fast machine that may be the only one seen.
			torn := r.Dropped["gap"] + r.Dropped["incomplete"] + r.Dropped["shutdown"]
			if torn == 0 || torn != sum(r.Dropped) || r.Seen > n {
				t.Errorf("requests %+v: want at most %d, some dropped because parts of them were lost", r, n)
			}
		})
	}
}

// TestShortConnections: a connection for each request, and their ports come
// round again.
func TestShortConnections(t *testing.T) {
	t.Parallel()
	const n = 2000
	l := newLab(t)
	v1, v2 := serve(t, l.v1, v4.v1At(), nil), serve(t, l.v2, v4.v2At(), nil)
	// A handful of ports, each used again and again.
	narrowPorts(t, l.client)
	a := startAgent(t, l.node, "-f", rulesFile(t, seedRules(t, v4)))
	c := l.clients(v4.v1At())
	for range n {
		conn, err := c.dial()
		must(t, err)
		must(t, conn.do(request{}))
		// A reset frees the port at once; a FIN would keep it for a minute.
		must(t, conn.Conn.(*net.TCPConn).SetLinger(0))
		must(t, conn.Close())
	}
	final := a.stop()
	checkReceived(t, c.messages(), v1.messages())
	checkCopies(t, v1.messages(), v2.messages(), seedRewrite, nil)
	final.expect(t, outcome{mirrored: n})
	if final.Flows.Total < n {
		t.Errorf("%d flows, want at least %d", final.Flows.Total, n)
	}
}

// narrowPorts leaves a namespace 100 ports for outgoing connections.
func narrowPorts(t *testing.T, ns *netlab.Namespace) {
	t.Helper()
	must(t, ns.Do(func() error {
		return os.WriteFile("/proc/sys/net/ipv4/ip_local_port_range", []byte("50000 50099"), 0)
	}))
}
