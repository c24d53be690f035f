package rules

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// TestDecodeLarge: a large file means the same as its documents one by one,
// and problems have their lines.
func TestDecodeLarge(t *testing.T) {
	const n = 200
	text := many(n, false)
	if parts := split([]byte(text), minChunk); len(parts) < 10 {
		t.Fatalf("%d parts of %d bytes", len(parts), len(text))
	}
	s, ps := Decode("many.yaml", []byte(text))
	if ps != nil || len(s.VirtualServices) != n || len(s.ServiceEntries) != 1 || len(s.DestinationRules) != 1 {
		t.Fatalf("%d VirtualServices, %v", len(s.VirtualServices), ps)
	}
	lines := strings.Split(text, "\n")
	for i, vs := range s.VirtualServices {
		if want := fmt.Sprintf("vs-%d", i); vs.Name != want || lines[vs.Line] != "kind: VirtualService" {
			t.Fatalf("object %d: %s at line %d, %q", i, vs.Name, vs.Line, lines[vs.Line])
		}
	}
	bad := strings.Replace(text, "{prefix: /service-177/route-3}", "{prefix: /service-177/route-3, nonsense: 1}", 1)
	_, ps = Decode("many.yaml", []byte(bad))
	at := 1 + strings.Count(bad[:strings.Index(bad, "nonsense")], "\n")
	if len(ps) != 1 || ps[0].Line != at || ps[0].Object != "VirtualService default/vs-177" {
		t.Errorf("%v, expected one at line %d", ps, at)
	}
	// What follows something that is not YAML is not looked at.
	broken := strings.Replace(bad, "name: vs-100}", "name: [vs-100}", 1)
	s, ps = Decode("many.yaml", []byte(broken))
	at = 1 + strings.Count(broken[:strings.Index(broken, "[vs-100")], "\n")
	if len(ps) != 1 || ps[0].Line < at-1 || ps[0].Line > at+1 || !strings.Contains(ps[0].Message, "not valid YAML") || len(s.VirtualServices) != 100 {
		t.Errorf("%d VirtualServices, %v, expected one at line %d", len(s.VirtualServices), ps, at)
	}
}

// FuzzSplit: however a text is cut, a decoder of YAML finds the same documents
// at the same lines in it.
func FuzzSplit(f *testing.F) {
	for _, pattern := range []string{"testdata/*.yaml", "testdata/problems/*.yaml"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			f.Fatal(err)
		}
		for _, name := range files {
			text, err := os.ReadFile(name)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(text)
		}
	}
	f.Add([]byte("a: &x 1\n---\nb: *x\n"))
	f.Add([]byte("a: |\n ---\n --- x\n---\n- '\n---\n'\n"))
	f.Add([]byte("%YAML 1.2\n---\na: 1\n...\n# x\n---\r\nb: |2\n ---\n---x: 1\n--- {c: 1}\n--- \n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if len(text) > 1<<14 {
			return
		}
		whole := decoder{file: "x", out: &Snapshot{}}
		_ = whole.documents(text)
		whole.problems.sort()
		s, ps := decodeChunks("x", split(text, 0))
		if whole.broken {
			// Where it goes wrong may be told at another place.
			if ps.Err() == nil {
				t.Fatalf("%v, and in parts nothing", whole.problems)
			}
			return
		}
		if !reflect.DeepEqual(whole.problems, ps) || !reflect.DeepEqual(objects(whole.out), objects(s)) {
			t.Fatalf("%v %v, in parts %v %v", objects(whole.out), whole.problems, objects(s), ps)
		}
	})
}

// objects are what is in s and where.
func objects(s *Snapshot) (out []string) {
	s.metas(func(m *Meta) { out = append(out, m.object()+" at "+m.Position.String()) })
	return out
}
