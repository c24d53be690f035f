package kube

import (
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/shadowtap/shadowtap/pkg/rules"
)

const brokenRules = `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: mirrored, namespace: shop, uid: one}
spec: {hosts: [a], http: [{route: [{destination: {host: httpbin}}], mirror: {host: httpbin, subset: v9}}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: plain, namespace: shop}
spec: {hosts: [b], http: [{nonsense: 1, route: [{destination: {host: httpbin}}]}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: mirrored, namespace: shop, uid: two}
spec:
  parentRefs: [{name: same}]
  rules:
  - filters: [{type: RequestMirror, requestMirror: {backendRef: {name: empty, port: 80}}}]
    backendRefs: [{name: httpbin, port: 8000}]
---
apiVersion: v1
kind: Service
metadata: {name: empty, namespace: shop}
spec: {selector: {app: empty}, ports: [{name: http, port: 80}]}
`

// compileFor does what an agent does with the objects.
func compileFor(s *Source) (known bool) {
	snapshot, problems := s.Read()
	program, more := rules.CompileEach(snapshot, rules.Options{})
	known = s.Need(program.Needs())
	if known {
		s.Report(snapshot, append(problems, more...))
	}
	return known
}

// TestReport: what keeps a mirror from working becomes one Event, however many
// agents see it, and what is wrong with rules that mirror nothing none.
func TestReport(t *testing.T) {
	a := newAPIServer(t)
	a.serveRules()
	a.put(t, strings.Replace(everyKind, "annotations: {shadowtap.dev", "uid: three, annotations: {shadowtap.dev", 1)+"---\n"+brokenRules)
	events := func() map[string]string {
		a.mu.Lock()
		defer a.mu.Unlock()
		got := map[string]string{}
		for _, e := range a.objects["events.events.k8s.io"] {
			of := e["regarding"].(map[string]any)
			got[fmt.Sprint(of["kind"], " ", of["name"], " ", of["uid"])] = fmt.Sprint(e["reason"], ": ", e["note"])
			if e["reportingController"] != ControllerName || e["type"] != "Warning" || e["eventTime"] == nil || e["action"] == "" {
				t.Errorf("event %v", e)
			}
		}
		return got
	}
	var agents []*Source
	for range 3 {
		s, changes := follow(t, a, &recorder{})
		s.spread = time.Millisecond
		await(t, s, changes, "rules", func(*rules.Snapshot, rules.Problems) bool { return compileFor(s) })
		agents = append(agents, s)
	}
	eventually(t, "the events", func() bool { return len(events()) >= 3 })
	for _, s := range agents {
		eventually(t, "nothing left to look after", func() bool {
			r, _ := s.reports.next(time.Now().Add(refresh / 2))
			return r == nil
		})
	}
	want := map[string]string{
		"VirtualService mirrored one":  `MirrorInvalid: spec.http[0].mirror.subset: "v9": no DestinationRule for httpbin.shop.svc.cluster.local in namespace shop defines this subset, did you mean v1?`,
		"VirtualService httpbin three": "MirrorWithoutEndpoint: spec.http[0].mirror: httpbin.shop.svc.cluster.local has no endpoint now with the labels of subset v2 (version=v2)",
		"HTTPRoute mirrored two":       "MirrorWithoutEndpoint: spec.rules[0].filters[0].requestMirror.backendRef: empty.shop.svc.cluster.local has no endpoint now",
	}
	if d := cmp.Diff(want, events()); d != "" {
		t.Errorf("events (-want +got):\n%s", d)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if n := len(a.objects["events.events.k8s.io"]); n != 3 {
		t.Errorf("%d events", n)
	}
}

// TestReportLong: the API server takes the Events of objects and nodes with the
// longest names.
func TestReportLong(t *testing.T) {
	a := newAPIServer(t)
	a.serveRules()
	name := strings.Repeat("a", 235) + "-" + strings.Repeat("b", 17)
	a.put(t, strings.Replace(strings.Split(brokenRules, "---")[0], "name: mirrored", "name: "+name, 1))
	s, changes := follow(t, a, &recorder{})
	<-changes
	s.cfg.Node = strings.Repeat("n", 253)
	r := s.report(&rules.Problem{Group: istioGroup, Object: "VirtualService shop/" + name, Field: "spec", Message: strings.Repeat("é", 1000)})
	if r == nil {
		t.Fatal("no report")
	}
	e := r.event
	if why := validation.IsDNS1123Subdomain(e.Name); why != nil {
		t.Errorf("name %q: %v", e.Name, why)
	}
	if e.Regarding.Name != name || len(e.ReportingInstance) > 128 || len(e.Note) > 1024 || !utf8.ValidString(e.Note) {
		t.Errorf("%+v", e)
	}
}

// TestReportBound: an agent looks after few problems, and others after others.
func TestReportBound(t *testing.T) {
	a := newAPIServer(t)
	a.serveRules()
	var problems rules.Problems
	for i := range 4 * maxReports {
		name := fmt.Sprint("rule-", i)
		a.put(t, strings.NewReplacer("name: mirrored, namespace: shop, uid: one", "name: "+name+", namespace: shop").
			Replace(strings.Split(brokenRules, "---")[0]))
		problems = append(problems, rules.Problem{Group: istioGroup, Object: "VirtualService shop/" + name, Field: "spec", Message: "is wrong"})
	}
	names := func(node string) map[string]bool {
		s, changes := follow(t, a, &recorder{})
		<-changes
		s.cfg.Node = node
		s.Report(nil, problems)
		s.reports.mu.Lock()
		defer s.reports.mu.Unlock()
		got := map[string]bool{}
		for name := range s.reports.open {
			got[name] = true
		}
		return got
	}
	one, two := names("one"), names("two")
	if len(one) != maxReports || len(two) != maxReports || cmp.Equal(one, two) {
		t.Errorf("%v\n%v", one, two)
	}
}
