package mirror

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
	"golang.org/x/sync/errgroup"
)

const (
	// infra is the namespace of the base resources of the conformance tests.
	infra = "gateway-conformance-infra"
	// echoPort is where its backends listen.
	echoPort = 3000
	// gatewayAddress is that of no Gateway; the suite has it in Host.
	gatewayAddress = "192.0.2.1"
)

// echo is what the echo server of the app says; see test/kube/app.
type echo struct {
	Path    string      `json:"path"`
	Host    string      `json:"host"`
	Method  string      `json:"method"`
	Headers http.Header `json:"headers"`
	Pod     string      `json:"pod"`
}

// conformanceDir is where the conformance tests of the Gateway API are, of the
// version whose definitions the cluster has.
func conformanceDir(t *testing.T) string {
	t.Helper()
	version, err := exec.Command("go", "list", "-m", "-f", "{{.Version}}", "sigs.k8s.io/gateway-api").Output()
	must(t, err)
	download := exec.Command("go", "mod", "download", "-json", "sigs.k8s.io/gateway-api/conformance@"+strings.TrimSpace(string(version)))
	download.Dir = t.TempDir() // outside of this module, whose sums do not have it
	text, err := download.Output()
	var got struct{ Dir, Error string }
	if json.Unmarshal(text, &got); err != nil || got.Dir == "" {
		t.Fatalf("the conformance tests of the Gateway API cannot be fetched: %v %s", err, got.Error)
	}
	return got.Dir
}

// deployConformance applies what the mirror tests use of the base resources,
// with the echo server of the app, and returns the backends' pods by Service.
func deployConformance(t *testing.T, dir string) map[string][]pod {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "base", "manifests.yaml"))
	must(t, err)
	used := map[string]int{v1Backend: 0, v2Backend: 0, v3Backend: 0} // pods
	var out bytes.Buffer
	for docs := yaml.NewDecoder(bytes.NewReader(data)); ; {
		var doc struct {
			APIVersion string `yaml:"apiVersion"`
			Kind       string
			Metadata   map[string]any
			Spec       map[string]any `yaml:",omitempty"`
		}
		if err := docs.Decode(&doc); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		name, _ := doc.Metadata["name"].(string) // the last document is empty
		_, backend := used[name]
		switch {
		case doc.Kind == "Namespace" && name == infra, doc.Kind == "Service" && backend:
		case doc.Kind == "Gateway" && name == "same-namespace":
			doc.Spec["gatewayClassName"] = "none"
		case doc.Kind == "Deployment" && backend:
			used[name] = doc.Spec["replicas"].(int)
			template := doc.Spec["template"].(map[string]any)["spec"].(map[string]any)
			template["terminationGracePeriodSeconds"] = 0
			container := template["containers"].([]any)[0].(map[string]any)
			container["image"] = appImage
			container["args"] = []string{"echo", fmt.Sprintf(":%d", echoPort), fmt.Sprintf(":%d", recordsPort)}
			container["readinessProbe"] = map[string]any{"tcpSocket": map[string]any{"port": echoPort}, "periodSeconds": 1}
		default:
			continue
		}
		text, err := yaml.Marshal(&doc)
		must(t, err)
		out.WriteString("---\n")
		out.Write(text)
	}
	t.Cleanup(func() { kubectl(t, "delete", "namespace", infra, "--ignore-not-found") })
	apply(t, out.String())
	backends := map[string][]pod{}
	for name, replicas := range used {
		backends[name] = eventuallyPods(t, infra, "app="+name, replicas)
	}
	return backends
}

// eventuallyCaptured waits until every agent captures the echo servers of its
// node, and knows so many endpoints of mirrors.
func eventuallyCaptured(t *testing.T, servers []pod, shadows int) {
	t.Helper()
	eventuallyAgents(t, fmt.Sprintf("the agents capture %d echo servers", len(servers)), func(a pod, s sample) error {
		var want []netip.AddrPort
		for _, p := range servers {
			if p.Node == a.Node {
				want = append(want, netip.AddrPortFrom(netip.MustParseAddr(p.IP), echoPort))
			}
		}
		slices.SortFunc(want, netip.AddrPort.Compare)
		slices.SortFunc(s.Targets, netip.AddrPort.Compare)
		if !slices.Equal(s.Targets, want) || s.Namespaces != len(want) || s.Shadows != shadows {
			return fmt.Errorf("the agent on %s captures %v in %d network namespaces and knows %d mirrors' endpoints, want %v and %d",
				a.Node, s.Targets, s.Namespaces, s.Shadows, want, shadows)
		}
		return nil
	})
}

// mirroredBy is how many requests all agents have mirrored.
func mirroredBy(t *testing.T) (n int) {
	t.Helper()
	all, err := pods(shadowtap, agentLabel)
	must(t, err)
	for _, p := range all {
		s, err := ask(p)
		must(t, err)
		n += int(s.Account.Requests.Mirrored)
	}
	return n
}

// sendEcho sends n requests to servers in turn, as a data plane does to the
// endpoints of a Service: over persistent connections, some at once.
func sendEcho(t *testing.T, servers []pod, path string, header http.Header, n int) {
	t.Helper()
	transport := &http.Transport{DialContext: dialCluster, MaxIdleConnsPerHost: atOnce}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: patience}
	var group errgroup.Group
	group.SetLimit(atOnce)
	for i := range n {
		group.Go(func() error {
			req, err := http.NewRequest(http.MethodGet, fmt.Sprintf("http://%s:%d%s", servers[i%len(servers)].IP, echoPort, path), nil)
			if err != nil {
				return err
			}
			req.Host, req.Header = gatewayAddress, header.Clone()
			resp, err := client.Do(req)
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			var got echo
			if err := json.NewDecoder(resp.Body).Decode(&got); err != nil {
				return err
			}
			if resp.StatusCode != http.StatusOK || got.Path != path || !strings.HasPrefix(got.Pod, v1Backend) || got.Headers.Get("X-Shadowtap") != "" {
				return fmt.Errorf("%s: answered %s: %+v", req.URL, resp.Status, got)
			}
			return nil
		})
	}
	must(t, group.Wait())
}

// echoes are the requests for path that servers have received.
func echoes(t *testing.T, servers []pod, path string) (got []echo) {
	t.Helper()
	for _, p := range servers {
		var all []echo
		must(t, call("GET", fmt.Sprintf("http://%s:%d/", p.IP, recordsPort), nil, &all))
		for _, e := range all {
			if e.Path == path {
				got = append(got, e)
			}
		}
	}
	return got
}
