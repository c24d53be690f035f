package kube

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestCredentials: what a kubeconfig refers to is needed for as long as the
// API server is, what stands in it is not.
func TestCredentials(t *testing.T) {
	dir := t.TempDir()
	write := func(name, cluster, user string) string {
		text := "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts: [{name: c, context: {cluster: c, user: u}}]\n" +
			"clusters: [{name: c, cluster: {server: 'https://127.0.0.1:1'" + cluster + "}}]\nusers: [{name: u, user: {" + user + "}}]\n"
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, name := range []string{"ca.pem", "cert.pem", "key.pem", "token"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const certificate = "Y2VydA==" // not looked at here
	for _, tt := range []struct {
		name, cluster, user string
		want                Credentials
	}{
		{"inline", ", certificate-authority-data: " + certificate, "token: secret", Credentials{}},
		{"files", ", certificate-authority: ca.pem", "client-certificate: cert.pem, client-key: " + filepath.Join(dir, "key.pem"),
			Credentials{Files: []string{filepath.Join(dir, "ca.pem"), filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")}}},
		{"a token that is rotated", "", "tokenFile: token", Credentials{Files: []string{filepath.Join(dir, "token")}}},
		{"a program", "", "exec: {apiVersion: client.authentication.k8s.io/v1, command: ./login, interactiveMode: Never}",
			Credentials{Program: filepath.Join(dir, "login")}},
		{"a program of the system", "", "exec: {apiVersion: client.authentication.k8s.io/v1, command: login, interactiveMode: Never}",
			Credentials{Program: "login"}},
	} {
		cfg, err := restConfig(write(tt.name, tt.cluster, tt.user))
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		got := credentialsOf(cfg)
		if len(got.Files) == 0 {
			got.Files = nil
		}
		if d := cmp.Diff(tt.want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, d)
		}
	}
}
