package mirror

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netns"
)

// patience bounds every wait for something that must happen. It is no
// measurement: on a slow machine the tests are slow, not red.
const patience = 3 * time.Minute

const (
	clusterScript = "../cluster/cluster.sh"
	// switchNamespace is the network namespace from where all pods are
	// reached.
	switchNamespace = "shadowtap-cp"
	// apiURL is the API server behind kubectl proxy; kubectl itself is slow.
	apiURL = "http://127.0.0.1:8001"
)

var nodes = []string{"n1", "n2"}

// needCluster skips a test that has none.
func needCluster(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("a cluster in network namespaces needs root")
	}
	if os.Getenv("SHADOWTAP_KUBE") == "" {
		t.Skip("needs a cluster, which make test-kube brings up")
	}
}

// kubectl returns what it prints. A failure ends the test.
func kubectl(t *testing.T, args ...string) string {
	t.Helper()
	out, err := tryKubectl("", args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// tryKubectl runs kubectl with an input.
func tryKubectl(stdin string, args ...string) (string, error) {
	cmd := exec.Command(clusterScript, append([]string{"kubectl"}, args...)...)
	cmd.Stdin = strings.NewReader(stdin)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("kubectl %s: %w\n%s%s", strings.Join(args, " "), err, out.String(), errs.String())
	}
	return out.String(), nil
}

func apply(t *testing.T, manifests string) {
	t.Helper()
	if _, err := tryKubectl(manifests, "apply", "-f", "-"); err != nil {
		t.Fatal(err)
	}
}

// pod is what the tests want to know of one.
type pod struct {
	Name, Node, IP string
	Ready          bool
	// Restarts and LastReason are of its first container.
	Restarts   int
	LastReason string
}

// pods returns those with a label that are not being deleted.
func pods(namespace, label string) ([]pod, error) {
	var list struct {
		Items []struct {
			Metadata struct {
				Name              string
				DeletionTimestamp *string
			}
			Spec   struct{ NodeName string }
			Status struct {
				PodIP             string
				Conditions        []struct{ Type, Status string }
				ContainerStatuses []struct {
					RestartCount int
					LastState    struct{ Terminated struct{ Reason string } }
				}
			}
		}
	}
	err := call("GET", apiURL+"/api/v1/namespaces/"+namespace+"/pods?labelSelector="+url.QueryEscape(label), nil, &list)
	if err != nil {
		return nil, err
	}
	var found []pod
	for _, i := range list.Items {
		if i.Metadata.DeletionTimestamp != nil {
			continue
		}
		p := pod{Name: i.Metadata.Name, Node: i.Spec.NodeName, IP: i.Status.PodIP}
		for _, c := range i.Status.Conditions {
			p.Ready = p.Ready || c.Type == "Ready" && c.Status == "True"
		}
		if len(i.Status.ContainerStatuses) > 0 {
			p.Restarts = i.Status.ContainerStatuses[0].RestartCount
			p.LastReason = i.Status.ContainerStatuses[0].LastState.Terminated.Reason
		}
		found = append(found, p)
	}
	return found, nil
}

// eventuallyPods waits for exactly n pods, all ready.
func eventuallyPods(t *testing.T, namespace, label string, n int) (found []pod) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d pods %s are ready", n, label), func() (err error) {
		if found, err = pods(namespace, label); err != nil {
			return err
		}
		if len(found) != n {
			return fmt.Errorf("there are %d: %+v", len(found), found)
		}
		for _, p := range found {
			if !p.Ready {
				return fmt.Errorf("%s is not: %+v", p.Name, p)
			}
		}
		return nil
	})
	return found
}

// web speaks HTTP from where the pods are reached.
var web = &http.Client{
	Timeout:   patience,
	Transport: &http.Transport{DialContext: dialCluster, DisableKeepAlives: true},
}

// dialCluster connects from the cluster's switch.
func dialCluster(ctx context.Context, network, address string) (net.Conn, error) {
	type result struct {
		conn net.Conn
		err  error
	}
	dialled := make(chan result, 1)
	go func() {
		// The thread ends with this goroutine: nothing else runs in the
		// cluster's network.
		runtime.LockOSThread()
		handle, err := netns.GetFromName(switchNamespace)
		if err == nil {
			err = netns.Set(handle)
			handle.Close()
		}
		if err != nil {
			dialled <- result{nil, err}
			return
		}
		conn, err := new(net.Dialer).DialContext(ctx, network, address)
		dialled <- result{conn, err}
	}()
	r := <-dialled
	return r.conn, r.err
}

// call sends a JSON body, if any, and decodes the JSON answer, if wanted.
func call(method, address string, body, answer any) error {
	var b bytes.Buffer
	if body != nil {
		if err := json.NewEncoder(&b).Encode(body); err != nil {
			return err
		}
	}
	req, err := http.NewRequest(method, address, &b)
	if err != nil {
		return err
	}
	resp, err := web.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s: %s", address, resp.Status, text)
	}
	if answer == nil {
		return nil
	}
	return json.Unmarshal(text, answer)
}

// eventually waits for a condition, whose last error is the failure.
func eventually(t testing.TB, what string, condition func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := condition()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain until %s: %v", what, err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
