package agent

import (
	"testing"
	"time"
)

// eventually waits for something that must happen. How long it takes says
// nothing: the bound is there for a test that would never end.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	const patience = 2 * time.Minute
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v", what, patience)
		}
	}
}
