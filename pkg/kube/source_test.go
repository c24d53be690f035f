package kube

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/protobuf/testing/protocmp"
	"k8s.io/client-go/rest"

	"github.com/shadowtap/shadowtap/pkg/rules"
)

// patience bounds how long a test waits for what should happen at once.
const patience = 2 * time.Minute

// follow runs a Source at a server until the test ends. Each call of changed
// can be received.
func follow(t *testing.T, a *apiServer, sink PodSink) (*Source, <-chan struct{}) {
	t.Helper()
	cfg := Config{Guard: contain}
	if sink != nil {
		cfg.Node, cfg.Pods = "here", sink
	}
	return followWith(t, a, cfg, func(*Source) {})
}

// followWith is follow for a Source that is changed before it runs.
func followWith(t *testing.T, a *apiServer, cfg Config, change func(*Source)) (*Source, <-chan struct{}) {
	t.Helper()
	cfg.Version, cfg.Logger = "test", slog.New(slog.DiscardHandler)
	s, err := newSource(cfg, &rest.Config{Host: a.URL, QPS: -1})
	if err != nil {
		t.Fatal(err)
	}
	s.pace.settle, s.pace.restFactor = 10*time.Millisecond, 0
	change(s)
	ctx, cancel := context.WithCancel(context.Background())
	changes := make(chan struct{}, 10000)
	var wg sync.WaitGroup
	wg.Go(func() { s.Run(ctx, func() { changes <- struct{}{} }) })
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
	return s, changes
}

// await waits for a change after which ok holds.
func await(t *testing.T, s *Source, changes <-chan struct{}, what string, ok func(*rules.Snapshot, rules.Problems) bool) *rules.Snapshot {
	t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case <-changes:
			if snapshot, problems := s.Read(); ok(snapshot, problems) {
				return snapshot
			}
		case <-deadline:
			snapshot, problems := s.Read()
			t.Fatalf("%s: not seen; status %+v\n%+v\n%v", what, s.Status(), snapshot, problems)
		}
	}
}

// eventually waits for something that is no change.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: did not happen", what)
		}
	}
}

const everyKind = `
apiVersion: v1
kind: Service
metadata: {name: httpbin, namespace: shop, creationTimestamp: "2026-01-02T03:04:05Z"}
spec:
  clusterIP: 10.96.0.1
  clusterIPs: [10.96.0.1, "fd00::1"]
  selector: {app: httpbin}
  ports:
  - {name: http, port: 8000, targetPort: web, protocol: TCP, appProtocol: http}
  - {name: admin, port: 9000, targetPort: 9001}
---
apiVersion: v1
kind: Service
metadata: {name: elsewhere, namespace: shop}
spec: {type: ExternalName, externalName: example.com, clusterIP: None, ports: [{port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: httpbin-1, namespace: shop, labels: {kubernetes.io/service-name: httpbin}}
addressType: IPv4
ports: [{name: http, port: 80}]
endpoints:
- {addresses: [10.244.1.1], conditions: {ready: true, serving: true}, targetRef: {kind: Pod, name: httpbin-v1}}
- {addresses: [10.244.1.2], conditions: {ready: false, terminating: true}, targetRef: {kind: Pod, name: httpbin-v2}}
- {addresses: [10.244.1.3], nodeName: here, zone: z1}
---
apiVersion: v1
kind: Pod
metadata: {name: httpbin-v1, namespace: shop, labels: {app: httpbin, version: v1}, annotations: {large: text}}
spec:
  nodeName: here
  containers: [{name: c, image: i, ports: [{name: web, containerPort: 80}, {containerPort: 81}]}]
status:
  phase: Running
  podIP: 10.244.1.1
  podIPs: [{ip: 10.244.1.1}, {ip: "fd00::11"}]
  conditions: [{type: Ready, status: "True"}, {type: Initialized, status: "False"}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: httpbin, namespace: shop, annotations: {shadowtap.dev/mirrors: "[{maxBody: 1}]", kubectl.kubernetes.io/last-applied-configuration: "{}"}}
spec:
  hosts: [httpbin]
  http: [{route: [{destination: {host: httpbin, subset: v1, port: {number: 8000}}}], mirror: {host: httpbin, subset: v2, port: {number: 8000}}}]
status: {observedGeneration: 1}
---
apiVersion: networking.istio.io/v1beta1
kind: DestinationRule
metadata: {name: httpbin, namespace: shop}
spec: {host: httpbin, subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]}
---
apiVersion: networking.istio.io/v1alpha3
kind: ServiceEntry
metadata: {name: outside, namespace: shop}
spec: {hosts: [outside.example.com], resolution: STATIC, ports: [{name: http, number: 80, protocol: HTTP}], endpoints: [{address: 192.0.2.1}]}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: vm, namespace: shop, labels: {own: label}}
spec: {address: 192.0.2.2, labels: {app: vm}}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: same, namespace: shop}
spec: {selector: {istio: ingressgateway}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: same, namespace: shop}
spec: {gatewayClassName: c, listeners: [{name: http, port: 80, protocol: HTTP}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: route, namespace: shop}
spec: {parentRefs: [{name: same}], hostnames: [a.example.com], rules: [{backendRefs: [{name: httpbin, port: 8000}]}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {name: route, namespace: shop}
spec: {parentRefs: [{name: same}], rules: [{backendRefs: [{name: httpbin, port: 9000}]}]}
---
apiVersion: gateway.networking.k8s.io/v1beta1
kind: ReferenceGrant
metadata: {name: grant, namespace: shop}
spec: {from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: a}], to: [{group: "", kind: Service}]}
`

// needsHTTPBin is what rules for httpbin need.
func needsHTTPBin() rules.Needs {
	return rules.Needs{Services: []rules.ServiceName{{Namespace: "shop", Name: "httpbin"}}}
}

// sameSnapshot compares what two sources say, wherever it is written.
func sameSnapshot(want, got *rules.Snapshot) string {
	return cmp.Diff(want, got, protocmp.Transform(), cmpopts.EquateEmpty(),
		cmpopts.IgnoreFields(rules.Meta{}, "Position"), cmpopts.IgnoreUnexported(rules.Meta{}, rules.VirtualService{}, rules.WorkloadEntry{}),
		cmpopts.SortSlices(func(a, b rules.Service) bool { return a.Name < b.Name }))
}

// TestEveryKind: an object in the cluster says what the same text in a file
// says.
func TestEveryKind(t *testing.T) {
	a := newAPIServer(t)
	a.serveRules()
	a.put(t, everyKind)
	s, changes := follow(t, a, nil)
	s.Need(needsHTTPBin())
	got := await(t, s, changes, "every object", func(*rules.Snapshot, rules.Problems) bool { return true })
	want, problems := rules.Decode("", []byte(everyKind))
	if err := problems.Err(); err != nil {
		t.Fatal(err)
	}
	if d := sameSnapshot(want, got); d != "" {
		t.Errorf("file and cluster differ (-file +cluster):\n%s", d)
	}
	if n := a.count("list from etcd"); n > 0 {
		t.Errorf("%d lists of what the API server does not have in memory", n)
	}
	if _, problems := rules.Compile(got, rules.Options{}); problems.Err() != nil {
		t.Error(problems)
	}
}

// TestEveryVersion: whichever version is served, it is found, and rules can
// decode it.
func TestEveryVersion(t *testing.T) {
	for _, k := range kinds() {
		for _, v := range k.versions {
			s, problems := rules.DecodeObject(fmt.Appendf(nil, `{"apiVersion":"%s/%s","kind":"%s","metadata":{"name":"a"}}`, k.group, v, k.kind))
			if d := cmp.Diff(&rules.Snapshot{}, s, cmpopts.EquateEmpty(), cmpopts.IgnoreUnexported(rules.Meta{}, rules.VirtualService{}, rules.WorkloadEntry{})); d == "" {
				t.Errorf("rules cannot decode %s: %v", k.describe(v), problems)
			}
		}
	}
	a := newAPIServer(t)
	a.define("virtualservices.networking.istio.io", "v1alpha3", "v2")
	a.define("destinationrules.networking.istio.io", "v1beta1", "v1alpha3")
	a.define("serviceentries.networking.istio.io", "v9")
	c, err := newClients(&rest.Config{Host: a.URL})
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.discover(t.Context())
	want := map[string]string{"virtualservices.networking.istio.io": "v1alpha3", "destinationrules.networking.istio.io": "v1beta1"}
	if d := cmp.Diff(want, got); err != nil || d != "" {
		t.Errorf("%v\n%s", err, d)
	}
}

// TestDefinitionComesAndGoes: kinds that are installed later are found, and
// what was removed is forgotten.
func TestDefinitionComesAndGoes(t *testing.T) {
	a := newAPIServer(t)
	a.put(t, everyKind)
	s, changes := follow(t, a, nil)
	await(t, s, changes, "a cluster without rules", func(s *rules.Snapshot, _ rules.Problems) bool {
		return len(s.Services) == 2 && len(s.VirtualServices) == 0
	})
	a.define("virtualservices.networking.istio.io", "v1")
	await(t, s, changes, "the kind", func(s *rules.Snapshot, _ rules.Problems) bool { return len(s.VirtualServices) == 1 })
	a.define("virtualservices.networking.istio.io", "v1alpha3", "v1beta1") // other versions, the same objects
	eventually(t, "a watch of the other version", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.watches["virtualservices.networking.istio.io v1beta1"] != nil && s.watches["virtualservices.networking.istio.io v1"] == nil
	})
	if got, _ := s.Read(); len(got.VirtualServices) != 1 {
		t.Errorf("%d objects after another version is served", len(got.VirtualServices))
	}
	a.define("virtualservices.networking.istio.io")
	await(t, s, changes, "the kind gone", func(s *rules.Snapshot, _ rules.Problems) bool { return len(s.VirtualServices) == 0 })
}

// TestBrokenObject: it is reported as in a file, and leaves the others alone.
func TestBrokenObject(t *testing.T) {
	a := newAPIServer(t)
	a.serveRules()
	a.put(t, everyKind+`
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: broken, namespace: shop}
spec: {hosts: [broken], http: [{nonsense: 1, route: [{destination: {host: httpbin}}]}]}
`)
	s, changes := follow(t, a, nil)
	s.Need(needsHTTPBin())
	const want = "VirtualService shop/broken: spec.http[0].nonsense: unknown field"
	got := await(t, s, changes, "the problem", func(_ *rules.Snapshot, ps rules.Problems) bool {
		return strings.HasPrefix(ps.Error(), want)
	})
	p, problems := rules.CompileEach(got, rules.Options{})
	if p == nil || len(p.Mirrors()) != 1 || !strings.Contains(problems.Error(), "shop/broken") {
		t.Errorf("compiled %v, problems\n%v", p, problems)
	}
	a.remove(t, `{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: broken, namespace: shop}}`)
	await(t, s, changes, "the problem gone", func(_ *rules.Snapshot, ps rules.Problems) bool { return len(ps) == 0 })
}

// TestNeeds: endpoints and Pods are watched where rules need them and nowhere
// else, and a change that no rule asks for is none.
func TestNeeds(t *testing.T) {
	a := newAPIServer(t)
	a.serveRules()
	a.put(t, everyKind)
	a.put(t, strings.ReplaceAll(everyKind, "namespace: shop", "namespace: other"))
	s, changes := follow(t, a, nil)
	await(t, s, changes, "rules", func(s *rules.Snapshot, _ rules.Problems) bool {
		return len(s.VirtualServices) == 2 && len(s.EndpointSlices)+len(s.Pods) == 0
	})
	if s.Need(needsHTTPBin()) {
		t.Error("endpoints are known before they were asked for")
	}
	got := await(t, s, changes, "endpoints", func(*rules.Snapshot, rules.Problems) bool { return s.Need(needsHTTPBin()) })
	if len(got.EndpointSlices) != 1 || len(got.Pods) != 1 || got.Pods[0].Namespace != "shop" {
		t.Errorf("%+v %+v", got.EndpointSlices, got.Pods)
	}

	needs := needsHTTPBin()
	needs.Clients = []rules.PodSelector{{Labels: map[string]string{"version": "v1"}}}
	s.Need(needs)
	await(t, s, changes, "clients", func(got *rules.Snapshot, _ rules.Problems) bool { return s.Need(needs) && len(got.Pods) == 2 })

	s.Need(rules.Needs{})
	await(t, s, changes, "nothing needed", func(got *rules.Snapshot, _ rules.Problems) bool {
		return s.Need(rules.Needs{}) && len(got.EndpointSlices)+len(got.Pods) == 0
	})
}

// TestImpossibleNeeds: a rule that asks for what cannot have such a name or
// label keeps no other from being known.
func TestImpossibleNeeds(t *testing.T) {
	a := newAPIServer(t)
	a.serveRules()
	a.put(t, everyKind)
	s, changes := follow(t, a, nil)
	needs := needsHTTPBin()
	needs.Services = append(needs.Services, rules.ServiceName{Namespace: "a/b", Name: "x"})
	needs.Clients = []rules.PodSelector{
		{Labels: map[string]string{"app": "two words"}}, {Labels: map[string]string{"app": "x,y=z"}},
		{Labels: map[string]string{"a b": "c"}}, {Namespace: "a%b"}, {Namespace: "a/b", Labels: map[string]string{"app": "x"}},
	}
	s.Need(needs)
	await(t, s, changes, "what there can be", func(got *rules.Snapshot, _ rules.Problems) bool {
		return s.Need(needs) && len(got.EndpointSlices) == 1 && len(got.Pods) == 1
	})
}

// TestUnrelatedEndpoints: those of services that no rule names, in a namespace
// that is watched, are no change.
func TestUnrelatedEndpoints(t *testing.T) {
	s, err := newSource(Config{Logger: slog.New(slog.DiscardHandler)}, &rest.Config{Host: "127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	s.Need(needsHTTPBin())
	c := &collection{source: s}
	for service, want := range map[string]bool{"httpbin": true, "other": false} {
		s.changed = false
		c.noteChange(&slicePart{Meta: rules.Meta{Namespace: "shop"}, Service: service})
		if s.changed != want {
			t.Errorf("%s: %v, want %v", service, s.changed, want)
		}
	}
}

// TestOrder: what is read comes in one order, so that of rules that compete the
// same one always wins.
func TestOrder(t *testing.T) {
	a := newAPIServer(t)
	for i := range 50 {
		a.put(t, fmt.Sprintf("{apiVersion: v1, kind: Service, metadata: {name: s%02d, namespace: shop}, spec: {}}", i*7%50))
	}
	s, changes := follow(t, a, nil)
	got := await(t, s, changes, "services", func(got *rules.Snapshot, _ rules.Problems) bool { return len(got.Services) == 50 })
	for i, service := range got.Services {
		if want := fmt.Sprintf("s%02d", i); service.Name != want {
			t.Fatalf("service %d is %s", i, service.Name)
		}
	}
}

// TestManyNamespaces: beyond a bound one watch takes the place of many.
func TestManyNamespaces(t *testing.T) {
	a := newAPIServer(t)
	a.put(t, everyKind)
	s, changes := follow(t, a, nil)
	await(t, s, changes, "services", func(s *rules.Snapshot, _ rules.Problems) bool { return len(s.Services) == 2 })
	needs := needsHTTPBin()
	s.Need(needs)
	await(t, s, changes, "endpoints", func(*rules.Snapshot, rules.Problems) bool { return s.Need(needs) })
	for i := range maxScopes {
		needs.Services = append(needs.Services, rules.ServiceName{Namespace: fmt.Sprint("ns", i), Name: "x"})
	}
	s.Need(needs)
	got := await(t, s, changes, "all endpoints", func(*rules.Snapshot, rules.Problems) bool { return s.Need(needs) })
	if len(got.EndpointSlices) != 1 || len(got.Pods) != 1 {
		t.Errorf("%+v %+v", got.EndpointSlices, got.Pods)
	}
	eventually(t, "few watches", func() bool { return s.Status().Watches == 4 }) // with Services and definitions
}

// TestUnchanged: what says nothing about mirroring is no change, and nothing is
// decoded for it.
func TestUnchanged(t *testing.T) {
	a := newAPIServer(t)
	a.serveRules()
	a.put(t, everyKind)
	s, changes := follow(t, a, nil)
	before := await(t, s, changes, "rules", func(s *rules.Snapshot, _ rules.Problems) bool { return len(s.VirtualServices) == 1 })
	a.put(t, strings.ReplaceAll(strings.ReplaceAll(everyKind, "observedGeneration: 1", "observedGeneration: 2"), "large: text", "large: other"))
	object := func() (o object) {
		s.mu.Lock()
		defer s.mu.Unlock()
		return *s.watches["virtualservices.networking.istio.io v1"].collected().objects["shop/httpbin"]
	}
	a.mu.Lock()
	want := a.objects["virtualservices.networking.istio.io"]["shop/httpbin"]["metadata"].(map[string]any)["resourceVersion"]
	a.mu.Unlock()
	old := object()
	eventually(t, "the new version", func() bool { return object().version == want })
	if o := object(); !samePart(old.part, o.part) {
		t.Error("a change of status is a change of the rules")
	}
	if after, _ := s.Read(); after.VirtualServices[0].Spec != before.VirtualServices[0].Spec {
		t.Error("the rule was decoded again")
	}
}

// TestServerLost: what is known stays, and what changed meanwhile is learnt.
func TestServerLost(t *testing.T) {
	a := newAPIServer(t)
	a.serveRules()
	a.put(t, everyKind)
	s, changes := follow(t, a, nil)
	await(t, s, changes, "rules", func(s *rules.Snapshot, _ rules.Problems) bool { return len(s.VirtualServices) == 1 })
	a.setDown(true)
	eventually(t, "the loss", func() bool { return !s.Status().Reached })
	if got, _ := s.Read(); len(got.VirtualServices) != 1 || len(got.Services) != 2 {
		t.Errorf("forgotten: %+v", got)
	}
	a.remove(t, `{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: httpbin, namespace: shop}}`)
	a.setDown(false)
	await(t, s, changes, "what changed", func(s *rules.Snapshot, _ rules.Problems) bool { return len(s.VirtualServices) == 0 })
	eventually(t, "the return", func() bool { return s.Status().Reached })
	if s.Status().Failures == 0 {
		t.Error("no failure was counted")
	}
}

// TestForbidden: what may not be read is named, and nothing is taken for known.
func TestForbidden(t *testing.T) {
	a := newAPIServer(t)
	a.serveRules()
	a.put(t, everyKind)
	a.mu.Lock()
	a.forbid["httproutes.gateway.networking.k8s.io"] = true
	a.mu.Unlock()
	s, changes := follow(t, a, nil)
	eventually(t, "all but one kind", func() bool {
		m := s.Status().Missing
		return len(m) == 1 && m[0] == "HTTPRoute of gateway.networking.k8s.io/v1"
	})
	if len(changes) > 0 || !s.Status().Reached {
		t.Errorf("%d deliveries, status %+v", len(changes), s.Status())
	}
	a.mu.Lock()
	a.forbid = map[string]bool{}
	a.mu.Unlock()
	await(t, s, changes, "rules", func(s *rules.Snapshot, _ rules.Problems) bool { return len(s.HTTPRoutes) == 1 })
}

// TestForbiddenLater: a kind that may not be read keeps nothing else from being
// forgotten.
func TestForbiddenLater(t *testing.T) {
	a := newAPIServer(t)
	a.serveRules()
	a.put(t, everyKind)
	s, changes := follow(t, a, nil)
	needs := needsHTTPBin()
	s.Need(needs)
	await(t, s, changes, "rules", func(*rules.Snapshot, rules.Problems) bool { return s.Need(needs) })
	a.mu.Lock()
	a.forbid["grpcroutes.gateway.networking.k8s.io"] = true
	a.mu.Unlock()
	a.define("grpcroutes.gateway.networking.k8s.io")
	eventually(t, "the kind gone", func() bool { return len(s.Status().Missing) == 0 && s.Status().Watches == 12 })
	a.define("grpcroutes.gateway.networking.k8s.io", "v1")
	eventually(t, "the kind missing", func() bool { return len(s.Status().Missing) == 1 })
	s.Need(rules.Needs{})
	eventually(t, "endpoints forgotten", func() bool {
		got, _ := s.Read()
		return len(got.EndpointSlices)+len(got.Pods) == 0 && len(got.VirtualServices) == 1
	})
}

// TestStartWithin: the first request waits, and not for longer than Run does.
func TestStartWithin(t *testing.T) {
	a := newAPIServer(t)
	a.serveRules()
	s, err := newSource(Config{StartWithin: 1000 * time.Hour, Logger: slog.New(slog.DiscardHandler)}, &rest.Config{Host: a.URL})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s.Run(ctx, func() { t.Error("something has changed") })
	if n := a.count("discovery"); n > 0 {
		t.Errorf("%d requests before the time", n)
	}
	_, changes := followWith(t, a, Config{StartWithin: time.Nanosecond}, func(*Source) {})
	select {
	case <-changes:
	case <-time.After(patience):
		t.Error("nothing was asked")
	}
}
