package fleet

import (
	"net/http"
	"strings"
	"testing"

	"github.com/shadowtap/shadowtap/pkg/agent"
	"github.com/shadowtap/shadowtap/pkg/compare"
)

// TestHostileAgent: what says it is an agent may say anything. It must neither
// reach the terminal nor pass for lines and columns of the tables, nor end the
// program.
func TestHostileAgent(t *testing.T) {
	const evil = "v1\x1b]0;owned\a\x1b[2J\r\n\tfine  yes\u202e\u009b31m\x00"
	s := status(1, 0.1)
	s.Version, s.Problems = evil, []string{evil}
	s.Mirrors = map[string]agent.MirrorAccount{evil: s.Mirrors["v2"]}
	s.Account.Packets.Skipped = map[string]uint64{evil: 2}
	odd := status(1)
	odd.Mirrors = map[string]agent.MirrorAccount{"odd": {Latency: agent.Latency{Counts: []uint64{7}}}}
	agents := []Agent{
		serve(t, "a"+evil, says(s)),
		serve(t, "b-refuses", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, evil, http.StatusTeapot) }),
		serve(t, "c-odd", says(odd)),
	}
	var b strings.Builder
	r := Ask(t.Context(), http.DefaultClient, agents)
	if err := r.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	if err := Compare(t.Context(), http.DefaultClient, agents, compare.Limits{}).WriteText(&b); err != nil {
		t.Fatal(err)
	}
	if strings.ContainsAny(strings.ReplaceAll(b.String(), "\n", ""), "\x1b\a\r\t\x00\u202e\u009b") {
		t.Errorf("%q", b.String())
	}
	for line := range strings.Lines(b.String()) {
		if strings.HasPrefix(strings.TrimSpace(line), "fine") {
			t.Errorf("what an agent said is a line of its own: %q", line)
		}
	}
	if !strings.Contains(b.String(), "v1\ufffd]0;owned") {
		t.Errorf("what an agent said is missing:\n%q", b.String())
	}
}
