package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/shadowtap/shadowtap/pkg/netlab"
)

// TestEveryPathOnce: however the packets of a request reach v1, and however
// many attached interfaces they cross, the request is mirrored exactly once.
func TestEveryPathOnce(t *testing.T) {
	t.Parallel()
	for name, path := range map[string]struct {
		lab     func(t *testing.T) *lab
		agent   func(l *lab) *netlab.Namespace
		attach  string
		doubles bool // the packets cross more than one attached interface
	}{
		"routed, agent on the node":         {routed, onNode, "auto", true},
		"routed, agent on the node, clsact": {routed, onNode, "clsact", true},
		"routed, agent at v1":               {routed, atV1, "auto", false},
		"bridged, agent on the bridge":      {bridged, onNode, "auto", true},
		"same host, over lo":                {sameHost, atV1, "auto", false},
		"same host, over lo, clsact":        {sameHost, atV1, "clsact", false},
		"client on the agent's node":        {clientOnNode, onNode, "auto", false},
	} {
		for _, family := range []addresses{v4, v6} {
			t.Run(name+"/"+family.name, func(t *testing.T) {
				t.Parallel()
				l := path.lab(t)
				v1, v2 := serve(t, l.v1, family.v1At(), nil), serve(t, l.v2, family.v2At(), nil)
				a := startAgent(t, path.agent(l), "-f", rulesFile(t, seedRules(t, family)), "--attach", path.attach)
				c := l.clients(family.v1At())
				c.load(4, 50, nil, func(i int) request {
					if i%7 == 0 {
						return request{method: "POST", body: megabytes(1)[:200_000]}
					}
					return request{}
				})()
				final := a.stop()
				checkReceived(t, c.messages(), v1.messages())
				checkCopies(t, v1.messages(), v2.messages(), seedRewrite, nil)
				final.expect(t, outcome{mirrored: 200})
				if got := final.Packets.Skipped["duplicate"] > 0; got != path.doubles {
					t.Errorf("packets %+v: duplicates %v, want %v", final.Packets, got, path.doubles)
				}
			})
		}
	}
}

func onNode(l *lab) *netlab.Namespace { return l.node }
func atV1(l *lab) *netlab.Namespace   { return l.v1 }

func routed(t *testing.T) *lab { return newLab(t) }

// bridged has client and v1 on one Ethernet of the node, and v2 routed.
func bridged(t *testing.T) *lab {
	l := &lab{t: t, node: newNamespace(t, "node"), client: newNamespace(t, "client"), v1: newNamespace(t, "v1"), v2: newNamespace(t, "v2")}
	must(t, l.node.Forward())
	ethernet := func(ns *netlab.Namespace, name, a4, a6 string) {
		must(t, netlab.Connect(netlab.End{Namespace: l.node, Name: name},
			netlab.End{Namespace: ns, Name: "eth0", Addresses: prefixes(a4, a6)}))
	}
	ethernet(l.client, "client0", "10.99.0.3/24", "fd99:0::3/64")
	ethernet(l.v1, "v1-0", v4.v1+"/24", v6.v1+"/64")
	must(t, l.node.Bridge("br0", []string{"client0", "v1-0"}, prefixes(v4.nodeV1+"/24", v6.nodeV1+"/64")...))
	l.cable(l.v2, "v2-0", v4.v2, v4.nodeV2, v6.v2, v6.nodeV2)
	return l
}

// sameHost has client and v1 on one host: their packets pass lo.
func sameHost(t *testing.T) *lab {
	l := newLab(t)
	l.client = l.v1
	return l
}

// clientOnNode has the client where the agent is: packets leave, never enter.
func clientOnNode(t *testing.T) *lab {
	l := newLab(t)
	l.client = l.node
	return l
}

// TestInterfacesComeAndGo: an interface that is made after the start is
// attached to, one that is deleted is no harm, and -i narrows the choice.
func TestInterfacesComeAndGo(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"tcx", "clsact"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			if mode == "tcx" {
				needTCX(t, l.node)
			}
			v1, v2 := serve(t, l.v1, v4.v1At(), nil), serve(t, l.v2, v4.v2At(), nil)
			a := startAgent(t, l.node, "-f", rulesFile(t, seedRules(t, v4)), "-i", "late*", "--attach", mode)

			early := l.clients(v4.v1At())
			must(t, early.open().do(request{})) // on interfaces that -i leaves out

			late := &clients{t: t, from: newNamespace(t, "late"), address: v4.v1At(), echoes: true, n: 1000}
			for round := range 2 {
				l.cable(late.from, "late0", "10.99.3.2", "10.99.3.1", "fd99:3::2", "fd99:3::1")
				eventually(t, "the agent on late0", func() error { return a.attachedTo("late0") })
				for range 5 {
					must(t, late.open().do(request{}))
				}
				a.until("the requests of this round", func(acc account) bool { return acc.Requests.Mirrored == uint64(5*(round+1)) })
				must(t, l.node.Delete("late0"))
			}
			must(t, early.open().do(request{}))

			final := a.stop()
			checkReceived(t, append(early.messages(), late.messages()...), v1.messages())
			checkCopies(t, late.messages(), v2.messages(), seedRewrite, nil)
			final.expect(t, outcome{mirrored: 10})
		})
	}
}

// attachedTo returns nil if the agent says that it is attached to the ingress
// of an interface of its namespace.
func (a *agent) attachedTo(name string) error {
	var index int
	err := a.ns.Do(func() error {
		iface, err := net.InterfaceByName(name)
		if err == nil {
			index = iface.Index
		}
		return err
	})
	if err != nil {
		return err
	}
	body, err := a.get("/api/v1/rules")
	if err != nil {
		return err
	}
	var status struct {
		Interfaces []struct {
			Index     int
			Direction string
		}
	}
	if err := json.Unmarshal(body, &status); err != nil {
		return err
	}
	for _, i := range status.Interfaces {
		if i.Index == index && i.Direction == "ingress" {
			return nil
		}
	}
	return fmt.Errorf("attached to %+v", status.Interfaces)
}

// tcxPrograms returns the programs on both tcx hooks of an interface.
func tcxPrograms(ns *netlab.Namespace, name string) (ids []ebpf.ProgramID, err error) {
	err = ns.Do(func() error {
		iface, err := net.InterfaceByName(name)
		if err != nil {
			return err
		}
		for _, hook := range []ebpf.AttachType{ebpf.AttachTCXIngress, ebpf.AttachTCXEgress} {
			result, err := link.QueryPrograms(link.QueryOptions{Target: iface.Index, Attach: hook})
			if err != nil {
				return err
			}
			for _, p := range result.Programs {
				ids = append(ids, p.ID)
			}
		}
		return nil
	})
	return ids, err
}

// needTCX skips a test of tcx on kernels before 6.6.
func needTCX(t *testing.T, ns *netlab.Namespace) {
	t.Helper()
	_, err := tcxPrograms(ns, "lo")
	if errors.Is(err, ebpf.ErrNotSupported) {
		t.Skipf("this kernel has no tcx: %v", err)
	}
	must(t, err)
}
