package api

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/shadowtap/shadowtap/pkg/kube"
	"github.com/shadowtap/shadowtap/pkg/rules"
)

// follower does what the agent does with a kube.Source.
type follower struct {
	source *kube.Source

	mu       sync.Mutex
	program  *rules.Program // nil until everything is known
	problems rules.Problems
	pods     map[string]kube.Pod // of this node, by name
}

func (f *follower) SetPod(p kube.Pod) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pods[p.Name] = p
}

func (f *follower) DeletePod(p kube.Pod) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.pods, p.Name)
}

func (f *follower) load() {
	snapshot, problems := f.source.Read()
	program, more := rules.CompileEach(snapshot, rules.Options{})
	if program == nil || !f.source.Need(program.Needs()) {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.program, f.problems = program, append(problems, more...)
	f.source.Report(snapshot, f.problems)
}

// state is what rules are in use and which Pods are here, in short.
func (f *follower) state() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.program == nil {
		return "nothing is known"
	}
	var parts []string
	for _, t := range f.program.Targets() {
		parts = append(parts, "capture "+t.String())
	}
	for _, m := range f.program.Mirrors() {
		for _, e := range m.Endpoints {
			parts = append(parts, fmt.Sprintf("mirror %s to %s", m.Subset, e.Address))
		}
	}
	for _, r := range f.program.Rules() {
		parts = append(parts, r.String())
	}
	for _, p := range f.pods {
		parts = append(parts, fmt.Sprint("pod ", p.Name, p.IPs))
	}
	slices.Sort(parts)
	return strings.Join(parts, "\n")
}

// expect waits for a state.
func (f *follower) expect(t *testing.T, what string, lines ...string) {
	t.Helper()
	slices.Sort(lines)
	want := strings.Join(lines, "\n")
	for deadline := time.Now().Add(patience); f.state() != want; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: got\n%s\nwant\n%s\nstatus %+v\nproblems %v", what, f.state(), want, f.source.Status(), f.problems)
		}
	}
}

func follow(t *testing.T, s *server) *follower {
	return followAs(t, s, kube.Config{Kubeconfig: s.kubeconfig, Node: "node-1"})
}

func followAs(t *testing.T, s *server, cfg kube.Config) *follower {
	f := &follower{pods: map[string]kube.Pod{}}
	cfg.Pods, cfg.Version, cfg.Logger = f, "test", slog.New(slog.DiscardHandler)
	var err error
	f.source, err = kube.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { f.source.Run(ctx, f.load) })
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
	return f
}

// workload is v1 on node-1 and v2 on node-2, without controllers that would
// make anything of it.
const workload = `
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: Service
metadata: {name: httpbin, namespace: shop}
spec: {selector: {app: httpbin}, ports: [{name: http, port: 8000, targetPort: 80}]}
---
apiVersion: v1
kind: Pod
metadata: {name: v1, namespace: shop, labels: {app: httpbin, version: v1}}
spec: {nodeName: node-1, containers: [{name: c, image: i}]}
---
apiVersion: v1
kind: Pod
metadata: {name: v2, namespace: shop, labels: {app: httpbin, version: v2}}
spec: {nodeName: node-2, containers: [{name: c, image: i}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: httpbin-1, namespace: shop, labels: {kubernetes.io/service-name: httpbin}}
addressType: IPv4
ports: [{name: http, port: 80}]
endpoints:
- {addresses: [10.244.1.1], conditions: {ready: true}, targetRef: {kind: Pod, name: v1, namespace: shop}}
- {addresses: [10.244.2.1], conditions: {ready: true}, targetRef: {kind: Pod, name: v2, namespace: shop}}
`

const istio = `
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: httpbin, namespace: shop}
spec: {host: httpbin, subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: httpbin, namespace: shop}
spec:
  hosts: [httpbin]
  http: [{name: main, route: [{destination: {host: httpbin, subset: v1}}], mirror: {host: httpbin, subset: v2}}]
`

const gatewayAPI = `
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: gw, namespace: shop}
spec: {gatewayClassName: c, listeners: [{name: http, port: 80, protocol: HTTP}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: route, namespace: shop}
spec:
  parentRefs: [{name: gw}]
  hostnames: [a.example.com]
  rules: [{backendRefs: [{name: httpbin, port: 8000}]}]
`

// TestCluster follows a cluster from before the rules are defined in it until
// they no longer are, through the loss of its API server.
func TestCluster(t *testing.T) {
	s := startServer(t)
	s.apply(workload)
	status := func(name, ip string) {
		t.Helper()
		s.kubectl("", "patch", "pod", "-n", "shop", name, "--subresource=status", "--type=merge",
			"-p", fmt.Sprintf(`{"status":{"phase":"Running","podIP":%q,"podIPs":[{"ip":%q}],"conditions":[{"type":"Ready","status":"True"}]}}`, ip, ip))
	}
	status("v1", "10.244.1.1")
	status("v2", "10.244.2.1")
	f := follow(t, s)
	pod := "pod v1[10.244.1.1]"
	f.expect(t, "a cluster without rules", pod)

	s.kubectl("", "apply", "--server-side", "-f", filepath.Join(moduleDir(t, "istio.io/api"), "kubernetes", "customresourcedefinitions.gen.yaml"))
	s.kubectl("", "wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
	s.apply(istio)
	rule, capture, mirror := "VirtualService shop/httpbin route main (http[0])", "capture 10.244.1.1:80", "mirror v2 to 10.244.2.1:80"
	f.expect(t, "rules of Istio", pod, rule, capture, mirror)

	s.kubectl("", "apply", "--server-side", "-f", filepath.Join(moduleDir(t, "sigs.k8s.io/gateway-api"), "config", "crd", "standard"))
	s.kubectl("", "wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
	s.apply(gatewayAPI)
	route := "HTTPRoute shop/route (rules[0])"
	f.expect(t, "routes of the Gateway API", pod, rule, capture, mirror, route)

	// The API server refuses less than Compile does.
	s.apply(strings.ReplaceAll(istio, "subset: v2}}]", "subset: v9}}]"))
	f.expect(t, "a rule that is wrong, alone", pod, rule, route)
	eventually(t, "an Event", func() bool {
		out, err := s.try("", "get", "events.events.k8s.io", "-n", "shop", "-o", "jsonpath={range .items[*]}{.regarding.name} {.reason} {.note}{end}")
		return err == nil && strings.HasPrefix(out, `httpbin MirrorInvalid spec.http[0].mirror.subset: "v9": no DestinationRule for httpbin.shop`)
	})
	s.apply(istio)
	f.expect(t, "the rule mended", pod, rule, capture, mirror, route)

	s.apply(strings.Replace(workload, "[10.244.2.1], conditions: {ready: true}", "[10.244.2.1], conditions: {ready: false}", 1))
	f.expect(t, "a shadow that is not ready", pod, rule, capture, route)
	s.apply(workload)
	f.expect(t, "a shadow that is ready again", pod, rule, capture, mirror, route)

	end(s.running)
	eventually(t, "the loss of the API server", func() bool { return !f.source.Status().Reached })
	f.expect(t, "what is known without an API server", pod, rule, capture, mirror, route)
	s.startAPI()
	s.kubectl("", "delete", "pod", "-n", "shop", "v1", "--force", "--grace-period=0")
	s.kubectl("", "delete", "virtualservice", "-n", "shop", "httpbin")
	f.expect(t, "what changed meanwhile", route)
	eventually(t, "the API server again", func() bool { return f.source.Status().Reached })

	s.kubectl("", "delete", "crd", "httproutes.gateway.networking.k8s.io")
	f.expect(t, "a kind that is gone")
}
