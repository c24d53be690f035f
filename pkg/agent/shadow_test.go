package agent

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/shadowtap/shadowtap/pkg/rules"
)

// keyPair writes a self-signed certificate for names, with its key.
func keyPair(t *testing.T, name string, names ...string) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: names,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, name+".pem"), filepath.Join(dir, name+"-key.pem")
	for file, block := range map[string]*pem.Block{
		certFile: {Type: "CERTIFICATE", Bytes: cert}, keyFile: {Type: "PRIVATE KEY", Bytes: private},
	} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certFile, keyFile
}

// TestMirrorTLS: what a DestinationRule says of TLS holds in a handshake.
func TestMirrorTLS(t *testing.T) {
	serverCert, serverKey := keyPair(t, "server", "shadow.example")
	clientCert, clientKey := keyPair(t, "client")
	pair, err := tls.LoadX509KeyPair(serverCert, serverKey)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		tls    rules.TLS
		server string // name
		mutual bool
		fails  string
	}{
		{"SIMPLE", rules.TLS{CACertificates: serverCert}, "shadow.example", false, ""},
		{"SIMPLE, another name", rules.TLS{CACertificates: serverCert}, "other.example", false, "other.example"},
		{"SIMPLE, the system's CAs", rules.TLS{}, "shadow.example", false, "unknown authority"},
		{"insecureSkipVerify", rules.TLS{SkipVerify: true}, "other.example", false, ""},
		{"subjectAltNames", rules.TLS{CACertificates: serverCert, AltNames: "a.example,shadow.example"}, "other.example", false, ""},
		{"subjectAltNames, another", rules.TLS{CACertificates: serverCert, AltNames: "a.example"}, "shadow.example", false, "none of a.example"},
		{"subjectAltNames, another CA", rules.TLS{CACertificates: clientCert, AltNames: "shadow.example"}, "shadow.example", false, "unknown authority"},
		{"MUTUAL", rules.TLS{CACertificates: serverCert, ClientCertificate: clientCert, PrivateKey: clientKey}, "shadow.example", true, ""},
		{"SIMPLE where MUTUAL is due", rules.TLS{CACertificates: serverCert}, "shadow.example", true, "certificate required"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := mirrorTLS(&tls.Config{MinVersion: tls.VersionTLS12}, &tt.tls)
			if err != nil {
				t.Fatal(err)
			}
			c.ServerName = tt.server
			s := &tls.Config{Certificates: []tls.Certificate{pair}}
			if tt.mutual {
				s.ClientAuth = tls.RequireAndVerifyClientCert
				if s.ClientCAs, err = certPool(clientCert); err != nil {
					t.Fatal(err)
				}
			}
			l, err := tls.Listen("tcp", "127.0.0.1:0", s)
			if err != nil {
				t.Fatal(err)
			}
			var server sync.WaitGroup
			server.Go(func() {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				_, _ = conn.Write([]byte("x")) // with the handshake before
				_, _ = io.Copy(io.Discard, conn)
				_ = conn.Close()
			})
			socket, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			_ = socket.SetDeadline(time.Now().Add(time.Minute))
			_, err = io.ReadFull(tls.Client(socket, c), make([]byte, 1))
			_ = socket.Close()
			_ = l.Close()
			server.Wait()
			if tt.fails == "" && err != nil || tt.fails != "" && (err == nil || !strings.Contains(err.Error(), tt.fails)) {
				t.Errorf("got %v, want %q", err, tt.fails)
			}
		})
	}
	for _, bad := range []rules.TLS{
		{CACertificates: filepath.Join(t.TempDir(), "none.pem")},
		{CACertificates: serverKey},
		{ClientCertificate: clientCert, PrivateKey: serverKey},
	} {
		if c, err := mirrorTLS(&tls.Config{}, &bad); err == nil {
			t.Errorf("%+v: %+v", bad, c)
		} else if errors.Is(err, io.EOF) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}
