package main

import (
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestStatusWithTokenAndTLS: the token is sent over TLS that was verified, and
// nowhere else.
func TestStatusWithTokenAndTLS(t *testing.T) {
	leaked := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("redirected to somebody else, with %q", r.Header.Get("Authorization"))
	}))
	defer leaked.Close()
	redirects := false
	agent := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case redirects:
			http.Redirect(w, r, leaked.URL, http.StatusFound)
		case r.Header.Get("Authorization") != "Bearer s3cret":
			w.WriteHeader(http.StatusUnauthorized)
		default:
			_, _ = w.Write([]byte(`{"name":"a"}`))
		}
	}))
	defer agent.Close()
	dir := t.TempDir()
	file := func(name, text string) string {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	ca := file("ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: agent.Certificate().Raw})))
	token := file("token", "s3cret\n")
	for _, test := range []struct {
		name string
		args []string
		code int
		want string
	}{
		{"all right", []string{"--tls-ca", ca, "--token-file", token}, exitDone, `"a"`},
		{"no token", []string{"--tls-ca", ca}, exitNegative, "401"},
		{"another token", []string{"--tls-ca", ca, "--token-file", file("other", "other")}, exitNegative, "401"},
		{"another CA", []string{"--token-file", token}, exitNegative, "certificate"},
		{"no such CA", []string{"--tls-ca", filepath.Join(dir, "none")}, exitError, "--tls-ca"},
		{"no CA in it", []string{"--tls-ca", token}, exitError, "expected PEM certificates"},
		{"no such token", []string{"--token-file", filepath.Join(dir, "none")}, exitError, "--token-file"},
		{"redirected", []string{"--tls-ca", ca, "--token-file", token}, exitNegative, "302"},
	} {
		t.Run(test.name, func(t *testing.T) {
			redirects = test.name == "redirected"
			code, out, errs := command(t, append([]string{"status", "-o", "json", "--agent", agent.URL}, test.args...)...)
			if code != test.code || !strings.Contains(out+errs, test.want) {
				t.Errorf("exit code %d, want %d and %q:\n%s%s", code, test.code, test.want, out, errs)
			}
		})
	}
}
