package torture

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"net"
	"strconv"
	"sync"
)

// arrival is what the shadow got: a copy and which request it is of, or the
// error that kept it from being read.
type arrival struct {
	id   int
	hash uint64
	err  error
}

// server runs a function on every connection.
type server struct {
	net.Listener
	talk  func(net.Conn)
	open  sync.WaitGroup
	mu    sync.Mutex
	conns map[net.Conn]struct{}
}

func serve(l net.Listener, talk func(net.Conn)) *server {
	s := &server{Listener: l, talk: talk, conns: map[net.Conn]struct{}{}}
	s.open.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.conns[c] = struct{}{}
			s.mu.Unlock()
			s.open.Go(func() { s.serve(c) })
		}
	})
	return s
}

func (s *server) serve(c net.Conn) {
	s.talk(c)
	_ = c.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
}

// stop ends every connection and waits for what has arrived to be told.
func (s *server) stop() {
	_ = s.Close()
	s.mu.Lock()
	for c := range s.conns {
		_ = c.Close()
	}
	s.mu.Unlock()
	s.open.Wait()
}

// serveShadow takes copies over plain TCP and tells them apart by what the
// generator wrote into them, not by HTTP's framing: a parser could share a
// fault with the one under test. arrived is called from any goroutine.
func serveShadow(l net.Listener, arrived func(arrival)) *server {
	return serve(l, func(c net.Conn) {
		r := bufio.NewReaderSize(c, 256<<10)
		for {
			a, err := receive(r)
			if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) {
				return
			}
			a.err = err
			arrived(a)
			if err != nil {
				return
			}
			if _, err := io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"); err != nil {
				return
			}
		}
	})
}

// errTorn is of a copy whose end never came.
var errTorn = errors.New("a copy ends early")

// receive reads one copy. The error is io.EOF where none begins.
func receive(r *bufio.Reader) (a arrival, err error) {
	var h maphash.Hash
	h.SetSeed(hashSeed)
	var held []byte // the line before this one
	body, n := -1, 0
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			if n > 0 || len(line) > 0 {
				err = fmt.Errorf("%w, in its head: %q: %v", errTorn, brief(line), err)
			}
			return a, err
		}
		if n++; len(line) == len("\r\n") {
			if string(held) != guardLine {
				return a, fmt.Errorf("the last field of a copy is %q", brief(held))
			}
			break
		}
		if name, value, _ := bytes.Cut(line, []byte(":")); len(name) == len(idField) && bytes.EqualFold(name, []byte(idField)) {
			if _, err := fmt.Sscan(string(value), &a.id, &body); err != nil {
				return a, fmt.Errorf("a copy's id: %w", err)
			}
		}
		_, _ = h.Write(held)
		held = append(held[:0], line...)
	}
	if body < 0 {
		return a, errors.New("a copy of something that was never sent")
	}
	_, _ = h.WriteString(guardLine)
	_, _ = h.WriteString("\r\n")
	if got, err := io.CopyN(&h, r, int64(body)); err != nil {
		return a, fmt.Errorf("%w: request %d, %d bytes of a body of %d: %v", errTorn, a.id, got, body, err)
	}
	a.hash = h.Sum64()
	return a, nil
}

func brief(b []byte) string {
	if len(b) > 100 {
		return string(b[:100]) + "... (" + strconv.Itoa(len(b)) + " bytes)"
	}
	return string(b)
}
