package agent

import (
	"os"
	"strings"
	"testing"
)

// TestRulesThatDoNotFit: rules that would take more than the memory limit while
// they are loaded are refused, and the old ones stay; those that leave too
// little for traffic are warned of. What they take is shown.
func TestRulesThatDoNotFit(t *testing.T) {
	text := shadowRules("127.0.0.1:9")
	a := idleAgent(t, text)
	file := a.cfg.Files[0]
	grow := func(size int64) {
		t.Helper()
		padding := strings.Repeat("#", int(size)-len(text)-1) + "\n"
		if err := os.WriteFile(file, []byte(padding+text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	most := a.cfg.MemoryLimit / loadingCost
	for _, step := range []struct {
		size            int64
		failed, warning bool
	}{
		{most/2 - 1000, false, false},
		{most/2 + 1000, false, true},
		{most + 1000, true, false},
		{most - 1000, false, true},
	} {
		before, inUse := a.current.Load(), a.rulesSize.Load()
		grow(step.size)
		a.reloadNow()
		loaded := a.loaded.Load()
		warned := len(loaded.Problems) > 0 && loaded.Problems[0].Warning && strings.Contains(loaded.Problems[0].Message, "--memory-limit")
		if loaded.Failed != step.failed || warned != step.warning {
			t.Errorf("%d bytes: failed %v, want %v: %v", step.size, loaded.Failed, step.failed, loaded.Problems)
		}
		if kept := a.current.Load() == before; kept != step.failed {
			t.Errorf("%d bytes: the old rules stay: %v", step.size, kept)
		}
		if !step.failed {
			inUse = step.size
		}
		if got := a.rulesSize.Load(); got != inUse {
			t.Errorf("rules of %d bytes are said to be of %d", inUse, got)
		}
	}
	if metrics := a.getForTest("/metrics").Body.String(); !strings.Contains(metrics, "shadowtap_rules_memory_bytes ") {
		t.Error("what rules take is not among the metrics")
	}
}
