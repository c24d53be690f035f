package e2e

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/shadowtap/shadowtap/pkg/netlab"
)

// addresses are the addresses of a lab in one family, without ports.
type addresses struct {
	name                       string
	client, v1, v2             string
	nodeClient, nodeV1, nodeV2 string // the node's, on the same networks
}

var (
	v4 = addresses{"IPv4", "10.99.2.2", "10.99.0.2", "10.99.1.2", "10.99.2.1", "10.99.0.1", "10.99.1.1"}
	v6 = addresses{"IPv6", "fd99:2::2", "fd99:0::2", "fd99:1::2", "fd99:2::1", "fd99:0::1", "fd99:1::1"}
)

// at is an address with a port.
func at(address string, port uint16) string {
	return netip.AddrPortFrom(netip.MustParseAddr(address), port).String()
}

// v1At and v2At are where the seed's rules find v1 and v2.
func (a addresses) v1At() string { return at(a.v1, 80) }
func (a addresses) v2At() string { return at(a.v2, 80) }

// lab is a network of client, v1 and v2, each behind an interface of its own
// of a node that routes between them. All speak IPv4 and IPv6.
type lab struct {
	t                    testing.TB
	client, node, v1, v2 *netlab.Namespace
}

func newNamespace(t testing.TB, name string) *netlab.Namespace {
	t.Helper()
	needRoot(t)
	n, err := netlab.New(name)
	must(t, err)
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Errorf("close namespace %s: %v", name, err)
		}
	})
	return n
}

func newLab(t testing.TB) *lab {
	t.Helper()
	l := &lab{
		t:      t,
		client: newNamespace(t, "client"), node: newNamespace(t, "node"),
		v1: newNamespace(t, "v1"), v2: newNamespace(t, "v2"),
	}
	must(t, l.node.Forward())
	l.cable(l.client, "client0", v4.client, v4.nodeClient, v6.client, v6.nodeClient)
	l.cable(l.v1, "v1-0", v4.v1, v4.nodeV1, v6.v1, v6.nodeV1)
	l.cable(l.v2, "v2-0", v4.v2, v4.nodeV2, v6.v2, v6.nodeV2)
	return l
}

// cable connects eth0 of a namespace to an interface of the node, and makes
// the node its router.
func (l *lab) cable(ns *netlab.Namespace, link, own4, node4, own6, node6 string) {
	l.t.Helper()
	must(l.t, netlab.Connect(
		netlab.End{Namespace: l.node, Name: link, Addresses: prefixes(node4+"/24", node6+"/64")},
		netlab.End{Namespace: ns, Name: "eth0", Addresses: prefixes(own4+"/24", own6+"/64")}))
	must(l.t, ns.Route(netip.MustParsePrefix("0.0.0.0/0"), netip.MustParseAddr(node4)))
	must(l.t, ns.Route(netip.MustParsePrefix("::/0"), netip.MustParseAddr(node6)))
}

func prefixes(list ...string) (p []netip.Prefix) {
	for _, s := range list {
		p = append(p, netip.MustParsePrefix(s))
	}
	return p
}

// clients returns clients of v1, which echoes ids.
func (l *lab) clients(address string) *clients {
	return &clients{t: l.t, from: l.client, address: address, echoes: true}
}

// seedRules is the seed's standalone.yaml for the addresses of a family.
func seedRules(t testing.TB, a addresses) string {
	t.Helper()
	seed, err := os.ReadFile("../testdata/standalone.yaml")
	must(t, err)
	// Quoted, because an IPv6 address is not a plain YAML scalar everywhere.
	return strings.NewReplacer(v4.v1, `"`+a.v1+`"`, v4.v2, `"`+a.v2+`"`).Replace(string(seed))
}

// rulesFile writes rules where an agent reads them.
func rulesFile(t testing.TB, rules string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "rules.yaml")
	must(t, os.WriteFile(path, []byte(rules), 0o644))
	return path
}
