package fleet

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/shadowtap/shadowtap/pkg/agent"
)

// serve answers as an agent, and returns how to reach it.
func serve(t *testing.T, name string, answer http.HandlerFunc) Agent {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v1/status", answer)
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return Agent{Name: name, URL: s.URL}
}

func says(s agent.Status) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(s) }
}

// status is that of an agent that mirrored n requests.
func status(n uint64, bounds ...float64) agent.Status {
	copies := agent.Shadow{Sent: n, Answered: map[string]uint64{"2xx": n}}
	return agent.Status{
		Version:   "v1",
		Capturing: true,
		Account: agent.Account{
			Packets:  agent.Packets{Seen: 3 * n, Copied: n, Skipped: map[string]uint64{"pure_ack": 2 * n}},
			Requests: agent.Requests{Seen: n + 1, Mirrored: n, Dropped: map[string]uint64{"gap": 1}},
			Shadow:   copies,
		},
		Mirrors:  map[string]agent.MirrorAccount{"v2": {Shadow: copies, Latency: agent.Latency{Bounds: bounds, Counts: []uint64{n, 0}, Sum: 1}}},
		Problems: []string{"VirtualService a/b: no endpoints"},
	}
}

func TestAsk(t *testing.T) {
	agents := []Agent{
		serve(t, "d-two", says(status(2, 0.1))),
		serve(t, "a-three", says(status(3, 0.1))),
		serve(t, "b-other-version", says(status(100, 0.2))),
		serve(t, "c-not-an-agent", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) }),
		serve(t, "e-refuses", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "who are you?", http.StatusUnauthorized) }),
		serve(t, "f-endless", func(w http.ResponseWriter, _ *http.Request) {
			for range largestAnswer/1024 + 1 {
				_, _ = w.Write(make([]byte, 1024))
			}
		}),
	}
	r := Ask(t.Context(), http.DefaultClient, agents)

	errors := map[string]string{}
	for _, a := range r.Agents {
		errors[a.Agent] = a.Error
	}
	for name, want := range map[string]string{
		"b-other-version": "mirror v2: latencies are counted in other buckets",
		"c-not-an-agent":  "the answer is not the status of an agent",
		"e-refuses":       "401 Unauthorized: who are you?",
		"f-endless":       "the answer is larger than",
	} {
		if !strings.Contains(errors[name], want) {
			t.Errorf("%s: error %q, want %q", name, errors[name], want)
		}
	}
	if errors["a-three"] != "" || errors["d-two"] != "" || r.Failed() != 4 {
		t.Errorf("%d failed: %v", r.Failed(), errors)
	}
	if !r.Balanced() {
		t.Errorf("the sum does not add up: %+v", r.Account)
	}
	if diff := cmp.Diff(agent.Requests{
		Seen: 7, Mirrored: 5, Dropped: map[string]uint64{"gap": 2}, FilteredBy: map[string]uint64{},
	}, r.Account.Requests); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(agent.Latency{Bounds: []float64{0.1}, Counts: []uint64{5, 0}, Sum: 2}, r.Mirrors["v2"].Latency); diff != "" {
		t.Errorf("latency (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]Problem{{"VirtualService a/b: no endpoints", 2}}, r.Problems); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
}

func TestText(t *testing.T) {
	r := Ask(t.Context(), http.DefaultClient, []Agent{
		serve(t, "one", says(status(2, 0.1))),
		{Name: "gone", URL: "http://127.0.0.1:1"},
	})
	var b strings.Builder
	if err := r.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"AGENT  VERSION  CAPTURING  SEEN  MIRRORED  DROPPED  PENDING\n",
		"one    v1       yes        3     2         1        0\n",
		"gone   -        no answer  -     -         -        -\n",
		"\ngone: Get ",
		"packets   6 seen = 2 copied + 4 skipped (pure_ack 4) + 0 lost\n",
		"requests  3 seen = 2 mirrored + 0 filtered + 0 sampled out + 0 looped + 1 dropped (gap 1) + 0 pending\n",
		"copies    2 sent = 2 answered (2xx 2) + 0 failed + 0 pending\n",
		"v2      2     2 (2xx 2)  0       0        0        <=100ms  <=100ms\n",
		"VirtualService a/b: no endpoints  1\n",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
	if strings.Contains(b.String(), "NOT") {
		t.Errorf("balanced, but the text says otherwise:\n%s", b.String())
	}
	r.Account.Requests.Mirrored++
	b.Reset()
	if err := r.WriteText(&b); err != nil || !strings.Contains(b.String(), "does NOT add up") {
		t.Errorf("%v: a sum that is wrong is not said to be:\n%s", err, b.String())
	}
}

func TestBalanced(t *testing.T) {
	with := func(responses *agent.Packets) bool {
		s := status(2)
		s.Account.Responses = responses
		r := Status{Account: s.Account}
		return r.Balanced()
	}
	lost := map[string]uint64{"ring_full": 1}
	if !with(nil) || !with(&agent.Packets{Seen: 3, Copied: 2, Lost: lost}) {
		t.Error("an account that adds up does not")
	}
	if with(&agent.Packets{Seen: 4, Copied: 2, Lost: lost}) {
		t.Error("a packet of a response is in no count, and it adds up")
	}
}
