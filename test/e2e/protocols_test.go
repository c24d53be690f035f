package e2e

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"maps"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/shadowtap/shadowtap/pkg/netlab"
)

// smuggled looks like a request but is payload of another protocol.
const smuggled = "GET /httpbin/smuggled HTTP/1.1\r\nHost: www.bookinfo.com\r\n\r\n"

func TestUpgradedConnectionsAreIgnored(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	serve(t, l.v1, v4.v1At(), func(c net.Conn, m message) error {
		if m.field("Upgrade") == "" {
			return answerID(c, m)
		}
		if _, err := io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"); err != nil {
			return err
		}
		_, err := io.Copy(c, c)
		return errorOr(err, errHangUp)
	})
	v2 := serve(t, l.v2, v4.v2At(), nil)
	a := startAgent(t, l.node, "-f", rulesFile(t, seedRules(t, v4)))
	c := l.clients(v4.v1At())

	conn := c.open()
	must(t, conn.do(request{})) // an ordinary request comes first
	upgrade := request{target: "/httpbin/websocket/echo", fields: []string{
		"Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="}}
	_, err := conn.Write(upgrade.bytes("upgrade"))
	must(t, err)
	for line := "-"; line != "\r\n"; {
		line, err = conn.r.ReadString('\n')
		must(t, err)
	}
	for range 10 {
		exchange(t, conn, "\x81\x05hello"+smuggled)
	}
	must(t, conn.Close())
	must(t, c.open().do(request{}))

	final := a.stop()
	checkCopies(t, c.messages(), v2.messages(), seedRewrite, nil)
	final.expect(t, outcome{mirrored: 2, dropped: map[string]uint64{"upgrade": 1}})
	checkIgnored(t, final, map[string]uint64{"upgrade": 1})
}

// TestDeclinedH2CIsNoUpgrade: Java's client offers HTTP/2 with every first
// request of a connection. v1 goes on in HTTP/1.1, and so does the mirroring.
func TestDeclinedH2CIsNoUpgrade(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	v1, v2 := serve(t, l.v1, v4.v1At(), nil), serve(t, l.v2, v4.v2At(), nil)
	a := startAgent(t, l.node, "-f", rulesFile(t, seedRules(t, v4)))
	c := l.clients(v4.v1At())
	conn := c.open()
	must(t, conn.do(request{method: "POST", body: "with an offer", fields: []string{
		"Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAEAAEAAAAIAAAAAAAMAAAAAAAQBAAAAAAUAAEAAAAYABgAA"}}))
	must(t, conn.do(request{}))
	must(t, conn.do(request{method: "POST", body: "without"}))
	final := a.stop()
	checkCopies(t, v1.messages(), v2.messages(), seedRewrite, nil)
	final.expect(t, outcome{mirrored: 3})
	checkIgnored(t, final, map[string]uint64{})
}

// exchange sends bytes to an echoing server and reads them back.
func exchange(t *testing.T, conn *connection, sent string) {
	t.Helper()
	_, err := io.WriteString(conn, sent)
	must(t, err)
	got := make([]byte, len(sent))
	_, err = io.ReadFull(conn.r, got)
	must(t, err)
	if string(got) != sent {
		t.Fatalf("production failed: %q came back, want %q", got, sent)
	}
}

func errorOr(err, other error) error {
	if err == nil {
		return other
	}
	return err
}

func checkIgnored(t *testing.T, final account, want map[string]uint64) {
	t.Helper()
	if got := final.Flows.Ignored; !maps.Equal(got, want) {
		t.Errorf("ignored flows %v, want %v", got, want)
	}
}

// TestOtherProtocolsAreRecognised: what is not HTTP/1 is left alone, counted
// as a flow of its protocol, and no request is made up from it.
func TestOtherProtocolsAreRecognised(t *testing.T) {
	t.Parallel()
	for protocol, connect := range map[string]func(t *testing.T, l *lab) *connection{
		"tls":   overTLS,
		"http2": opening("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"),
		"mptcp": overMPTCP,
		// The client of a message queue, for example.
		"not_http": opening("\x00\x00\x00\x1a\x00\x03\x00\x00\x00\x00\x00\x01"),
	} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			v2 := serve(t, l.v2, v4.v2At(), nil)
			a := startAgent(t, l.node, "-f", rulesFile(t, seedRules(t, v4)))
			conn := connect(t, l)
			exchange(t, conn, smuggled)
			a.until("the flow being recognised", func(acc account) bool { return acc.Flows.Ignored[protocol] == 1 })
			a.until("the kernel copying no more of it", func(acc account) bool {
				exchange(t, conn, smuggled)
				return acc.Packets.Skipped["ignored"] > 0
			})
			final := a.stop()
			final.expect(t, outcome{})
			checkIgnored(t, final, map[string]uint64{protocol: 1})
			if got := len(v2.messages()); got != 0 {
				t.Errorf("the shadow got %d requests", got)
			}
		})
	}
}

// echoServer sends back what it receives.
func echoServer(t *testing.T, l net.Listener) {
	t.Helper()
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(patience))
		_, _ = io.Copy(c, c)
	}()
}

// opening connects to an echoing v1 and begins with some bytes.
func opening(first string) func(t *testing.T, l *lab) *connection {
	return func(t *testing.T, l *lab) *connection {
		t.Helper()
		echoServer(t, listen(t, l.v1, v4.v1At()))
		conn := l.clients(v4.v1At()).open()
		exchange(t, conn, first)
		return conn
	}
}

// overTLS connects to a v1 that echoes over TLS.
func overTLS(t *testing.T, l *lab) *connection {
	t.Helper()
	echoServer(t, tls.NewListener(listen(t, l.v1, v4.v1At()), &tls.Config{Certificates: []tls.Certificate{certificate(t, l.v1)}}))
	conn := l.clients(v4.v1At()).open()
	conn.Conn = tls.Client(conn.Conn, &tls.Config{InsecureSkipVerify: true})
	conn.r = bufio.NewReader(conn.Conn)
	must(t, conn.SetDeadline(time.Now().Add(patience)))
	return conn
}

// overMPTCP connects to an echoing v1 by Multipath TCP, which servers in Go accept.
func overMPTCP(t *testing.T, l *lab) *connection {
	t.Helper()
	echoServer(t, listen(t, l.v1, v4.v1At()))
	var d net.Dialer
	d.SetMultipathTCP(true)
	var c net.Conn
	must(t, l.client.Do(func() (err error) {
		c, err = d.Dial("tcp", v4.v1At())
		return err
	}))
	t.Cleanup(func() { _ = c.Close() })
	if ok, err := c.(*net.TCPConn).MultipathTCP(); err != nil || !ok {
		t.Skipf("this kernel does not speak Multipath TCP: %v", err)
	}
	must(t, c.SetDeadline(time.Now().Add(patience)))
	conn := &connection{Conn: c, r: bufio.NewReader(c)}
	exchange(t, conn, smuggled)
	return conn
}

// certificate is a self-signed certificate.
func certificate(t *testing.T, ns *netlab.Namespace) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{ns.Name()}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	must(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// TestInvalidRequestsAreDropped: what a strict reader refuses is not replayed
// but counted, and what v1 makes of it is v1's business.
func TestInvalidRequestsAreDropped(t *testing.T) {
	t.Parallel()
	for name, raw := range map[string]string{
		"two ways to frame it": "POST /httpbin/x HTTP/1.1\r\nHost: www.bookinfo.com\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"two lengths":          "POST /httpbin/x HTTP/1.1\r\nHost: www.bookinfo.com\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nbody!",
		"no length":            "POST /httpbin/x HTTP/1.1\r\nHost: www.bookinfo.com\r\nContent-Length: many\r\n\r\n",
		"a chunk of no size":   "POST /httpbin/x HTTP/1.1\r\nHost: www.bookinfo.com\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
		"a space in a name":    "GET /httpbin/x HTTP/1.1\r\nHost: www.bookinfo.com\r\nX-Bad : 1\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			echoServer(t, listen(t, l.v1, v4.v1At()))
			v2 := serve(t, l.v2, v4.v2At(), nil)
			a := startAgent(t, l.node, "-f", rulesFile(t, seedRules(t, v4)))
			exchange(t, l.clients(v4.v1At()).open(), raw)
			final := a.stop()
			final.expect(t, outcome{dropped: map[string]uint64{"invalid": 1}})
			if got := v2.messages(); len(got) != 0 {
				t.Errorf("the shadow got %s", brief(got[0].raw))
			}
			if !strings.Contains(a.log.String(), "invalid request") {
				t.Errorf("the log says nothing about it: %s", fmt.Sprint(a.log.String()))
			}
		})
	}
}
