package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/shadowtap/shadowtap/pkg/httpstream"
)

// idleAgent is an agent that has loaded its rules and not begun to run.
func idleAgent(t *testing.T, rules string) *Agent {
	t.Helper()
	a, err := New(testConfig(t, rules, writePCAP(t)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.close)
	return a
}

func (a *Agent) getForTest(path string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	a.adminHandler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	return w
}

func TestAdminAPI(t *testing.T) {
	a := idleAgent(t, shadowRules("10.99.1.2:80"))
	for path, want := range map[string]int{
		"/healthz":         http.StatusOK,
		"/readyz":          http.StatusServiceUnavailable,
		"/api/v1/account":  http.StatusOK,
		"/api/v1/rules":    http.StatusOK,
		"/metrics":         http.StatusOK,
		"/debug/pprof/":    http.StatusNotFound,
		"/api/v1/nonsense": http.StatusNotFound,
	} {
		if got := a.getForTest(path); got.Code != want {
			t.Errorf("%s: %d, want %d: %s", path, got.Code, want, got.Body)
		}
	}
	var account map[string]map[string]any
	body := strings.Replace(a.getForTest("/api/v1/account").Body.String(), `"since": "`+a.since.UTC().Format("2006-01-02T15:04:05.999999999Z07:00")+`",`, "", 1)
	if err := json.Unmarshal([]byte(body), &account); err != nil {
		t.Fatal(err)
	}
	for section, fields := range map[string]string{
		"packets":  "seen copied skipped lost",
		"flows":    "open total ignored",
		"requests": "seen mirrored filtered sampled_out looped dropped pending",
		"shadow":   "sent answered failed pending",
	} {
		for field := range strings.FieldsSeq(fields) {
			if _, ok := account[section][field]; !ok {
				t.Errorf("the account has no %s.%s", section, field)
			}
		}
	}
	var status RulesStatus
	if err := json.Unmarshal(a.getForTest("/api/v1/rules").Body.Bytes(), &status); err != nil {
		t.Fatal(err)
	}
	if len(status.Targets) != 1 || status.Targets[0].String() != "10.99.0.2:80" ||
		len(status.Mirrors) != 1 || status.Mirrors[0].Endpoints[0] != "10.99.1.2:80" || len(status.Rules) != 2 || status.Failed {
		t.Errorf("rules: %+v", status)
	}
}

// TestPublicListener: what is open to everybody is metrics and probes alone,
// whatever the admin API shows.
func TestPublicListener(t *testing.T) {
	cfg := testConfig(t, shadowRules("10.99.1.2:80"), writePCAP(t))
	cfg.Pprof, cfg.Metrics = true, "127.0.0.1:0"
	a, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer a.close()
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- a.serveMetrics(ctx) }()
	for path, want := range map[string]int{
		"/metrics":        http.StatusOK,
		"/healthz":        http.StatusOK,
		"/readyz":         http.StatusServiceUnavailable,
		"/api/v1/account": http.StatusNotFound,
		"/api/v1/rules":   http.StatusNotFound,
		"/api/v1/status":  http.StatusNotFound,
		"/debug/pprof/":   http.StatusNotFound,
	} {
		resp, err := http.Get("http://" + a.metrics.Addr().String() + path)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s: %d, want %d", path, resp.StatusCode, want)
		}
	}
	cancel()
	if err := <-served; err != nil {
		t.Error(err)
	}
}

func TestMetrics(t *testing.T) {
	a := idleAgent(t, shadowRules("127.0.0.1:9"))
	// One request, so that the series with labels exist.
	s := a.shards[0]
	s.mu.Lock()
	c := &conn{shard: s}
	c.parser.Reset(a.shards[0].http, c, true)
	c.parser.Feed([]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nbad\r\n\r\n"), true, 1)
	s.mu.Unlock()

	problems, err := testutil.GatherAndLint(a.registry())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "shadowtap_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
	const want = `
# HELP shadowtap_requests_dropped_total Requests that could not be mirrored, by reason.
# TYPE shadowtap_requests_dropped_total counter
shadowtap_requests_dropped_total{reason="invalid"} 1
# HELP shadowtap_requests_seen_total Requests whose first byte was recognised.
# TYPE shadowtap_requests_seen_total counter
shadowtap_requests_seen_total 2
# HELP shadowtap_requests_total Requests by what became of them, without those dropped.
# TYPE shadowtap_requests_total counter
shadowtap_requests_total{outcome="filtered"} 1
shadowtap_requests_total{outcome="looped"} 0
shadowtap_requests_total{outcome="mirrored"} 0
shadowtap_requests_total{outcome="sampled_out"} 0
`
	if err := testutil.GatherAndCompare(a.registry(), strings.NewReader(want),
		"shadowtap_requests_seen_total", "shadowtap_requests_total", "shadowtap_requests_dropped_total"); err != nil {
		t.Error(err)
	}
}

// TestWarnings: what is said of rules that are in use is to be seen as long as
// they are, and logged once.
func TestWarnings(t *testing.T) {
	deprecated := strings.Replace(shadowRules("127.0.0.1:9"), "    mirror: {host", "    mirrorPercent: 50\n    mirror: {host", 1)
	c := testConfig(t, deprecated, writePCAP(t))
	var log bytes.Buffer
	c.Logger = slog.New(slog.NewTextHandler(&log, nil))
	a, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	defer a.close()
	reported := func(when string) {
		t.Helper()
		if s := a.RulesStatus(); s.Failed || len(s.Problems) != 1 || !strings.Contains(s.Problems[0], "mirrorPercent: is deprecated") {
			t.Errorf("%s: %+v", when, s)
		}
		if n := strings.Count(log.String(), "is deprecated"); n != 1 {
			t.Errorf("%s: logged %d times", when, n)
		}
	}
	reported("at the start")
	a.reloadNow()
	reported("after a reload")
	log.Reset()
	for _, text := range []string{shadowRules("127.0.0.1:9"), deprecated} {
		if err := os.WriteFile(c.Files[0], []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		a.reloadNow()
	}
	reported("when it is back")
}

func TestReload(t *testing.T) {
	a := idleAgent(t, shadowRules("127.0.0.1:9"))
	file := a.cfg.Files[0]
	write := func(rules string) {
		if err := os.WriteFile(file, []byte(rules), 0o600); err != nil {
			t.Fatal(err)
		}
		a.reloadNow()
	}
	first := a.current.Load()

	write("kind: Nonsense")
	if a.current.Load() != first {
		t.Error("broken rules replaced working ones")
	}
	if s := a.RulesStatus(); !s.Failed || len(s.Problems) == 0 || !strings.Contains(s.Problems[0], "rules.yaml") {
		t.Errorf("the failure is not reported: %+v", s)
	}

	write(strings.ReplaceAll(shadowRules("127.0.0.1:9"), "/httpbin", "/other"))
	second := a.current.Load()
	if second == first || second.mirrors[0] != first.mirrors[0] {
		t.Error("a mirror that stays did not stay")
	}
	if s := a.RulesStatus(); s.Failed || len(s.Problems) != 0 {
		t.Errorf("the success is not reported: %+v", s)
	}

	// A mirror that goes keeps its counts, also when it comes back.
	request, err := httpstream.ParseRequest([]byte("GET /other HTTP/1.1\r\nHost: www.bookinfo.com\r\n\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	defer request.Release()
	second.program.Decide(request, 0, &a.shards[0].decision)
	if _, ok := second.mirror(request, &a.shards[0].decision, nil); !ok {
		t.Fatal("the copy was refused")
	}
	write(strings.ReplaceAll(shadowRules("127.0.0.1:9"), "    mirror: {host: httpbin, subset: v2}\n", ""))
	write(strings.ReplaceAll(shadowRules("127.0.0.1:9"), "/httpbin", "/other"))
	a.mirrors.drains.Wait()
	if account, err := a.Account(); err != nil || account.Shadow.Sent != 1 || !account.Shadow.Balanced() {
		t.Errorf("account: %+v, %v", account.Shadow, err)
	}
	if l := a.loaded.Load(); l.Loads != 4 || l.Failures != 1 {
		t.Errorf("%d loads, %d failures", l.Loads, l.Failures)
	}
}
