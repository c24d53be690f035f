package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/gopacket/layers"

	"github.com/shadowtap/shadowtap/pkg/compare"
)

// accept is the server's answer to the SYN of connect. The result is the
// server's side of the connection.
func (c *capturedConnection) accept() *capturedConnection {
	server := &capturedConnection{file: c.file, src: c.dst, dst: c.src, seq: c.ack - 1, ack: c.seq}
	server.write(layers.TCP{SYN: true, ACK: true, Seq: server.seq}, "")
	server.seq++
	return server
}

// TestPCAPCompare sends the requests of a capture file to a live v2 and
// compares its answers with those that the file has of v1: pairs that are the
// same, pairs that differ, a copy that is not answered, and a request that v1
// has not answered when the file ends. Then it has the written report judged.
// The file has many times as many answers as there is memory for; since nothing
// waits for its reader, that waits for v2.
func TestPCAPCompare(t *testing.T) {
	t.Parallel()
	const (
		same, differ, fail = 300, 60, 5
		pairs              = same + differ + fail + 1
	)
	padding := strings.Repeat("x", 30_000)
	answer := func(price int) string {
		body := fmt.Sprintf(`{"price":%d,"padding":"%s"}`, price, padding)
		return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	}
	l := newLab(t)
	serve(t, l.v2, v4.v2At(), func(c net.Conn, m message) error {
		switch m.target() {
		case "//fails":
			return net.ErrClosed
		case "//differs":
			_, err := c.Write([]byte(answer(2)))
			return err
		}
		_, err := c.Write([]byte(answer(1)))
		return err
	})

	dir := t.TempDir()
	capture, report := filepath.Join(dir, "capture.pcapng"), filepath.Join(dir, "report.json")
	w := newCaptureFile(t, capture)
	client := w.connect("10.1.1.1:40001", "10.99.0.2:80", 7)
	server := client.accept()
	ask := func(path string) {
		client.ack = server.seq
		client.send("GET /httpbin" + path + " HTTP/1.1\r\nHost: www.bookinfo.com\r\n\r\n")
		server.ack = client.seq
	}
	for _, part := range []struct {
		path string
		n    int
	}{{"/same", same}, {"/differs", differ}, {"/fails", fail}} {
		for range part.n {
			ask(part.path)
			// In two segments that change places.
			a := answer(1)
			first, second := server.segment(a[:20]), server.segment(a[20:])
			second()
			first()
		}
	}
	ask("/same")
	must(t, w.close())

	a := launch(t, l.node, "-f", rulesFile(t, seedRules(t, v4)), "--pcap", capture, "--compare", "--report", report, "--max-failures", "1000000", "--memory-limit", "16MiB")
	a.ended().expect(t, outcome{mirrored: pairs, answered: map[string]uint64{"2xx": pairs - fail}, failed: map[string]uint64{"reset": fail}})

	text, err := os.ReadFile(report)
	must(t, err)
	r := compare.NewReport()
	must(t, json.Unmarshal(text, r))
	got := totalOf(r)
	if got.pairs != pairs || got.same != same || got.different != differ ||
		!equal(got.failed, map[string]uint64{"reset": fail}) || !equal(got.missed, map[string]uint64{"shutdown": 1}) {
		t.Errorf("report %+v, want %d pairs: %d the same, %d different, %d failed as reset, 1 missed as shutdown", got, pairs, same, differ, fail)
	}

	out, err := exec.Command(program, "report", "--file", report).CombinedOutput()
	if exit, ok := err.(*exec.ExitError); !ok || exit.ExitCode() != 1 ||
		!strings.HasPrefix(string(out), "UNSAFE\n") || !strings.Contains(string(out), "body $.price: value") {
		t.Errorf("shadowtap report: %v, want exit code 1 and the difference at $.price\n%s", err, out)
	}
}
