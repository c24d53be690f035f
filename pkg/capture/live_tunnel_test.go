package capture

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// A tunnel whose packets are too large for the network below it: they are cut
// into fragments, which the host puts together again before a segment comes out
// of the tunnel's device, and there it is captured.
func TestTapFragmentedTunnel(t *testing.T) {
	n := newNetwork(t)
	end := func(ns netns.NsHandle, below netlink.Link, addr, remote string) {
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.MTU = "vxlan", below.Attrs().MTU
		l := &netlink.Vxlan{LinkAttrs: attrs, VxlanId: 7, Group: net.ParseIP(remote), Port: 4789, Learning: true}
		h := handleAt(t, ns)
		if err := h.LinkAdd(l); errors.Is(err, unix.EOPNOTSUPP) {
			t.Skip("this kernel has no VXLAN")
		} else if err != nil {
			t.Fatal(err)
		}
		if err := h.LinkSetUp(l); err != nil {
			t.Fatal(err)
		}
		addAddr(t, ns, l, addr)
	}
	end(n.client, n.clientLink, "10.8.0.1/24", "10.9.0.2")
	end(n.server, n.serverLink, "10.8.0.2/24", "10.9.0.1")

	addr := netip.MustParseAddr("10.8.0.2")
	at, received := listen(t, n.server, netip.AddrPortFrom(addr, 8080))
	tap := startTap(t, n.server, Config{}, newCollector(), Target{addr, 8080})
	c, flow := dial(t, n.client, at)
	sent := random(1 << 18)
	send(t, c, sent)
	c.Close()
	<-received
	tap.until("end of the stream", func() bool { st, _ := tap.stream(flow); return st.fin })
	counted, _ := tap.finish()
	if st, _ := tap.stream(flow); !bytes.Equal(st.data, sent) {
		t.Errorf("captured %d bytes, sent %d, or they differ", len(st.data), len(sent))
	}
	if counted[SkippedFragment] != 0 {
		t.Errorf("fragments were counted, which are none of TCP: %v", counted)
	}
	if made := fragmentsMade(t, n.client); made == 0 {
		t.Error("nothing was cut into fragments, this test shows nothing")
	}
}

// fragmentsMade is how many IPv4 fragments a namespace has made, FragCreates of
// /proc/net/snmp (RFC 4293, ipSystemStatsOutFragCreates).
func fragmentsMade(t *testing.T, ns netns.NsHandle) int {
	t.Helper()
	text := inNetns(t, ns, func() ([]byte, error) { return os.ReadFile("/proc/thread-self/net/snmp") })
	var names []string
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) == 0 || fields[0] != "Ip:" {
			continue
		}
		if names == nil {
			names = fields
			continue
		}
		n, err := strconv.Atoi(fields[slices.Index(names, "FragCreates")])
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	t.Fatalf("no counters in %s", text)
	return 0
}
