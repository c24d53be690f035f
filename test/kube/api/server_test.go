package api

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// programs is the binary that holds the programs of Kubernetes: where
// SHADOWTAP_K8S says, or as test/kube/cluster/setup.sh built it.
func programs(t *testing.T) string {
	t.Helper()
	name := os.Getenv("SHADOWTAP_K8S")
	if name == "" && os.Getenv("SHADOWTAP_KUBE") == "" {
		t.Skip("takes a Kubernetes: make test-kube")
	}
	if name == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			t.Skip(err)
		}
		name = filepath.Join(cache, "shadowtap-kube", "k8s")
	}
	if _, err := os.Stat(name); err != nil {
		t.Skipf("no API server to test with (%v): make test-kube builds one", err)
	}
	return name
}

// server is an API server of the test's own.
type server struct {
	t          *testing.T
	k8s, dir   string
	kubeconfig string
	// agentConfig is for who has the rights of an agent that the chart installed.
	agentConfig string
	api, etcd   int // ports
	running     *exec.Cmd
}

// freePorts are ports that nobody listens on.
func freePorts(t *testing.T, n int) (ports []int) {
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports
}

// startServer starts etcd and an API server that admits whoever has the token.
func startServer(t *testing.T) *server {
	s := &server{t: t, k8s: programs(t), dir: t.TempDir()}
	ports := freePorts(t, 3)
	s.api, s.etcd = ports[0], ports[1]
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	s.write("sa.key", pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}))
	s.write("tokens", []byte("secret,admin,admin,system:masters\nagent,system:serviceaccount:shadowtap:shadowtap,agent,system:serviceaccounts\n"))
	s.write("audit.yaml", []byte("apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules: [{level: Metadata}]\n"))
	s.kubeconfig, s.agentConfig = s.config("kubeconfig", "secret"), s.config("agent", "agent")
	url := fmt.Sprintf("http://127.0.0.1:%d", s.etcd)
	peer := fmt.Sprintf("http://127.0.0.1:%d", ports[2])
	s.begin("etcd", "--data-dir", filepath.Join(s.dir, "etcd"), "--unsafe-no-fsync", "--log-level", "error",
		"--listen-client-urls", url, "--advertise-client-urls", url, "--listen-peer-urls", peer,
		"--initial-advertise-peer-urls", peer, "--initial-cluster", "default="+peer)
	s.startAPI()
	return s
}

// config writes a kubeconfig for who has a token.
func (s *server) config(name, token string) string {
	return s.write(name, fmt.Appendf(nil, `apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "https://127.0.0.1:%d", insecure-skip-tls-verify: true}}]
users: [{name: u, user: {token: %s}}]
contexts: [{name: x, context: {cluster: c, user: u}}]
current-context: x
`, s.api, token))
}

func (s *server) write(name string, data []byte) string {
	s.t.Helper()
	name = filepath.Join(s.dir, name)
	if err := os.WriteFile(name, data, 0o600); err != nil {
		s.t.Fatal(err)
	}
	return name
}

// begin starts a program that ends with the test.
func (s *server) begin(name string, args ...string) *exec.Cmd {
	s.t.Helper()
	log, err := os.OpenFile(filepath.Join(s.dir, name+".log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		s.t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(s.k8s, append([]string{name}, args...)...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		end(cmd)
		if said, err := os.ReadFile(log.Name()); err == nil && s.t.Failed() {
			s.t.Logf("%s said last:\n%s", name, said[max(0, len(said)-2000):])
		}
	})
	return cmd
}

func end(cmd *exec.Cmd) {
	_ = cmd.Process.Kill() // it may have ended
	_ = cmd.Wait()
}

// startAPI starts the API server, again if it was ended.
func (s *server) startAPI() {
	s.t.Helper()
	s.running = s.begin("kube-apiserver", "--etcd-servers", fmt.Sprintf("http://127.0.0.1:%d", s.etcd),
		"--bind-address", "127.0.0.1", "--secure-port", fmt.Sprint(s.api), "--cert-dir", filepath.Join(s.dir, "certs"),
		"--token-auth-file", filepath.Join(s.dir, "tokens"), "--authorization-mode", "RBAC",
		"--service-account-issuer", "https://kubernetes.default.svc",
		"--service-account-key-file", filepath.Join(s.dir, "sa.key"), "--service-account-signing-key-file", filepath.Join(s.dir, "sa.key"),
		"--service-cluster-ip-range", "10.96.0.0/16", "--endpoint-reconciler-type", "none",
		"--audit-policy-file", filepath.Join(s.dir, "audit.yaml"), "--audit-log-path", filepath.Join(s.dir, "audit.log"), "--audit-log-mode", "blocking",
		"--disable-admission-plugins", "ServiceAccount")
	eventually(s.t, "an API server", func() bool {
		_, err := s.try("", "get", "--raw", "/readyz")
		return err == nil
	})
}

// try runs kubectl.
func (s *server) try(stdin string, args ...string) (string, error) {
	cmd := exec.Command(s.k8s, append([]string{"kubectl", "--kubeconfig", s.kubeconfig, "--cache-dir", filepath.Join(s.dir, "cache")}, args...)...)
	cmd.Stdin = strings.NewReader(stdin)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.String(), err
}

// kubectl runs kubectl, which must succeed.
func (s *server) kubectl(stdin string, args ...string) {
	s.t.Helper()
	if out, err := s.try(stdin, args...); err != nil {
		s.t.Fatalf("kubectl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func (s *server) apply(text string) {
	s.t.Helper()
	s.kubectl(text, "apply", "--server-side", "--force-conflicts", "-f", "-")
}

// moduleDir is where a module that this one depends on is.
func moduleDir(t *testing.T, module string) string {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", module).Output()
	if err != nil {
		t.Fatalf("%s: %v", module, err)
	}
	return strings.TrimSpace(string(out))
}

// patience bounds how long a test waits for what should happen soon.
const patience = 3 * time.Minute

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: did not happen", what)
		}
	}
}
