package e2e

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
)

// TestPCAPDryRun reads a capture file that the test writes and compares the
// output to the byte. It runs as nobody: a file needs no privileges.
func TestPCAPDryRun(t *testing.T) {
	t.Parallel()
	needRoot(t) // to become nobody
	dir := publicDir(t)
	capture, rules := filepath.Join(dir, "capture.pcapng"), filepath.Join(dir, "rules.yaml")
	must(t, os.WriteFile(rules, []byte(seedRules(t, v4)), 0o644))
	w := newCaptureFile(t, capture)

	get := "GET /httpbin/headers?a=1 HTTP/1.1\r\nHost: www.bookinfo.com\r\nAccept: */*\r\naccept:  again \r\n\r\n"
	post := "POST /httpbin/post HTTP/1.1\r\nHost: bookinfo.com\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\n<&>\x00\xff\r\n0\r\nX-Sum: 7\r\n\r\n"
	other := "GET /other HTTP/1.1\r\nHost: www.bookinfo.com\r\n\r\n"

	// One connection: the first request in one segment, the second in three
	// of which two change places and one comes twice, then one for no rule.
	a := w.connect("10.1.1.1:40001", "10.99.0.2:80", 0xffffffff-20) // the sequence wraps
	a.send(get)
	first, second, third := a.segment(post[:30]), a.segment(post[30:70]), a.segment(post[70:])
	third()
	second()
	first()
	second()
	a.send(other)
	a.finish()
	// Another connection, to the same place by another port: not captured.
	b := w.connect("10.1.1.1:40002", "10.99.0.2:8080", 1)
	b.send(get)
	b.finish()
	// And one whose request is not complete when the capture ends.
	c := w.connect("10.1.1.2:40003", "10.99.0.2:80", 1)
	c.send(get[:40])
	must(t, w.close())

	const rule = `"rule":{"kind":"VirtualService","namespace":"default","name":"bookinfo","route":"httpbin-route","index":0}`
	const mirror = `{"host":"httpbin.default.svc.cluster.local","subset":"v2","percentage":100,"endpoints":["10.99.1.2:80"],`
	want := strings.Join([]string{
		`{"time":"2026-01-02T03:04:05.000002Z","source":"10.1.1.1:40001","destination":"10.99.0.2:80","matched":true,` + rule + `,"mirrors":[` + mirror +
			`"request":{"method":"GET","target":"//headers?a=1","version":"HTTP/1.1","headers":[["Host","www.bookinfo.com"],["Accept","*/*"],["accept","again"]],"body":"","trailers":[]}}],"tried":[]}`,
		`{"time":"2026-01-02T03:04:05.000005Z","source":"10.1.1.1:40001","destination":"10.99.0.2:80","matched":true,` + rule + `,"mirrors":[` + mirror +
			`"request":{"method":"POST","target":"//post","version":"HTTP/1.1","headers":[["Host","bookinfo.com"],["Transfer-Encoding","chunked"]],"body":"PCY+AP8=","trailers":[["X-Sum","7"]]}}],"tried":[]}`,
		``,
	}, "\n")

	account := filepath.Join(dir, "account.json")
	stdout, stderr, err := asNobody(t, "run", "-f", rules, "--pcap", capture, "--dry-run", "-o", "json", "--admin", "", "--account", account)
	if err != nil {
		t.Fatalf("%v\n%s", err, stderr)
	}
	if diff := cmp.Diff(want, stdout); diff != "" {
		t.Errorf("output (-want +got):\n%s", diff)
	}
	acc := readAccount(t, account)
	if err := acc.balanced(); err != nil {
		t.Error(err)
	}
	r := acc.Requests
	if r.Seen != 4 || r.Mirrored != 2 || r.Filtered != 1 || sum(r.Dropped) != 1 || r.Pending != 0 {
		t.Errorf("requests %+v, want 4: 2 mirrored, 1 filtered, 1 dropped with the end of the file", r)
	}
	if acc.Shadow.Sent != 0 {
		t.Errorf("%d copies sent in a dry run", acc.Shadow.Sent)
	}

	// A file that ends in the middle of a packet is an error, after all that
	// was before it, which is in the account.
	whole, err := os.ReadFile(capture)
	must(t, err)
	must(t, os.WriteFile(capture, whole[:len(whole)-10], 0o644))
	must(t, os.Remove(account))
	stdout, stderr, err = asNobody(t, "run", "-f", rules, "--pcap", capture, "--dry-run", "-o", "json", "--admin", "", "--account", account)
	if stdout != want {
		t.Errorf("from a file cut short: %s", stdout)
	}
	if err == nil || !strings.Contains(stderr, "capture.pcapng") {
		t.Errorf("a file cut short: error %v, %q", err, stderr)
	}
	if r := readAccount(t, account).Requests; r.Seen != 3 || r.Mirrored != 2 || r.Filtered != 1 {
		t.Errorf("a file cut short: requests %+v, want 3: 2 mirrored, 1 filtered", r)
	}
}

// TestPCAPReplay sends what a file holds.
func TestPCAPReplay(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	v2 := serve(t, l.v2, v4.v2At(), nil)
	capture := filepath.Join(t.TempDir(), "capture.pcapng")
	w := newCaptureFile(t, capture)
	var production []message
	conn := w.connect("10.1.1.1:40001", "10.99.0.2:80", 7)
	const n = 5000 // more than the queue holds: a file waits
	for i := range n {
		m, err := parse(request{}.bytes(fmt.Sprint(i)))
		must(t, err)
		production = append(production, m)
		conn.send(string(m.raw))
	}
	conn.finish()
	must(t, w.close())
	a := launch(t, l.node, "-f", rulesFile(t, seedRules(t, v4)), "--pcap", capture, "--queue", "100")
	final := a.ended()
	checkCopies(t, production, v2.messages(), seedRewrite, nil)
	final.expect(t, outcome{mirrored: n})
}

// publicDir is a directory that everybody can read and write.
func publicDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "shadowtap-e2e-pcap-")
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	must(t, os.Chmod(dir, 0o777))
	return dir
}

// asNobody runs the program without any privileges.
func asNobody(t *testing.T, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	// The program is in a directory of root's: nobody gets it as a descriptor.
	f, err := os.Open(program)
	must(t, err)
	defer f.Close()
	cmd := exec.CommandContext(ctx, "/proc/self/fd/3", args...)
	cmd.ExtraFiles = []*os.File{f}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	return out.String(), errs.String(), err
}

// captureFile writes packets, one each microsecond.
type captureFile struct {
	t    *testing.T
	file *os.File
	w    *pcapgo.NgWriter
	now  time.Time
}

func newCaptureFile(t *testing.T, path string) *captureFile {
	t.Helper()
	f, err := os.Create(path)
	must(t, err)
	w, err := pcapgo.NewNgWriter(f, layers.LinkTypeEthernet)
	must(t, err)
	return &captureFile{t: t, file: f, w: w, now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
}

func (c *captureFile) close() error {
	must(c.t, c.w.Flush())
	return c.file.Close()
}

// capturedConnection is the client's side of a connection in a file.
type capturedConnection struct {
	file     *captureFile
	src, dst *net.TCPAddr
	seq, ack uint32 // of the next segment
}

func (c *captureFile) connect(src, dst string, isn uint32) *capturedConnection {
	c.t.Helper()
	s, err := net.ResolveTCPAddr("tcp", src)
	must(c.t, err)
	d, err := net.ResolveTCPAddr("tcp", dst)
	must(c.t, err)
	conn := &capturedConnection{file: c, src: s, dst: d, seq: isn, ack: 1}
	conn.write(layers.TCP{SYN: true, Seq: isn}, "")
	conn.seq++
	return conn
}

// segment prepares the next segment; calling the result puts it into the file.
func (c *capturedConnection) segment(payload string) (write func()) {
	seq := c.seq
	c.seq += uint32(len(payload))
	return func() { c.write(layers.TCP{ACK: true, PSH: true, Seq: seq}, payload) }
}

func (c *capturedConnection) send(payload string) { c.segment(payload)() }

func (c *capturedConnection) finish() { c.write(layers.TCP{ACK: true, FIN: true, Seq: c.seq}, "") }

func (c *capturedConnection) write(tcp layers.TCP, payload string) {
	t := c.file.t
	t.Helper()
	ethernet := &layers.Ethernet{SrcMAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, DstMAC: net.HardwareAddr{2, 0, 0, 0, 0, 2}, EthernetType: layers.EthernetTypeIPv4}
	ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolTCP, SrcIP: c.src.IP, DstIP: c.dst.IP}
	tcp.SrcPort, tcp.DstPort = layers.TCPPort(c.src.Port), layers.TCPPort(c.dst.Port)
	tcp.Window, tcp.Ack = 65535, c.ack
	must(t, tcp.SetNetworkLayerForChecksum(ip))
	buffer := gopacket.NewSerializeBuffer()
	options := gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}
	must(t, gopacket.SerializeLayers(buffer, options, ethernet, ip, &tcp, gopacket.Payload(payload)))
	c.file.now = c.file.now.Add(time.Microsecond)
	packet := buffer.Bytes()
	must(t, c.file.w.WritePacket(gopacket.CaptureInfo{Timestamp: c.file.now, CaptureLength: len(packet), Length: len(packet)}, packet))
}
