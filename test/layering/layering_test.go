// Package layering holds the test that keeps the packages apart. The leaves
// do not know each other, so each can be read, tested and replaced alone;
// pkg/agent is the one place that joins them. .golangci.yaml says the same to
// editors; this test says it wherever Go runs.
package layering

import (
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const module = "github.com/shadowtap/shadowtap/"

// edges says which packages of this module each package may import. A row
// also governs the directories below it that have no row of their own. A
// package without a row is an error: a new package is a decision.
var edges = map[string]struct {
	imports []string
	why     string
}{
	"pkg/capture":        {[]string{"pkg/capture/attach"}, "it says where to attach, attach does it"},
	"pkg/capture/attach": {nil, "it knows links and programs, not what they carry"},
	"pkg/capture/netns":  {nil, "it finds and enters namespaces, whatever is done there"},
	"pkg/capture/pcap":   {[]string{"pkg/capture"}, "it produces the segments live capture produces"},
	"pkg/reassembly":     {nil, "it orders bytes, wherever segments come from and whatever they mean"},
	"pkg/httpstream":     {nil, "it frames bytes, wherever they come from"},
	"pkg/rules":          {[]string{"pkg/httpstream"}, "it decides on a message and knows no network"},
	"pkg/rules/file":     {[]string{"pkg/rules"}, "it is one of the sources of a snapshot"},
	"pkg/kube":           {[]string{"pkg/rules"}, "it is the other source of a snapshot"},
	"pkg/replay":         {[]string{"pkg/httpstream"}, "it sends a message and knows no rule"},
	"pkg/compare":        {nil, "it compares answers, wherever they were captured"},
	"pkg/agent": {[]string{
		"pkg/capture", "pkg/capture/attach", "pkg/capture/netns", "pkg/capture/pcap", "pkg/reassembly", "pkg/httpstream",
		"pkg/rules", "pkg/rules/file", "pkg/kube", "pkg/replay", "pkg/compare",
	}, "it joins the leaves"},
	"pkg/fleet":     {[]string{"pkg/agent", "pkg/kube", "pkg/compare"}, "it finds agents and adds up what they say"},
	"pkg/privilege": {nil, "it knows processes, not what they do"},
	"pkg/netlab":    {nil, "it is a lab, for the demo and for tests"},
	"pkg/demo":      {[]string{"pkg/netlab"}, "it runs the real program as a child, so it shows what users get"},
	"cmd/shadowtap": {[]string{
		"pkg/agent", "pkg/privilege", "pkg/fleet", "pkg/compare", "pkg/demo", "pkg/rules", "pkg/rules/file", "pkg/httpstream", "pkg/capture/attach",
	}, "flags, and what explain and validate need; whatever runs is behind agent"},
	"test": {[]string{"pkg", "cmd"}, "whole-program tests look wherever they must"},
}

// forTests are the packages any test file may import besides.
var forTests = []string{"pkg/netlab"}

// foreign says where an import from outside this module, or below it, may
// stand: only in some places, or everywhere but in some. Where tests is not
// set, test files are free.
var foreign = map[string]struct {
	only   []string
	except []string
	tests  bool
	why    string
}{
	"github.com/prometheus": {only: []string{"pkg/agent", "test"}, tests: true,
		why: "leaves expose plain counters"},
	"github.com/spf13/cobra": {only: []string{"cmd"}, tests: true,
		why: "only the command line knows how it is spelled"},
	"flag": {only: []string{"cmd", "test"},
		why: "flags of a library appear in every program that links it"},
	"k8s.io": {only: []string{"pkg/kube"},
		why: "everything else works without Kubernetes"},
	"k8s.io/apimachinery/pkg/apis/meta/v1": {only: []string{"pkg/kube", "pkg/rules"},
		why: "the types of the Gateway API, which rules know, are made of its own"},
	"github.com/cilium/ebpf": {only: []string{"pkg/capture"},
		why: "only capture talks to the kernel's programs and maps"},
	"github.com/google/gopacket": {only: []string{"pkg/capture/pcap"},
		why: "only the file source decodes packets in user space"},
	"net/http": {except: []string{"pkg/capture", "pkg/reassembly", "pkg/httpstream", "pkg/rules", "pkg/replay", "pkg/compare"},
		why: "its types lose the order and case of header fields, and allocate on the hot path"},
	"log": {only: []string{"pkg/demo"},
		why: "the standard logger is a global; the demo only discards what its servers would log"},
	"log/slog": {except: []string{"pkg/reassembly", "pkg/httpstream", "pkg/rules", "pkg/compare"},
		why: "without a goroutine of their own they return errors instead"},
}

// file is a Go file and what it imports.
type file struct {
	name    string // slash-separated, from the root of the module
	imports []string
}

func TestImports(t *testing.T) {
	files, err := goFiles(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(files, func(f file) bool { return f.name == "test/layering/layering_test.go" }) {
		t.Fatalf("the walk over %d files did not meet this one", len(files))
	}
	for _, problem := range check(files) {
		t.Error(problem)
	}
}

func TestCheck(t *testing.T) {
	for _, test := range []struct {
		name    string
		file    string
		imports string
		want    []string
	}{
		{"allowed edge", "pkg/rules/match.go", module + "pkg/httpstream", nil},
		{"forbidden edge", "pkg/replay/pool.go", module + "pkg/rules",
			[]string{"pkg/replay/pool.go imports pkg/rules, but pkg/replay: it sends a message and knows no rule"}},
		{"forbidden edge in a test", "pkg/replay/pool_test.go", module + "pkg/rules",
			[]string{"pkg/replay/pool_test.go imports pkg/rules, but pkg/replay: it sends a message and knows no rule"}},
		{"parent to child is an edge", "pkg/rules/decode.go", module + "pkg/rules/file",
			[]string{"pkg/rules/decode.go imports pkg/rules/file, but pkg/rules: it decides on a message and knows no network"}},
		{"a row governs what lies below", "pkg/agent/page/page.go", module + "pkg/agent", nil},
		{"and is reached through it", "pkg/agent/agent.go", module + "pkg/agent/page", nil},
		{"leaf to agent", "pkg/httpstream/h.go", module + "pkg/agent/page",
			[]string{"pkg/httpstream/h.go imports pkg/agent/page, but pkg/httpstream: it frames bytes, wherever they come from"}},
		{"lab in a test", "pkg/replay/pool_test.go", module + "pkg/netlab", nil},
		{"lab outside a test", "pkg/replay/pool.go", module + "pkg/netlab",
			[]string{"pkg/replay/pool.go imports pkg/netlab, but pkg/replay: it sends a message and knows no rule"}},
		{"a package nobody decided on", "pkg/new/new.go", "fmt",
			[]string{"pkg/new/new.go: pkg/new has no row in the table of test/layering"}},
		{"metrics in agent", "pkg/agent/metrics.go", "github.com/prometheus/client_golang/prometheus", nil},
		{"metrics in a leaf's test", "pkg/replay/pool_test.go", "github.com/prometheus/client_golang/prometheus",
			[]string{"pkg/replay/pool_test.go imports github.com/prometheus/client_golang/prometheus: leaves expose plain counters"}},
		{"net/http in a leaf", "pkg/rules/file/watch.go", "net/http/httputil",
			[]string{"pkg/rules/file/watch.go imports net/http/httputil: its types lose the order and case of header fields, and allocate on the hot path"}},
		{"net/http in its test", "pkg/replay/pool_test.go", "net/http", nil},
		{"net/http elsewhere", "pkg/agent/admin.go", "net/http", nil},
		{"a longer name is another package", "pkg/agent/run.go", "logger", nil},
		{"the standard logger", "pkg/agent/run.go", "log",
			[]string{"pkg/agent/run.go imports log: the standard logger is a global; the demo only discards what its servers would log"}},
		{"slog is not below log", "pkg/capture/attach/follow.go", "log/slog", nil},
		{"slog in a leaf", "pkg/rules/match.go", "log/slog",
			[]string{"pkg/rules/match.go imports log/slog: without a goroutine of their own they return errors instead"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := check([]file{{test.file, []string{test.imports}}})
			if d := cmp.Diff(test.want, got); d != "" {
				t.Errorf("problems (-want +got):\n%s", d)
			}
		})
	}
}

// check returns one line per import that stands where it must not.
func check(files []file) []string {
	rows := slices.Collect(maps.Keys(edges))
	confined := slices.Collect(maps.Keys(foreign))
	var problems []string
	for _, f := range files {
		dir := path.Dir(f.name)
		test := strings.HasSuffix(f.name, "_test.go")
		row := longestPrefix(dir, rows)
		if row == "" {
			problems = append(problems, fmt.Sprintf("%s: %s has no row in the table of test/layering", f.name, dir))
			continue
		}
		for _, imported := range f.imports {
			if own, ok := strings.CutPrefix(imported, module); ok {
				to := longestPrefix(own, rows)
				allowed := to == row || slices.Contains(edges[row].imports, to) ||
					test && slices.Contains(forTests, to) ||
					row == "test" && longestPrefix(own, edges[row].imports) != ""
				if !allowed {
					problems = append(problems, fmt.Sprintf("%s imports %s, but %s: %s", f.name, own, row, edges[row].why))
				}
				continue
			}
			rule, ok := foreign[longestPrefix(imported, confined)]
			if !ok || test && !rule.tests {
				continue
			}
			if rule.only != nil && longestPrefix(dir, rule.only) == "" || longestPrefix(dir, rule.except) != "" {
				problems = append(problems, fmt.Sprintf("%s imports %s: %s", f.name, imported, rule.why))
			}
		}
	}
	return problems
}

// longestPrefix returns the longest of prefixes that name is or lies below.
func longestPrefix(name string, prefixes []string) string {
	var longest string
	for _, p := range prefixes {
		if below(name, p) && len(p) > len(longest) {
			longest = p
		}
	}
	return longest
}

func below(name, dir string) bool {
	return name == dir || strings.HasPrefix(name, dir+"/")
}

// goFiles reads the imports of every Go file below cmd, pkg and test, whatever
// its build tags, leaving out what the go command leaves out: testdata,
// directories that start with . or _, and modules of their own.
func goFiles(root string) ([]file, error) {
	var files []file
	for _, top := range []string{"cmd", "pkg", "test"} {
		err := filepath.WalkDir(filepath.Join(root, top), func(name string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if d.IsDir() {
				base := d.Name()
				goMod, err := filepath.Glob(filepath.Join(name, "go.mod"))
				if base == "testdata" || base[0] == '.' || base[0] == '_' || goMod != nil {
					return fs.SkipDir
				}
				return err
			}
			if filepath.Ext(name) != ".go" {
				return nil
			}
			parsed, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
			if err != nil {
				return err
			}
			rel, err := filepath.Rel(root, name)
			if err != nil {
				return err
			}
			f := file{name: filepath.ToSlash(rel)}
			for _, spec := range parsed.Imports {
				imported, err := strconv.Unquote(spec.Path.Value)
				if err != nil {
					return fmt.Errorf("%s: import %s: %w", name, spec.Path.Value, err)
				}
				f.imports = append(f.imports, imported)
			}
			files = append(files, f)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return files, nil
}
