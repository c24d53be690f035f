package kube

import (
	"fmt"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/shadowtap/shadowtap/pkg/rules"
)

// The size of a large cluster.
const (
	largeNodes      = 1000
	largePods       = 10000
	largeServices   = 2000
	largeNamespaces = 100
	largeRules      = 1000
)

type m = map[string]any

// addLarge fills the server with a large cluster. One in mirrored of the rules
// has a mirror.
func addLarge(a *apiServer, mirrored int) {
	name := func(i int) (namespace, service string) {
		return fmt.Sprint("ns-", i%largeNamespaces), fmt.Sprint("service-", i)
	}
	add := func(apiVersion, kind, namespace, name string, labels, rest m) {
		o := m{"apiVersion": apiVersion, "kind": kind, "metadata": m{
			"namespace": namespace, "name": name, "uid": namespace + name + kind, "labels": labels,
			"creationTimestamp": "2026-01-02T03:04:05Z",
			"annotations":       m{"kubectl.kubernetes.io/last-applied-configuration": fmt.Sprintf("%01000d", 0)},
			"managedFields":     []any{m{"manager": "kubectl", "operation": "Apply", "fieldsV1": m{"f:metadata": m{"f:labels": m{}}}}},
		}}
		for k, v := range rest {
			o[k] = v
		}
		resource := resourceOf(o)
		if a.objects[resource] == nil {
			a.objects[resource] = map[string]map[string]any{}
		}
		a.version++
		o["metadata"].(m)["resourceVersion"] = fmt.Sprint(a.version)
		a.objects[resource][keyOf(o)] = o
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := range largeServices {
		ns, service := name(i)
		add("v1", "Service", ns, service, nil, m{"spec": m{
			"clusterIP": fmt.Sprintf("10.96.%d.%d", i/250, i%250), "selector": m{"app": service},
			"ports": []any{m{"name": "http", "port": 80, "targetPort": 8080}},
		}})
		var endpoints []any
		for j := range largePods / largeServices {
			pod, ip := fmt.Sprint(service, "-", j), fmt.Sprintf("10.%d.%d.%d", 128+j, i/250, i%250)
			add("v1", "Pod", ns, pod, m{"app": service, "version": fmt.Sprint("v", 1+j%2), "pod-template-hash": "5b8f9c7d6f"}, m{
				"spec": m{"nodeName": fmt.Sprint("node-", (i+j)%largeNodes), "containers": []any{
					m{"name": "app", "image": "registry.example.com/team/app:1.2.3", "ports": []any{m{"name": "web", "containerPort": 8080}},
						"env": []any{m{"name": "A", "value": fmt.Sprintf("%0500d", 0)}}}}},
				"status": m{"phase": "Running", "podIP": ip, "podIPs": []any{m{"ip": ip}}, "conditions": []any{m{"type": "Ready", "status": "True"}}},
			})
			endpoints = append(endpoints, m{"addresses": []any{ip}, "conditions": m{"ready": true}, "targetRef": m{"kind": "Pod", "name": pod}})
		}
		add("discovery.k8s.io/v1", "EndpointSlice", ns, service+"-x", m{"kubernetes.io/service-name": service}, m{
			"addressType": "IPv4", "ports": []any{m{"name": "http", "port": 8080}}, "endpoints": endpoints})
		if i >= largeRules {
			continue
		}
		route := m{"match": []any{m{"uri": m{"prefix": "/api"}}}, "route": []any{m{"destination": m{"host": service, "subset": "v1"}}}}
		if i%mirrored == 0 {
			route["mirror"] = m{"host": service, "subset": "v2"}
		}
		add("networking.istio.io/v1", "VirtualService", ns, service, nil, m{"spec": m{"hosts": []any{service}, "http": []any{
			route, m{"route": []any{m{"destination": m{"host": service, "subset": "v1"}}}}}}})
		add("networking.istio.io/v1", "DestinationRule", ns, service, nil, m{"spec": m{"host": service, "subsets": []any{
			m{"name": "v1", "labels": m{"version": "v1"}}, m{"name": "v2", "labels": m{"version": "v2"}}}}})
	}
}

func heap() uint64 {
	var s runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&s)
	return s.HeapAlloc
}

// TestScale prints what a large cluster costs an agent: a few rules with a
// mirror, as when the next version of some services is tried, and a mirror
// everywhere.
func TestScale(t *testing.T) {
	if os.Getenv("SHADOWTAP_SCALE") == "" {
		t.Skip("makes a cluster of 10,000 Pods: make bench")
	}
	for _, tt := range []struct {
		name     string
		mirrored int // one in so many rules
		mirrors  int
	}{{"a mirror in 5 of 1000 rules", 200, 5}, {"a mirror in each of 1000 rules", 1, 1000}} {
		t.Run(tt.name, func(t *testing.T) {
			a := newAPIServer(t)
			a.serveRules()
			addLarge(a, tt.mirrored)
			before, start := heap(), time.Now()
			var local recorder
			s, changes := follow(t, a, &local)
			var program *rules.Program
			var compiling, synced time.Duration
			compiles := 0
			snapshot := await(t, s, changes, "everything", func(snapshot *rules.Snapshot, problems rules.Problems) bool {
				synced = time.Since(start)
				begin := time.Now()
				var more rules.Problems
				program, more = rules.CompileEach(snapshot, rules.Options{})
				compiling, compiles = time.Since(begin), compiles+1
				if err := append(problems, more...).Err(); err != nil {
					t.Fatal(err)
				}
				return s.Need(program.Needs())
			})
			all := time.Since(start)
			pods, slices, targets := len(snapshot.Pods), len(snapshot.EndpointSlices), len(program.Targets())
			if len(program.Mirrors()) != tt.mirrors || targets != 3*tt.mirrors {
				t.Errorf("%d mirrors, %d targets", len(program.Mirrors()), targets)
			}
			snapshot, program = nil, nil
			used := heap() - before
			t.Logf("%d objects in %d watches (%d Pods and %d EndpointSlices of %d and %d): heap %.1f MiB, known after %v, in use after %v; the last of %d compilations %v",
				s.Status().Objects, s.Status().Watches, pods, slices, largePods, largeServices,
				float64(used)/(1<<20), synced.Round(time.Millisecond), all.Round(time.Millisecond), compiles, compiling.Round(time.Millisecond))
			runtime.KeepAlive(snapshot)
			runtime.KeepAlive(program)
			runtime.KeepAlive(a)
		})
	}
}
