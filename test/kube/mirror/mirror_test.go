package mirror

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMirroring is the example in a cluster, and what happens to it there.
func TestMirroring(t *testing.T) {
	needCluster(t)
	deployBookinfo(t)
	install(t, plainManifests(t))
	vip := fmt.Sprintf("http://%s:8000/httpbin", clusterIP(t))
	eventuallyTargets(t, 1)
	l := &ledger{}
	defer func() { t.Log("\n" + l.String()) }()

	// From the same node and from the other, directly and through the Service.
	t.Run("steady", func(t *testing.T) {
		v1 := eventuallyPods(t, bookinfo, v1Label, 1)[0]
		v := l.play(t, round{name: "steady", urls: []string{fmt.Sprintf("http://%s:80/httpbin", v1.IP), vip}, percent: 100})
		if v.never != 0 || v.agents.mirrored != int64(v.byV1) {
			t.Errorf("v1 answered %d requests: %v", v.byV1, v)
		}
	})
	t.Run("percent", func(t *testing.T) { testPercent(t, l, vip) })
	// A pod is tapped before it is ready, and until it has ended.
	t.Run("scale", func(t *testing.T) {
		v := l.play(t, round{name: "scale", urls: []string{vip}, percent: 100, during: func() {
			scale(t, "httpbin-v1", v1Label, 4)
			eventuallyTargets(t, 4)
			scale(t, "httpbin-v1", v1Label, 1)
			eventuallyTargets(t, 1)
		}})
		if v.never != 0 {
			t.Errorf("while pods of v1 came and went: %v", v)
		}
	})
	t.Run("pods deleted", func(t *testing.T) {
		scale(t, "httpbin-v1", v1Label, 2)
		eventuallyTargets(t, 2)
		v := l.play(t, round{name: "deleted", urls: []string{vip}, percent: 100, during: func() {
			for _, p := range eventuallyPods(t, bookinfo, v1Label, 2) {
				kubectl(t, "-n", bookinfo, "delete", "pod", p.Name, "--wait=false")
				eventuallyPods(t, bookinfo, v1Label, 2)
			}
			eventuallyTargets(t, 2)
		}})
		if v.never != 0 {
			t.Errorf("while pods of v1 were replaced: %v", v)
		}
		scale(t, "httpbin-v1", v1Label, 1)
		eventuallyTargets(t, 1)
	})
	t.Run("agent killed", func(t *testing.T) {
		l.play(t, round{name: "killed", urls: []string{vip}, percent: 100, during: func() {
			before := map[string]time.Time{}
			eventuallyAgents(t, "the agents answer", func(p pod, s sample) error {
				before[p.Name] = s.Account.Since
				return nil
			})
			killAgents(t)
			eventuallyAgents(t, "there are new agents", func(p pod, s sample) error {
				if s.Account.Since.Equal(before[p.Name]) {
					return fmt.Errorf("%s goes on", p.Name)
				}
				return nil
			})
			eventuallyTargets(t, 1)
			// Attached is not yet capturing: it looks for an agent to take over from.
			kubectl(t, "-n", shadowtap, "rollout", "status", "daemonset/"+shadowtap, "--timeout=180s")
		}})
	})
	t.Run("agent rolled", func(t *testing.T) {
		v := l.play(t, round{name: "rolled", urls: []string{vip}, percent: 100, during: func() { testRolled(t) }})
		if v.never != 0 {
			t.Errorf("while agents took over from each other: %v", v)
		}
	})
	t.Run("agent out of memory", func(t *testing.T) { testOutOfMemory(t, l, vip) })
	t.Run("no shadow", func(t *testing.T) { testNoShadow(t, l, vip) })
	t.Run("TLS in front of v1", func(t *testing.T) { testSidecar(t, l) })
	t.Run("network of the node", func(t *testing.T) { testHostNetwork(t, l, vip) })
	t.Run("restricted", func(t *testing.T) {
		install(t, rendered(t, "securityProfile: restricted"))
		eventuallyTargets(t, 1)
		v := l.play(t, round{name: "restricted", urls: []string{vip}, percent: 100})
		if v.never != 0 {
			t.Errorf("with least privileges: %v", v)
		}
	})
	t.Run("rule deleted", func(t *testing.T) {
		kubectl(t, "-n", bookinfo, "delete", "virtualservice", "bookinfo")
		eventuallyAgents(t, "the agents capture nothing", func(a pod, s sample) error {
			if len(s.Targets) != 0 {
				return fmt.Errorf("the agent on %s captures %v", a.Node, s.Targets)
			}
			return nil
		})
		v := l.play(t, round{name: "no-rule", urls: []string{vip}, percent: -1})
		if v.once != 0 {
			t.Errorf("mirrored without a rule: %v", v)
		}
	})
	// The role suffices.
	logs := kubectl(t, "-n", shadowtap, "logs", "-l", agentLabel, "--tail=-1")
	if !strings.Contains(logs, "rules loaded from the cluster") || strings.Contains(logs, "forbidden") {
		t.Errorf("the agents' logs:\n%s", logs)
	}
}

// scale waits until a Deployment has so many ready pods.
func scale(t *testing.T, deployment, label string, replicas int) {
	t.Helper()
	kubectl(t, "-n", bookinfo, "scale", "deployment/"+deployment, fmt.Sprintf("--replicas=%d", replicas))
	eventuallyPods(t, bookinfo, label, replicas)
}

// killAgents kills the processes of all agents as kill -9 does.
func killAgents(t *testing.T) {
	t.Helper()
	processes, err := filepath.Glob("/proc/[0-9]*")
	must(t, err)
	killed := 0
	for _, dir := range processes {
		// Processes end while this looks at them.
		name, _ := os.ReadFile(dir + "/comm")
		cgroup, _ := os.ReadFile(dir + "/cgroup")
		if string(name) != "shadowtap\n" || !strings.Contains(string(cgroup), "/shadowtap-n") {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(dir))
		must(t, err)
		must(t, syscall.Kill(pid, syscall.SIGKILL))
		killed++
	}
	if killed != len(nodes) {
		t.Fatalf("%d agents were killed, want %d", killed, len(nodes))
	}
}

// testRolled replaces all agents, twice, while a pod of v1 comes and goes.
func testRolled(t *testing.T) {
	t.Helper()
	roll := func(action string) {
		t.Helper()
		kubectl(t, "-n", shadowtap, "rollout", action, "daemonset/"+shadowtap)
	}
	done := func() {
		t.Helper()
		kubectl(t, "-n", shadowtap, "rollout", "status", "daemonset/"+shadowtap, "--timeout=600s")
		eventuallyPods(t, shadowtap, agentLabel, len(nodes))
	}
	roll("restart")
	scale(t, "httpbin-v1", v1Label, 2)
	done()
	eventuallyTargets(t, 2)
	roll("restart")
	scale(t, "httpbin-v1", v1Label, 1)
	done()
	eventuallyTargets(t, 1)
}

// testPercent edits the rule under load, and then holds each percentage to
// what v2 receives.
func testPercent(t *testing.T, l *ledger, vip string) {
	current := "100"
	set := func(percent string) {
		if percent == current {
			return // nothing would change, and nobody load it
		}
		current = percent
		// The name tells this version of the rule from the ones before. When
		// the agents loaded their rules does not: other objects change, too.
		route := "percent-" + percent
		kubectl(t, "-n", bookinfo, "patch", "virtualservice", "bookinfo", "--type=json", "-p",
			`[{"op": "replace", "path": "/spec/http/0/mirror_percent", "value": `+percent+`},
			  {"op": "replace", "path": "/spec/http/0/name", "value": "`+route+`"}]`)
		eventuallyAgents(t, "the agents have the new rule", func(a pod, s sample) error {
			if !slices.Equal(s.Routes, []string{route}) {
				return fmt.Errorf("the agent on %s has the routes %q", a.Node, s.Routes)
			}
			return nil
		})
		if percent != "0" {
			eventuallyTargets(t, 1) // what is never mirrored is not captured
		}
	}
	l.play(t, round{name: "editing", urls: []string{vip}, percent: -1, during: func() {
		set("0")
		set("50")
	}})
	for _, test := range []struct {
		percent     string
		least, most float64 // of what v1 answers; six standard deviations
	}{{"0", 0, 0}, {"50", 0.2, 0.8}, {"100", 1, 1}} {
		set(test.percent)
		v := l.play(t, round{name: "percent-" + test.percent, urls: []string{vip}, percent: -1})
		share := float64(v.once) / float64(v.byV1)
		if share < test.least || share > test.most {
			t.Errorf("%s %% mirrored %d of %d", test.percent, v.once, v.byV1)
		}
		if v.agents.mirrored != int64(v.once) || test.most > 0 && v.agents.sampledOut != int64(v.never) {
			t.Errorf("%s %%: the accounts say otherwise: %v", test.percent, v)
		}
	}
}

// testNoShadow takes all endpoints of v2 away and gives them back.
func testNoShadow(t *testing.T, l *ledger, vip string) {
	shadows := func(n int) {
		scale(t, "httpbin-v2", v2Label, n)
		eventuallyAgents(t, fmt.Sprintf("the agents know %d endpoints of v2", n), func(a pod, s sample) error {
			if s.Shadows != n {
				return fmt.Errorf("the agent on %s knows %d", a.Node, s.Shadows)
			}
			return nil
		})
	}
	shadows(0)
	v := l.play(t, round{name: "no-shadow", urls: []string{vip}, percent: -1})
	if v.byV1 != v.sent || v.agents.dropped["no_endpoints"] != int64(v.byV1) || v.agents.mirrored != 0 {
		t.Errorf("without an endpoint of v2: %v", v)
	}
	shadows(1)
	if v := l.play(t, round{name: "shadow-back", urls: []string{vip}, percent: 100}); v.never != 0 {
		t.Errorf("with an endpoint of v2 again: %v", v)
	}
}

// testOutOfMemory gives agents less memory than they take, under load, until
// the kernel has killed one.
func testOutOfMemory(t *testing.T, l *ledger, vip string) {
	l.play(t, round{name: "oom", urls: []string{vip}, percent: 100, during: func() {
		kubectl(t, "-n", shadowtap, "patch", "daemonset", shadowtap, "--type=strategic", "-p",
			`{"spec": {"template": {"spec": {"containers": [{"name": "shadowtap", "resources": {"requests": {"memory": "64Mi"}, "limits": {"memory": "64Mi"}}}]}}}}`)
		eventually(t, "an agent is killed for want of memory", func() error {
			all, err := pods(shadowtap, agentLabel)
			if err != nil {
				return err
			}
			for _, p := range all {
				if p.LastReason == "OOMKilled" {
					return nil
				}
			}
			return fmt.Errorf("the agents are %v", all)
		})
		install(t, plainManifests(t))
		eventuallyTargets(t, 1)
	}})
}

// sidecar is a v1 whose pod is reached by TLS only, as in a mesh: a proxy ends
// it at the pod's address, and v1 gets plain HTTP over loopback.
var sidecar = fmt.Sprintf(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: sidecar-v1, namespace: bookinfo}
spec:
  selector: {matchLabels: {app: httpbin, version: v1, proxy: tls}}
  template:
    metadata: {labels: {app: httpbin, version: v1, proxy: tls}}
    spec:
      containers:
      - name: httpbin
        image: %[1]s
        args: [serve, "127.0.0.1:80", ":%[2]d"]
      - name: proxy
        image: %[1]s
        args: [tls, "$(POD_IP):80", "http://127.0.0.1:80"]
        env: [{name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}]
        readinessProbe: {tcpSocket: {port: 80}, periodSeconds: 1}
`, appImage, recordsPort)

func testSidecar(t *testing.T, l *ledger) {
	apply(t, sidecar)
	eventuallyTargets(t, 2)
	p := eventuallyPods(t, bookinfo, "proxy=tls", 1)[0]
	v := l.play(t, round{name: "tls", urls: []string{fmt.Sprintf("https://%s:80/httpbin", p.IP)}, percent: 100, v1: "sidecar-v1"})
	if v.byV1 != v.sent || v.never != 0 {
		t.Errorf("behind a proxy that ends TLS: %v", v)
	}
	kubectl(t, "-n", bookinfo, "delete", "deployment", "sidecar-v1")
	eventuallyTargets(t, 1)
}
