package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/shadowtap/shadowtap/pkg/compare"
)

// comparing is an agent that compared n pairs, of which some were not the same.
// Without pairs it runs without --compare.
func comparing(t *testing.T, n, different int) string {
	t.Helper()
	c, err := compare.New(compare.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		v1 := &compare.Answer{Status: 200, Body: []byte(`{"a":1}`), Length: 7, Latency: time.Millisecond}
		v2 := *v1
		if i < different {
			v2.Body = []byte(`{"a":2}`)
		}
		c.Add(&compare.Pair{Time: time.Unix(int64(i), 0), Method: "GET", Target: "/", Rule: "rule", Mirror: "v2", Production: v1, Shadow: &v2})
	}
	mux := http.NewServeMux()
	if n > 0 {
		mux.HandleFunc("GET /api/v1/report", func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(c.Report()) })
	}
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s.URL
}

func TestReport(t *testing.T) {
	newer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"format":2}`)) }))
	defer newer.Close()
	fetch := func(url string) string {
		resp, err := http.Get(url + "/api/v1/report")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Join(t.TempDir(), "report.json")
		if err := os.WriteFile(name, body, 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	same, few, without, wrong := comparing(t, 500, 0), comparing(t, 50, 0), comparing(t, 0, 0), comparing(t, 500, 100)
	for _, tt := range []struct {
		name   string
		agents []string
		args   []string
		code   int
		want   []string
	}{
		{"safe", []string{same}, nil, exitDone, []string{"SAFE\n", "v2      safe     500    500   0"}},
		{"two agents", []string{same, few}, nil, exitDone, []string{"550    550"}},
		{"few pairs", []string{few}, nil, exitNegative, []string{"UNKNOWN\n  v2: 50 pairs were compared, 400 are wanted", "the verdict is unknown"}},
		{"few are enough", []string{few}, []string{"--min-pairs", "10", "--max-different", "0.1", "--max-failed", "0.1"}, exitDone, []string{"SAFE"}},
		{"unsafe", []string{same, wrong}, nil, exitNegative, []string{"UNSAFE\n  v2: 100 of 1000 answers differ", "body $.a: value", "the verdict is unsafe"}},
		{"as many may differ", []string{wrong}, []string{"--max-different", "0.5"}, exitDone, []string{"SAFE"}},
		{"one compares nothing", []string{same, without}, nil, exitDone, []string{"SAFE", strings.TrimPrefix(without, "http://") + "  not comparing"}},
		{"nobody compares", []string{without}, nil, exitNegative, []string{"UNKNOWN\n  there are no pairs\n  no agent compares"}},
		{"one does not answer", []string{same, "http://127.0.0.1:1"}, nil, exitNegative, []string{"UNKNOWN\n  1 of 2 agents have no report to add", "127.0.0.1:1"}},
		{"another version", []string{same, newer.URL}, nil, exitNegative, []string{"the report has format 2, want 1: the agent is of another version"}},
		{"JSON", []string{wrong}, []string{"-o", "json"}, exitNegative, []string{`"verdict": "unsafe"`, `"different": 100`, `"format": 1`, `"comparing": true`}},
		{"JUnit", []string{wrong}, []string{"-o", "junit"}, exitNegative, []string{`<testsuites tests="2" failures="2"`}},
		{"Markdown", []string{wrong}, []string{"-o", "markdown"}, exitNegative, []string{"### shadowtap: unsafe"}},
		{"a file", nil, []string{"--file", fetch(same)}, exitDone, []string{"SAFE", "report.json  500"}},
		{"a file and an agent", []string{few}, []string{"--file", fetch(same)}, exitDone, []string{"550    550"}},
		{"no file", nil, []string{"--file", "/nowhere"}, exitError, []string{"--file: stat /nowhere: no such file"}},
		{"another form", []string{same}, []string{"-o", "xml"}, exitError, []string{`--output "xml": expected text, json, junit or markdown`}},
		{"no share", []string{same}, []string{"--max-failed", "5"}, exitError, []string{"--max-failed 5: expected a share of 0 to 1"}},
		{"no number", []string{same}, []string{"--max-missed", "NaN"}, exitError, []string{"--max-missed NaN"}},
		{"no URL", []string{"here"}, nil, exitError, []string{`--agent "here"`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			args := append([]string{"report", "--timeout", "1m"}, tt.args...)
			for _, a := range tt.agents {
				args = append(args, "--agent", a)
			}
			code, stdout, stderr := command(t, args...)
			if code != tt.code {
				t.Errorf("exit code %d, want %d", code, tt.code)
			}
			for _, want := range tt.want {
				if !strings.Contains(stdout+stderr, want) {
					t.Errorf("no %q in\n%s%s", want, stdout, stderr)
				}
			}
		})
	}
}
