package bench

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/shadowtap/shadowtap/pkg/netlab"
)

func TestMain(m *testing.M) {
	play(os.Args)
	os.Exit(m.Run())
}

const (
	v1          = "10.99.0.2:80"
	v2          = "10.99.1.2:80"
	connections = 8
	warmup      = 2000
)

// rulesYAML is the README's example: a rewrite, everything mirrored.
const rulesYAML = `apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: httpbin}
spec:
  hosts: [httpbin]
  resolution: STATIC
  ports: [{name: http, number: 8000, protocol: HTTP, targetPort: 80}]
  endpoints:
  - {address: 10.99.0.2, labels: {version: v1}}
  - {address: 10.99.1.2, labels: {version: v2}}
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
  - match: [{uri: {prefix: /httpbin}}]
    rewrite: {uri: /}
    route: [{destination: {host: httpbin, subset: v1}}]
    mirror: {host: httpbin, subset: v2}
`

// BenchmarkMirror prints one table: the agent's CPU per mirrored request, the
// CPU of a bare client that sends the same requests, and what production
// noticed.
func BenchmarkMirror(b *testing.B) {
	if os.Geteuid() != 0 {
		b.Skip("needs root")
	}
	l := newLab(b)
	const rate, seconds = 2000, 8
	paced := load{Address: v1, Connections: connections, Requests: rate * seconds / connections, Rate: rate}
	flat := load{Address: v1, Connections: connections, Requests: 40000 / connections}
	for b.Loop() {
		table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintf(table, "\nwhat\tCPU us/request\tratio to the bare client\tproduction p50 / p99 us\tmirrored\tpeak RSS\n")
		for _, c := range []struct {
			name string
			load load
		}{{fmt.Sprintf("%d requests/s", rate), paced}, {"as fast as answered", flat}} {
			n := c.load.Connections * c.load.Requests
			alone := l.client(b, l.client1, c.load)
			bareLoad := c.load
			bareLoad.Address = v2
			bareCPU := l.clientCPU(b, l.node, bareLoad) / float64(n)
			m := l.mirrored(b, c.load)
			fmt.Fprintf(table, "%s: no mirroring\t-\t-\t%.0f / %.0f\t-\t-\n", c.name, alone.P50, alone.P99)
			fmt.Fprintf(table, "%s: bare client\t%.1f\t1\t-\t-\t-\n", c.name, bareCPU)
			fmt.Fprintf(table, "%s: shadowtap\t%.1f\t%.2f\t%.0f / %.0f\t%.2f %%\t%.0f MB\n",
				c.name, m.cpu, m.cpu/bareCPU, m.production.P50, m.production.P99, m.percent, m.rssMB)
			b.ReportMetric(m.cpu/bareCPU, strings.ReplaceAll(c.name, " ", "-")+"-ratio")
		}
		_ = table.Flush()
	}
}

// lab is the network: a client, a node on which v1 and the agent run, and a
// shadow.
type lab struct {
	client1, node, shadow *netlab.Namespace
	binary, rules         string
}

func newLab(b *testing.B) *lab {
	dir := b.TempDir()
	l := &lab{binary: filepath.Join(dir, "shadowtap"), rules: filepath.Join(dir, "rules.yaml")}
	build := exec.Command("go", "build", "-o", l.binary, "github.com/shadowtap/shadowtap/cmd/shadowtap")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	check(b, os.WriteFile(l.rules, []byte(rulesYAML), 0o600))
	for _, n := range []struct {
		name string
		ns   **netlab.Namespace
	}{{"client", &l.client1}, {"node", &l.node}, {"shadow", &l.shadow}} {
		ns, err := netlab.New(n.name)
		check(b, err)
		b.Cleanup(func() { _ = ns.Close() })
		*n.ns = ns
	}
	cable := func(a *netlab.Namespace, aName, aAddr string, z *netlab.Namespace, zName, zAddr string) {
		check(b, netlab.Connect(
			netlab.End{Namespace: a, Name: aName, Addresses: []netip.Prefix{netip.MustParsePrefix(aAddr)}},
			netlab.End{Namespace: z, Name: zName, Addresses: []netip.Prefix{netip.MustParsePrefix(zAddr)}}))
	}
	cable(l.client1, "eth0", "10.99.0.1/24", l.node, "eth0", "10.99.0.2/24")
	cable(l.node, "eth1", "10.99.1.1/24", l.shadow, "eth0", "10.99.1.2/24")
	l.server(b, l.node, v1)
	l.server(b, l.shadow, v2)
	return l
}

func check(b *testing.B, err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

// server starts a server and waits until it listens.
func (l *lab) server(b *testing.B, ns *netlab.Namespace, address string) {
	cmd := exec.Command(os.Args[0], roleServer, address)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	check(b, err)
	check(b, ns.Start(cmd))
	b.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "listening\n" {
		b.Fatalf("server %s: %q, %v", address, line, err)
	}
}

func (l *lab) run(b *testing.B, ns *netlab.Namespace, load load) (result, *os.ProcessState) {
	arg, err := json.Marshal(load)
	check(b, err)
	cmd := exec.Command(os.Args[0], roleClient, string(arg))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	check(b, err)
	check(b, ns.Start(cmd))
	var r result
	err = json.NewDecoder(out).Decode(&r)
	check(b, cmd.Wait())
	check(b, err)
	return r, cmd.ProcessState
}

// client sends a load and returns what the client saw.
func (l *lab) client(b *testing.B, ns *netlab.Namespace, load load) result {
	r, _ := l.run(b, ns, load)
	return r
}

// clientCPU sends a load and returns the client's CPU time in microseconds,
// without what starting and ending it takes.
func (l *lab) clientCPU(b *testing.B, ns *netlab.Namespace, load load) float64 {
	cpu := func(p *os.ProcessState) float64 { return float64((p.UserTime() + p.SystemTime()).Microseconds()) }
	nothing := load
	nothing.Requests, nothing.Rate = 1, 0
	_, base := l.run(b, ns, nothing)
	_, p := l.run(b, ns, load)
	return cpu(p) - cpu(base)
}

// mirroring is what one run of the agent cost and did.
type mirroring struct {
	cpu        float64 // microseconds per mirrored request
	percent    float64 // answered by the shadow, of those sent to production
	rssMB      float64
	production result
}

// mirrored runs the agent on the node while the client sends the load.
func (l *lab) mirrored(b *testing.B, load load) mirroring {
	cmd := exec.Command(l.binary, "run", "-f", l.rules, "--admin", "127.0.0.1:9901", "--log-level", "warn", "--pprof")
	cmd.Stderr = os.Stderr
	check(b, l.node.Start(cmd))
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	l.await(b, func() bool { return l.get("/readyz", nil) == nil })

	warm := load
	warm.Requests, warm.Rate = warmup/load.Connections, 0
	l.client(b, l.client1, warm)
	before := l.settled(b, uint64(warm.Requests*warm.Connections))
	stopProfile := l.profile(b)
	cpu := l.processCPU(b, cmd.Process.Pid)
	production := l.client(b, l.client1, load)
	n := load.Requests * load.Connections
	after := l.settled(b, before.Requests.Seen+uint64(n))
	cpu = l.processCPU(b, cmd.Process.Pid) - cpu
	stopProfile()
	mirrored := float64(after.Shadow.Answered["2xx"] - before.Shadow.Answered["2xx"])
	if mirrored == 0 {
		b.Fatalf("nothing was mirrored: %+v", after)
	}
	return mirroring{
		cpu:        cpu / mirrored,
		percent:    100 * mirrored / float64(n),
		rssMB:      l.peakRSS(b, cmd.Process.Pid),
		production: production,
	}
}

// profile writes a CPU profile of the agent to the file that the environment
// variable BENCH_PROFILE names, if it does; the profile's own cost is then in
// the figures. What it returns waits for the profile.
func (l *lab) profile(b *testing.B) (wait func()) {
	name := os.Getenv("BENCH_PROFILE")
	if name == "" {
		return func() {}
	}
	done := make(chan error, 1)
	go func() {
		var profile bytes.Buffer
		err := l.fetch("/debug/pprof/profile?seconds=3", &profile)
		if err == nil {
			err = os.WriteFile(name, profile.Bytes(), 0o600)
		}
		done <- err
	}()
	return func() { check(b, <-done) }
}

// account is the part of the account that is looked at.
type account struct {
	Requests struct{ Seen, Mirrored, Pending uint64 }
	Shadow   struct {
		Answered map[string]uint64
		Pending  uint64
	}
}

// settled waits until the agent has seen so many requests and nothing is
// under way.
func (l *lab) settled(b *testing.B, seen uint64) (a account) {
	l.await(b, func() bool {
		a = account{}
		return l.get("/api/v1/account", &a) == nil && a.Requests.Seen >= seen && a.Shadow.Pending == 0
	})
	return a
}

// await polls rarely: the polls are part of the agent's CPU time.
func (l *lab) await(b *testing.B, cond func() bool) {
	b.Helper()
	for deadline := time.Now().Add(20 * time.Second); !cond(); {
		if time.Now().After(deadline) {
			b.Fatal("the agent did not get there")
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// get asks the agent's admin API and decodes the answer to v unless that is
// nil.
func (l *lab) get(path string, v any) error {
	var body bytes.Buffer
	if err := l.fetch(path, &body); err != nil || v == nil {
		return err
	}
	return json.Unmarshal(body.Bytes(), v)
}

func (l *lab) fetch(path string, to io.Writer) error {
	c := http.Client{Transport: &http.Transport{DialContext: l.node.Dial, DisableKeepAlives: true}, Timeout: 15 * time.Second}
	r, err := c.Get("http://127.0.0.1:9901" + path)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	if r.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", path, r.Status)
	}
	_, err = io.Copy(to, r.Body)
	return err
}

// processCPU is a process's CPU time so far in microseconds (proc(5), stat
// fields 14 and 15, in ticks of a hundredth of a second).
func (l *lab) processCPU(b *testing.B, pid int) float64 {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	check(b, err)
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	user, err := strconv.ParseFloat(fields[11], 64)
	check(b, err)
	system, err := strconv.ParseFloat(fields[12], 64)
	check(b, err)
	return (user + system) * 1e4
}

// peakRSS is a process's peak resident memory in megabytes.
func (l *lab) peakRSS(b *testing.B, pid int) float64 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	check(b, err)
	_, after, _ := strings.Cut(string(status), "VmHWM:")
	kb, err := strconv.ParseFloat(strings.Fields(after)[0], 64)
	check(b, err)
	return kb / 1e3
}
