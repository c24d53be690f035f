package rules

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files")

// golden compares got with a file, or writes it.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(name, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs (run with -update to accept):\n%s", name, got)
	}
}

// TestProblems: everything wrong with a file is found in one run, each with
// the line it is on.
func TestProblems(t *testing.T) {
	files, err := filepath.Glob("testdata/problems/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, name := range files {
		t.Run(filepath.Base(name), func(t *testing.T) {
			data, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			s, ps := Decode(filepath.Base(name), data)
			p, more := Compile(s, Options{})
			ps = append(ps, more...)
			if p != nil && ps.Err() == nil {
				t.Error("compiled")
			}
			ps.sort()
			golden(t, strings.TrimSuffix(name, ".yaml")+".golden", []byte(ps.Error()+"\n"))
		})
	}
}

// TestIncomplete: what is left of an object that did not decode is not
// compiled. Here a mistyped condition would let the rule take everything.
func TestIncomplete(t *testing.T) {
	s, ps := Decode("test.yaml", []byte(vs("match: [{urj: {prefix: /a}}]\n"+toV1)))
	if len(ps) != 1 || !strings.Contains(ps[0].Message, "did you mean uri?") {
		t.Fatalf("%v", ps)
	}
	if p, ps := Compile(s, Options{}); p != nil || ps.Err() == nil {
		t.Fatalf("compiled: %v", ps)
	}
}

func TestProblemsErr(t *testing.T) {
	if (Problems{{Message: "a", Warning: true}}).Err() != nil || Problems(nil).Err() != nil {
		t.Error("warnings are an error")
	}
	if (Problems{{Message: "a", Warning: true}, {Message: "b"}}).Err() == nil {
		t.Error("an error is none")
	}
}

// TestBounds: a small file cannot unfold to an enormous one.
func TestBounds(t *testing.T) {
	bomb := "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c < 'k'; c++ {
		p := string(c - 1)
		bomb += string(c) + ": &" + string(c) + " [" + strings.Repeat("*"+p+",", 9) + "*" + p + "]\n"
	}
	head := "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a}\n"
	for name, text := range map[string]string{
		"aliases":    bomb + head + "spec: {hosts: *j}\n",
		"recursion":  head + "spec: &s {http: [{match: [{headers: {a: *s}}], route: &r [{headers: *r}]}]}\n",
		"cycle":      head + "spec: {http: &l [*l]}\n",
		"just deep":  head + "spec: {http: " + strings.Repeat("[", 500) + strings.Repeat("]", 500) + "}\n",
		"merge keys": head + "x: &x {hosts: [a]}\nspec: {<<: *x}\n",
	} {
		if _, ps := Decode(name, []byte(text)); ps.Err() == nil {
			t.Errorf("%s: no error", name)
		} else if len(ps) > 20 {
			t.Errorf("%s: %d problems", name, len(ps))
		}
	}
}
