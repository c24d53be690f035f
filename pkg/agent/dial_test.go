package agent

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/shadowtap/shadowtap/pkg/rules"
)

// TestDialElsewhere: what the rules of a cluster send does not reach what listens
// on this machine for itself, whatever it is called.
func TestDialElsewhere(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	for _, kube := range []bool{false, true} {
		a := &Agent{}
		a.cfg.Kube = kube
		for _, host := range []string{"127.0.0.1", "localhost", "0.0.0.0", "::ffff:127.0.0.1"} {
			conn, err := a.dialer().DialContext(t.Context(), "tcp", net.JoinHostPort(host, port))
			if conn != nil {
				conn.Close()
			}
			if (err != nil) != kube || kube && !strings.Contains(err.Error(), "rules of a cluster") {
				t.Errorf("%s, of a cluster %v: %v", host, kube, err)
			}
		}
	}
	for address, refused := range map[string]bool{
		"169.254.169.254:80": true, "[fe80::1%lo]:80": true, "[::1]:80": true, "[::]:80": true, "127.8.9.1:1": true,
		"10.0.0.1:80": false, "[fd00::1]:80": false, "192.0.2.1:80": false,
	} {
		if err := elsewhere("tcp", address, nil); (err != nil) != refused {
			t.Errorf("%s: %v", address, err)
		}
	}
}

// TestFilesOfRules: a rule may name any file. One without an end, or that waits
// for somebody to write, is not read.
func TestFilesOfRules(t *testing.T) {
	dir := t.TempDir()
	fifo, large := filepath.Join(dir, "fifo"), filepath.Join(dir, "large")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(large, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(large, maxPEM+1); err != nil {
		t.Fatal(err)
	}
	a := idleAgent(t, shadowRules("10.99.1.9:80"))
	for _, file := range []string{"/dev/zero", fifo, large, dir} {
		for _, tls := range []rules.TLS{{CACertificates: file}, {ClientCertificate: file, PrivateKey: file}} {
			if _, err := mirrorTLS(a.tls, &tls); err == nil || !strings.Contains(err.Error(), "expected a regular file") {
				t.Errorf("%+v: %v", tls, err)
			}
		}
	}
}
