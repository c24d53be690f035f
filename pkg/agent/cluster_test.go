package agent

import (
	"context"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/shadowtap/shadowtap/pkg/httpstream"
	"github.com/shadowtap/shadowtap/pkg/kube"
	"github.com/shadowtap/shadowtap/pkg/rules"
)

// fakeCluster says what text says. Everything is known once it was asked for
// twice.
type fakeCluster struct {
	text    string
	asked   int
	touched chan struct{}
}

func (f *fakeCluster) Run(ctx context.Context, changed func()) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-f.touched:
			changed()
		}
	}
}

func (f *fakeCluster) Read() (*rules.Snapshot, rules.Problems) {
	return rules.Decode("", []byte(f.text))
}
func (f *fakeCluster) Need(rules.Needs) bool                  { f.asked++; return f.asked > 1 }
func (f *fakeCluster) Report(*rules.Snapshot, rules.Problems) {}
func (f *fakeCluster) Touch()                                 { f.touched <- struct{}{} }
func (f *fakeCluster) Status() kube.Status {
	return kube.Status{Reached: true, Missing: []string{"Pod of v1"}, Watches: 3, Objects: 7, Failures: 2}
}

func clusterAgent(t *testing.T, text string) (*Agent, *fakeCluster) {
	a := idleAgent(t, shadowRules("10.99.1.9:80"))
	f := &fakeCluster{text: text, touched: make(chan struct{}, 1)}
	a.cluster = newCluster()
	a.cluster.source, a.cfg.Node = f, "here"
	return a, f
}

func (a *Agent) targetsForTest() (out []string) {
	for t := range *a.source.(*fileSource).targets.Load() {
		out = append(out, t.String())
	}
	slices.Sort(out)
	return out
}

// TestClusterRules: the first rules come into use when what they need is known,
// a broken object takes no other with it, and only Pods of this node are
// captured.
func TestClusterRules(t *testing.T) {
	broken := strings.NewReplacer("name: bookinfo}", "name: broken}", "www.bookinfo.com", "broken.com", "subset: v2}", "subset: v9}")
	text := shadowRules("10.99.1.2:80")
	_, vs, _ := strings.Cut(text, "kind: VirtualService")
	a, f := clusterAgent(t, text+"---\napiVersion: networking.istio.io/v1\nkind: VirtualService"+broken.Replace(vs))

	if got := a.getForTest("/readyz"); got.Code != http.StatusServiceUnavailable || !strings.Contains(got.Body.String(), "Pod of v1") {
		t.Errorf("before the rules: %d %s", got.Code, got.Body)
	}
	before := a.current.Load()
	a.reloadCluster()
	if a.current.Load() != before {
		t.Fatal("rules whose endpoints are not known came into use")
	}
	a.reloadCluster()
	if len(a.targetsForTest()) != 0 {
		t.Errorf("captured without a Pod here: %v", a.targetsForTest())
	}
	status := a.RulesStatus()
	if len(status.Mirrors) != 1 || status.Mirrors[0].Endpoints[0] != "10.99.1.2:80" || status.Failed {
		t.Errorf("%+v", status)
	}
	if len(status.Problems) != 1 || !strings.Contains(status.Problems[0], `VirtualService default/broken: spec.http[0].mirror.subset: "v9"`) {
		t.Errorf("problems %q", status.Problems)
	}

	pod := kube.Pod{Namespace: "default", Name: "v1", UID: "u", IPs: []netip.Addr{netip.MustParseAddr("10.99.0.2")}}
	a.cluster.local.SetPod(pod)
	a.retarget()
	if got := a.targetsForTest(); len(got) != 1 || got[0] != "10.99.0.2:80" {
		t.Errorf("captured with the Pod: %v", got)
	}
	a.cluster.local.DeletePod(pod)
	a.retarget()
	if got := a.targetsForTest(); len(got) != 0 {
		t.Errorf("captured without the Pod: %v", got)
	}

	text = a.getForTest("/metrics").Body.String()
	for _, want := range []string{
		`shadowtap_rule_problems{kind="VirtualService",severity="error"} 1`,
		"shadowtap_kube_reached 1", "shadowtap_kube_watches 3", "shadowtap_kube_objects 7", "shadowtap_kube_request_failures_total 2",
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("no %s in the metrics", want)
		}
	}
	if f.asked != 2 {
		t.Errorf("asked %d times what is needed", f.asked)
	}
}

// TestClusterFollows: SIGHUP, changes of the rules and changes of Pods all end
// in what is captured.
func TestClusterFollows(t *testing.T) {
	a, f := clusterAgent(t, shadowRules("10.99.1.2:80"))
	f.asked = 1
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- a.followRules(ctx) }()
	a.Reload()
	<-a.cluster.synced
	a.cluster.local.SetPod(kube.Pod{Namespace: "default", Name: "v1", UID: "u", IPs: []netip.Addr{netip.MustParseAddr("10.99.0.2")}})
	for len(a.targetsForTest()) == 0 {
		select {
		case err := <-done:
			t.Fatal(err)
		case <-time.After(time.Millisecond):
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestClusterLimitIsShared: from its first request on, a node takes no more of
// a limit than its part.
func TestClusterLimitIsShared(t *testing.T) {
	text := strings.Replace(shadowRules("10.99.1.2:80"), "{name: bookinfo}",
		"{name: bookinfo, annotations: {shadowtap.dev/mirrors: '[{maxRequestsPerSecond: 100}]'}}", 1)
	// Half of the endpoints are on this node.
	text = strings.Replace(text, "---\n", "  - {address: 10.99.0.3, ports: {http: 80}, labels: {version: v1}}\n---\n", 1)
	a, f := clusterAgent(t, text)
	f.asked = 1
	a.cluster.local.SetPod(kube.Pod{Namespace: "default", Name: "v1", UID: "u", IPs: []netip.Addr{netip.MustParseAddr("10.99.0.2")}})

	before := a.current.Load()
	unlock := sync.OnceFunc(a.shards[0].mu.Unlock)
	a.shards[0].mu.Lock() // as a batch does, in which the new rules are used
	defer unlock()
	done := make(chan struct{})
	go func() { defer close(done); a.reloadCluster() }()
	eventually(t, "new rules", func() bool { return a.current.Load() != before })
	mirrored := 0
	for i := range 1000 {
		r, err := httpstream.ParseRequest([]byte("GET /httpbin HTTP/1.1\r\n" + host + "\r\n"))
		if err != nil {
			t.Fatal(err)
		}
		r.Destination, r.End = netip.MustParseAddrPort("10.99.0.2:80"), int64(i)*int64(time.Millisecond)
		var d rules.Decision
		if a.current.Load().program.Decide(r, 0, &d); d.Verdict == rules.Mirrored {
			mirrored++
		}
		r.Release()
	}
	unlock()
	<-done
	if mirrored == 0 || mirrored > 60 {
		t.Errorf("%d of 1000 requests in a second, want half of 100 and a few at once", mirrored)
	}
}

// brokenCluster has a defect.
type brokenCluster struct{ *fakeCluster }

func (brokenCluster) Status() kube.Status { panic("status") }

// TestClusterMetricsContainPanics: the registry collects in a goroutine of its
// own, where nothing else would.
func TestClusterMetricsContainPanics(t *testing.T) {
	a, f := clusterAgent(t, shadowRules("10.99.1.2:80"))
	a.cluster.source = brokenCluster{f}
	if got := a.getForTest("/metrics").Code; got != http.StatusInternalServerError {
		t.Errorf("answered with %d", got)
	}
	if n := a.panics.counts[inMetrics].Load(); n != 1 {
		t.Errorf("%d panics", n)
	}
}

// TestForeignTarget: an endpoint that somebody's rule names is captured neither
// where a Pod of another namespace has the address nor once one gets it, and in
// the network of the node only for the namespaces with Pods in it.
func TestForeignTarget(t *testing.T) {
	a, f := clusterAgent(t, shadowRules("10.99.1.2:80"))
	f.asked = 1
	at := netip.MustParseAddr("10.99.0.2")
	for _, tt := range []struct {
		name string
		pods []kube.Pod
		want int
	}{
		{"of its own namespace", []kube.Pod{{Namespace: "default", UID: "a"}}, 1},
		{"of another one", []kube.Pod{{Namespace: "shop", UID: "b"}}, 0},
		{"of the node, where it has none", []kube.Pod{{Namespace: "shop", UID: "c", HostNetwork: true}, {Namespace: "infra", UID: "d", HostNetwork: true}}, 0},
		{"of the node, where it has one", []kube.Pod{{Namespace: "shop", UID: "c", HostNetwork: true}, {Namespace: "default", UID: "d", HostNetwork: true}}, 1},
	} {
		for _, compiled := range []bool{false, true} { // before, and after rules were compiled with the Pods known
			for _, p := range tt.pods {
				p.Name, p.IPs = p.UID, []netip.Addr{at}
				a.cluster.local.SetPod(p)
			}
			if compiled {
				a.reloadCluster()
			}
			a.retarget()
			if got := a.targetsForTest(); len(got) != tt.want {
				t.Errorf("%s, compiled %v: captured %v", tt.name, compiled, got)
			}
			a.cluster.local = newLocalPods()
			a.reloadCluster()
		}
	}
}
