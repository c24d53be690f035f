package kube

import (
	"strings"
	"testing"

	"github.com/shadowtap/shadowtap/pkg/rules"
)

// TestNamespaces: they are read while rules need their labels, and say what
// they say in a file.
func TestNamespaces(t *testing.T) {
	const objects = `
apiVersion: v1
kind: Namespace
metadata: {name: other, labels: {team: b}, annotations: {large: text}}
---
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {team: a}, creationTimestamp: "2026-01-02T03:04:05Z"}
`
	a := newAPIServer(t)
	a.put(t, objects)
	s, changes := follow(t, a, nil)
	await(t, s, changes, "a cluster without rules", func(got *rules.Snapshot, _ rules.Problems) bool { return len(got.Namespaces) == 0 })
	a.mu.Lock()
	if n := a.requests["list namespaces"]; n != 0 {
		t.Errorf("listed %d times before they were needed", n)
	}
	a.mu.Unlock()

	needs := rules.Needs{Namespaces: true}
	s.Need(needs)
	got := await(t, s, changes, "Namespaces", func(*rules.Snapshot, rules.Problems) bool { return s.Need(needs) })
	want, _ := rules.Decode("", []byte(objects))
	if d := sameSnapshot(want, got); d != "" {
		t.Errorf("file and cluster differ (-file +cluster):\n%s", d)
	}
	label := func(value string) func(*rules.Snapshot, rules.Problems) bool {
		return func(got *rules.Snapshot, _ rules.Problems) bool {
			return len(got.Namespaces) == 2 && got.Namespaces[1].Labels["team"] == value
		}
	}
	a.put(t, strings.Replace(objects, "team: a", "team: c", 1))
	await(t, s, changes, "another label", label("c"))
	a.remove(t, "{apiVersion: v1, kind: Namespace, metadata: {name: other}}")
	await(t, s, changes, "one that is gone", func(got *rules.Snapshot, _ rules.Problems) bool { return len(got.Namespaces) == 1 })
	s.Need(rules.Needs{})
	await(t, s, changes, "nothing needed", func(got *rules.Snapshot, _ rules.Problems) bool { return len(got.Namespaces) == 0 })
}
