package file

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/shadowtap/shadowtap/pkg/rules"
)

func object(name string) string {
	return "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: " + name + "}\nspec: {host: a}\n"
}

func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// names are the objects of a Snapshot in order.
func names(s *rules.Snapshot) string {
	var out []string
	for _, dr := range s.DestinationRules {
		out = append(out, dr.Name)
	}
	return strings.Join(out, " ")
}

func TestRead(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "b.yaml", object("b1")+"---\n"+object("b2"))
	write(t, dir, "a.YML", object("a"))
	c := "{\n\t\"apiVersion\": \"networking.istio.io/v1\", \"kind\": \"DestinationRule\",\n\t\"metadata\": {\"name\": \"c\"}, \"spec\": {\"host\": \"a\"}\n}"
	write(t, dir, "c.json", c)
	write(t, dir, ".hidden.yaml", object("hidden"))
	write(t, dir, "notes.txt", "not rules")
	write(t, dir, "empty.yaml", "# nothing\n---\n")
	if err := os.Mkdir(filepath.Join(dir, "sub.yaml"), 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "sub.yaml"), "d.yaml", object("d"))
	other := write(t, t.TempDir(), "rules", object("other"))

	s, ps := Read([]string{dir, other})
	if len(ps) != 0 {
		t.Fatal(ps)
	}
	if got := names(s); got != "a b1 b2 c other" {
		t.Errorf("read %s", got)
	}
	total := 0
	for _, text := range []string{object("b1") + "---\n" + object("b2"), object("a"), object("other"), "# nothing\n---\n", c} {
		total += len(text)
	}
	if got := Size([]string{dir, other, filepath.Join(dir, "missing")}); got != int64(total) {
		t.Errorf("they have %d bytes, want %d", got, total)
	}
	if p := s.DestinationRules[2].Position; p.File != filepath.Join(dir, "b.yaml") || p.Line != 6 {
		t.Errorf("b2 is at %v", p)
	}
}

// TestReadProblems: everything that cannot be read is reported, the rest is
// read.
func TestReadProblems(t *testing.T) {
	dir := t.TempDir()
	good := write(t, dir, "good.yaml", object("good"))
	bad := write(t, dir, "bad.yaml", "a: [")
	large := write(t, dir, "large.yaml", strings.Repeat("#", MaxSize+1))
	fifo := filepath.Join(dir, "fifo.yaml")
	if err := syscall.Mkfifo(fifo, 0o644); err != nil {
		t.Fatal(err)
	}
	missing := filepath.Join(dir, "missing.yaml")
	empty := t.TempDir()

	s, ps := Read([]string{missing, bad, large, fifo, empty, good})
	if got := names(s); got != "good" {
		t.Errorf("read %s", got)
	}
	got := map[string]bool{} // whether only a warning
	for _, p := range ps {
		got[p.File] = p.Warning
		if strings.Count(p.Error(), p.File) != 1 {
			t.Errorf("the file is named more than once: %v", p)
		}
	}
	for _, name := range []string{missing, bad, large, fifo} {
		if warning, ok := got[name]; !ok || warning {
			t.Errorf("no error about %s in %v", name, ps)
		}
	}
	if warning, ok := got[empty]; !ok || !warning || len(got) != 5 {
		t.Errorf("%v", ps)
	}
}
