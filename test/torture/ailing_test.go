package torture

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/shadowtap/shadowtap/pkg/netlab"
)

// besides is an address on the shadow's host that is not the shadow's.
var besides = netip.MustParsePrefix("10.99.7.3/24")

// connect makes the shadow's host reachable from the node. The host has the
// shadow's address only once it appears.
func (p *patient) connect() {
	p.Helper()
	must(p, netlab.Connect(
		netlab.End{Namespace: p.node, Name: "shadow0", Addresses: []netip.Prefix{netip.MustParsePrefix("10.99.7.1/24")}},
		netlab.End{Namespace: p.shadow, Name: "eth0", Addresses: []netip.Prefix{besides}}))
	must(p, p.node.Route(netip.PrefixFrom(shadowAt.Addr(), 32), besides.Addr()))
}

// appear gives the shadow's host the shadow's address.
func (p *patient) appear() {
	p.Helper()
	must(p, netlab.Connect(
		netlab.End{Namespace: p.shadow, Name: "v2", Addresses: []netip.Prefix{netip.PrefixFrom(shadowAt.Addr(), 32)}},
		netlab.End{Namespace: p.shadow, Name: "v2peer"}))
}

// serve ends the shadow and, unless start is nil, starts another one.
func (p *patient) serve(start func(net.Listener) *server) {
	p.Helper()
	if p.server != nil {
		p.server.stop()
		p.server = nil
	}
	if start == nil {
		return
	}
	l, err := p.shadow.Listen("tcp", shadowAt.String())
	must(p, err)
	p.server = start(l)
}

// healthy starts a shadow that answers.
func (p *patient) healthy() { p.serve(p.answering) }

func (p *patient) answering(l net.Listener) *server { return serveShadow(l, p.ledger.arrived) }

func down(p *patient) func() {
	p.appear()
	must(p, p.node.Delete("shadow0"))
	return func() { p.connect(); p.healthy() }
}

func refusing(p *patient) func() {
	p.appear()
	return p.healthy
}

// vanishing: the packets go to a host that has no such address and forwards
// nothing, which drops them without a word.
func vanishing(p *patient) func() {
	return func() { p.appear(); p.healthy() }
}

// ailing is a shadow that does with each connection what talk does.
func ailing(talk func(net.Conn)) func(*patient) func() {
	return func(p *patient) func() {
		p.appear()
		p.serve(func(l net.Listener) *server { return serve(l, talk) })
		return p.healthy
	}
}

// hold takes what comes and says nothing.
func hold(c net.Conn) { _, _ = io.Copy(io.Discard, c) }

// drip answers a byte a second.
func drip(c net.Conn) {
	gone := make(chan struct{})
	go func() { hold(c); close(gone) }()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for _, b := range []byte("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n") {
		if _, err := c.Write([]byte{b}); err != nil {
			return
		}
		select {
		case <-gone:
			return
		case <-tick.C:
		}
	}
}

// pour writes begin, and then the same over and over up to so many bytes or as
// long as somebody reads.
func pour(c net.Conn, begin, over string, most int) {
	go hold(c)
	block := []byte(strings.Repeat(over, 64<<10/len(over)))
	if _, err := io.WriteString(c, begin); err != nil {
		return
	}
	for n := 0; n < most; n += len(block) {
		if _, err := c.Write(block); err != nil {
			return
		}
	}
}

// flood answers without end, and no faster than that an answer takes longer
// than any copy may before it is enough of one.
func flood(c net.Conn) {
	go hold(c)
	if _, err := io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n"); err != nil {
		return
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for block := bytes.Repeat([]byte("x"), 64<<10); ; <-tick.C {
		if _, err := c.Write(block); err != nil {
			return
		}
	}
}

func bigHead(c net.Conn) { pour(c, "HTTP/1.1 200 OK\r\nX: ", "x", 100e6) }
func garbage(c net.Conn) { pour(c, "\x00\xff\r\n\r\n", "\x16\x03\x01\n", 1<<20) }
func breakOff(c net.Conn) {
	// The copy is read first, or else the reset could overtake the answer.
	if _, err := receive(bufio.NewReaderSize(c, 256<<10)); err != nil {
		return
	}
	_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf")
	_ = c.(*net.TCPConn).SetLinger(0)
}

// pair is a self-signed certificate for a host.
func (p *patient) pair(host string) (tls.Certificate, string) {
	p.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(p, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true,
		DNSNames:  []string{host},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(p, err)
	file := filepath.Join(p.TempDir(), "ca.pem")
	must(p, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, file
}

// encrypted makes the rules ask for TLS, and returns the certificate that is
// right and what starts a shadow that has it.
func (p *patient) encrypted() (good tls.Certificate, mend func()) {
	p.Helper()
	p.appear()
	good, ca := p.pair("shadow.test")
	p.rewrite(func(text string) string {
		return strings.Replace(text, "  host: served\n  subsets:", "  host: served\n"+
			"  trafficPolicy: {tls: {mode: SIMPLE, sni: shadow.test, caCertificates: "+ca+"}}\n  subsets:", 1)
	})
	return good, func() { p.serve(func(l net.Listener) *server { return p.answering(secure(l, good)) }) }
}

func secure(l net.Listener, pair tls.Certificate) net.Listener {
	return tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{pair}})
}

func misnamed(p *patient) func() {
	_, mend := p.encrypted()
	other, _ := p.pair("other.test")
	p.serve(func(l net.Listener) *server {
		return serve(secure(l, other), func(c net.Conn) { _ = c.(*tls.Conn).Handshake() })
	})
	return mend
}

func encryptedFlood(p *patient) func() {
	good, mend := p.encrypted()
	p.serve(func(l net.Listener) *server { return serve(secure(l, good), flood) })
	return mend
}

func unencrypted(p *patient) func() {
	_, mend := p.encrypted()
	p.serve(func(l net.Listener) *server { return serve(l, garbage) })
	return mend
}

// nameless: nobody answers for the name, until somebody does.
func nameless(p *patient) func() {
	p.appear()
	p.healthy()
	p.mirrorTo("shadow.test", `apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: shadow}
spec:
  hosts: [shadow.test]
  resolution: DNS
  ports: [{name: http, number: 80, protocol: HTTP}]`)
	return p.nameServer
}

// mirrorTo makes host the shadow, and adds the objects that say where it is.
func (p *patient) mirrorTo(host, objects string) {
	p.Helper()
	p.rewrite(func(text string) string {
		return objects + "\n---\n" + strings.Replace(text, "mirror: {host: served, subset: v2}", "mirror: {host: "+host+", port: {number: 80}}", 1)
	})
}

// nameServer gives the node the addresses that the agent asks for names, and
// answers every question for an IPv4 address with the shadow's.
func (p *patient) nameServer() {
	p.Helper()
	text, err := os.ReadFile("/etc/resolv.conf")
	must(p, err)
	var addresses []netip.Prefix
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == "nameserver" {
			if ip, err := netip.ParseAddr(f[1]); err == nil && !ip.IsLoopback() {
				addresses = append(addresses, netip.PrefixFrom(ip, ip.BitLen()))
			}
		}
	}
	must(p, netlab.Connect(
		netlab.End{Namespace: p.node, Name: "dns0", Addresses: addresses},
		netlab.End{Namespace: p.node, Name: "dns1"}))
	var socket net.PacketConn
	must(p, p.node.Do(func() (err error) {
		socket, err = net.ListenPacket("udp", ":53")
		return err
	}))
	var done sync.WaitGroup
	p.Cleanup(func() { _ = socket.Close(); done.Wait() })
	done.Go(func() {
		b := make([]byte, 512)
		for {
			n, from, err := socket.ReadFrom(b)
			if err != nil {
				return
			}
			if answer := resolve(b[:n], shadowAt.Addr()); answer != nil {
				_, _ = socket.WriteTo(answer, from)
			}
		}
	})
}

// resolve answers a DNS query with one question (RFC 1035 section 4.1).
func resolve(query []byte, ip netip.Addr) []byte {
	const header = 12
	end := header
	for end < len(query) && query[end] != 0 {
		end += int(query[end]) + 1
	}
	if end += 5; end > len(query) { // the root, type and class
		return nil
	}
	answer := append([]byte{query[0], query[1], 0x85, 0x80, 0, 1, 0, 0, 0, 0, 0, 0}, query[header:end]...)
	if query[end-3] == 1 { // an IPv4 address is asked for
		answer[7] = 1
		answer = append(answer, 0xc0, header, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4)
		answer = append(answer, ip.AsSlice()...)
	}
	return answer
}

// deserted: the endpoints of the shadow's Service go, and come back.
func deserted(p *patient) func() {
	p.appear()
	p.healthy()
	const with, without = "endpoints: [{addresses: [10.99.7.2]}]", "endpoints: []"
	p.mirrorTo("shadow", `apiVersion: v1
kind: Service
metadata: {name: shadow}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: shadow-1, labels: {kubernetes.io/service-name: shadow}}
ports: [{name: http, port: 80}]
`+with)
	p.onset = func() {
		p.send(1)
		p.reload(func(text string) string { return strings.Replace(text, with, without, 1) })
	}
	return func() {
		p.reload(func(text string) string { return strings.Replace(text, without, with, 1) })
	}
}

// slow: one answer at a time, and each takes longer than many requests.
func slow(p *patient) func() {
	p.appear()
	var one sync.Mutex
	late := func(a arrival) {
		one.Lock()
		defer one.Unlock()
		time.Sleep(100 * time.Millisecond)
		p.ledger.arrived(a)
	}
	p.serve(func(l net.Listener) *server { return serveShadow(l, late) })
	return p.healthy
}

// bulky: nothing is wrong but the size of the rules, which change while there
// is traffic.
func bulky(p *patient) func() {
	p.appear()
	p.healthy()
	const mark = "# revision "
	more := func(i int) {
		p.reload(func(text string) string {
			text, _, _ = strings.Cut(text, mark)
			var b strings.Builder
			b.WriteString(text)
			fmt.Fprintf(&b, "%s%d\n", mark, i)
			for n := 0; b.Len() < 2500<<10; n++ {
				fmt.Fprintf(&b, `---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: bulk-%d}
spec:
  hosts: [host-%d.torture.test]
  http:
  - match: [{uri: {prefix: /a/%d}}, {headers: {x-user: {regex: "[a-f]{3}-%d"}}}]
    rewrite: {uri: /b}
    route: [{destination: {host: served, subset: v1}}]
    mirror: {host: served, subset: v2}
`, n, n, i, i)
			}
			return b.String()
		})
	}
	p.onset = func() {
		for i := range 3 {
			p.send(4)
			more(i)
		}
	}
	return func() { more(100) }
}
