package agent

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/shadowtap/shadowtap/pkg/httpstream"
	"github.com/shadowtap/shadowtap/pkg/kube"
)

// serviceRules mirrors what arrives at the Pods of v1 that EndpointSlices name.
const serviceRules = `
apiVersion: v1
kind: Service
metadata: {name: httpbin}
spec: {selector: {app: httpbin}, ports: [{name: http, port: 8000, targetPort: 80}]}
---
apiVersion: v1
kind: Pod
metadata: {name: v1-old, labels: {app: httpbin, version: v1, pod-template-hash: a}}
status: {podIP: 10.244.1.1}
---
apiVersion: v1
kind: Pod
metadata: {name: v2, labels: {app: httpbin, version: v2}}
status: {podIP: 10.244.2.1}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: httpbin-1, labels: {kubernetes.io/service-name: httpbin}}
ports: [{name: http, port: 80}]
endpoints: [{addresses: [10.244.1.1]}, {addresses: [10.244.2.1]}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: httpbin}
spec: {host: httpbin, subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: httpbin}
spec: {hosts: [httpbin], http: [{route: [{destination: {host: httpbin, subset: v1}}], mirror: {host: httpbin, subset: v2}}]}
`

func nodePod(uid, ip, version string) kube.Pod {
	return kube.Pod{
		Namespace: "default", Name: uid, UID: uid, IPs: []netip.Addr{netip.MustParseAddr(ip)},
		Labels: map[string]string{"app": "httpbin", "version": version, "pod-template-hash": "b"},
	}
}

// TestNewPodIsCaptured: a Pod is captured, and its requests are mirrored, as
// soon as it has an address; the API server has said nothing else of it yet.
func TestNewPodIsCaptured(t *testing.T) {
	cfg := testConfig(t, shadowRules("10.99.1.9:80"), writePCAP(t))
	cfg.DryRun = true
	a, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.close)
	f := &fakeCluster{text: serviceRules, asked: 1, touched: make(chan struct{}, 1)}
	a.cluster = newCluster()
	a.cluster.source, a.cfg.Node = f, "here"
	local := a.cluster.local
	expect := func(what string, want ...string) {
		t.Helper()
		if got := a.targetsForTest(); !slices.Equal(got, want) {
			t.Errorf("%s: captured %v, want %v", what, got, want)
		}
	}
	mirrored := func(endpoint string) bool {
		r, err := httpstream.ParseRequest([]byte("GET / HTTP/1.1\r\nHost: httpbin\r\n\r\n"))
		if err != nil {
			t.Fatal(err)
		}
		defer r.Release()
		r.Destination = netip.MustParseAddrPort(endpoint)
		s := a.shards[0]
		return (&conn{shard: s}).decide(r) == &s.tally.mirrored
	}

	a.reloadCluster()
	expect("without a Pod here")
	local.SetPod(nodePod("new", "10.244.1.7", "v1"))
	local.SetPod(nodePod("shadow", "10.244.1.8", "v2"))
	a.retarget()
	expect("with one that is new", "10.244.1.7:80")
	if !mirrored("10.244.1.7:80") || mirrored("10.244.1.8:80") {
		t.Error("the new Pod of v1 is to be mirrored, and that of v2 is not")
	}
	if got := fmt.Sprint(a.RulesStatus().Targets); got != "[10.244.1.7:80]" {
		t.Errorf("the agent says that it captures %s", got)
	}

	a.reloadCluster() // of something else
	expect("after a reload that knows no more", "10.244.1.7:80")
	if !mirrored("10.244.1.7:80") {
		t.Error("after a reload the new Pod is not mirrored")
	}

	local.DeletePod(nodePod("new", "10.244.1.7", "v1"))
	a.retarget()
	expect("with its address gone")
	if mirrored("10.244.1.7:80") {
		t.Error("what is gone is mirrored")
	}
}

// TestLeavingPods: a Pod without an object is here until its address is gone,
// or another's.
func TestLeavingPods(t *testing.T) {
	addr := netip.MustParseAddr
	l := newLocalPods()
	here := func(want ...string) {
		t.Helper()
		var got []string
		for a := range l.addresses() {
			got = append(got, a.String())
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("here are %v, want %v", got, want)
		}
		if len(l.workloads()) != len(want) || len(l.described()) != len(want) {
			t.Errorf("%d workloads, %d described, want %d", len(l.workloads()), len(l.described()), len(want))
		}
	}
	node := nodePod("node", "192.0.2.1", "v1")
	node.HostNetwork = true
	for _, p := range []kube.Pod{nodePod("a", "10.0.0.1", "v1"), nodePod("b", "10.0.0.2", "v1"), node} {
		l.SetPod(p)
		l.DeletePod(p)
	}
	here("10.0.0.1", "10.0.0.2")
	l.forget(map[netip.Addr]bool{addr("10.0.0.1"): true, addr("10.0.0.2"): true, addr("10.0.0.3"): true})
	here("10.0.0.1", "10.0.0.2")
	l.SetPod(nodePod("c", "10.0.0.1", "v2"))
	here("10.0.0.1", "10.0.0.2")
	l.forget(map[netip.Addr]bool{addr("10.0.0.1"): true})
	here("10.0.0.1")
	select {
	case <-l.changed:
	default:
		t.Error("nobody was told")
	}
}
