package netlab

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// patience bounds every wait for something that must happen.
const patience = 2 * time.Minute

// orphanEnv makes the test binary build a lab, say so and wait to be killed.
const orphanEnv = "NETLAB_TEST_ORPHAN"

func TestMain(m *testing.M) {
	if os.Getenv(orphanEnv) != "" {
		orphan()
	}
	goleak.VerifyTestMain(m)
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
}

func newNamespace(t *testing.T, name string) *Namespace {
	t.Helper()
	needRoot(t)
	n, err := New(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Errorf("close %s: %v", name, err)
		}
	})
	return n
}

func prefixes(list ...string) (p []netip.Prefix) {
	for _, s := range list {
		p = append(p, netip.MustParsePrefix(s))
	}
	return p
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// inode identifies a network namespace.
func inode(path string) (string, error) { return os.Readlink(path) }

func TestDoIsInsideAndComesBack(t *testing.T) {
	t.Parallel()
	a, b := newNamespace(t, "a"), newNamespace(t, "b")
	read := func() string {
		s, err := inode("/proc/thread-self/ns/net")
		if err != nil {
			t.Error(err)
		}
		return s
	}
	// Not /proc/self: that is the main thread, which may be in Do elsewhere.
	outside := read()
	var inA, inB, backInA string
	must(t, a.Do(func() error {
		inA = read()
		if err := b.Do(func() error { inB = read(); return nil }); err != nil {
			return err
		}
		backInA = read()
		return nil
	}))
	if inA == outside || inB == outside || inA == inB || backInA != inA {
		t.Fatalf("outside %s, in a %s, in b %s, back in a %s", outside, inA, inB, backInA)
	}
	want := errors.New("mine")
	if err := a.Do(func() error { return want }); !errors.Is(err, want) {
		t.Fatalf("Do returned %v, want the function's own error", err)
	}

	// Whatever thread a goroutine gets afterwards is outside again.
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			if err := a.Do(func() error {
				if got := read(); got != inA {
					return fmt.Errorf("inside: %s, want %s", got, inA)
				}
				return nil
			}); err != nil {
				t.Error(err)
			}
			if got := read(); got != outside {
				t.Errorf("after Do: namespace %s, want %s", got, outside)
			}
		})
	}
	wg.Wait()
}

// routed is client - node - server, on IPv4 and IPv6.
func routed(t *testing.T) (client, node, server *Namespace) {
	t.Helper()
	client, node, server = newNamespace(t, "client"), newNamespace(t, "node"), newNamespace(t, "server")
	must(t, Connect(
		End{Namespace: client, Name: "eth0", Addresses: prefixes("10.1.0.2/24", "fd01::2/64")},
		End{Namespace: node, Name: "client0", Addresses: prefixes("10.1.0.1/24", "fd01::1/64")}))
	must(t, Connect(
		End{Namespace: server, Name: "eth0", Addresses: prefixes("10.2.0.2/24", "fd02::2/64"), MTU: 1400},
		End{Namespace: node, Name: "server0", Addresses: prefixes("10.2.0.1/24", "fd02::1/64"), MTU: 1400}))
	must(t, node.Forward())
	for ns, via := range map[*Namespace][2]string{client: {"10.1.0.1", "fd01::1"}, server: {"10.2.0.1", "fd02::1"}} {
		must(t, ns.Route(netip.MustParsePrefix("0.0.0.0/0"), netip.MustParseAddr(via[0])))
		must(t, ns.Route(netip.MustParsePrefix("::/0"), netip.MustParseAddr(via[1])))
	}
	return client, node, server
}

// echo checks that bytes sent from one namespace come back from address in
// another, and what the server sees as the client's address.
func echo(t *testing.T, from, to *Namespace, address, wantClient string) {
	t.Helper()
	l, err := to.Listen("tcp", address)
	must(t, err)
	defer l.Close()
	served := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			served <- err
			return
		}
		defer c.Close()
		if host, _, _ := net.SplitHostPort(c.RemoteAddr().String()); host != wantClient {
			served <- fmt.Errorf("client address %s, want %s", host, wantClient)
			return
		}
		_, err = io.Copy(c, c)
		served <- err
	}()

	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, err := from.Dial(ctx, "tcp", address)
	must(t, err)
	defer c.Close()
	sent := bytes.Repeat([]byte("netlab "), 30_000)
	go func() {
		_, _ = c.Write(sent)
		_ = c.(*net.TCPConn).CloseWrite()
	}()
	got, err := io.ReadAll(c)
	must(t, err)
	must(t, <-served)
	if !bytes.Equal(got, sent) {
		t.Fatalf("%d bytes came back, want the %d sent", len(got), len(sent))
	}
}

func TestRoutedTraffic(t *testing.T) {
	t.Parallel()
	client, _, server := routed(t)
	echo(t, client, server, "10.2.0.2:80", "10.1.0.2")
	echo(t, client, server, "[fd02::2]:80", "fd01::2")
	echo(t, server, server, "127.0.0.1:80", "127.0.0.1")
	echo(t, server, server, "[::1]:80", "::1")
}

func TestBridgedTraffic(t *testing.T) {
	t.Parallel()
	a, b, host := newNamespace(t, "a"), newNamespace(t, "b"), newNamespace(t, "host")
	must(t, Connect(End{Namespace: a, Name: "eth0", Addresses: prefixes("10.3.0.2/24")}, End{Namespace: host, Name: "a0"}))
	must(t, Connect(End{Namespace: b, Name: "eth0", Addresses: prefixes("10.3.0.3/24")}, End{Namespace: host, Name: "b0"}))
	must(t, host.Bridge("br0", []string{"a0", "b0"}, prefixes("10.3.0.1/24")...))
	echo(t, a, b, "10.3.0.3:80", "10.3.0.2")
	echo(t, host, b, "10.3.0.3:80", "10.3.0.1")
}

func TestLinkAttributes(t *testing.T) {
	t.Parallel()
	client, node, server := routed(t)
	must(t, server.Do(func() error {
		eth0, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		if eth0.MTU != 1400 {
			t.Errorf("MTU %d, want 1400", eth0.MTU)
		}
		return nil
	}))
	for _, want := range []bool{false, true} {
		must(t, client.SetOffload("eth0", want))
		if got, err := client.Offload("eth0"); err != nil || got != want {
			t.Errorf("offload: %v, %v; want %v", got, err, want)
		}
	}
	must(t, node.Delete("client0"))
	must(t, client.Do(func() error {
		if _, err := net.InterfaceByName("eth0"); err == nil {
			t.Error("eth0 outlived the other end of its cable")
		}
		return nil
	}))
}

func TestErrorsNameTheirPlace(t *testing.T) {
	t.Parallel()
	n := newNamespace(t, "here")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, dialErr := n.Dial(ctx, "tcp", "10.9.9.9:80")
	_, nameErr := n.Dial(ctx, "tcp", "localhost:80")
	_, listenErr := n.Listen("tcp", "10.9.9.9:80")
	_, offloadErr := n.Offload("an-interface-name-that-is-too-long")
	for what, err := range map[string]error{
		"dial":    dialErr,
		"by name": nameErr,
		"listen":  listenErr,
		"delete":  n.Delete("eth7"),
		"bridge":  n.Bridge("br0", []string{"eth7"}),
		"route":   n.Route(netip.MustParsePrefix("10.0.0.0/8"), netip.MustParseAddr("10.9.9.9")),
		"start":   n.Start(exec.Command("/does/not/exist")),
	} {
		if err == nil || !strings.Contains(err.Error(), "here") {
			t.Errorf("%s: error %v, want one that names the namespace", what, err)
		}
	}
	if offloadErr == nil {
		t.Error("offload of an impossible interface name: no error")
	}
}

func TestStartRunsInsideAndEndsWithTheNamespace(t *testing.T) {
	t.Parallel()
	needRoot(t)
	n, err := New("child")
	must(t, err)
	var inside string
	must(t, n.Do(func() (err error) { inside, err = inode("/proc/thread-self/ns/net"); return err }))

	cmd := exec.Command("/bin/sh", "-c", "readlink /proc/self/ns/net; exec sleep 600")
	stdout, err := cmd.StdoutPipe()
	must(t, err)
	must(t, n.Start(cmd))
	line, err := bufio.NewReader(stdout).ReadString('\n')
	must(t, err)
	if got := strings.TrimSpace(line); got != inside {
		t.Errorf("the child is in %s, want %s", got, inside)
	}

	must(t, n.Close())
	err = cmd.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(interface{ Signal() unix.Signal }).Signal() != unix.SIGKILL {
		t.Errorf("after Close the child ended with %v, want to see it killed", err)
	}
	must(t, n.Close())
}

// orphan is the process that TestNothingOutlivesAKilledProcess kills.
func orphan() {
	a, err := New("a")
	if err == nil {
		var b *Namespace
		if b, err = New("b"); err == nil {
			err = Connect(End{Namespace: a, Name: "eth0"}, End{Namespace: b, Name: "eth0"})
		}
	}
	child := exec.Command("/bin/sh", "-c", "readlink /proc/self/ns/net; exec sleep 600")
	child.Stdout = os.Stdout
	if err == nil {
		err = a.Start(child)
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	_ = child.Wait()
	os.Exit(1)
}

func TestNothingOutlivesAKilledProcess(t *testing.T) {
	t.Parallel()
	needRoot(t)
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), orphanEnv+"=1")
	stdout, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	line, err := bufio.NewReader(stdout).ReadString('\n')
	must(t, err)
	namespace := strings.TrimSpace(line)
	if !strings.HasPrefix(namespace, "net:[") {
		t.Fatalf("the process to be killed says %q", line)
	}
	if users(t, namespace) == 0 {
		t.Fatalf("nobody is in %s before the kill", namespace)
	}
	must(t, cmd.Process.Kill())
	_ = cmd.Wait()

	deadline := time.Now().Add(patience)
	for users(t, namespace) > 0 {
		if time.Now().After(deadline) {
			t.Fatalf("%s is still in use after its owner was killed", namespace)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// users counts the threads of all processes that are in a network namespace.
func users(t *testing.T, namespace string) (n int) {
	t.Helper()
	links, err := filepath.Glob("/proc/[0-9]*/task/[0-9]*/ns/net")
	must(t, err)
	for _, link := range links {
		if got, err := inode(link); err == nil && got == namespace {
			n++
		}
	}
	return n
}
