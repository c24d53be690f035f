package agent

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/shadowtap/shadowtap/pkg/netlab"
)

// offering is an agent that waits for a successor, in a network namespace of
// its own.
func offering(t *testing.T) (*Agent, *netlab.Namespace) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
	ns, err := netlab.New("handover")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ns.Close() })
	a := &Agent{cfg: Config{Name: "offering"}, log: DefaultConfig().Logger}
	if err := ns.Do(func() error { a.offerHandover(false); return nil }); err != nil || a.successors == nil {
		t.Fatal("nobody listens", err)
	}
	t.Cleanup(func() { _ = a.successors.Close() })
	return a, ns
}

// accept makes the agent hand over to whoever comes next, and says how it went.
func accept(t *testing.T, a *Agent) <-chan error {
	t.Helper()
	result := make(chan error, 1)
	go func() {
		conn, err := a.successors.AcceptUnix()
		if err == nil {
			err = a.giveTo(t.Context(), conn)
		}
		result <- err
	}()
	return result
}

func dial(t *testing.T, ns *netlab.Namespace, name string) (p *peer, err error) {
	t.Helper()
	var conn *net.UnixConn
	if e := ns.Do(func() error { conn, err = meeting{agent: name}.dial(t.Context(), nil); return nil }); e != nil {
		t.Fatal(e)
	}
	if err != nil {
		return nil, err
	}
	return newPeer(conn, os.Geteuid())
}

func TestHandoverRefusesAnotherVersion(t *testing.T) {
	t.Parallel()
	a, ns := offering(t)
	result := accept(t, a)
	p, err := dial(t, ns, "offering")
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	if err := p.enc.Encode(&handoverMessage{Kind: handoverHello, Version: handoverVersion + 1}); err != nil {
		t.Fatal(err)
	}
	if _, err := p.receive(handoverHello); err == nil || !strings.Contains(err.Error(), "version 3") {
		t.Errorf("the successor is told %v", err)
	}
	if err := <-result; err == nil || a.given.Load() {
		t.Errorf("handed over, error %v", err)
	}
}

func TestHandoverNeedsAnAgentThere(t *testing.T) {
	t.Parallel()
	_, ns := offering(t)
	if _, err := dial(t, ns, "another"); err != errNobody {
		t.Errorf("error %v, want %v", err, errNobody)
	}
	if _, err := dial(t, ns, strings.Repeat("n", 200)); err != errNobody {
		t.Errorf("long name: error %v, want %v", err, errNobody)
	}
}

// asNobody runs f in a namespace as a user who is not root.
func asNobody(ns *netlab.Namespace, f func() error) error {
	const nobody = 65534
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlock: the thread ends with its user
		result <- ns.Do(func() error {
			// Of this thread alone, unlike syscall.Setresuid.
			if _, _, e := unix.RawSyscall(unix.SYS_SETRESUID, nobody, nobody, nobody); e != 0 {
				return e
			}
			return f()
		})
	}()
	return <-result
}

// TestHandoverLogIsBounded: who is refused cannot fill the log.
func TestHandoverLogIsBounded(t *testing.T) {
	t.Parallel()
	a, ns := offering(t)
	var log bytes.Buffer
	a.log = slog.New(slog.NewTextHandler(&log, nil))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		a.serveHandover(ctx, func() { t.Error("handed over") })
	}()
	const knocks = 100
	err := asNobody(ns, func() error {
		for range knocks {
			c, err := net.DialUnix("unix", nil, meeting{agent: "offering"}.address(0))
			if err != nil {
				return err
			}
			_, err = c.Read(make([]byte, 1))
			_ = c.Close()
			if err == nil {
				return errors.New("not refused")
			}
		}
		return nil
	})
	cancel()
	<-done
	if n := bytes.Count(log.Bytes(), []byte("\n")); err != nil || n == 0 || n > knocks/2 {
		t.Errorf("%v: refused %d times, %d lines:\n%s", err, knocks, n, log.Bytes())
	}
}

// TestHandoverRefusesOtherUsers: an abstract socket has no permissions, so
// whoever shares the namespace can connect to it, and listen on it.
func TestHandoverRefusesOtherUsers(t *testing.T) {
	t.Parallel()
	a, ns := offering(t)
	result := accept(t, a)
	if err := asNobody(ns, func() error {
		c, err := net.DialUnix("unix", nil, meeting{agent: "offering"}.address(0))
		if err == nil {
			t.Cleanup(func() { _ = c.Close() })
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if err := <-result; err == nil || !strings.Contains(err.Error(), "user 65534") {
		t.Errorf("a successor of another user: %v", err)
	}

	var l *net.UnixListener
	if err := asNobody(ns, func() (err error) {
		l, err = net.ListenUnix("unix", meeting{agent: "trap"}.address(0))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if p, err := dial(t, ns, "trap"); err == nil || !strings.Contains(err.Error(), "user 65534") {
		t.Errorf("a predecessor of another user: %v, %v", p, err)
	}
}
