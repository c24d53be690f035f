package rules

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/shadowtap/shadowtap/pkg/httpstream"
)

// services is what the rules of the tests lead to: v1 is captured, the others
// are mirrors.
const services = `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: httpbin}
spec:
  hosts: [httpbin]
  resolution: STATIC
  ports: [{name: http, number: 8000, protocol: HTTP, targetPort: 80}]
  endpoints:
  - {address: 10.0.0.1, labels: {version: v1}}
  - {address: 10.0.0.2, labels: {version: v2}}
  - {address: 10.0.0.3, labels: {version: v3}}
  - {address: 10.0.0.4, labels: {version: v3}, ports: {http: 8080}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: httpbin}
spec:
  host: httpbin
  subsets:
  - {name: v1, labels: {version: v1}}
  - {name: v2, labels: {version: v2}}
  - {name: v3, labels: {version: v3}}
---
`

// toV1 is what most routes of the tests do.
const toV1 = "route: [{destination: {host: httpbin, subset: v1}}]\nmirror: {host: httpbin, subset: v2}\n"

// vs is a VirtualService for every host with the given routes, each the YAML
// of an http entry.
func vs(routes ...string) string {
	var b strings.Builder
	b.WriteString(services + "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: test}\nspec:\n  hosts: ['*']\n  http:\n")
	for _, r := range routes {
		b.WriteString("  - " + strings.ReplaceAll(strings.TrimSpace(r), "\n", "\n    ") + "\n")
	}
	return b.String()
}

func decodeAll(t testing.TB, text string) (*Snapshot, Problems) {
	t.Helper()
	return Decode("test.yaml", []byte(text))
}

// compile compiles YAML that must be right; warnings are returned.
func compile(t testing.TB, text string, o Options) (*Program, Problems) {
	t.Helper()
	s, ps := decodeAll(t, text)
	if err := ps.Err(); err != nil {
		t.Fatal(err)
	}
	p, ps := Compile(s, o)
	if err := ps.Err(); err != nil {
		t.Fatalf("%v\nin\n%s", err, text)
	}
	return p, ps
}

// problemsOf is everything wrong with text.
func problemsOf(t testing.TB, text string) Problems {
	t.Helper()
	s, ps := decodeAll(t, text)
	_, more := Compile(s, Options{})
	return append(ps, more...)
}

// request parses a head written with LF; without a Host line it gets one.
func request(t testing.TB, head string) *httpstream.Request {
	t.Helper()
	head = strings.TrimSpace(head)
	if !strings.Contains(head, " HTTP/1.") {
		line, rest, _ := strings.Cut(head, "\n")
		head = line + " HTTP/1.1\n" + rest
	}
	if !strings.Contains(head, "\nHost:") && !strings.Contains(head, "\nhost:") && !strings.Contains(head, "HTTP/1.0") {
		head = strings.TrimSpace(head) + "\nHost: any.example"
	}
	r, err := httpstream.ParseRequest([]byte(strings.ReplaceAll(strings.TrimSpace(head), "\n", "\r\n") + "\r\n\r\n"))
	if err != nil {
		t.Fatalf("%v in %q", err, head)
	}
	t.Cleanup(r.Release)
	return r
}

// decide is the decision about a request that arrived at dst, or anywhere if
// dst is empty. Explain must agree with it.
func decide(t testing.TB, p *Program, r *httpstream.Request, dst string) *Decision {
	t.Helper()
	if r.Destination = (netip.AddrPort{}); dst != "" {
		r.Destination = netip.MustParseAddrPort(dst)
	}
	var d Decision
	p.Decide(r, 0, &d)
	checkExplain(t, p, r, &d)
	for _, m := range d.Selected {
		if head := m.AppendHead(nil, r); len(head) > m.HeadBound(r) {
			t.Fatalf("a head of %d bytes is larger than its bound, %d:\n%s", len(head), m.HeadBound(r), head)
		}
	}
	return &d
}

// checkExplain compares Explain with a Decision made with the random number 0,
// which every mirror takes.
func checkExplain(t testing.TB, p *Program, r *httpstream.Request, d *Decision) {
	t.Helper()
	e := p.Explain(r)
	if d.Route != nil && slices.ContainsFunc(d.Route.Mirrors(), func(m RouteMirror) bool { return m.extra != nil }) {
		return // which mirrors take a request is not in the random number alone
	}
	if e.Matched != (d.Route != nil) || len(e.Mirrors) != len(d.Selected) || e.why != d.Why {
		t.Fatalf("Explain: matched %v, %d mirrors, %v; Decide: %v, %d, %v",
			e.Matched, len(e.Mirrors), e.why, d.Route != nil, len(d.Selected), d.Why)
	}
	if d.Route != nil && *e.Rule != d.Route.Rule() {
		t.Fatalf("Explain: %v, Decide: %v", e.Rule, d.Route.Rule())
	}
	if (d.Verdict == Mirrored) != (len(d.Selected) > 0) || (d.Verdict == Filtered) != (d.Why != NotFiltered) {
		t.Fatalf("verdict %v with %d mirrors and reason %q", d.Verdict, len(d.Selected), d.Why)
	}
}
