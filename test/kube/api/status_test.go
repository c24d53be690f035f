package api

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gateway "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/shadowtap/shadowtap/pkg/kube"
)

// chart is what the chart makes of values.
func chart(t *testing.T, values string) string {
	t.Helper()
	cmd := exec.Command("go", "run", ".", values)
	cmd.Dir = "../../../deploy/helm/test"
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("rendering the chart: %v\n%s", err, errs.String())
	}
	return string(out)
}

const mirrorGateway = `
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: mirror}
spec: {controllerName: shadowtap.dev/mirror}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: mirror, namespace: shop}
spec:
  gatewayClassName: mirror
  listeners:
  - {name: http, port: 80, protocol: HTTP, hostname: "*.example.com"}
  - {name: raw, port: 81, protocol: TCP}
---
apiVersion: v1
kind: Service
metadata: {name: shadow, namespace: shop}
spec: {selector: {app: shadow}, ports: [{name: http, port: 80}]}
`

const mirrorRoutes = `
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: both, namespace: shop}
spec:
  parentRefs: [{name: real}, {name: mirror}]
  hostnames: [a.example.com]
  rules:
  - filters: [{type: RequestMirror, requestMirror: {backendRef: {name: shadow, port: 80}}}]
    backendRefs: [{name: httpbin, port: 8000}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {name: elsewhere, namespace: shop}
spec:
  parentRefs: [{name: mirror, sectionName: http}]
  hostnames: [b.example.org]
  rules: [{backendRefs: [{name: none, port: 8000}]}]
`

// statusOf is the conditions of an object in short, one per line.
func (s *server) statusOf(kind, name string) string {
	s.t.Helper()
	out, err := s.try("", "get", kind, "-n", "shop", name, "-o", "json")
	if err != nil {
		return out
	}
	var object struct {
		Metadata metav1.ObjectMeta
		Status   struct {
			Conditions []metav1.Condition
			Parents    []gateway.RouteParentStatus
			Listeners  []gateway.ListenerStatus
		}
	}
	if err := json.Unmarshal([]byte(out), &object); err != nil {
		s.t.Fatal(err)
	}
	var lines []string
	add := func(of string, conditions []metav1.Condition) {
		for _, c := range conditions {
			stale := ""
			if c.ObservedGeneration != object.Metadata.Generation {
				stale = " stale"
			}
			lines = append(lines, fmt.Sprintf("%s%s=%s/%s%s", of, c.Type, c.Status, c.Reason, stale))
		}
	}
	add("", object.Status.Conditions)
	for _, l := range object.Status.Listeners {
		add(fmt.Sprintf("%s %d: ", l.Name, l.AttachedRoutes), l.Conditions)
	}
	for _, p := range object.Status.Parents {
		add(fmt.Sprintf("%s by %s: ", p.ParentRef.Name, p.ControllerName), p.Conditions)
	}
	return strings.Join(lines, "\n")
}

func (s *server) expectStatus(kind, name string, lines ...string) {
	s.t.Helper()
	var got string
	want := strings.Join(lines, "\n")
	defer func() {
		if s.t.Failed() {
			s.t.Logf("%s %s: got\n%s\nwant\n%s", kind, name, got, want)
		}
	}()
	eventually(s.t, "the status of "+kind+" "+name, func() bool {
		got = s.statusOf(kind, name)
		return got == want
	})
}

// TestStatus: two agents with no more rights than the chart grants tell routes
// what became of them, and leave alone what others said. What they ask of the
// API server it has in memory.
func TestStatus(t *testing.T) {
	s := startServer(t)
	s.apply(workload)
	s.kubectl("", "apply", "--server-side", "-f", filepath.Join(moduleDir(t, "sigs.k8s.io/gateway-api"), "config", "crd", "standard"))
	s.kubectl("", "wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
	// The API server takes every object of the chart as it is.
	s.kubectl(chart(t, "{securityProfile: restricted, hostPID: true, gatewayStatus: true, networkPolicy: {from: [{namespaceSelector: {}}]}}"),
		"apply", "--server-side", "--validate=strict", "-f", "-")
	s.apply(mirrorGateway)
	s.apply(mirrorRoutes)
	const others = `{"status":{"parents":[{"parentRef":{"group":"gateway.networking.k8s.io","kind":"Gateway","name":"real"},"controllerName":"example.com/real",` +
		`"conditions":[{"type":"Accepted","status":"True","reason":"Accepted","message":"","lastTransitionTime":"2026-01-01T00:00:00Z","observedGeneration":1}]}]}}`
	s.kubectl("", "patch", "httproute", "-n", "shop", "both", "--subresource=status", "--type=merge", "-p", others)
	for _, node := range []string{"node-1", "node-2"} {
		followAs(t, s, kube.Config{Kubeconfig: s.agentConfig, Node: node, GatewayStatus: true, StartWithin: 1})
	}

	const real = "real by example.com/real: Accepted=True/Accepted"
	const ours = "mirror by shadowtap.dev/mirror: "
	s.expectStatus("gatewayclass", "mirror", "Accepted=True/Accepted", "SupportedVersion=True/SupportedVersion")
	s.expectStatus("httproute", "both", real, ours+"Accepted=True/Accepted", ours+"ResolvedRefs=True/ResolvedRefs")
	s.expectStatus("grpcroute", "elsewhere", ours+"Accepted=False/NoMatchingListenerHostname", ours+"ResolvedRefs=False/BackendNotFound")
	s.expectStatus("gateway", "mirror", "Accepted=True/ListenersNotValid", "Programmed=True/Programmed",
		"http 1: Conflicted=False/NoConflicts", "http 1: Accepted=True/Accepted", "http 1: Programmed=True/Programmed", "http 1: ResolvedRefs=True/ResolvedRefs",
		"raw 0: Conflicted=False/NoConflicts", "raw 0: Accepted=False/UnsupportedProtocol", "raw 0: Programmed=False/Invalid", "raw 0: ResolvedRefs=True/ResolvedRefs")

	s.apply(strings.NewReplacer("name: shadow, port", "name: shadow, namespace: other, port").Replace(mirrorRoutes))
	s.expectStatus("httproute", "both", real+" stale", ours+"Accepted=True/Accepted", ours+"ResolvedRefs=False/RefNotPermitted")
	s.kubectl("", "delete", "gateway", "-n", "shop", "mirror")
	s.expectStatus("httproute", "both", real+" stale")

	for _, r := range s.asked("shadowtap/test") {
		if r.Verb == "list" && r.uri.Query().Get("resourceVersion") != "0" {
			t.Errorf("a list that etcd has to answer: %s", r.RequestURI)
		}
	}
}

// asked is a request as the API server's audit log has it.
type asked struct {
	Verb, UserAgent, RequestURI string

	uri *url.URL
}

// asked is what a client asked of the API server.
func (s *server) asked(userAgent string) (out []asked) {
	s.t.Helper()
	f, err := os.Open(filepath.Join(s.dir, "audit.log"))
	if err != nil {
		s.t.Fatal(err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var r asked
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil || r.UserAgent != userAgent {
			continue // the last line may be half written
		}
		if r.uri, err = url.Parse(r.RequestURI); err != nil {
			s.t.Fatal(err)
		}
		out = append(out, r)
	}
	if len(out) == 0 {
		s.t.Fatal("the audit log has no request of an agent")
	}
	return out
}
