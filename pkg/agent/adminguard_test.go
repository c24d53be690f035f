package agent

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func writeFile(t testing.TB, name, text string) string {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestAdminToken(t *testing.T) {
	token := writeFile(t, filepath.Join(t.TempDir(), "token"), "s3cret\n")
	a := idleAgent(t, shadowRules("10.99.1.2:80"))
	h := guard(a.adminHandler(), token, a.log)
	ask := func(path, authorization string) int {
		w := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodGet, path, nil)
		if authorization != "" {
			r.Header.Set("Authorization", authorization)
		}
		h.ServeHTTP(w, r)
		if (w.Code == http.StatusUnauthorized) != (w.Header().Get("WWW-Authenticate") != "") {
			t.Errorf("%s: %d with WWW-Authenticate %q", path, w.Code, w.Header().Get("WWW-Authenticate"))
		}
		return w.Code
	}
	for _, test := range []struct {
		path, authorization string
		want                int
	}{
		{"/healthz", "", 200},
		{"/readyz", "", 503},
		{"/metrics", "", 401},
		{"/api/v1/account", "", 401},
		{"/api/v1/account", "Bearer s3cret", 200},
		{"/api/v1/account", "bearer  s3cret ", 200},
		{"/api/v1/account", "Bearer s3cre", 401},
		{"/api/v1/account", "Bearer s3crets", 401},
		{"/api/v1/account", "Basic s3cret", 401},
		{"/api/v1/account", "s3cret", 401},
		{"/nowhere", "", 401},
		{"//healthz", "", 401},
		{"/healthz/../metrics", "", 401},
		{"/%68ealthz", "", 200},
	} {
		if got := ask(test.path, test.authorization); got != test.want {
			t.Errorf("%s with %q: %d, want %d", test.path, test.authorization, got, test.want)
		}
	}
	writeFile(t, token, "other")
	if old, replaced := ask("/metrics", "Bearer s3cret"), ask("/metrics", "Bearer other"); old != 401 || replaced != 200 {
		t.Errorf("after the token was replaced: %d with the old one, %d with the new one", old, replaced)
	}
	writeFile(t, token, "")
	if got := ask("/metrics", "Bearer "); got != http.StatusServiceUnavailable {
		t.Errorf("without a token to compare: %d", got)
	}
}

// TestAdminLogIsBounded: whoever is not let in cannot fill the log.
func TestAdminLogIsBounded(t *testing.T) {
	var log bytes.Buffer
	h := guard(http.NotFoundHandler(), filepath.Join(t.TempDir(), "none"), slog.New(slog.NewTextHandler(&log, nil)))
	const requests = 100
	for range requests {
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/metrics", nil))
	}
	if n := bytes.Count(log.Bytes(), []byte("\n")); n == 0 || n > requests/2 {
		t.Errorf("%d requests, %d lines:\n%s", requests, n, log.Bytes())
	}
}

// TestGivenListener: once a successor has the address, those who are still
// connected are not answered with nothing.
func TestGivenListener(t *testing.T) {
	a := idleAgent(t, shadowRules("10.99.1.2:80"))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- a.serve(t.Context(), l, a.publicHandler()) }()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	const get = "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"
	if _, err := io.WriteString(c, get); err != nil {
		t.Fatal(err)
	}
	answers := bufio.NewReader(c)
	resp, err := http.ReadResponse(answers, nil)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatal(resp, err)
	}
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Fatal(err)
	}
	a.given.Store(true)
	_ = l.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
	_, _ = io.WriteString(c, get) // it may be closed already
	if resp, err := http.ReadResponse(answers, nil); err == nil {
		t.Errorf("answered with %s", resp.Status)
	}
}

func TestAdminMayOnlyListenInTheOpenWithTokenAndTLS(t *testing.T) {
	all := Config{AdminTokenFile: "t", AdminCert: "c", AdminKey: "k"}
	for _, test := range []struct {
		admin string
		add   Config
		want  string
	}{
		{"127.0.0.1:9901", Config{}, ""},
		{"127.9.9.9:9901", Config{}, ""},
		{"[::1]:9901", Config{}, ""},
		{"localhost:9901", Config{}, ""},
		{"127.0.0.1:9901", all, ""},
		{"0.0.0.0:9901", all, ""},
		{"0.0.0.0:9901", Config{AdminInsecure: true}, ""},
		{"0.0.0.0:9901", Config{}, "--admin 0.0.0.0:9901 can be reached from other hosts"},
		{":9901", Config{}, "can be reached"},
		{"[::]:9901", Config{}, "can be reached"},
		{"10.0.0.1:9901", Config{AdminTokenFile: "t"}, "can be reached"},
		{"10.0.0.1:9901", Config{AdminCert: "c", AdminKey: "k"}, "can be reached"},
		{"some.host:9901", Config{}, "can be reached"},
		{"localhost.evil.test:9901", Config{}, "can be reached"},
		{"127.0.0.1:9901", Config{AdminCert: "c"}, "go together"},
		{"127.0.0.1:9901", Config{AdminKey: "k"}, "go together"},
		{"", all, "are for --admin"},
	} {
		c := DefaultConfig()
		c.Files = []string{"x"}
		c.Admin, c.AdminInsecure = test.admin, test.add.AdminInsecure
		c.AdminTokenFile, c.AdminCert, c.AdminKey = test.add.AdminTokenFile, test.add.AdminCert, test.add.AdminKey
		if err := c.Validate(); (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%q: %v, want %q", test.admin, err, test.want)
		}
	}
}

func TestAdminListenErrors(t *testing.T) {
	dir := t.TempDir()
	cert, key := keyPair(t, "localhost", "localhost")
	_, otherKey := keyPair(t, "other", "other")
	for name, test := range map[string]struct {
		config Config
		want   string
	}{
		"no token file":    {Config{AdminTokenFile: filepath.Join(dir, "none")}, "--admin-token-file: open"},
		"an empty token":   {Config{AdminTokenFile: writeFile(t, filepath.Join(dir, "empty"), "\n")}, "expected one token"},
		"two tokens":       {Config{AdminTokenFile: writeFile(t, filepath.Join(dir, "two"), "a\nb")}, "expected one token"},
		"an endless token": {Config{AdminTokenFile: writeFile(t, filepath.Join(dir, "long"), strings.Repeat("x", maxTokenSize+1))}, "expected one token"},
		"no certificate":   {Config{AdminCert: "none", AdminKey: key}, "--admin-cert: "},
		"another key":      {Config{AdminCert: cert, AdminKey: otherKey}, "--admin-cert: "},
		"no port":          {Config{Admin: "127.0.0.1"}, "--admin: "},
	} {
		t.Run(name, func(t *testing.T) {
			if test.config.Admin == "" {
				test.config.Admin = "127.0.0.1:0"
			}
			l, err := listenAdmin(&test.config)
			if err == nil {
				_ = l.Close()
			}
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want %q", err, test.want)
			}
		})
	}
}

// TestAdminTLS: a certificate that is renewed is used at once, one that is
// broken in the middle of it not at all.
func TestAdminTLS(t *testing.T) {
	cert, key := keyPair(t, "localhost", "localhost")
	l, err := listenAdmin(&Config{Admin: "127.0.0.1:0", AdminCert: cert, AdminKey: key, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.NotFoundHandler()}
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	defer func() {
		_ = server.Close()
		<-done
	}()
	subject := func() string {
		c, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		return c.ConnectionState().PeerCertificates[0].Subject.CommonName
	}
	first := subject()
	newCert, newKey := keyPair(t, "renewed", "localhost")
	move := func(from, to string) {
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	move(newCert, cert)
	if got := subject(); got != first {
		t.Errorf("with a certificate that its key does not fit: %q, want the one before, %q", got, first)
	}
	move(newKey, key)
	if got := subject(); got == first {
		t.Errorf("still %q after the renewal", got)
	}
	trustsNobody := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: x509.NewCertPool()}}}
	if _, err := trustsNobody.Get("https://" + l.Addr().String()); err == nil {
		t.Error("an unknown certificate was believed")
	}
}

// TestAdminConnectionsAreBounded: whoever holds connections open does not keep
// out those who need one.
func TestAdminConnectionsAreBounded(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &boundedListener{Listener: inner, most: 3}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") })}
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	var held []net.Conn
	for range 20 {
		c, err := net.Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		held = append(held, c)
		// Answered, so it has been accepted.
		if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		l.mu.Lock()
		if n := l.open.Len(); n > l.most {
			t.Errorf("%d connections open", n)
		}
		l.mu.Unlock()
	}
	if _, err := held[0].Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the oldest connection: %v, want it closed", err)
	}
	_ = server.Shutdown(context.Background())
	<-done
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := l.open.Len(); n != 0 {
		t.Errorf("%d connections remembered", n)
	}
}

// FuzzAdminAPI sends the admin API any request: it answers without a panic,
// nothing but what it is for, and nothing at all without the token.
func FuzzAdminAPI(f *testing.F) {
	for _, seed := range []string{
		"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET /metrics HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer t0ken\r\nAccept-Encoding: gzip\r\nAccept: application/openmetrics-text\r\n\r\n",
		"HEAD /api/v1/account HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer t0ken\r\n\r\n",
		"POST /api/v1/rules HTTP/1.1\r\nHost: a\r\nAuthorization: bearer t0ken\r\nContent-Length: 5\r\n\r\nhello",
		"GET /api/v1/status HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer wrong\r\n\r\n",
		"GET /debug/pprof/profile?seconds=1 HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer t0ken\r\n\r\n",
		"GET //healthz/../metrics HTTP/1.1\r\nHost: a\r\n\r\n",
		"OPTIONS * HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer t0ken\r\n\r\n",
		"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\nAuthorization: Bearer t0ken\r\n\r\n",
		"PUT http://b/readyz?x=%zz HTTP/1.0\r\nAuthorization: Bearer t0ken\r\n\r\n",
		"GET /api/v1/account HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer t0ken\r\nTransfer-Encoding: chunked\r\n\r\n2000\r\n",
	} {
		f.Add([]byte(seed))
	}
	token := writeFile(f, filepath.Join(f.TempDir(), "token"), "t0ken")
	a, err := New(testConfig(f, shadowRules("10.99.1.2:80"), writePCAP(f)))
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(a.close)
	h := guard(a.adminHandler(), token, a.log)
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(raw)))
		if err != nil {
			return
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		open := r.URL.Path == "/healthz" || r.URL.Path == "/readyz"
		switch c := w.Code; {
		case !open && !carries(r, "t0ken"):
			if c != http.StatusUnauthorized {
				t.Fatalf("%d without the token", c)
			}
		case c == 200:
			if r.Method != http.MethodGet && r.Method != http.MethodHead {
				t.Fatalf("%s changes nothing, and was answered", r.Method)
			}
		case c == http.StatusServiceUnavailable && r.URL.Path == "/readyz":
		case c >= 300 && c < 500 && c != http.StatusUnauthorized:
		default:
			t.Fatalf("%d for %q", c, raw)
		}
	})
}
