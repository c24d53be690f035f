package replay

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const (
	benchRequest = "GET /api/v1/products/42/reviews?page=3 HTTP/1.1\r\nHost: www.bookinfo.com\r\n" +
		"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n" +
		"Accept: text/html,application/xhtml+xml\r\nAccept-Encoding: gzip, deflate, br\r\n" +
		"Cookie: session=9f86d081884c7d659a2feaa0c55ad015\r\nX-Forwarded-For: 203.0.113.7\r\n\r\n"
	benchResponse = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nDate: Mon, 23 Nov 2026 03:00:00 GMT\r\n" +
		"Content-Length: 14\r\n\r\nhello, world!\n"
	benchGuard = "x-shadowtap: bench\r\n"
)

// serveBenchmark answers requests without body as cheaply as it can, until
// its standard input ends.
func serveBenchmark() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	fmt.Println(l.Addr())
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				b := make([]byte, 4096)
				n := 0
				for {
					k, err := c.Read(b[n:])
					if err != nil {
						return
					}
					if n += k; bytes.HasSuffix(b[:n], []byte("\r\n\r\n")) {
						n = 0
						if _, err := c.Write([]byte(benchResponse)); err != nil {
							return
						}
					}
				}
			}()
		}
	}()
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// benchServer starts the server process and returns its address.
func benchServer(b *testing.B) string {
	exe, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), asServer+"=1")
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = stdin.Close()
		if err := cmd.Wait(); err != nil {
			b.Errorf("server: %v", err)
		}
	})
	addr, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	return strings.TrimSpace(addr)
}

// cpuTime is what this process has used so far.
func cpuTime(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// measure runs f b.N times as f sees fit and reports the CPU time per run.
func measure(b *testing.B, f func(n int)) {
	b.ReportAllocs()
	b.ResetTimer()
	before := cpuTime(b)
	f(b.N)
	b.ReportMetric(float64(cpuTime(b)-before)/1e3/float64(b.N), "cpu-us/op")
}

var benchConns = []int{1, 8, 64}

// BenchmarkBareClientLoop is the least a client written with net can cost:
// it writes a ready request and reads until it has all of a known response.
func BenchmarkBareClientLoop(b *testing.B) {
	addr := benchServer(b)
	head := strings.TrimSuffix(benchRequest, "\r\n") + benchGuard + "\r\n"
	for _, conns := range benchConns {
		b.Run(fmt.Sprintf("conns=%d", conns), func(b *testing.B) {
			var cs []net.Conn
			for range conns {
				c, err := net.Dial("tcp", addr)
				if err != nil {
					b.Fatal(err)
				}
				defer c.Close()
				cs = append(cs, c)
			}
			measure(b, func(n int) {
				var wg sync.WaitGroup
				for i, c := range cs {
					wg.Go(func() {
						buf := make([]byte, 4096)
						for range (n + i) / conns {
							if _, err := io.WriteString(c, head); err != nil {
								b.Error(err)
								return
							}
							if _, err := io.ReadFull(c, buf[:len(benchResponse)]); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				wg.Wait()
			})
		})
	}
}

// BenchmarkReplay finds room in the queue for everything, so that as many
// exchanges are under way as there are connections.
func BenchmarkReplay(b *testing.B) {
	addr := benchServer(b)
	for _, conns := range benchConns {
		b.Run(fmt.Sprintf("conns=%d", conns), func(b *testing.B) {
			m := New(Config{
				Endpoints: []Endpoint{{Address: addr}}, Extra: []byte(benchGuard),
				InFlight: conns, Queue: b.N, QueueBytes: 1 << 40, Timeout: time.Minute,
			})
			r := request(b, benchRequest)
			defer r.Release()
			measure(b, func(n int) {
				for range n {
					if got := m.Submit(r, verbatim{}); got != Accepted {
						b.Fatal(got)
					}
				}
				m.Drain(context.Background())
			})
			if s := m.Stats(); s.Answered["2xx"] != uint64(b.N) {
				b.Errorf("%d of %d answered: %+v", s.Answered["2xx"], b.N, s)
			}
		})
	}
}

// BenchmarkReplayBursts is what capture does: it hands over what arrived in a
// millisecond or so and goes on. The queue is empty before every burst, so the
// cost includes waking workers.
func BenchmarkReplayBursts(b *testing.B) {
	addr := benchServer(b)
	for _, burst := range []int{1, 4, 16} {
		b.Run(fmt.Sprintf("of=%d", burst), func(b *testing.B) {
			answered := make(chan struct{}, burst)
			m := New(Config{
				Endpoints: []Endpoint{{Address: addr}}, Extra: []byte(benchGuard),
				OnResult: func(Result) { answered <- struct{}{} },
			})
			defer m.Drain(context.Background())
			r := request(b, benchRequest)
			defer r.Release()
			measure(b, func(n int) {
				for n > 0 {
					k := min(n, burst)
					for range k {
						if got := m.Submit(r, verbatim{}); got != Accepted {
							b.Fatal(got)
						}
					}
					for range k {
						<-answered
					}
					n -= k
				}
			})
		})
	}
}

// BenchmarkSubmit is what a copy costs whoever captured it, when the queue
// takes it and when it does not.
func BenchmarkSubmit(b *testing.B) {
	for name, queue := range map[string]int{"accepted": 0, "refused": 1} {
		b.Run(name, func(b *testing.B) {
			if queue == 0 {
				queue = b.N
			}
			dialling := make(chan struct{})
			m := New(Config{
				Endpoints: []Endpoint{{Address: "a:1"}},
				Queue:     queue, QueueBytes: 1 << 40, InFlight: 1, Timeout: time.Hour, ConnectTimeout: time.Hour,
				Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
					close(dialling)
					<-ctx.Done()
					return nil, ctx.Err()
				},
			})
			r := request(b, benchRequest)
			defer r.Release()
			m.Submit(r, verbatim{})
			<-dialling
			measure(b, func(n int) {
				for range n {
					m.Submit(r, verbatim{})
				}
			})
			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			m.Drain(ctx)
		})
	}
}
