package bench

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"time"
)

// The measured parts run as processes of their own, so that the kernel tells
// their CPU apart. They are this test binary, told its role by its arguments.
const (
	roleServer = "server" // ADDRESS
	roleClient = "client" // JSON of load
)

// request is what is sent; response is what both versions answer.
var (
	request = []byte("GET /httpbin/headers?id=4711 HTTP/1.1\r\nHost: www.bookinfo.com\r\n" +
		"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n" +
		"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\nAccept-Language: en-US,en;q=0.5\r\n" +
		"Cookie: session=9f86d081884c7d659a2feaa0c55ad015; theme=dark\r\n\r\n")
	response = []byte("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 14\r\n\r\nhello, world!\n")
)

// serve answers every request on every connection, for ever.
func serve(address string) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	fmt.Println("listening")
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer c.Close()
			r := bufio.NewReaderSize(c, 16<<10)
			for {
				for {
					line, err := r.ReadSlice('\n')
					if err != nil {
						return
					}
					if len(line) == 2 {
						break
					}
				}
				if _, err := c.Write(response); err != nil {
					return
				}
			}
		}()
	}
}

// load is what a client does: Connections persistent connections, each sending
// Requests one after the other, Rate of them per second over all connections,
// or as fast as they are answered if Rate is 0.
type load struct {
	Address     string
	Connections int
	Requests    int
	Rate        int
}

// result is what a client measured. Latencies are of requests, in
// microseconds.
type result struct {
	P50, P99 float64
	Seconds  float64
}

// client sends the load: the least a program can do that sends requests and
// reads the answers.
func client(l load) (result, error) {
	latencies := make([][]time.Duration, l.Connections)
	errs := make([]error, l.Connections)
	var wg sync.WaitGroup
	begin := time.Now()
	for i := range l.Connections {
		wg.Go(func() { latencies[i], errs[i] = exchange(l, i, begin) })
	}
	wg.Wait()
	all := slices.Concat(latencies...)
	slices.Sort(all)
	if err := errors.Join(errs...); err != nil || len(all) == 0 {
		return result{}, errors.Join(err, errors.New("no complete load"))
	}
	us := func(q float64) float64 { return float64(all[int(q*float64(len(all)-1))]) / 1e3 }
	return result{P50: us(0.5), P99: us(0.99), Seconds: time.Since(begin).Seconds()}, nil
}

func exchange(l load, i int, begin time.Time) ([]time.Duration, error) {
	c, err := net.Dial("tcp", l.Address)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	latencies := make([]time.Duration, 0, l.Requests)
	answer := make([]byte, len(response))
	interval := time.Duration(0)
	if l.Rate > 0 {
		interval = time.Duration(l.Connections) * time.Second / time.Duration(l.Rate)
	}
	due := begin.Add(interval * time.Duration(i) / time.Duration(l.Connections))
	for range l.Requests {
		if interval > 0 {
			time.Sleep(time.Until(due))
			due = due.Add(interval)
		}
		start := time.Now()
		if _, err := c.Write(request); err != nil {
			return nil, err
		}
		if _, err := io.ReadFull(c, answer); err != nil {
			return nil, err
		}
		latencies = append(latencies, time.Since(start))
		if !bytes.Equal(answer, response) {
			return nil, fmt.Errorf("production answered %q", answer)
		}
	}
	return latencies, nil
}

// play runs the role that the arguments name and exits, or returns if they
// name none.
func play(args []string) {
	if len(args) != 3 {
		return
	}
	var err error
	switch args[1] {
	case roleServer:
		err = serve(args[2])
	case roleClient:
		var l load
		if err = json.Unmarshal([]byte(args[2]), &l); err == nil {
			var r result
			if r, err = client(l); err == nil {
				err = json.NewEncoder(os.Stdout).Encode(r)
			}
		}
	default:
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}
