package httpstream

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// taken is a request as a server handed it on to its application.
type taken struct{ method, target, body string }

// referee is a server as it runs in production that is asked over TCP what it
// makes of a stream.
type referee struct {
	address string
	// takes returns what the application is to get for a request, and whether
	// it gets any. refuses says why the server refuses a request that it has
	// framed, or "": that is no matter of framing. skipped is how many bytes of
	// empty lines came before it.
	takes   func(q *Request) (taken, bool)
	refuses func(q *Request, skipped int64) string

	mu   sync.Mutex
	took []taken
}

// patience bounds every wait of a test for a server, on a slow machine too.
const patience = 2 * time.Minute

func (r *referee) note(t taken) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.took = append(r.took, t)
}

// ask sends a stream on a connection of its own and returns the requests that
// the server took from it, and what it answered.
func (r *referee) ask(stream []byte) ([]taken, []byte, error) {
	r.mu.Lock()
	r.took = nil
	r.mu.Unlock()
	c, err := net.Dial("tcp", r.address)
	if err != nil {
		return nil, nil, err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, nil, err
	}
	// A server that has seen enough may close or reset, which is an answer, too.
	if _, err := c.Write(stream); err == nil {
		_ = c.(*net.TCPConn).CloseWrite()
	}
	answer, err := io.ReadAll(c)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.took, answer, nil
}

// startGo runs the server of net/http.
func startGo(t testing.TB) *referee {
	t.Helper()
	r := &referee{takes: takenByGo, refuses: refusedByGo}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.address = l.Addr().String()
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		body, err := io.ReadAll(q.Body)
		if err == nil { // half a request is none
			r.note(taken{q.Method, q.RequestURI, string(body)})
		}
		w.WriteHeader(http.StatusNoContent)
	})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(l)
	}()
	t.Cleanup(func() {
		_ = s.Close()
		<-done
	})
	return r
}

// startNginx runs nginx as a proxy in front of a server that reads what it
// hands on.
func startNginx(t testing.TB) *referee {
	t.Helper()
	nginx, err := exec.LookPath("nginx")
	if err != nil {
		if os.Getenv("SHADOWTAP_REQUIRE_NGINX") != "" {
			t.Fatalf("nginx is required here: %v", err)
		}
		t.Skip("nginx is not installed")
	}
	r := &referee{takes: takenByNginx, refuses: refusedByNginx}
	behind, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var served sync.WaitGroup
	served.Go(func() {
		for {
			c, err := behind.Accept()
			if err != nil {
				return
			}
			served.Go(func() { r.behind(c) })
		}
	})
	// Hardly anybody else wants to listen on a random address of 127.0.0.0/8.
	front, err := net.Listen("tcp", fmt.Sprintf("127.%d.%d.%d:0", 1+rand.IntN(250), rand.IntN(256), 1+rand.IntN(250)))
	if err != nil {
		t.Fatal(err)
	}
	r.address = front.Addr().String()
	_ = front.Close()
	dir := t.TempDir()
	config := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(config, []byte(strings.NewReplacer("DIR", dir, "ADDRESS", r.address, "BEHIND", behind.Addr().String()).Replace(`
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
  client_max_body_size 0;
  keepalive_requests 1000000;
  lingering_close off;
  proxy_ignore_client_abort on; # the end of the stream is none
  proxy_http_version 1.1;
  proxy_connect_timeout 120s;
  proxy_next_upstream off;
  server {
    listen ADDRESS;
    location / { proxy_pass http://BEHIND; }
  }
}
`)), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(nginx, "-c", config, "-e", filepath.Join(dir, "error.log"))
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // a process that fuzzes may be killed
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(context.Background())
	go func() {
		_ = cmd.Wait()
		cancel()
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		<-ended.Done()
		_ = behind.Close()
		served.Wait()
	})
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		c, err := net.Dial("tcp", r.address)
		if err == nil {
			_ = c.Close()
			return r
		}
		if ended.Err() != nil {
			t.Fatalf("nginx ended: %s", output.String())
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// behind reads one request from nginx, which frames bodies by their length.
func (r *referee) behind(c net.Conn) {
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	b := bufio.NewReader(c)
	var t taken
	length := 0
	for first := true; ; first = false {
		line, err := b.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimRight(line, "\r\n")
		if first {
			t.method, line, _ = strings.Cut(line, " ")
			t.target = line[:strings.LastIndexByte(line, ' ')]
			continue
		}
		if line == "" {
			break
		}
		if name, value, _ := strings.Cut(line, ": "); name == "Content-Length" {
			if length, err = strconv.Atoi(value); err != nil {
				return
			}
		}
	}
	body := make([]byte, length)
	if _, err := io.ReadFull(b, body); err != nil {
		return
	}
	t.body = string(body)
	r.note(t)
	_, _ = io.WriteString(c, "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
}
