package main

import (
	"os"
	"path/filepath"
	"testing"
)

// TestAccountOfASuccessor: two agents that were told the same file leave one
// account in it, whoever had more to say.
func TestAccountOfASuccessor(t *testing.T) {
	name := filepath.Join(t.TempDir(), "account.json")
	write := func(text string) func() {
		w, err := openFinal("account", name, nil)
		if err != nil {
			t.Fatal(err)
		}
		return func() {
			if _, err := w.Write([]byte(text)); err != nil {
				t.Error(err)
			}
			if err := w.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	predecessor, successor := write("a long account\n"), write("short\n")
	predecessor()
	successor()
	if got, err := os.ReadFile(name); err != nil || string(got) != "short\n" {
		t.Errorf("%q, %v", got, err)
	}
}
