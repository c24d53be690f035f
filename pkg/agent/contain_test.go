package agent

import (
	"bytes"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/shadowtap/shadowtap/pkg/httpstream"
	"github.com/shadowtap/shadowtap/pkg/rules"
)

func quietPanics() *panics { return newPanics(slog.New(slog.DiscardHandler)) }

// TestPanicInBackground: a defect in what runs beside the traffic is counted
// and reported where it was met, and everything goes on.
func TestPanicInBackground(t *testing.T) {
	a := idleAgent(t, shadowRules("127.0.0.1:9"))
	good := a.current.Load()
	a.current.Store(&generation{agent: a}) // without a program to ask
	answer := httptest.NewRecorder()
	a.panics.handler(a.adminHandler()).ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/api/v1/rules", nil))
	if answer.Code != http.StatusInternalServerError {
		t.Errorf("/api/v1/rules answers %d", answer.Code)
	}
	a.current.Store(good)

	source := a.source
	a.source = nil
	if w := a.getForTest("/metrics"); w.Code != http.StatusInternalServerError || !strings.Contains(w.Body.String(), "panic") {
		t.Errorf("/metrics answers %d: %s", w.Code, w.Body)
	}
	a.source = source
	const want = `
# HELP shadowtap_panics_total Defects of the agent's that were contained, by where; those met on connections are in shadowtap_flows_panicked_total.
# TYPE shadowtap_panics_total counter
shadowtap_panics_total{in="admin"} 1
shadowtap_panics_total{in="agent"} 0
shadowtap_panics_total{in="cluster"} 0
shadowtap_panics_total{in="comparison"} 0
shadowtap_panics_total{in="interfaces"} 0
shadowtap_panics_total{in="metrics"} 1
shadowtap_panics_total{in="mirror"} 0
shadowtap_panics_total{in="output"} 0
shadowtap_panics_total{in="pods"} 0
shadowtap_panics_total{in="reload"} 0
shadowtap_panics_total{in="ring"} 0
shadowtap_panics_total{in="takeover"} 0
shadowtap_panics_total{in="watch"} 0
`
	if err := testutil.GatherAndCompare(a.registry(), strings.NewReader(want), "shadowtap_panics_total"); err != nil {
		t.Error(err)
	}
}

// TestPanicInReload: rules whose loading panics are rules that do not load.
func TestPanicInReload(t *testing.T) {
	a := idleAgent(t, shadowRules("127.0.0.1:9"))
	first, source := a.current.Load(), a.source
	a.source = nil // what capture is told last
	a.reloadSafely(a.reloadNow)
	a.source = source
	if s := a.RulesStatus(); !s.Failed || len(s.Problems) != 1 || !strings.Contains(s.Problems[0], "panic") {
		t.Errorf("the failure is not reported: %+v", s)
	}
	a.reloadSafely(a.reloadNow)
	if s := a.RulesStatus(); s.Failed || a.current.Load() == first || a.panics.counts[inReload].Load() != 1 {
		t.Errorf("the next one does not load: %+v", s)
	}
}

// faulty panics at the first write.
type faulty struct {
	bytes.Buffer
	writes int
}

func (f *faulty) Write(p []byte) (int, error) {
	if f.writes++; f.writes == 1 {
		panic("write")
	}
	return f.Buffer.Write(p)
}

// TestPanicInOutput: the output goes on behind the record that it was met
// with.
func TestPanicInOutput(t *testing.T) {
	var out faulty
	p := newPrinter(&out, TextOutput, true, 1, quietPanics())
	big := &rules.Record{Time: strings.Repeat("x", 100<<10)} // more than is buffered
	for range 3 {
		if !p.print(1, func() *rules.Record { return big }) {
			t.Fatal("refused")
		}
	}
	if err := p.close(0); err != nil {
		t.Fatal(err)
	}
	if n := p.panics.counts[inOutput].Load(); n != 1 || out.Len() < 2*len(big.Time) || p.held.Load() != 0 {
		t.Errorf("%d panics, %d bytes written, %d held", n, out.Len(), p.held.Load())
	}
}

// TestOutputIsBounded: what waits for a stalled output is bounded in bytes, and
// a record for which there is no room is not even made.
func TestOutputIsBounded(t *testing.T) {
	let := make(chan struct{})
	const limit = 1 << 20
	p := newPrinter(stalled{let}, JSONOutput, false, limit, quietPanics())
	made := int64(0)
	for range 2 * printerQueue {
		p.print(limit/10, func() *rules.Record { made++; return &rules.Record{Time: strings.Repeat("x", 1<<17)} })
		if held := p.held.Load(); held > limit {
			t.Fatalf("%d bytes wait", held)
		}
	}
	// One more may be with the writer.
	if made < 10 || made > 11 || p.refused.Load() != uint64(2*printerQueue-made) {
		t.Errorf("%d records made, %d refused", made, p.refused.Load())
	}
	close(let)
	if err := p.close(0); err != nil && !errors.Is(err, errOutputStalled) {
		t.Error(err)
	}
	p.done.Wait()
}

// panicking is a defect in what writes the heads of copies.
type panicking struct{}

func (panicking) AppendHead([]byte, *httpstream.Request) []byte { panic("head") }

// TestPanicInMirror: it is counted as the copy's fate, logged and counted as a
// defect.
func TestPanicInMirror(t *testing.T) {
	var log bytes.Buffer
	c := testConfig(t, shadowRules("127.0.0.1:9"), writePCAP(t))
	c.Logger = slog.New(slog.NewTextHandler(&log, nil))
	a, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	defer a.close()
	r, err := httpstream.ParseRequest([]byte("GET /httpbin HTTP/1.1\r\n" + host + "\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Release()
	g := a.current.Load()
	g.mirrors[0].Submit(r, panicking{})
	a.mirrors.drain(t.Context())
	account, err := a.Account()
	if err != nil || account.Shadow.Failed["panic"] != 1 || !account.Shadow.Balanced() {
		t.Errorf("%+v, %v", account.Shadow, err)
	}
	if n := a.panics.counts[inMirror].Load(); n != 1 || !strings.Contains(log.String(), g.program.Mirrors()[0].Key()) {
		t.Errorf("%d panics, logged %s", n, log.String())
	}
}

// TestEndpointMetrics: the states of endpoints are there, one by one up to a
// bound and all of them in the sums.
func TestEndpointMetrics(t *testing.T) {
	var list strings.Builder
	text := shadowRules("127.0.0.1:9")
	for i := range 2 * maxEndpointSeries {
		list.WriteString(strings.ReplaceAll("  - {address: 127.0.1.N, ports: {http: 9}, labels: {version: v2}}\n", "N", strconv.Itoa(i)))
	}
	text = strings.Replace(text, "---\n", list.String()+"---\n", 1)
	a := idleAgent(t, text)
	n, err := testutil.GatherAndCount(a.registry(), "shadowtap_shadow_endpoint_circuit")
	if err != nil || n != maxEndpointSeries {
		t.Errorf("%d endpoints, %v", n, err)
	}
	want := strings.NewReplacer("MIRROR", a.current.Load().program.Mirrors()[0].Key(), "ALL", strconv.Itoa(2*maxEndpointSeries+1)).Replace(`
# HELP shadowtap_shadow_endpoints Endpoints of a mirror, by the state of their circuits.
# TYPE shadowtap_shadow_endpoints gauge
shadowtap_shadow_endpoints{mirror="MIRROR",state="closed"} ALL
shadowtap_shadow_endpoints{mirror="MIRROR",state="ejected"} 0
shadowtap_shadow_endpoints{mirror="MIRROR",state="half_open"} 0
shadowtap_shadow_endpoints{mirror="MIRROR",state="open"} 0
`)
	if err := testutil.GatherAndCompare(a.registry(), strings.NewReader(want), "shadowtap_shadow_endpoints"); err != nil {
		t.Error(err)
	}
}

// TestUnavailableEndpoints: the admin API says which endpoints get no copies,
// and why, and the metrics which state they are in.
func TestUnavailableEndpoints(t *testing.T) {
	a := idleAgent(t, shadowRules("127.0.0.1:1")) // nobody listens there
	r, err := httpstream.ParseRequest([]byte("GET /httpbin HTTP/1.1\r\n" + host + "\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Release()
	g := a.current.Load()
	g.program.Decide(r, 0, &a.shards[0].decision)
	if _, ok := g.mirror(r, &a.shards[0].decision, nil); !ok {
		t.Fatal("the copy was refused")
	}
	eventually(t, "the end of the copy", func() bool { return g.mirrors[0].Stats().Pending == 0 })
	list := a.RulesStatus().Mirrors[0].Unavailable
	if len(list) != 1 || list[0].Address != "127.0.0.1:1" || list[0].State != "open" || !strings.Contains(list[0].Error, "refused") {
		t.Errorf("%+v", list)
	}
	want := strings.ReplaceAll(`
# HELP shadowtap_shadow_endpoint_circuit Circuit of an endpoint: 0 closed, 1 half open, 2 open, 3 ejected. The first 64 endpoints of a mirror.
# TYPE shadowtap_shadow_endpoint_circuit gauge
shadowtap_shadow_endpoint_circuit{endpoint="127.0.0.1:1",mirror="MIRROR"} 2
`, "MIRROR", g.program.Mirrors()[0].Key())
	if err := testutil.GatherAndCompare(a.registry(), strings.NewReader(want), "shadowtap_shadow_endpoint_circuit"); err != nil {
		t.Error(err)
	}
}

// TestFlowsAreBounded: what all shards together remember of flows follows from
// the memory limit.
func TestFlowsAreBounded(t *testing.T) {
	for _, test := range []struct {
		limit  int64
		shards int
		want   int
	}{
		{256 << 20, 1, 65536}, {256 << 20, 16, 4096}, {16 << 20, 16, 1024}, {1 << 50, 16, 65536},
	} {
		if got := maxFlows(test.limit, test.shards); got != test.want {
			t.Errorf("%d flows for each of %d shards within %d bytes, want %d", got, test.shards, test.limit, test.want)
		}
	}
}

// TestOwnBudget: what mirrors take counts in the budget of all, of which they
// leave as much free as they hold once half is in use.
func TestOwnBudget(t *testing.T) {
	b := newBudget(100)
	own := ownBudget{budget: b}
	if !own.reserve(50) || own.reserve(1) {
		t.Error("the bound does not hold")
	}
	if !b.reserve(1, 0, 15) || b.used.Load() != 65 {
		t.Errorf("%d used", b.used.Load())
	}
	own.release(40)
	if !own.reserve(5) || own.reserve(30) {
		t.Error("the bound does not hold")
	}
	own.release(15)
	if b.used.Load() != 15 || own.held.Load() != 0 {
		t.Errorf("%d used, %d of them own", b.used.Load(), own.held.Load())
	}
}
