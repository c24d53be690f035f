package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

const (
	rulesFile   = "../../pkg/demo/standalone.yaml"
	clusterFile = "../../pkg/rules/testdata/bookinfo.yaml"
)

// command runs the program and returns its exit code and what it printed.
func command(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(args, strings.NewReader("from stdin"), &out, &errs)
	return code, out.String(), errs.String()
}

func TestExitCodesAndMessages(t *testing.T) {
	dir := t.TempDir()
	bad := filepath.Join(dir, "bad.yaml")
	if err := os.WriteFile(bad, []byte("apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: x}\nspec:\n  hosts: [a]\n  http:\n  - match: [{uri: {regex: '('}}]\n    nonsense: 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	const matching = "http://www.bookinfo.com/httpbin/headers"
	tests := []struct {
		name           string
		args           []string
		code           int
		stdout, stderr string // a part of it
	}{
		{"help", []string{"--help"}, 0, "shadowtap run -f rules.yaml", ""},
		{"help of run", []string{"run", "--help"}, 0, "--dry-run -o text", ""},
		{"version", []string{"version"}, 0, "shadowtap dev", ""},
		{"completion", []string{"completion", "bash"}, 0, "shadowtap", ""},
		{"unknown command", []string{"walk"}, 2, "", `unknown command "walk"`},
		{"unknown flag", []string{"run", "--fast"}, 2, "", "unknown flag: --fast\nSee 'shadowtap run --help'"},
		{"bad size", []string{"run", "--max-body", "many"}, 2, "", `"many" for "--max-body" flag: expected a size such as 1048576, 1024KiB or 1MiB`},
		{"run without rules", []string{"run"}, 2, "", "give --file FILE, or --port PORT and --to URL"},
		{"run with both", []string{"run", "-f", rulesFile, "--port", "1", "--to", "http://x"}, 2, "", "exclude each other"},
		{"run with a missing file", []string{"run", "-f", dir + "/none.yaml", "--pcap", "x"}, 2, "", "none.yaml"},
		{"run with a bad target", []string{"run", "--port", "1", "--to", "ftp://x", "--pcap", "x"}, 2, "", "--to ftp://x"},
		{"run with a target without a host", []string{"run", "--port", "1", "--to", "http:///x", "--pcap", "x"}, 2, "", `--to "http:///x": expected http://HOST[:PORT]`},
		{"run with a bad path to ignore", []string{"run", "-f", rulesFile, "--compare", "--compare-ignore-path", "x", "--pcap", "x"}, 2, "", `shadowtap: ignored path "x": expected "$"`},
		{"run with bad rules", []string{"run", "-f", bad, "--pcap", "x"}, 2, "", bad + ":8: VirtualService default/x: spec.http[0].nonsense"},
		{"run with a bad size of rings", []string{"run", "-f", rulesFile, "--admin", "", "--ring-size", "3"}, 2, "", "shadowtap: ring size 3: expected a power of two"},
		{"run with a bad size of rings in namespaces", []string{"run", "-f", rulesFile, "--admin", "", "--ring-size", "3", "--netns", "/none"}, 2, "", "shadowtap: ring size 3: expected a power of two"},
		{"run with a bad rate", []string{"run", "-f", rulesFile, "--admin", "", "--max-capture-rate", "1"}, 2, "", "shadowtap: max capture rate 1: expected 0 for no bound"},
		{"run with a missing capture", []string{"run", "-f", rulesFile, "--admin", "", "--pcap", dir + "/none.pcap"}, 2, "", "none.pcap"},
		{"run with a bad log level", []string{"run", "-f", rulesFile, "--log-level", "loud"}, 2, "", `--log-level "loud"`},
		{"run with a bad attach mode", []string{"run", "-f", rulesFile, "--attach", "xdp"}, 2, "", "--attach"},
		{"run with a bad output", []string{"run", "-f", rulesFile, "-o", "xml", "--pcap", "x"}, 2, "", `--output "xml"`},

		{"explain a match", []string{"explain", "-f", rulesFile, "GET", matching}, 0, "GET //headers HTTP/1.1", ""},
		{"explain a match as JSON", []string{"explain", "-f", rulesFile, "GET", matching, "-o", "json"}, 0, `"matched":true`, ""},
		{"explain no match", []string{"explain", "-f", rulesFile, "GET", "http://www.bookinfo.com/x"}, 1, `prefix "/httpbin"`, ""},
		{"explain another host", []string{"explain", "-f", rulesFile, "GET", matching, "-H", "Host: x"}, 1, "", ""},
		{"explain with a body", []string{"explain", "-f", rulesFile, "POST", matching, "-d", "hi", "-o", "json"}, 0, `"body":"aGk="`, ""},
		{"explain with a body from stdin", []string{"explain", "-f", rulesFile, "POST", matching, "-d", "@-", "-o", "json"}, 0, `["Content-Length","10"]`, ""},
		{"explain a path", []string{"explain", "-f", rulesFile, "GET", "/httpbin?a=b", "-H", "Host: bookinfo.com:8000"}, 0, "GET /?a=b HTTP/1.1", ""},
		{"explain by a gateway", []string{"explain", "-f", clusterFile, "GET", matching, "--gateway", "bookinfo/bookinfo-gateway"}, 0, "10.244.0.2:80", ""},
		{"explain in the mesh", []string{"explain", "-f", clusterFile, "GET", matching}, 1, "expected bookinfo/bookinfo-gateway", ""},
		{"explain from a workload", []string{"explain", "-f", clusterFile, "GET", matching, "--source", "shop,app=cart"}, 1, "namespace shop, app=cart", ""},
		{"explain from an address", []string{"explain", "-f", clusterFile, "GET", matching, "--source", "10.244.0.1"}, 1, "version=v1", ""},
		{"explain from nowhere", []string{"explain", "-f", clusterFile, "GET", matching, "--source", "10.9.9.9"}, 2, "", "--source: no Pod or WorkloadEntry has the address 10.9.9.9"},
		{"explain by a bad gateway", []string{"explain", "-f", clusterFile, "GET", matching, "--gateway", "gw"}, 2, "", "expected NAMESPACE/NAME or mesh"},
		{"explain with a host suffix", []string{"explain", "-f", rulesFile, "GET", matching, "--host-suffix"}, 0, "Host: www.bookinfo.com-shadow", ""},
		{"explain with Envoy's headers", []string{"explain", "-f", rulesFile, "GET", matching, "--envoy-headers"}, 0, "x-envoy-original-path: /httpbin/headers", ""},
		{"explain with another form of paths", []string{"explain", "-f", rulesFile, "GET", "http://bookinfo.com//httpbin", "--path-normalization", "MERGE_SLASHES"}, 0, "GET / HTTP/1.1", ""},
		{"explain with a bad form of paths", []string{"explain", "-f", rulesFile, "GET", matching, "--path-normalization", "all"}, 2, "", `--path-normalization "all"`},
		{"run with a bad form of paths", []string{"run", "-f", rulesFile, "--path-normalization", "all", "--pcap", "x"}, 2, "", `--path-normalization "all"`},
		{"validate a cluster's objects", []string{"validate", "-f", clusterFile}, 0, "ok", ""},
		{"explain nonsense", []string{"explain", "-f", rulesFile, "GET", "bookinfo.com/x"}, 2, "", `URL "bookinfo.com/x": expected http://HOST/PATH`},
		{"explain an invalid request", []string{"explain", "-f", rulesFile, "G T", matching}, 2, "", "not a valid HTTP/1.1 request"},
		{"explain a bad header", []string{"explain", "-f", rulesFile, "GET", matching, "-H", "x"}, 2, "", `--header "x": expected 'Name: value'`},
		{"explain without rules", []string{"explain", "GET", matching}, 2, "", "give --file FILE"},
		{"explain with bad rules", []string{"explain", "-f", bad, "GET", matching}, 2, "", "spec.http[0].nonsense"},
		{"explain with too few arguments", []string{"explain", "-f", rulesFile, "GET"}, 2, "", "accepts 2 arg(s)"},

		{"validate", []string{"validate", "-f", rulesFile}, 0, "ok", ""},
		{"validate bad rules", []string{"validate", "-f", bad}, 2, "spec.http[0].match[0].uri.regex", "the rules have errors"},
		{"validate finds all", []string{"validate", "-f", bad}, 2, "spec.http[0].nonsense", ""},
		{"validate as JSON", []string{"validate", "-f", bad, "-o", "json"}, 2, `"field": "spec.http[0].nonsense"`, "the rules have errors"},
		{"status of nobody", []string{"status", "--agent", "http://127.0.0.1:1"}, 1, "no answer", "1 of 1 agents did not answer"},
		{"status of nobody as JSON", []string{"status", "--agent", "http://127.0.0.1:1", "-o", "json"}, 1, `"requests": {`, ""},
		{"status at a bad URL", []string{"status", "--agent", "127.0.0.1"}, 2, "", `--agent "127.0.0.1": expected http://HOST:PORT`},
		{"status of a cluster with a token", []string{"status", "--kube", "--token-file", "x"}, 2, "", "--token-file and --tls-ca are for --agent"},
		{"status in a bad form", []string{"status", "-o", "xml"}, 2, "", `--output "xml"`},
		{"validate nothing", []string{"validate"}, 2, "", "give --file FILE"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			code, stdout, stderr := command(t, tt.args...)
			if code != tt.code {
				t.Errorf("exit code %d, want %d", code, tt.code)
			}
			if !strings.Contains(stdout, tt.stdout) || !strings.Contains(stderr, tt.stderr) {
				t.Errorf("stdout:\n%s\nstderr:\n%s\nwant %q and %q", stdout, stderr, tt.stdout, tt.stderr)
			}
			if tt.code == 0 && stderr != "" {
				t.Errorf("stderr:\n%s", stderr)
			}
		})
	}
}

// TestExplainShape pins the JSON that scripts depend on.
func TestExplainShape(t *testing.T) {
	_, stdout, _ := command(t, "explain", "-f", rulesFile, "POST", "http://www.bookinfo.com/httpbin/headers", "-H", "Accept: */*", "-d", "{}", "-o", "json")
	const want = `{"matched":true,"rule":{"kind":"VirtualService","namespace":"default","name":"bookinfo","route":"httpbin-route","index":0},` +
		`"mirrors":[{"host":"httpbin.default.svc.cluster.local","subset":"v2","percentage":100,"endpoints":["10.99.1.2:80"],` +
		`"request":{"method":"POST","target":"//headers","version":"HTTP/1.1","headers":[["Host","www.bookinfo.com"],["Accept","*/*"],["Content-Length","2"]],"body":"e30=","trailers":[]}}],"tried":[]}`
	var got, expected any
	if err := json.Unmarshal([]byte(stdout), &got); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(want), &expected); err != nil {
		t.Fatal(err)
	}
	g, _ := json.Marshal(got)
	w, _ := json.Marshal(expected)
	if !bytes.Equal(g, w) {
		t.Errorf("got  %s\nwant %s", g, w)
	}
}

func TestEnvironmentTwins(t *testing.T) {
	cmd := newRun()
	env := map[string]string{"SHADOWTAP_MAX_BODY": "3MiB", "SHADOWTAP_INTERFACE": "eth0,veth*", "SHADOWTAP_QUEUE": "7"}
	if err := cmd.ParseFlags([]string{"--queue", "9"}); err != nil {
		t.Fatal(err)
	}
	lookup := func(k string) (string, bool) { v, ok := env[k]; return v, ok }
	if err := fromEnvironment(cmd.Flags(), lookup); err != nil {
		t.Fatal(err)
	}
	get := func(name string) string { return cmd.Flags().Lookup(name).Value.String() }
	if get("max-body") != "3MiB" || get("interface") != "[eth0,veth*]" {
		t.Errorf("max-body %s, interface %s", get("max-body"), get("interface"))
	}
	if get("queue") != "9" {
		t.Error("the environment beats a flag that was given")
	}
	env["SHADOWTAP_MAX_BODY"] = "x"
	err := fromEnvironment(newRun().Flags(), lookup)
	if err == nil || !strings.Contains(err.Error(), "SHADOWTAP_MAX_BODY") {
		t.Errorf("got %v", err)
	}
}

// TestEveryFlagIsExplained keeps --help true.
func TestEveryFlagIsExplained(t *testing.T) {
	for _, c := range newRoot().Commands() {
		c.Flags().VisitAll(func(f *pflag.Flag) {
			if f.Usage == "" {
				t.Errorf("%s --%s has no help", c.Name(), f.Name)
			}
		})
		if c.Short == "" {
			t.Errorf("%s has no help", c.Name())
		}
	}
}

func TestSize(t *testing.T) {
	for in, want := range map[string]struct {
		n   int64
		out string
	}{
		"0": {0, "0"}, "1000": {1000, "1000"}, "2KiB": {2048, "2KiB"}, "10Mi": {10 << 20, "10MiB"},
		"1GB": {1e9, "1000000000"}, "3 MiB": {3 << 20, "3MiB"}, "512B": {512, "512"},
	} {
		var n int64
		s := size[int64]{&n}
		if err := s.Set(in); err != nil || n != want.n || s.String() != want.out {
			t.Errorf("%q: %d %q, %v", in, n, s, err)
		}
	}
	for _, in := range []string{"", "-1", "x", "1.5MiB", "9223372036854775807KiB", "MiB"} {
		var n int64
		if err := (size[int64]{&n}).Set(in); err == nil {
			t.Errorf("%q was accepted as %d", in, n)
		}
	}
}

// FuzzCompose never composes anything but one request that can be parsed, or
// fails.
func FuzzCompose(f *testing.F) {
	f.Add("GET", "http://a/b?c#d", "X: y", "body")
	f.Add("POST", "/x", "Content-Length: 4", "body")
	f.Fuzz(func(t *testing.T, method, url, header, data string) {
		if strings.HasPrefix(data, "@") {
			t.Skip()
		}
		raw, err := composeRequest(method, url, []string{header}, data, strings.NewReader(""))
		if err == nil && !bytes.HasSuffix(raw, []byte(data)) {
			t.Errorf("the body is not at the end of %q", raw)
		}
	})
}
