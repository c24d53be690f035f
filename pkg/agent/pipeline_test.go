package agent

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"

	"github.com/shadowtap/shadowtap/pkg/rules"
)

// shadowRules mirrors /httpbin of 10.99.0.2:80 to the address given, with the
// prefix rewritten.
func shadowRules(shadow string) string {
	host, port, _ := net.SplitHostPort(shadow)
	return fmt.Sprintf(`apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: httpbin}
spec:
  hosts: [httpbin]
  resolution: STATIC
  ports: [{name: http, number: 8000, protocol: HTTP, targetPort: 80}]
  endpoints:
  - {address: 10.99.0.2, labels: {version: v1}}
  - {address: %s, ports: {http: %s}, labels: {version: v2}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: httpbin}
spec:
  host: httpbin
  subsets:
  - {name: v1, labels: {version: v1}}
  - {name: v2, labels: {version: v2}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: bookinfo}
spec:
  hosts: [www.bookinfo.com]
  http:
  - name: httpbin-route
    match: [{uri: {prefix: /httpbin}}]
    rewrite: {uri: /}
    route: [{destination: {host: httpbin, subset: v1}}]
    mirror: {host: httpbin, subset: v2}
  - name: rest
    route: [{destination: {host: httpbin, subset: v1}}]
`, host, port)
}

// flow is what one client sends to 10.99.0.2:80, each string a segment.
type flow struct {
	port      uint16
	midstream bool     // no SYN
	segments  []string // "" leaves a hole of 100 bytes
	open      bool     // no FIN
	subflow   int      // of Multipath TCP, as from so many segments on says each; 0: it is none
}

// writePCAP writes the flows one after the other.
func writePCAP(t testing.TB, flows ...flow) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "traffic.pcap")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w := pcapgo.NewWriter(f)
	if err := w.WriteFileHeader(1<<18, layers.LinkTypeEthernet); err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 11, 23, 3, 0, 0, 123456000, time.UTC)
	for _, fl := range flows {
		seq, ack := uint32(0xffffff00), uint32(1) // crosses the sequence wrap
		packet := func(tcp layers.TCP, payload string) {
			eth := layers.Ethernet{SrcMAC: make([]byte, 6), DstMAC: make([]byte, 6), EthernetType: layers.EthernetTypeIPv4}
			ip := layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolTCP, SrcIP: net.IPv4(10, 99, 0, 1), DstIP: net.IPv4(10, 99, 0, 2)}
			tcp.SrcPort, tcp.DstPort, tcp.Seq, tcp.Ack, tcp.Window = layers.TCPPort(fl.port), 80, seq, ack, 1000
			_ = tcp.SetNetworkLayerForChecksum(&ip)
			buf := gopacket.NewSerializeBuffer()
			if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true},
				&eth, &ip, &tcp, gopacket.Payload(payload)); err != nil {
				t.Fatal(err)
			}
			ci := gopacket.CaptureInfo{Timestamp: at, CaptureLength: len(buf.Bytes()), Length: len(buf.Bytes())}
			if err := w.WritePacket(ci, buf.Bytes()); err != nil {
				t.Fatal(err)
			}
			at = at.Add(time.Millisecond)
		}
		if !fl.midstream {
			packet(layers.TCP{SYN: true}, "")
			seq++
		}
		for i, s := range fl.segments {
			if s == "" {
				seq += 100
				continue
			}
			tcp := layers.TCP{ACK: true, PSH: true}
			if fl.subflow > 0 && i+1 >= fl.subflow {
				// 20 bytes of options: where the segment belongs (RFC 8684 section 3.3).
				tcp.Options = []layers.TCPOption{{OptionType: 30, OptionLength: 20, OptionData: append([]byte{0x20, 5}, make([]byte, 16)...)}}
			}
			packet(tcp, s)
			seq += uint32(len(s))
			ack += 100 // the server answered
		}
		if !fl.open {
			packet(layers.TCP{ACK: true, FIN: true}, "")
		}
	}
	return name
}

// testConfig reads a capture file with rules written to a file.
func testConfig(t testing.TB, rules, pcap string) Config {
	t.Helper()
	file := filepath.Join(t.TempDir(), "rules.yaml")
	if err := os.WriteFile(file, []byte(rules), 0o600); err != nil {
		t.Fatal(err)
	}
	c := DefaultConfig()
	c.Name, c.Files, c.PCAP, c.Admin = "test", []string{file}, pcap, ""
	c.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	c.Stdout = io.Discard
	return c
}

// runAgent runs the agent to the end of its capture file.
func runAgent(t testing.TB, c Config) Account {
	t.Helper()
	a, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	if err := a.Run(ctx); err != nil {
		t.Fatal(err)
	}
	account, err := a.Account()
	if err != nil {
		t.Fatal(err)
	}
	checkClosed(t, account)
	return account
}

// checkClosed checks the law of accounting at the end of a run.
func checkClosed(t testing.TB, a Account) {
	t.Helper()
	if !a.Requests.Balanced() || !a.Shadow.Balanced() {
		t.Errorf("the account does not balance: %+v", a)
	}
	if a.Requests.Pending != 0 || a.Shadow.Pending != 0 {
		t.Errorf("something is pending at the end: %+v", a)
	}
	if p := a.Packets; p.Seen != p.Copied+sum(p.Skipped)+sum(p.Lost) {
		t.Errorf("packets do not add up: %+v", p)
	}
}

const host = "Host: www.bookinfo.com\r\n"

func TestAccountNamesEveryFate(t *testing.T) {
	get := "GET /httpbin/get HTTP/1.1\r\n" + host + "\r\n"
	pcap := writePCAP(t,
		flow{port: 1001, segments: []string{get, get[:20], get[20:]}},
		flow{port: 1002, segments: []string{"GET /other HTTP/1.1\r\n" + host + "\r\n", "GET /httpbin HTTP/1.1\r\nHost: elsewhere\r\n\r\n"}},
		flow{port: 1003, segments: []string{"GET /httpbin HTTP/1.1\r\n" + host + "X-Shadowtap: test\r\n\r\n"}},
		flow{port: 1004, segments: []string{"POST /httpbin HTTP/1.1\r\n" + host + "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"}},
		flow{port: 1005, segments: []string{"\x16\x03\x01\x00\x05hello"}},
		flow{port: 1006, segments: []string{"GET /httpbin HTTP/1.1\r\n" + host + "Connection: upgrade\r\nUpgrade: websocket\r\n\r\n"}},
		flow{port: 1007, segments: []string{"POST /httpbin HTTP/1.1\r\n" + host + "Content-Length: 10\r\n\r\nhalf"}},
		flow{port: 1008, segments: []string{"POST /httpbin HTTP/1.1\r\n" + host + "Content-Length: 10\r\n\r\nhalf"}, open: true},
		flow{port: 1009, segments: []string{"POST /httpbin HTTP/1.1\r\n" + host + "Content-Length: 11000000\r\n\r\n"}},
		flow{port: 1010, segments: []string{"POST /httpbin HTTP/1.1\r\n" + host + "Content-Length: 104\r\n\r\n", "", "1234" + get}},
		flow{port: 1011, midstream: true, segments: []string{"the end of a body", get}},
		flow{port: 1012, segments: []string{"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"}},
	)
	c := testConfig(t, shadowRules("127.0.0.1:9"), pcap)
	c.DryRun = true
	account := runAgent(t, c)
	want := Requests{
		Seen: 13, Mirrored: 4, Filtered: 2, Looped: 1,
		FilteredBy: account.Requests.FilteredBy,
		Dropped: map[string]uint64{
			"invalid": 1, "upgrade": 1, "incomplete": 1, "shutdown": 1, "body_too_large": 1, "gap": 1,
		},
	}
	if d := cmp.Diff(want, account.Requests); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(map[string]uint64{"tls": 1, "http2": 1, "upgrade": 1, "invalid": 1}, account.Flows.Ignored); d != "" {
		t.Error(d)
	}
	if sum(account.Requests.FilteredBy) != account.Requests.Filtered {
		t.Errorf("filtered %d, by reason %v", account.Requests.Filtered, account.Requests.FilteredBy)
	}
	if account.Flows.Total != 12 || account.Flows.Gaps != 1 || account.Flows.SkippedBytes != uint64(len("the end of a body")) {
		t.Errorf("flows: %+v", account.Flows)
	}
}

// TestSubflowsAreLeftAlone: a connection over which parts of a stream may go is
// given up as soon as it says so. What came before was whole.
func TestSubflowsAreLeftAlone(t *testing.T) {
	get := "GET /httpbin/get HTTP/1.1\r\n" + host + "\r\n"
	post := "POST /httpbin/post HTTP/1.1\r\n" + host + "Content-Length: 8\r\n\r\nhalf"
	pcap := writePCAP(t,
		flow{port: 1001, segments: []string{get, get}, subflow: 1},
		flow{port: 1002, segments: []string{get, post, "half", get}, subflow: 3},
		flow{port: 1003, segments: []string{get}, subflow: 1, midstream: true},
	)
	c := testConfig(t, shadowRules("127.0.0.1:9"), pcap)
	c.DryRun = true
	account := runAgent(t, c)
	want := Requests{
		Seen: 2, Mirrored: 1, FilteredBy: account.Requests.FilteredBy,
		Dropped: map[string]uint64{"gap": 1},
	}
	if d := cmp.Diff(want, account.Requests); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(map[string]uint64{"mptcp": 3}, account.Flows.Ignored); d != "" {
		t.Error(d)
	}
	if account.Flows.Total != 3 || account.Flows.Open != 0 {
		t.Errorf("flows: %+v", account.Flows)
	}
}

// shadowServer is a server on loopback that records every byte it is sent and
// answers each request.
type shadowServer struct {
	net.Listener
	mu   sync.Mutex
	got  map[string]int
	open sync.WaitGroup
}

func newShadow(t *testing.T) *shadowServer {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &shadowServer{Listener: l, got: map[string]int{}}
	s.open.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.open.Go(func() { s.serve(c) })
		}
	})
	t.Cleanup(func() { _ = l.Close(); s.open.Wait() })
	return s
}

// serve takes requests whose heads announce their body by X-Bytes.
func (s *shadowServer) serve(c net.Conn) {
	defer c.Close()
	r := bufio.NewReader(c)
	for {
		var raw bytes.Buffer
		body := 0
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				return
			}
			raw.WriteString(line)
			if v, ok := strings.CutPrefix(line, "X-Bytes: "); ok {
				_, _ = fmt.Sscan(v, &body)
			}
			if line == "\r\n" {
				break
			}
		}
		if _, err := io.CopyN(&raw, r, int64(body)); err != nil {
			return
		}
		s.mu.Lock()
		s.got[raw.String()]++
		s.mu.Unlock()
		if _, err := c.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")); err != nil {
			return
		}
	}
}

func TestShadowGetsTheBytes(t *testing.T) {
	chunks := "5;ext=\"a\"\r\nhello\r\n00A\r\n0123456789\r\n0\r\nTrailer-A: x\r\n\r\n"
	sent := []struct{ request, want string }{
		{"GET /httpbin/a?b=c%2Fd HTTP/1.1\r\n" + host + "x-ORDER: 1\r\nAccept:*/*\r\nX-order:  2 \r\n\r\n",
			"GET //a?b=c%2Fd HTTP/1.1\r\n" + host + "x-ORDER: 1\r\nAccept:*/*\r\nX-order:  2 \r\nx-shadowtap: test\r\n\r\n"},
		{"POST /httpbin HTTP/1.1\r\n" + host + "X-Bytes: 5\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello",
			"POST / HTTP/1.1\r\n" + host + "X-Bytes: 5\r\nContent-Length: 5\r\nExpect: 100-continue\r\nx-shadowtap: test\r\n\r\nhello"},
		{fmt.Sprintf("PUT /httpbin/c HTTP/1.1\r\n%sX-Bytes: %d\r\nTransfer-Encoding: chunked\r\nTrailer: Trailer-A\r\n\r\n%s", host, len(chunks), chunks),
			fmt.Sprintf("PUT //c HTTP/1.1\r\n%sX-Bytes: %d\r\nTransfer-Encoding: chunked\r\nTrailer: Trailer-A\r\nx-shadowtap: test\r\n\r\n%s", host, len(chunks), chunks)},
		{"HEAD /httpbin/h HTTP/1.0\r\n" + host + "\r\n", "HEAD //h HTTP/1.0\r\n" + host + "x-shadowtap: test\r\n\r\n"},
	}
	var all string
	for _, s := range sent[:3] {
		all += s.request
	}
	// One connection pipelines them in one segment, one byte by byte, the
	// third in the middle of everything.
	var bytewise []string
	for i := range all {
		bytewise = append(bytewise, all[i:i+1])
	}
	pcap := writePCAP(t,
		flow{port: 2001, segments: []string{all}},
		flow{port: 2002, segments: bytewise},
		flow{port: 2003, segments: []string{all[:len(all)/2], all[len(all)/2:]}},
		flow{port: 2004, segments: []string{sent[3].request}},
	)
	s := newShadow(t)
	account := runAgent(t, testConfig(t, shadowRules(s.Addr().String()), pcap))
	want := map[string]int{}
	for _, x := range sent[:3] {
		want[x.want] = 3
	}
	// The answer to a HEAD has no body, which our shadow does not know: the
	// bytes are delivered, and the surplus is the shadow's fault.
	want[sent[3].want] = 1
	s.mu.Lock()
	defer s.mu.Unlock()
	if d := cmp.Diff(want, s.got); d != "" {
		t.Error(d)
	}
	if account.Requests.Mirrored != 10 || account.Shadow.Answered["2xx"] != 10 {
		t.Errorf("account: %+v", account)
	}
}

func TestDryRunLine(t *testing.T) {
	pcap := writePCAP(t, flow{port: 51234, segments: []string{"POST /httpbin/headers HTTP/1.1\r\n" + host + "Accept: */*\r\nContent-Length: 2\r\n\r\nhi"}})
	c := testConfig(t, shadowRules("10.99.1.2:80"), pcap)
	var out bytes.Buffer
	c.DryRun, c.Stdout = true, &out
	runAgent(t, c)
	var got map[string]any
	dec := json.NewDecoder(&out)
	if err := dec.Decode(&got); err != nil {
		t.Fatal(err)
	}
	if dec.More() {
		t.Error("more than one line")
	}
	var want map[string]any
	if err := json.Unmarshal([]byte(`{"time":"2026-11-23T03:00:00.124456Z","source":"10.99.0.1:51234","destination":"10.99.0.2:80","matched":true,
		"rule":{"kind":"VirtualService","namespace":"default","name":"bookinfo","route":"httpbin-route","index":0},
		"mirrors":[{"host":"httpbin","subset":"v2","percentage":100,"endpoints":["10.99.1.2:80"],
		"request":{"method":"POST","target":"//headers","version":"HTTP/1.1",
		"headers":[["Host","www.bookinfo.com"],["Accept","*/*"],["Content-Length","2"]],"body":"aGk=","trailers":[]}}],"tried":[]}`), &want); err != nil {
		t.Fatal(err)
	}
	// The host is written as the rules resolve it.
	mirror := got["mirrors"].([]any)[0].(map[string]any)
	if h, _ := mirror["host"].(string); h != "httpbin" && !strings.HasPrefix(h, "httpbin.default.") {
		t.Errorf("host %q", h)
	}
	mirror["host"] = "httpbin"
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestTextOutput(t *testing.T) {
	pcap := writePCAP(t, flow{port: 51234, segments: []string{"GET /httpbin/headers HTTP/1.1\r\n" + host + "\r\n"}})
	c := testConfig(t, shadowRules("10.99.1.2:80"), pcap)
	var out bytes.Buffer
	c.DryRun, c.Output, c.Stdout = true, TextOutput, &out
	runAgent(t, c)
	for _, want := range []string{"GET //headers", "bookinfo", "10.99.1.2:80"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in\n%s", want, out.String())
		}
	}
}

// stalled blocks its first writer until it is let go.
type stalled struct{ let chan struct{} }

func (s stalled) Write(p []byte) (int, error) { <-s.let; return len(p), nil }

func TestStalledOutputCostsCountedDrops(t *testing.T) {
	let := make(chan struct{})
	p := newPrinter(stalled{let}, JSONOutput, false, 1<<20, newPanics(slog.New(slog.DiscardHandler)))
	refused := 0
	for range 5 * printerQueue {
		if !p.print(1, func() *rules.Record { return &rules.Record{} }) {
			refused++
		}
	}
	if refused == 0 || uint64(refused) != p.refused.Load() {
		t.Errorf("%d refused, %d counted", refused, p.refused.Load())
	}
	if err := p.close(time.Millisecond); !errors.Is(err, errOutputStalled) {
		t.Errorf("closing while stalled: %v", err)
	}
	close(let)
	p.done.Wait()
}

func TestConfigValidate(t *testing.T) {
	good := func() Config { c := DefaultConfig(); c.Files = []string{"x"}; return c }
	for want, change := range map[string]func(*Config){
		"nothing to mirror":     func(c *Config) { c.Files = nil },
		"go together":           func(c *Config) { c.Files = nil; c.Port = 1 },
		"exclude each other":    func(c *Config) { c.Port = 1 },
		"--percent 101":         func(c *Config) { c.Percent = 101 },
		"--pcap and":            func(c *Config) { c.PCAP = "x"; c.Interfaces = []string{"lo"} },
		`--output "xml"`:        func(c *Config) { c.Output = "xml" },
		`--agent-name "a\r\n"`:  func(c *Config) { c.Name = "a\r\n" },
		"--max-body 0":          func(c *Config) { c.MaxBody = 0 },
		"--max-body 268435457":  func(c *Config) { c.MaxBody = 256<<20 + 1 },
		"--max-header 16777217": func(c *Config) { c.MaxHead = 16<<20 + 1 },
		"--memory-limit 1":      func(c *Config) { c.MemoryLimit = 1 },
		"--queue 0":             func(c *Config) { c.Queue = 0 },
	} {
		c := good()
		change(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want it to contain %q", err, want)
		}
	}
	if err := good().Validate(); err != nil {
		t.Error(err)
	}
	if slices.Contains([]string{""}, DefaultConfig().Name) {
		t.Error("the agent has no name")
	}
}
