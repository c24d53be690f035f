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
		w, err := openFinal("account", name, 0o600, nil)
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

// What a report says of requests is not for everybody on the node.
func TestReportIsPrivate(t *testing.T) {
	name := filepath.Join(t.TempDir(), "report.json")
	w, err := openReport(name, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		t.Errorf("mode %v", info.Mode())
	}
}
