package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/shadowtap/shadowtap/pkg/netlab"
)

// variety is a request of every kind that a service meets, some of which the
// seed's rule does not take.
func variety() []request {
	return []request{
		{target: "/httpbin/headers", fields: []string{"Accept: */*", "accept: again", "Cookie:  a=1;b=2 "}},
		{target: "/httpbin/get?x=1&y=%2Fhttpbin&z"},
		{target: "/httpbin"},
		{target: "/httpbinary/is/a/string/prefix"},
		{method: "POST", target: "/httpbin/post", fields: []string{"Content-Type: application/json"}, body: `{"a":[1,2,3]}`},
		{method: "POST", target: "/httpbin/empty"},
		{method: "PUT", target: "/httpbin/put", chunks: []string{"first", strings.Repeat("second ", 1000), "\r\n0\r\n\r\n"}, trailers: []string{"X-Sum: 1", "x-more:2"}},
		{method: "HEAD", target: "/httpbin/head"},
		{method: "DELETE", target: "/httpbin/delete"},
		{method: "OPTIONS", target: "/httpbin/options"},
		{method: "BREW", target: "/httpbin/pot"},
		{target: "http://www.bookinfo.com/httpbin/absolute?q"},
		{target: "/httpbin/port", host: "bookinfo.com:80"},
		{target: "/httpbin/case", host: "WWW.BookInfo.Com"},
		{target: "/other"},
		{target: "/"},
		{target: "/httpbin/elsewhere", host: "example.com"},
		{target: "/HTTPBIN/is/not/the/prefix"},
	}
}

func TestSeedRules(t *testing.T) {
	t.Parallel()
	for _, family := range []addresses{v4, v6} {
		for _, where := range []string{"node", "v1"} {
			for _, kind := range []string{"go", "nginx"} {
				t.Run(fmt.Sprintf("%s/agent on %s/%s as v1", family.name, where, kind), func(t *testing.T) {
					t.Parallel()
					testSeedRules(t, family, where, kind)
				})
			}
		}
	}
}

func testSeedRules(t *testing.T, family addresses, where, kind string) {
	l := newLab(t)
	var v1 *server
	if kind == "nginx" {
		startNginx(t, l.v1, family.v1At())
	} else {
		v1 = serve(t, l.v1, family.v1At(), nil)
	}
	v2 := serve(t, l.v2, family.v2At(), nil)
	ns := l.node
	if where == "v1" {
		ns = l.v1
	}
	a := startAgent(t, ns, "-f", rulesFile(t, seedRules(t, family)))

	c := l.clients(family.v1At())
	keepAlive := c.open()
	for _, r := range variety() {
		must(t, keepAlive.do(r))
		must(t, c.open().do(r)) // and on a connection of its own
	}
	must(t, keepAlive.pipeline(variety()...))

	final := a.stop()
	sent := c.messages()
	if v1 != nil {
		checkReceived(t, sent, v1.messages())
	}
	checkCopies(t, sent, v2.messages(), seedRewrite, seedMirrors)
	mirrored := len(v2.messages())
	final.expect(t, outcome{mirrored: mirrored, filtered: len(sent) - mirrored})
	if got, want := final.Requests.Seen, uint64(len(sent)); got != want {
		t.Errorf("%d requests seen, want %d", got, want)
	}
}

// startNginx runs nginx as v1. It answers with the request's id.
func startNginx(t *testing.T, ns *netlab.Namespace, address string) {
	t.Helper()
	nginx, err := exec.LookPath("nginx")
	if err != nil {
		if os.Getenv("SHADOWTAP_REQUIRE_NGINX") != "" {
			t.Fatalf("nginx is required here: %v", err)
		}
		t.Skip("nginx is not installed")
	}
	dir := t.TempDir()
	config := filepath.Join(dir, "nginx.conf")
	must(t, os.WriteFile(config, []byte(strings.NewReplacer("DIR", dir, "ADDRESS", address).Replace(`
user root;
daemon off;
master_process off; # one process: nothing outlives it
pid DIR/pid;
error_log DIR/error.log;
events {}
http {
  access_log off;
  client_body_temp_path DIR/body;
  proxy_temp_path DIR/proxy;
  fastcgi_temp_path DIR/fastcgi;
  uwsgi_temp_path DIR/uwsgi;
  scgi_temp_path DIR/scgi;
  keepalive_requests 1000000;
  client_max_body_size 0;
  server {
    listen ADDRESS;
    location / { return 200 $http_x_id; }
  }
}
`)), 0o644))
	cmd := exec.Command(nginx, "-c", config, "-e", filepath.Join(dir, "error.log"))
	var output lockedBuffer
	cmd.Stdout, cmd.Stderr = &output, &output
	must(t, ns.Start(cmd))
	done := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(done)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		<-done
	})
	eventually(t, "nginx", func() error {
		select {
		case <-done:
			t.Fatalf("nginx ended: %s", output.String())
		default:
		}
		return reachable(ns, address)
	})
}

// reachable connects and hangs up.
func reachable(ns *netlab.Namespace, address string) error {
	c, err := ns.Dial(context.Background(), "tcp", address)
	if err == nil {
		err = c.Close()
	}
	return err
}
