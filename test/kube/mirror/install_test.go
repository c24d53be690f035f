package mirror

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// defineRules installs the kinds of rules, as README says for a cluster
// without a mesh.
func defineRules(t *testing.T) {
	t.Helper()
	out, err := exec.Command("../../../scripts/crds.sh").Output()
	must(t, err)
	// They are large: a slow API server gives up on one before it is done.
	eventually(t, "the kinds of rules are defined", func() error {
		_, err := tryKubectl(string(out), "apply", "--server-side", "-f", "-")
		return err
	})
	kubectl(t, "wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
}

// install applies manifests of shadowtap with the image under test, and waits
// until there is an agent on each node.
func install(t *testing.T, manifests string) []pod {
	t.Helper()
	apply(t, underTest(t, manifests))
	kubectl(t, "-n", shadowtap, "rollout", "status", "daemonset/"+shadowtap, "--timeout=180s")
	return eventuallyPods(t, shadowtap, agentLabel, len(nodes))
}

// plainManifests are those that README tells to apply.
func plainManifests(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../../deploy/manifests/shadowtap.yaml")
	must(t, err)
	return string(text)
}

// rendered is what the chart makes of values.
func rendered(t *testing.T, values string) string {
	t.Helper()
	cmd := exec.Command("go", "run", ".", values)
	cmd.Dir = "../../../deploy/helm/test"
	out, err := cmd.Output()
	must(t, err)
	return string(out)
}

// underTest replaces the image by the one under test, and opens the admin API
// to the tests, which are no pod's loopback interface.
func underTest(t *testing.T, manifests string) string {
	t.Helper()
	lines := strings.Split(manifests, "\n")
	i := slices.IndexFunc(lines, func(l string) bool {
		return strings.HasPrefix(strings.TrimSpace(l), "image: ghcr.io/shadowtap/shadowtap:")
	})
	if i < 0 {
		t.Fatalf("no image in the manifests:\n%s", manifests)
	}
	before, _, _ := strings.Cut(lines[i], "image:")
	lines[i] = before + "image: ghcr.io/shadowtap/shadowtap:test"
	loopback := fmt.Sprintf("- --admin=127.0.0.1:%d", adminPort)
	i = slices.IndexFunc(lines, func(l string) bool { return strings.TrimSpace(l) == loopback })
	if i < 0 {
		t.Fatalf("no %s in the manifests:\n%s", loopback, manifests)
	}
	before, _, _ = strings.Cut(lines[i], "-")
	lines[i] = fmt.Sprintf("%[1]s- --admin=:%[2]d\n%[1]s- --admin-insecure", before, adminPort)
	return strings.Join(lines, "\n")
}

// eventuallyTargets waits until v1 has so many pods and the agents capture
// exactly them, each by the agent of its node and by no other.
func eventuallyTargets(t *testing.T, v1Pods int) {
	t.Helper()
	eventuallyPods(t, bookinfo, v1Label, v1Pods)
	eventuallyAgents(t, fmt.Sprintf("the agents capture %d pods", v1Pods), func(a pod, s sample) error {
		v1, err := pods(bookinfo, v1Label)
		if err != nil {
			return err
		}
		var want []netip.AddrPort
		for _, p := range v1 {
			if p.Node == a.Node {
				address, err := netip.ParseAddr(p.IP)
				if err != nil {
					return err
				}
				want = append(want, netip.AddrPortFrom(address, 80))
			}
		}
		slices.SortFunc(want, netip.AddrPort.Compare)
		slices.SortFunc(s.Targets, netip.AddrPort.Compare)
		if !slices.Equal(s.Targets, want) || s.Namespaces != len(want) {
			return fmt.Errorf("the agent on %s captures %v in %d network namespaces, want %v", a.Node, s.Targets, s.Namespaces, want)
		}
		return nil
	})
}
