package kube

import (
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// recorder is a PodSink.
type recorder struct {
	mu    sync.Mutex
	calls []string
	pods  map[string]Pod // by UID
}

func (r *recorder) SetPod(p Pod) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.pods == nil {
		r.pods = map[string]Pod{}
	}
	r.pods[p.UID] = p
	r.calls = append(r.calls, fmt.Sprintf("set %s %s %v", p.Name, p.UID, p.IPs))
}

func (r *recorder) DeletePod(p Pod) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.pods, p.UID)
	r.calls = append(r.calls, fmt.Sprintf("delete %s %s", p.Name, p.UID))
}

func (r *recorder) take() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	calls := r.calls
	r.calls = nil
	return calls
}

func podYAML(name, uid, node, phase, ip string) string {
	status := "{phase: " + phase
	if ip != "" {
		status += ", podIP: " + ip
	}
	return fmt.Sprintf("---\napiVersion: v1\nkind: Pod\nmetadata: {name: %s, namespace: shop, uid: %s}\nspec: {nodeName: %s, containers: [{name: c}]}\nstatus: %s}\n",
		name, uid, node, status)
}

// TestNodePods: the sink hears of the Pods of this node that have an address,
// and of nothing twice.
func TestNodePods(t *testing.T) {
	a := newAPIServer(t)
	a.put(t, podYAML("old", "u1", "here", "Running", "10.0.0.1")+podYAML("there", "u2", "elsewhere", "Running", "10.0.0.2")+
		podYAML("done", "u3", "here", "Succeeded", "10.0.0.3"))
	var r recorder
	var calls []string
	expect := func(want ...string) {
		t.Helper()
		eventually(t, fmt.Sprint(want), func() bool {
			calls = append(calls, r.take()...)
			return len(calls) >= len(want)
		})
		if d := cmp.Diff(want, calls); d != "" {
			t.Errorf("calls (-want +got):\n%s", d)
		}
		calls = nil
	}
	_, changes := follow(t, a, &r)
	<-changes
	expect("set old u1 [10.0.0.1]")
	a.put(t, podYAML("new", "u4", "here", "Pending", ""))
	a.put(t, podYAML("new", "u4", "here", "Running", "10.0.0.4"))
	a.put(t, podYAML("new", "u4", "here", "Running", "10.0.0.4")) // as before
	a.put(t, podYAML("new", "u5", "here", "Running", "10.0.0.5")) // another of the same name
	a.remove(t, podYAML("old", "u1", "here", "Running", ""))
	expect("set new u4 [10.0.0.4]", "delete new u4", "set new u5 [10.0.0.5]", "delete old u1")
	a.setDown(true)
	a.put(t, podYAML("new", "u6", "here", "Running", "10.0.0.6"))
	a.setDown(false)
	expect("delete new u5", "set new u6 [10.0.0.6]")
}

func TestNodePod(t *testing.T) {
	const pod = `
apiVersion: v1
kind: Pod
metadata: {name: p, namespace: shop, uid: u, labels: {app: p}}
spec:
  nodeName: here
  hostNetwork: true
  containers: [{name: app, ports: [{name: http, containerPort: 8080}, {containerPort: 1}]}]
status: {phase: Running, podIP: 10.0.0.1, podIPs: [{ip: 10.0.0.1}, {ip: "fd00::1"}, {ip: "::ffff:10.0.0.2"}]}
`
	for _, tt := range []struct {
		name, pod string
		sidecar   bool
	}{
		{"none", pod, false},
		{"of Istio by annotation", strings.Replace(pod, "uid: u,", `uid: u, annotations: {sidecar.istio.io/status: "{}"},`, 1), true},
		{"of Istio", strings.Replace(pod, "containers: [", "containers: [{name: istio-proxy}, ", 1), true},
		{"of Istio, native", strings.Replace(pod, "containers: [", "initContainers: [{name: istio-proxy}]\n  containers: [", 1), true},
		{"of Linkerd", strings.Replace(pod, "containers: [", "containers: [{name: linkerd-proxy}, ", 1), true},
		{"of Linkerd, native", strings.Replace(pod, "containers: [", "initContainers: [{name: linkerd-proxy, restartPolicy: Always}]\n  containers: [", 1), true},
		{"ztunnel", strings.Replace(pod, "uid: u", `uid: u, annotations: {ambient.istio.io/redirection: enabled}`, 1), true},
		{"ztunnel, only outbound", strings.Replace(pod, "uid: u", `uid: u, annotations: {ambient.istio.io/redirection: enabled, ambient.istio.io/bypass-inbound-capture: "true"}`, 1), false},
		{"ztunnel no more", strings.Replace(pod, "uid: u", `uid: u, annotations: {ambient.istio.io/redirection: disabled}`, 1), false},
		{"another", strings.Replace(pod, "containers: [", "containers: [{name: proxy}, ", 1), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := newAPIServer(t)
			a.put(t, tt.pod)
			var r recorder
			_, changes := follow(t, a, &r)
			<-changes
			want := Pod{
				Namespace: "shop", Name: "p", UID: "u", HostNetwork: true, Sidecar: tt.sidecar, Labels: map[string]string{"app": "p"}, Ports: map[string]uint16{"http": 8080},
				IPs: []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1"), netip.MustParseAddr("10.0.0.2")},
			}
			if d := cmp.Diff(map[string]Pod{"u": want}, r.pods, cmpopts.EquateComparable(netip.Addr{})); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}
