package rules

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// conformanceModule holds the conformance tests of the Gateway API, in the
// version whose types are compiled in.
const conformanceModule = "sigs.k8s.io/gateway-api/conformance"

// conformanceDir is where the module is, fetched if need be.
func conformanceDir(t *testing.T) string {
	t.Helper()
	version, err := exec.Command("go", "list", "-m", "-f", "{{.Version}}", "sigs.k8s.io/gateway-api").Output()
	if err != nil {
		t.Fatal(err)
	}
	download := exec.Command("go", "mod", "download", "-json", conformanceModule+"@"+strings.TrimSpace(string(version)))
	download.Dir = t.TempDir() // outside of this module, whose sums do not have it
	text, err := download.Output()
	var got struct{ Dir, Error string }
	if json.Unmarshal(text, &got); err != nil || got.Dir == "" {
		t.Skipf("the conformance tests of the Gateway API cannot be fetched: %v %s", err, got.Error)
	}
	return got.Dir
}

// conformanceDocs are the documents of a file that rules are made of, and
// their Services.
func conformanceDocs(t *testing.T, name string) (text []byte, services [][2]string) {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	docs := yaml.NewDecoder(bytes.NewReader(data))
	for {
		var doc struct {
			APIVersion string `yaml:"apiVersion"`
			Kind       string
			Metadata   struct{ Name, Namespace string }
			Spec       any
		}
		if err := docs.Decode(&doc); errors.Is(err, io.EOF) {
			return text, services
		} else if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if doc.Kind == "Service" {
			services = append(services, [2]string{doc.Metadata.Namespace, doc.Metadata.Name})
		}
		if slices.Contains([]string{"HTTPRoute", "GRPCRoute", "Gateway", "ReferenceGrant", "Service"}, doc.Kind) {
			b, err := yaml.Marshal(map[string]any{
				"apiVersion": doc.APIVersion, "kind": doc.Kind, "spec": doc.Spec,
				"metadata": map[string]any{"name": doc.Metadata.Name, "namespace": doc.Metadata.Namespace},
			})
			if err != nil {
				t.Fatal(err)
			}
			text = append(append(text, b...), "---\n"...)
		}
	}
}

// conformance is the Snapshot of the base resources of the suite and one of
// its files. Every Service has one endpoint, whose address names is of it.
func conformance(t *testing.T, dir, base, file string) (s *Snapshot, names map[string]string) {
	t.Helper()
	text, services := conformanceDocs(t, filepath.Join(dir, base, "manifests.yaml"))
	more, moreServices := conformanceDocs(t, filepath.Join(dir, "tests", file+".yaml"))
	text = append(text, more...)
	names = map[string]string{}
	for i, svc := range append(services, moreServices...) {
		address := fmt.Sprintf("10.0.%d.%d", i/250, i%250+1)
		names[address] = svc[1]
		text = fmt.Appendf(text, "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\naddressType: IPv4\n"+
			"metadata: {name: %[2]s, namespace: %[1]s, labels: {kubernetes.io/service-name: %[2]s}}\n"+
			"endpoints: [{addresses: [%[3]s]}]\n---\n", svc[0], svc[1], address)
	}
	s, ps := Decode(file, text)
	if err := ps.Err(); err != nil {
		t.Fatal(err)
	}
	for _, svc := range s.Services {
		for i := range svc.Ports {
			if svc.Ports[i].AppProtocol == "kubernetes.io/h2c" {
				svc.Ports[i].AppProtocol = "" // not captured; where requests go is tested all the same
			}
		}
	}
	return s, names
}

// expectation is what the suite expects of a request: the backend it reaches,
// empty for none, the backends it is mirrored to, and the head of what they
// get where that differs.
type expectation struct {
	request string
	backend string
	mirrors string
	head    string
}

const (
	v1, v2, v3  = "infra-backend-v1", "infra-backend-v2", "infra-backend-v3"
	changed     = "X-Header-Remove: remove-val\nX-Header-Add-Append: append-val-1\nX-Header-Set: set-val"
	changedInto = "X-Header-Add-Append: append-val-1\nX-Header-Set: set-overwrites-values\nX-Header-Add: header-val-1\nX-Header-Add-Append: header-val-2"
)

// conformanceTests are the expectations that stand in the Go files of the
// suite, by the name of its file.
var conformanceTests = map[string][]expectation{
	"httproute-simple-same-namespace": {{"GET /", v1, "", ""}},
	"httproute-matching": {
		{"GET /", v1, "", ""}, {"GET /example", v1, "", ""}, {"GET /\nVersion: one", v1, "", ""},
		{"GET /v2", v2, "", ""}, {"GET /v2/example", v2, "", ""}, {"GET /\nVersion: two", v2, "", ""},
		{"GET /v2/", v2, "", ""}, {"GET /v2example", v1, "", ""}, {"GET /foo/v2/example", v1, "", ""},
	},
	"httproute-matching-across-routes": {
		{"GET /\nHost: example.com", v1, "", ""}, {"GET /example\nHost: example.com", v1, "", ""},
		{"GET /example\nHost: example.net\nVersion: one", v1, "", ""},
		{"GET /v2\nHost: example.com", v2, "", ""},
		{"GET /v2example\nHost: example.com", v1, "", ""}, {"GET /foo/v2/example\nHost: example.com", v1, "", ""},
		{"GET /\nHost: example.com\nVersion: two", v2, "", ""},
		{"GET /v2\nHost: example.net", v1, "", ""}, {"GET /\nHost: example.net\nVersion: two", v1, "", ""},
	},
	"httproute-path-match-order": {
		{"GET /match/exact/one", v3, "", ""}, {"GET /match/exact", v2, "", ""}, {"GET /match", v1, "", ""},
		{"GET /match/prefix/one/any", v2, "", ""}, {"GET /match/prefix/any", v1, "", ""}, {"GET /match/any", v3, "", ""},
	},
	"httproute-exact-path-matching": {
		{"GET /one", v1, "", ""}, {"GET /two", v2, "", ""}, {"GET /", "", "", ""}, {"GET /one/example", "", "", ""},
		{"GET /two/", "", "", ""}, {"GET /Two", "", "", ""},
	},
	"httproute-header-matching": {
		{"GET /\nVersion: one", v1, "", ""}, {"GET /\nVersion: two", v2, "", ""},
		{"GET /\nVersion: two\nColor: orange", v1, "", ""}, {"GET /\nColor: blue\nVersion: two", v2, "", ""},
		{"GET /\nColor: orange", "", "", ""}, {"GET /\nSome-Other-Header: one", "", "", ""},
		{"GET /\nColor: blue", v1, "", ""}, {"GET /\nColor: green", v1, "", ""}, {"GET /\nColor: red", v2, "", ""},
		{"GET /\nColor: yellow", v2, "", ""}, {"GET /\nColor: purple", "", "", ""},
	},
	"httproute-method-matching": {
		{"POST /", v1, "", ""}, {"GET /", v2, "", ""}, {"HEAD /", "", "", ""},
		{"GET /path1", v1, "", ""}, {"PUT /\nVersion: one", v2, "", ""}, {"POST /path2\nVersion: two", v3, "", ""},
		{"PATCH /path3", v1, "", ""}, {"DELETE /path4\nVersion: three", v1, "", ""},
		{"PUT /", "", "", ""}, {"DELETE /path4", "", "", ""}, {"PATCH /path5", v1, "", ""}, {"PATCH /\nVersion: four", v2, "", ""},
	},
	"httproute-query-param-matching": {
		{"GET /?animal=whale", v1, "", ""}, {"GET /?animal=dolphin", v2, "", ""}, {"GET /?animal=dolphin&color=blue", v3, "", ""},
		{"GET /?ANIMAL=Whale", v3, "", ""}, {"GET /?animal=whale&otherparam=irrelevant", v1, "", ""},
		{"GET /?animal=dolphin&color=yellow", v2, "", ""}, {"GET /?color=blue", "", "", ""}, {"GET /?animal=dog", "", "", ""},
		{"GET /?animal=whaledolphin", "", "", ""}, {"GET /", "", "", ""},
		{"GET /path1?animal=whale", v1, "", ""}, {"GET /?animal=whale\nVersion: one", v2, "", ""},
		{"GET /path2?animal=whale\nVersion: two", v3, "", ""},
		{"GET /path3?animal=shark", v1, "", ""}, {"GET /path4?animal=kraken\nVersion: three", v1, "", ""},
		{"GET /?animal=shark", "", "", ""}, {"GET /path4?animal=kraken", "", "", ""},
		{"GET /path5?animal=hydra", v1, "", ""}, {"GET /?animal=hydra\nVersion: four", v3, "", ""},
	},
	"httproute-hostname-intersection": {
		{"GET /s1\nHost: very.specific.com", v1, "", ""}, {"GET /s1\nHost: very.specific.com:1234", v1, "", ""},
		{"GET /s1\nHost: non.matching.com", "", "", ""}, {"GET /s1\nHost: foo.nonmatchingwildcard.io", "", "", ""},
		{"GET /s1\nHost: foo.wildcard.io", "", "", ""}, {"GET /non-matching-prefix\nHost: very.specific.com", "", "", ""},
		{"GET /s2\nHost: foo.wildcard.io", v2, "", ""}, {"GET /s2\nHost: bar.wildcard.io", v2, "", ""},
		{"GET /s2\nHost: foo.bar.wildcard.io", v2, "", ""}, {"GET /s2\nHost: non.matching.com", "", "", ""},
		{"GET /s2\nHost: wildcard.io", "", "", ""}, {"GET /s2\nHost: very.specific.com", "", "", ""},
		{"GET /s3\nHost: very.specific.com", v3, "", ""}, {"GET /s3\nHost: foo.specific.com", "", "", ""},
		{"GET /s3\nHost: foo.wildcard.io", "", "", ""},
		{"GET /s4\nHost: foo.anotherwildcard.io", v1, "", ""}, {"GET /s4\nHost: foo.bar.anotherwildcard.io", v1, "", ""},
		{"GET /s4\nHost: anotherwildcard.io", "", "", ""}, {"GET /s4\nHost: very.specific.com", "", "", ""},
		{"GET /s5\nHost: specific.but.wrong.com", "", "", ""}, {"GET /s5\nHost: wildcard.io", "", "", ""},
		{"GET /\nHost: sub.first.com", v2, "", ""}, {"GET /\nHost: other.first.com", "", "", ""},
	},
	"httproute-listener-hostname-matching": {
		{"GET /\nHost: bar.com", v1, "", ""}, {"GET /\nHost: foo.bar.com", v2, "", ""}, {"GET /\nHost: baz.bar.com", v3, "", ""},
		{"GET /\nHost: boo.bar.com", v3, "", ""}, {"GET /\nHost: multiple.prefixes.bar.com", v3, "", ""},
		{"GET /\nHost: multiple.prefixes.foo.com", v3, "", ""}, {"GET /\nHost: foo.com", "", "", ""},
		{"GET /\nHost: no.matching.host", "", "", ""},
	},
	"gateway-http-listener-isolation": {
		{"GET /empty-hostname\nHost: bar.com", v1, "", ""}, {"GET /wildcard-example-com\nHost: bar.com", "", "", ""},
		{"GET /wildcard-foo-example-com\nHost: bar.com", "", "", ""}, {"GET /abc-foo-example-com\nHost: bar.com", "", "", ""},
		{"GET /empty-hostname\nHost: bar.example.com", "", "", ""}, {"GET /wildcard-example-com\nHost: bar.example.com", v1, "", ""},
		{"GET /wildcard-foo-example-com\nHost: bar.example.com", "", "", ""}, {"GET /abc-foo-example-com\nHost: bar.example.com", "", "", ""},
		{"GET /empty-hostname\nHost: bar.foo.example.com", "", "", ""}, {"GET /wildcard-example-com\nHost: bar.foo.example.com", "", "", ""},
		{"GET /wildcard-foo-example-com\nHost: bar.foo.example.com", v1, "", ""}, {"GET /abc-foo-example-com\nHost: bar.foo.example.com", "", "", ""},
		{"GET /empty-hostname\nHost: abc.foo.example.com", "", "", ""}, {"GET /wildcard-example-com\nHost: abc.foo.example.com", "", "", ""},
		{"GET /wildcard-foo-example-com\nHost: abc.foo.example.com", "", "", ""}, {"GET /abc-foo-example-com\nHost: abc.foo.example.com", v1, "", ""},
	},
	"httproute-cross-namespace":                     {{"GET /", "web-backend", "", ""}},
	"httproute-reference-grant":                     {{"GET /", "web-backend", "", ""}},
	"httproute-invalid-reference-grant":             {{"GET /", "", "", ""}},
	"httproute-invalid-cross-namespace-backend-ref": {{"GET /", "", "", ""}},
	"httproute-invalid-nonexistent-backendref":      {{"GET /", "", "", ""}},
	"httproute-invalid-cross-namespace-parent-ref":  {{"GET /", "", "", ""}},
	"httproute-rewrite-path": {
		{"GET /prefix/one/two", v1, "", "GET /one/two"},
		{"GET /strip-prefix/three", v1, "", "GET /three"},
		{"GET /strip-prefix", v1, "", "GET /"},
		{"GET /full/one/two", v1, "", "GET /one"},
		{"GET /full/rewrite-path-and-modify-headers/test\n" + changed, v1, "", "GET /test\n" + changedInto},
		{"GET /prefix/rewrite-path-and-modify-headers/one\n" + changed, v1, "", "GET /prefix/one\n" + changedInto},
	},
	"httproute-rewrite-host": {
		{"GET /one\nHost: rewrite.example", v1, "", "GET /one\nHost: one.example.org"},
		{"GET /two\nHost: rewrite.example", v2, "", "GET /two\nHost: example.org"},
		{"GET /rewrite-host-and-modify-headers\nHost: rewrite.example\nX-Header-Remove: remove-val\nX-Header-Add-Append: append-val-1", v2, "",
			"GET /rewrite-host-and-modify-headers\nHost: test.example.org\nX-Header-Add-Append: append-val-1\n" +
				"X-Header-Set: set-overwrites-values\nX-Header-Add: header-val-1\nX-Header-Add-Append: header-val-2"},
	},
	"grpcroute-exact-method-matching": {
		{"POST /gateway_api_conformance.echo_basic.grpcecho.GrpcEcho/Echo", "grpc-" + v1, "", ""},
		{"POST /gateway_api_conformance.echo_basic.grpcecho.GrpcEcho/EchoTwo", "grpc-" + v2, "", ""},
		{"POST /gateway_api_conformance.echo_basic.grpcecho.GrpcEcho/EchoThree", "", "", ""},
	},
	"grpcroute-header-matching": {
		{"POST /a.B/C\nVersion: one", "grpc-" + v1, "", ""}, {"POST /a.B/C\nVersion: two", "grpc-" + v2, "", ""},
		{"POST /a.B/C\nVersion: two\nColor: orange", "grpc-" + v1, "", ""}, {"POST /a.B/C\nVersion: two\nColor: blue", "grpc-" + v2, "", ""},
		{"POST /a.B/C\nColor: orange", "", "", ""}, {"POST /a.B/C\nColor: green", "grpc-" + v1, "", ""},
		{"POST /a.B/C\nColor: red", "grpc-" + v2, "", ""}, {"POST /a.B/C\nColor: purple", "", "", ""},
	},
	"grpcroute-listener-hostname-matching": {
		{"POST /a.B/C\nHost: bar.com", "grpc-" + v1, "", ""}, {"POST /a.B/C\nHost: foo.bar.com", "grpc-" + v2, "", ""},
		{"POST /a.B/C\nHost: baz.bar.com", "grpc-" + v3, "", ""}, {"POST /a.B/C\nHost: multiple.prefixes.foo.com", "grpc-" + v3, "", ""},
		{"POST /a.B/C\nHost: foo.com", "", "", ""},
	},
	"httproute-request-header-modifier":         headerModifierTests,
	"httproute-request-header-modifier-backend": headerModifierTests,
	"httproute-request-mirror": {
		{"GET /mirror", v1, v2, ""},
		{"GET /mirror-and-modify-headers\n" + changed, v1, v2, "GET /mirror-and-modify-headers\n" + changedInto},
	},
	"httproute-request-multiple-mirrors": {
		{"GET /multi-mirror", v1, v2 + " " + v3, ""},
		{"GET /multi-mirror-and-modify-request-headers\n" + changed, v1, v2 + " " + v3, "GET /multi-mirror-and-modify-request-headers\n" + changedInto},
	},
	"httproute-request-percentage-mirror": {
		{"GET /percent-mirror", v1, v2 + "=20", ""}, {"GET /percent-mirror-fraction", v1, v2 + "=50", ""},
		{"GET /percent-mirror-and-modify-headers\n" + changed, v1, v2 + "=35", "GET /percent-mirror-and-modify-headers\n" + changedInto},
	},
}

// meshTests are those of clients in the mesh, whose requests are to Service
// echo.
var meshTests = map[string][]expectation{
	"httproute-matching": {
		{"GET /\nHost: echo", "echo-v1", "", ""}, {"GET /example\nHost: echo", "echo-v1", "", ""},
		{"GET /\nHost: echo\nVersion: one", "echo-v1", "", ""}, {"GET /v2\nHost: echo", "echo-v2", "", ""},
		{"GET /v2/\nHost: echo.gateway-conformance-mesh", "echo-v2", "", ""},
		{"GET /v2example\nHost: echo", "echo-v1", "", ""},
		{"GET /\nHost: echo.gateway-conformance-mesh.svc:80\nVersion: two", "echo-v2", "", ""},
	},
	"httproute-rewrite-path": {
		{"GET /prefix/one/two\nHost: echo", "echo-v1", "", "GET /one/two\nHost: echo"},
		{"GET /strip-prefix\nHost: echo", "echo-v1", "", "GET /\nHost: echo"},
		{"GET /full/one/two\nHost: echo", "echo-v1", "", "GET /one\nHost: echo"},
	},
}

var headerModifierTests = []expectation{
	{"GET /set\nSome-Other-Header: val", v1, "", "GET /set\nSome-Other-Header: val\nX-Header-Set: set-overwrites-values"},
	{"GET /set\nX-Header-Set: some-other-value\nSome-Other-Header: val", v1, "", "GET /set\nSome-Other-Header: val\nX-Header-Set: set-overwrites-values"},
	{"GET /add\nSome-Other-Header: val", v1, "", "GET /add\nSome-Other-Header: val\nX-Header-Add: add-appends-values"},
	{"GET /add\nX-Header-Add: some-other-value", v1, "", "GET /add\nX-Header-Add: some-other-value\nX-Header-Add: add-appends-values"},
	{"GET /remove\nX-Header-Remove: val", v1, "", "GET /remove"},
	{"GET /multiple\nX-Header-Set-2: set-val-2\nX-Header-Add-2: add-val-2\nX-Header-Remove-2: remove-val-2\nAnother-Header: another-header-val", v1, "",
		"GET /multiple\nX-Header-Add-2: add-val-2\nAnother-Header: another-header-val\nX-Header-Set-1: header-set-1\nX-Header-Set-2: header-set-2\n" +
			"X-Header-Add-1: header-add-1\nX-Header-Add-2: header-add-2\nX-Header-Add-3: header-add-3"},
	{"GET /case-insensitivity\nx-header-set: original-val-set\nx-header-add: original-val-add\nx-header-remove: original-val-remove\nAnother-Header: another-header-val", v1, "",
		"GET /case-insensitivity\nx-header-add: original-val-add\nAnother-Header: another-header-val\nX-Header-Set: header-set\nX-Header-Add: header-add"},
}

// TestConformance: the files of the suite compile, and requests reach and are
// mirrored to the backends that the suite expects.
func TestConformance(t *testing.T) {
	dir := conformanceDir(t)
	run := func(base, file string, tests []expectation) {
		t.Run(file, func(t *testing.T) {
			s, names := conformance(t, dir, base, file)
			p, ps := Compile(s, Options{AllowLoops: true})
			if err := ps.Err(); err != nil {
				t.Fatal(err)
			}
			for _, tt := range tests {
				checkExpectation(t, p, names, &tt)
			}
		})
	}
	for file, tests := range conformanceTests {
		run("base", file, tests)
	}
	for file, tests := range meshTests {
		run("mesh", "mesh/"+file, tests)
	}
}

func checkExpectation(t *testing.T, p *Program, names map[string]string, tt *expectation) {
	t.Helper()
	name := strings.ReplaceAll(tt.request, "\n", ", ")
	r := request(t, tt.request)
	d := decide(t, p, r, "")
	if tt.backend == "" {
		if d.Route != nil && len(d.Route.action.captured) > 0 {
			t.Errorf("%s: matched %v", name, d.Route.Rule())
		}
		return
	}
	if d.Route == nil {
		t.Errorf("%s: %v", name, d.Why)
		return
	}
	for at := range d.Route.action.captured {
		if got := names[at.Addr().String()]; got != tt.backend {
			t.Errorf("%s: reaches %s, expected %s", name, got, tt.backend)
		}
		// The same request where it arrives.
		if e := decide(t, p, r, at.String()); e.Route != d.Route {
			t.Errorf("%s: at %v: another route", name, at)
		}
	}
	if len(d.Route.action.captured) == 0 {
		t.Errorf("%s: reaches nothing", name)
	}
	var mirrors []string
	for _, m := range d.Route.Mirrors() {
		host, _, _ := strings.Cut(m.Mirror.Host, ".")
		if m.Percentage() != 100 {
			host += fmt.Sprintf("=%v", m.Percentage())
		}
		mirrors = append(mirrors, host)
	}
	if got := strings.Join(mirrors, " "); got != tt.mirrors {
		t.Errorf("%s: mirrored to %q, expected %q", name, got, tt.mirrors)
	}
	want := tt.head
	if want == "" {
		want = tt.request
	}
	if got := headOf(d.Route.AppendHead(nil, r)); got != canonicalHead(want) {
		t.Errorf("%s: copy\n%s\nexpected\n%s", name, got, canonicalHead(want))
	}
}

// headOf is a head as expectations are written.
func headOf(head []byte) string {
	return canonicalHead(strings.ReplaceAll(strings.ReplaceAll(string(head), "\r\n", "\n"), " HTTP/1.1\n", "\n"))
}

// canonicalHead is a head without the Host that requests of tests get, if they
// have none.
func canonicalHead(head string) string {
	return strings.TrimSpace(strings.ReplaceAll(strings.TrimSpace(head)+"\n", "\nHost: any.example\n", "\n"))
}

// TestConformanceDecode: every document of the suite that rules are made of
// decodes, those for the mesh included.
func TestConformanceDecode(t *testing.T) {
	dir := conformanceDir(t)
	var files []string
	for _, pattern := range []string{"*.yaml", "mesh/*.yaml"} {
		found, err := filepath.Glob(filepath.Join(dir, "tests", pattern))
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, found...)
	}
	if len(files) < 100 {
		t.Fatalf("%d files", len(files))
	}
	for _, name := range files {
		text, _ := conformanceDocs(t, name)
		if _, ps := Decode(filepath.Base(name), text); ps.Err() != nil {
			t.Error(ps)
		}
	}
}
