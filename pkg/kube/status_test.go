package kube

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gateway "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/shadowtap/shadowtap/pkg/rules"
)

const mirrorClass = `
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: mirror, uid: class, generation: 1}
spec: {controllerName: shadowtap.dev/mirror}
---
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: c, uid: another, generation: 1}
spec: {controllerName: example.com/real}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: mirror, namespace: shop, uid: gw, generation: 1}
spec: {gatewayClassName: mirror, listeners: [{name: http, port: 80, protocol: HTTP}]}
---
apiVersion: v1
kind: Service
metadata: {name: shadow, namespace: shop}
spec: {selector: {app: shadow}, ports: [{name: http, port: 80}]}
---
`

// attachedRoute names the Gateway of everyKind, which is another's, and ours.
const attachedRoute = `
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: route, namespace: shop, uid: route, generation: 3}
spec:
  parentRefs: [{name: same}, {name: mirror}]
  rules:
  - filters: [{type: RequestMirror, requestMirror: {backendRef: {name: shadow, port: 80}}}]
    backendRefs: [{name: httpbin, port: 8000}]
status:
  parents:
  - parentRef: {group: gateway.networking.k8s.io, kind: Gateway, name: same}
    controllerName: example.com/real
    future: field
    conditions: [{type: Accepted, status: "False", reason: Ours, message: "", lastTransitionTime: "2026-01-01T00:00:00Z"}]
`

// statusOf is the status of an object at the server, its times left out.
func (a *apiServer) statusOf(t *testing.T, resource, key string) (text string, times []string) {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	data, err := json.Marshal(a.objects[resource][key]["status"])
	if err != nil {
		t.Fatal(err)
	}
	var status struct {
		Conditions []metav1.Condition
		Parents    []gateway.RouteParentStatus
		Listeners  []gateway.ListenerStatus
	}
	if err := json.Unmarshal(data, &status); err != nil {
		t.Fatal(err)
	}
	var lines []string
	add := func(of string, conditions []metav1.Condition) {
		for _, c := range conditions {
			lines = append(lines, fmt.Sprintf("%s%s=%s/%s@%d", of, c.Type, c.Status, c.Reason, c.ObservedGeneration))
			times = append(times, c.LastTransitionTime.String())
			if c.LastTransitionTime.IsZero() {
				lines = append(lines, "no time")
			}
		}
	}
	add("", status.Conditions)
	for _, l := range status.Listeners {
		add(fmt.Sprintf("%s(%d): ", l.Name, l.AttachedRoutes), l.Conditions)
	}
	for _, p := range status.Parents {
		add(fmt.Sprintf("%s by %s: ", p.ParentRef.Name, p.ControllerName), p.Conditions)
	}
	if strings.Contains(string(data), `"future":"field"`) {
		lines = append(lines, "future")
	}
	return strings.Join(lines, "\n"), times
}

const (
	httproutes   = "httproutes.gateway.networking.k8s.io"
	othersStatus = "same by example.com/real: Accepted=False/Ours@0\n"
)

func routeStatus(conditions ...string) string {
	text := othersStatus
	for _, c := range conditions {
		text += "mirror by shadowtap.dev/mirror: " + c + "\n"
	}
	return text + "future"
}

// expectStatus waits for a status.
func (a *apiServer) expectStatus(t *testing.T, what, resource, key, want string) (times []string) {
	t.Helper()
	var got string
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		if got, times = a.statusOf(t, resource, key); got == want {
			return times
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s (-want +got):\n%s", what, cmp.Diff(want, got))
		}
	}
}

// TestStatus: several agents write each status once, keep what others wrote,
// follow the specs, and take back what they said when it is over.
func TestStatus(t *testing.T) {
	a := newAPIServer(t)
	a.serveRules()
	a.put(t, mirrorClass+strings.Replace(everyKind, "kind: HTTPRoute\nmetadata: {name: route", "kind: HTTPRoute\nmetadata: {name: plain", 1)+"---\n"+attachedRoute)
	var agents []*Source
	for range 3 {
		s, changes := followStatuses(t, a)
		agents = append(agents, s)
		go compileAll(t, s, changes)
	}
	const gateways, classes = "gateways.gateway.networking.k8s.io", "gatewayclasses.gateway.networking.k8s.io"
	times := a.expectStatus(t, "the route", httproutes, "shop/route", routeStatus("Accepted=True/Accepted@3", "ResolvedRefs=True/ResolvedRefs@3"))
	a.expectStatus(t, "the Gateway", gateways, "shop/mirror", "Accepted=True/Accepted@1\nProgrammed=True/Programmed@1\n"+
		"http(1): Conflicted=False/NoConflicts@1\nhttp(1): Accepted=True/Accepted@1\nhttp(1): Programmed=True/Programmed@1\nhttp(1): ResolvedRefs=True/ResolvedRefs@1")
	a.expectStatus(t, "the class", classes, "/mirror", "Accepted=True/Accepted@1\nSupportedVersion=False/UnsupportedVersion@1")

	a.put(t, "{apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, metadata: {name: "+classes+", annotations: {"+bundleVersion+": v1.6.3}}}")
	a.expectStatus(t, "the class of another release", classes, "/mirror", "Accepted=True/Accepted@1\nSupportedVersion=True/SupportedVersion@1")
	for _, s := range agents {
		eventually(t, "an agent that has nothing to write", func() bool {
			_, want, wait := s.nextStatus(time.Now())
			return want == nil && wait == idle
		})
	}

	// The condition that stays keeps its time, the one that changes does not.
	edited := strings.NewReplacer("generation: 3", "generation: 4", "{name: shadow, ", "{name: none, ")
	a.edit(t, httproutes, "shop/route", edited.Replace(attachedRoute))
	next := a.expectStatus(t, "an edit", httproutes, "shop/route", routeStatus("Accepted=True/Accepted@4", "ResolvedRefs=False/BackendNotFound@4"))
	if next[1] != times[1] {
		t.Errorf("what is as before has another time: %v, before %v", next, times)
	}

	// What another takes away is put back, and what it adds stays.
	a.edit(t, httproutes, "shop/route", strings.Replace(edited.Replace(attachedRoute), "generation: 4", "generation: 4, annotations: {wiped: status}", 1), "status")
	a.expectStatus(t, "a status that was wiped", httproutes, "shop/route", routeStatus("Accepted=True/Accepted@4", "ResolvedRefs=False/BackendNotFound@4"))

	a.edit(t, httproutes, "shop/route", strings.NewReplacer("generation: 3", "generation: 5", ", {name: mirror}]", "]").Replace(attachedRoute))
	a.expectStatus(t, "a reference that is gone", httproutes, "shop/route", othersStatus+"future")
	a.edit(t, httproutes, "shop/route", strings.Replace(attachedRoute, "generation: 3", "generation: 6", 1))
	a.expectStatus(t, "a reference that is back", httproutes, "shop/route", routeStatus("Accepted=True/Accepted@6", "ResolvedRefs=True/ResolvedRefs@6"))
	a.remove(t, "{apiVersion: gateway.networking.k8s.io/v1, kind: GatewayClass, metadata: {name: mirror}}")
	a.expectStatus(t, "a class that is gone", httproutes, "shop/route", othersStatus+"future")

	for resource, key := range map[string]string{gateways: "shop/same", classes: "/c"} {
		if got, _ := a.statusOf(t, resource, key); got != "" {
			t.Errorf("%s %s is another's: %s", resource, key, got)
		}
	}
	if got, _ := a.statusOf(t, httproutes, "shop/plain"); got != "" {
		t.Errorf("a route of another's Gateway: %s", got)
	}
}

// followStatuses is follow for a Source that writes statuses soon.
func followStatuses(t *testing.T, a *apiServer) (*Source, <-chan struct{}) {
	return followWith(t, a, Config{GatewayStatus: true}, func(s *Source) { s.statusSpread = 20 * time.Millisecond })
}

// compileAll compiles whenever there is something new, until the test ends.
func compileAll(t *testing.T, s *Source, changes <-chan struct{}) {
	for {
		select {
		case <-changes:
			compileFor(s)
		case <-t.Context().Done():
			return
		}
	}
}

// edit replaces an object, but for the fields given and the status.
func (a *apiServer) edit(t *testing.T, resource, key, text string, wiped ...string) {
	t.Helper()
	if !slices.Contains(wiped, "status") {
		a.mu.Lock()
		status, err := json.Marshal(a.objects[resource][key]["status"])
		a.mu.Unlock()
		if err != nil {
			t.Fatal(err)
		}
		text, _, _ = strings.Cut(text, "\nstatus:")
		text += "\nstatus: " + string(status) + "\n"
	}
	a.put(t, text)
}

// TestSuppress: of many agents few are early, and one that writes the same again
// waits ever longer.
func TestSuppress(t *testing.T) {
	s := &Source{statusSpread: time.Second}
	for tries := range 20 {
		for range 1000 {
			spread := time.Second << min(tries, maxStatusDoublings)
			if d := s.suppress(tries); d < spread/5 || d > spread*6/5 {
				t.Fatalf("%v after %d tries", d, tries)
			}
		}
	}
	early := 0
	for range maxAgents {
		if s.suppress(0) < 300*time.Millisecond {
			early++
		}
	}
	if early > 100 {
		t.Errorf("%d of %d agents write within a tenth of the time", early, maxAgents)
	}
}

// TestMergeKeeps: what others said stays as and where it is.
func TestMergeKeeps(t *testing.T) {
	now := metav1.NewTime(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	old := []any{
		map[string]any{"type": "special.io/Field", "status": "True"},
		map[string]any{"type": "Accepted", "status": "True", "reason": "Old", "message": "", "observedGeneration": int64(1), "lastTransitionTime": "then"},
		map[string]any{"type": "Late", "status": "True", "reason": "Newer", "message": "", "observedGeneration": int64(9), "lastTransitionTime": "then"},
	}
	got, changed := mergeConditions(old, []metav1.Condition{
		{Type: "Accepted", Status: "True", Reason: "New", ObservedGeneration: 2},
		{Type: "Late", Status: "False", Reason: "Older", ObservedGeneration: 2},
		{Type: "Added", Status: "False", Reason: "Why", ObservedGeneration: 2},
	}, now)
	want := []any{
		old[0],
		map[string]any{"type": "Accepted", "status": "True", "reason": "New", "message": "", "observedGeneration": int64(2), "lastTransitionTime": "then"},
		old[2],
		map[string]any{"type": "Added", "status": "False", "reason": "Why", "message": "", "observedGeneration": int64(2), "lastTransitionTime": "2026-01-02T03:04:05Z"},
	}
	if d := cmp.Diff(want, got); d != "" || !changed {
		t.Errorf("(-want +got), changed %v:\n%s", changed, d)
	}
	if _, changed := mergeConditions(want, []metav1.Condition{{Type: "Added", Status: "False", Reason: "Why", ObservedGeneration: 2}}, metav1.Now()); changed {
		t.Error("what is said already is a change")
	}
}

// TestStatusOfNamespaces: a route is told that a Gateway asks for other labels
// of its namespace, also if it mirrors nothing, for which rules need no labels.
func TestStatusOfNamespaces(t *testing.T) {
	const selector = "allowedRoutes: {namespaces: {from: Selector, selector: {matchLabels: {team: a}}}}"
	const filters = "filters: [{type: RequestMirror, requestMirror: {backendRef: {name: shadow, port: 80}}}]\n    "
	a := newAPIServer(t)
	a.serveRules()
	a.put(t, "{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {team: b}}}\n---\n"+
		strings.Replace(mirrorClass, "protocol: HTTP}", "protocol: HTTP, "+selector+"}", 1)+
		strings.NewReplacer(filters, "", "{name: httpbin, port: 8000}", "{name: shadow, port: 80}").Replace(attachedRoute))
	s, changes := followStatuses(t, a)
	go compileAll(t, s, changes)
	a.expectStatus(t, "the route", httproutes, "shop/route", routeStatus("Accepted=False/NotAllowedByListeners@3", "ResolvedRefs=True/ResolvedRefs@3"))
}

// TestStatusNotAsked: without the option nothing is written, and no class read.
func TestStatusNotAsked(t *testing.T) {
	a := newAPIServer(t)
	a.serveRules()
	a.put(t, mirrorClass+everyKind+"---\n"+attachedRoute)
	s, changes := follow(t, a, nil)
	await(t, s, changes, "rules", func(*rules.Snapshot, rules.Problems) bool { return compileFor(s) })
	s.statuses.mu.Lock()
	defer s.statuses.mu.Unlock()
	if n := a.count("watch gatewayclasses.gateway.networking.k8s.io"); n > 0 || s.statuses.wanted != nil {
		t.Errorf("%d watches of classes, statuses %v", n, s.statuses.wanted)
	}
}

// TestStatusForbidden: a role that lacks what statuses take keeps nothing from
// being mirrored, and the log says what it keeps from being written. Once it is
// permitted, statuses are written.
func TestStatusForbidden(t *testing.T) {
	const classes, namespaces = "gatewayclasses.gateway.networking.k8s.io", "namespaces"
	a := newAPIServer(t)
	a.serveRules()
	a.put(t, mirrorClass+everyKind+"---\n"+attachedRoute)
	a.mu.Lock()
	a.forbid[classes], a.forbid[namespaces] = true, true
	a.mu.Unlock()
	var log lockedBuffer
	s, changes := followWith(t, a, Config{GatewayStatus: true}, func(s *Source) {
		s.statusSpread = 20 * time.Millisecond
		s.log = slog.New(slog.NewTextHandler(&log, nil))
	})
	await(t, s, changes, "the rules", func(got *rules.Snapshot, _ rules.Problems) bool { return len(got.VirtualServices) > 0 })
	if missing := s.Status().Missing; len(missing) > 0 {
		t.Errorf("the rules wait for %v", missing)
	}
	go compileAll(t, s, changes)
	for _, what := range []string{"GatewayClass of gateway.networking.k8s.io/v1", "Namespace of v1"} {
		eventually(t, "the log about "+what, func() bool {
			for line := range strings.Lines(log.String()) {
				if strings.Contains(line, "mirroring goes on") && strings.Contains(line, what) {
					return true
				}
			}
			return false
		})
	}
	s.Touch()
	if got, _ := a.statusOf(t, httproutes, "shop/route"); strings.Contains(got, "shadowtap.dev") {
		t.Errorf("written without knowing what there is:\n%s", got)
	}
	a.mu.Lock()
	clear(a.forbid)
	a.mu.Unlock()
	a.expectStatus(t, "the route", httproutes, "shop/route", routeStatus("Accepted=True/Accepted@3", "ResolvedRefs=True/ResolvedRefs@3"))
}

// lockedBuffer is a strings.Builder for several goroutines.
type lockedBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
