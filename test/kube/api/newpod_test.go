package api

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"testing"

	"github.com/shadowtap/shadowtap/pkg/rules"
)

// TestNewPod: a Pod is to be captured as soon as it has an address. There are
// no controllers here, so nobody ever makes it an endpoint: neither the rules
// that were compiled before it came need that, nor those that were after.
func TestNewPod(t *testing.T) {
	s := startServer(t)
	s.kubectl("", "apply", "--server-side", "-f", filepath.Join(moduleDir(t, "istio.io/api"), "kubernetes", "customresourcedefinitions.gen.yaml"))
	s.kubectl("", "wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
	s.apply(workload)
	s.apply(istio)
	status := func(name, ip, ready string) {
		t.Helper()
		s.kubectl("", "patch", "pod", "-n", "shop", name, "--subresource=status", "--type=merge",
			"-p", fmt.Sprintf(`{"status":{"phase":"Running","podIP":%q,"podIPs":[{"ip":%[1]q}],"conditions":[{"type":"Ready","status":%q}]}}`, ip, ready))
	}
	status("v1", "10.244.1.1", "True")
	status("v2", "10.244.2.1", "True")
	f := follow(t, s)
	known := []string{
		"VirtualService shop/httpbin route main (http[0])", "mirror v2 to 10.244.2.1:80", "capture 10.244.1.1:80", "pod v1[10.244.1.1]",
	}
	f.expect(t, "rules of Istio", known...)
	f.mu.Lock()
	before := f.program
	f.mu.Unlock()

	for name, labels := range map[string]string{"v1-new": "app: httpbin, version: v1", "v2-new": "app: httpbin, version: v2", "other": "version: v1"} {
		s.apply(fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata: {name: %s, namespace: shop, labels: {%s}}\nspec: {nodeName: node-1, containers: [{name: c, image: i}]}\n", name, labels))
	}
	status("other", "10.244.1.7", "False")
	status("v2-new", "10.244.1.8", "False")
	status("v1-new", "10.244.1.9", "False")
	f.expect(t, "Pods that are no endpoints", append(known, "capture 10.244.1.9:80",
		"pod other[10.244.1.7]", "pod v2-new[10.244.1.8]", "pod v1-new[10.244.1.9]")...)

	f.mu.Lock()
	defer f.mu.Unlock()
	var here []rules.Pod
	for _, p := range f.pods {
		pod := rules.Pod{Labels: p.Labels, IPs: []string{p.IPs[0].String()}}
		pod.Namespace, pod.Name = p.Namespace, p.Name
		here = append(here, pod)
	}
	siblings := before.Siblings(here)
	if len(siblings) != 1 || siblings[netip.MustParseAddr("10.244.1.9")] != netip.MustParseAddr("10.244.1.1") {
		t.Errorf("the rules of before have the siblings %v", siblings)
	}
}
