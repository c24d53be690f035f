package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/shadowtap/shadowtap/pkg/compare"
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
	f, err := openReport(name, nil, false)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.write(compare.NewReport()); err != nil {
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

// TestReportsOfAgentsThatTakeOver: what each of them found is in the file they
// share, in whichever order they end; what was there before the first is not.
func TestReportsOfAgentsThatTakeOver(t *testing.T) {
	name := filepath.Join(t.TempDir(), "report.json")
	if err := os.WriteFile(name, []byte("of yesterday, and longer than what follows is at first"), 0o600); err != nil {
		t.Fatal(err)
	}
	start := func(takesOver bool) (end func(pairs int) error) {
		t.Helper()
		f, err := openReport(name, nil, takesOver)
		if err != nil {
			t.Fatal(err)
		}
		return func(pairs int) error {
			c, err := compare.New(compare.Options{})
			if err != nil {
				t.Fatal(err)
			}
			for range pairs {
				c.Add(&compare.Pair{Mirror: "m", Missed: compare.Busy})
			}
			return f.write(c.Report())
		}
	}
	expect := func(want uint64) {
		t.Helper()
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var r compare.Report
		if err := json.Unmarshal(text, &r); err != nil {
			t.Fatal(err)
		}
		if got := r.Mirrors["m"].Pairs; got != want {
			t.Errorf("%d pairs, want %d", got, want)
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Error(err)
		}
	}
	first := start(false)
	second := start(true)
	must(first(1))
	expect(1)
	third := start(true)
	must(third(4)) // the second lingers
	expect(5)
	must(second(2))
	expect(7)

	fourth := start(true)
	if err := os.WriteFile(name, []byte("no report"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := fourth(8); err == nil || !strings.Contains(err.Error(), "is lost") {
		t.Errorf("error %v", err)
	}
	expect(8)
	must(start(false)(16))
	expect(16)
}
