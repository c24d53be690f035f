package kube

import (
	"context"
	"maps"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/shadowtap/shadowtap/pkg/rules"
)

// maxScopes is how many watches of a kind there may be, each of a namespace or
// a label. Beyond that one watch of everything costs the API server less.
const maxScopes = 32

// plan is what has to be watched, by key.
func (s *Source) plan() map[string]subject {
	out := map[string]subject{}
	add := func(sub subject) { out[sub.key] = sub }
	for _, k := range kinds() {
		if version := s.served[k.definition()]; version != "" {
			add(s.clients.custom(k, version))
		}
	}
	if class := gatewayClass(); s.cfg.GatewayStatus && s.served[class.definition()] != "" {
		sub := s.clients.custom(class, s.served[class.definition()])
		sub.forStatus = true
		add(sub)
	}
	add(typed(s.clients.core, "services", metav1.NamespaceAll, metav1.ListOptions{}, convertService,
		subject{class: "Service", what: "Service of v1"}))
	add(s.definitions())
	if s.cfg.Pods != nil {
		add(s.nodePods())
	}
	// A route without a mirror needs nothing, but may have a status.
	if s.needs.Namespaces || s.cfg.GatewayStatus {
		add(typed(s.clients.core, "namespaces", metav1.NamespaceAll, metav1.ListOptions{}, convertNamespace,
			subject{class: "Namespace", what: "Namespace of v1", forStatus: !s.needs.Namespaces}))
	}
	namespaces := slices.DeleteFunc(namespacesOf(s.needs.Services), func(ns string) bool { return !isNamespace(ns) })
	if len(namespaces) > maxScopes {
		namespaces = []string{metav1.NamespaceAll}
	}
	for _, ns := range namespaces {
		add(typed(s.clients.slices, "endpointslices", ns, metav1.ListOptions{}, convertSlice,
			subject{class: "EndpointSlice", what: "EndpointSlice of discovery.k8s.io/v1" + inNamespace(ns)}))
		add(s.pods(ns, ""))
	}
	clients := slices.DeleteFunc(slices.Clone(s.needs.Clients), func(c rules.PodSelector) bool {
		return !selectable(c) || slices.Contains(namespaces, c.Namespace) || slices.Contains(namespaces, metav1.NamespaceAll)
	})
	if len(clients) > maxScopes {
		clients = []rules.PodSelector{{}}
	}
	for _, c := range clients {
		add(s.pods(c.Namespace, labels.SelectorFromSet(c.Labels).String()))
	}
	return out
}

// inNamespace ends the description of a watch that is of one namespace.
func inNamespace(namespace string) string {
	if namespace == metav1.NamespaceAll {
		return ""
	}
	return " in namespace " + namespace
}

// A rule may ask for a name or label that no object can have. The API server
// would refuse to look for it, and all rules would wait for the answer.

func isNamespace(name string) bool { return len(validation.IsDNS1123Label(name)) == 0 }

// selectable reports whether there can be a Pod that c selects.
func selectable(c rules.PodSelector) bool {
	_, err := labels.ValidatedSelectorFromSet(c.Labels)
	return err == nil && (c.Namespace == metav1.NamespaceAll || isNamespace(c.Namespace))
}

func namespacesOf(names []rules.ServiceName) []string {
	set := map[string]bool{}
	for _, n := range names {
		set[n.Namespace] = true
	}
	return slices.Sorted(maps.Keys(set))
}

// unfinished leaves out Pods that have ended: their addresses are others'.
var unfinished = fields.AndSelectors(
	fields.OneTermNotEqualSelector("status.phase", "Succeeded"),
	fields.OneTermNotEqualSelector("status.phase", "Failed"),
)

// pods watches Pods of a namespace, of all if it is empty, by label.
func (s *Source) pods(namespace, selector string) subject {
	return typed(s.clients.core, "pods", namespace,
		metav1.ListOptions{LabelSelector: selector, FieldSelector: unfinished.String()}, convertPod,
		subject{class: "Pod", what: "Pod of v1" + inNamespace(namespace)})
}

// reconcile starts the watches that are missing. What is not wanted any more
// stays until all of its class that is wanted is known, so that nothing is
// forgotten for what takes its place. The lock is held.
func (s *Source) reconcile(ctx context.Context) {
	if s.served == nil {
		// The first discovery decides which kinds are waited for; what is
		// always there need not wait for it.
		s.planned = false
	}
	if !s.planned {
		want := s.plan()
		clear(s.desired)
		for key, sub := range want {
			s.desired[key] = sub.wanted()
			if s.watches[key] == nil {
				s.watches[key] = s.start(ctx, sub)
			}
		}
		s.planned = s.served != nil
	}
	if !s.planned {
		return
	}
	// One class must not wait for another: a kind that may not be read would
	// keep every watch that there ever was.
	unknown := map[string]bool{}
	for key := range s.desired {
		if w := s.watches[key]; !w.synced() {
			unknown[w.class] = true
		}
	}
	for key, w := range s.watches {
		if s.desired[key] == 0 && !unknown[w.class] {
			w.stop()
			delete(s.watches, key)
			s.changed = true
		}
	}
}

// covered reports whether the watches are those of the plan.
func (s *Source) covered() bool {
	want := s.plan()
	for key, sub := range want {
		if s.desired[key] != sub.wanted() {
			return false
		}
	}
	return len(want) == len(s.desired)
}

// missing are the kinds that rules want and that were not listed yet. The lock
// is held.
func (s *Source) missing() []string { return s.missingFor(forRules) }

// missingFor is missing for one thing that kinds are wanted for, or another.
func (s *Source) missingFor(of ...wanted) (out []string) {
	if s.served == nil {
		out = append(out, "the kinds that are served")
	}
	if !s.planned && s.served != nil {
		out = append(out, "what the rules need")
	}
	for key, what := range s.desired {
		if w := s.watches[key]; slices.Contains(of, what) && !w.synced() {
			out = append(out, w.what)
		}
	}
	slices.Sort(out)
	return out
}
