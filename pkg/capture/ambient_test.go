package capture

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// hbonePort is where ztunnel takes TLS for every port of a pod.
const hbonePort = 15008

// selfSigned is a certificate that nobody checks.
func selfSigned(t testing.TB) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// returnByLo sends what a server of ns answers to any client by way of lo, as
// Istio's node agent does in a pod for connections of ztunnel.
func returnByLo(t testing.TB, ns netns.NsHandle, port uint16) {
	t.Helper()
	h := handleAt(t, ns)
	lo, err := h.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	const table = 100
	rule := netlink.NewRule()
	rule.Table, rule.IPProto, rule.Sport = table, unix.IPPROTO_TCP, netlink.NewRulePortRange(port, port)
	if err := h.RuleAdd(rule); err != nil {
		t.Fatal(err)
	}
	_, everywhere, _ := net.ParseCIDR("0.0.0.0/0")
	if err := h.RouteAdd(&netlink.Route{
		LinkIndex: lo.Attrs().Index, Dst: everywhere, Table: table, Type: unix.RTN_LOCAL, Scope: unix.RT_SCOPE_HOST,
	}); err != nil {
		t.Fatal(err)
	}
}

// standIn does in a pod what ztunnel does with a connection from another: it
// takes TLS on a port of its own and hands the plain text on to the port of the
// application from the client's address, for which its socket is transparent.
// It tells of each connection to the application.
func standIn(t testing.TB, ns netns.NsHandle, addr netip.Addr, app netip.AddrPort) <-chan netip.AddrPort {
	t.Helper()
	l := inNetns(t, ns, func() (net.Listener, error) {
		return tls.Listen("tcp", netip.AddrPortFrom(addr, hbonePort).String(), &tls.Config{Certificates: []tls.Certificate{selfSigned(t)}})
	})
	from, done := make(chan netip.AddrPort, 16), make(chan struct{})
	transparent := func(_, _ string, c syscall.RawConn) (err error) {
		if ctl := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_TRANSPARENT, 1) }); ctl != nil {
			return ctl
		}
		return err
	}
	go func() {
		defer close(done)
		for {
			down, err := l.Accept()
			if err != nil {
				return
			}
			client := &net.TCPAddr{IP: down.RemoteAddr().(*net.TCPAddr).IP}
			var up net.Conn
			if err := inside(ns)(func() (err error) {
				up, err = (&net.Dialer{LocalAddr: client, Control: transparent, Timeout: patience}).Dial("tcp", app.String())
				return err
			}); err != nil {
				t.Error(err)
				down.Close()
				return
			}
			from <- up.LocalAddr().(*net.TCPAddr).AddrPort()
			if _, err := io.Copy(up, down); err != nil {
				t.Error(err)
			}
			up.Close()
			down.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return from
}

// In a pod of Istio's ambient mesh the plain text passes on lo, from the
// client's address to the pod's, and is captured there. What arrives outside is
// TLS, for a port of ztunnel's.
func TestTapAmbient(t *testing.T) {
	host := newNetns(t)
	tap := startTap(t, host, Config{Instances: true}, newCollector())
	pod := newNetwork(t)
	app := netip.AddrPortFrom(serverAddr4, 8080)
	i := tap.newInstance(pod.server, true, Target{app.Addr(), app.Port()})
	returnByLo(t, pod.server, app.Port())
	_, received := listen(t, pod.server, app)
	handedOn := standIn(t, pod.server, serverAddr4, app)

	data := random(100_000)
	outside, encrypted := dial(t, pod.client, netip.AddrPortFrom(serverAddr4, hbonePort))
	c := tls.Client(outside, &tls.Config{InsecureSkipVerify: true})
	if _, err := c.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	var source netip.AddrPort
	select {
	case source = <-handedOn:
	case <-time.After(patience):
		t.Fatal("nothing was handed on")
	}
	if !bytes.Equal(<-received, data) {
		t.Error("the application got something else")
	}
	if want := netip.MustParseAddr("10.9.0.1"); source.Addr() != want {
		t.Errorf("handed on from %v, not from %v", source, want)
	}
	plain := flowOf(source, app)
	plain.Instance, encrypted.Instance = i.ID(), i.ID()
	tap.until("the plain text", func() bool {
		st, _ := tap.stream(plain)
		return st.fin && bytes.Equal(st.data, data)
	})
	tap.finish()
	if _, ok := tap.stream(encrypted); ok {
		t.Error("TLS was captured, too")
	}
}
