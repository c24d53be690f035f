package rules

import (
	"fmt"
	"maps"
	"slices"

	gateway "sigs.k8s.io/gateway-api/apis/v1"
)

// namespaceName is a label that every Namespace has (the API server sets it).
const namespaceName = "kubernetes.io/metadata.name"

// labelCondition is one of a selector of labels (meta/v1 LabelSelector), all of
// which must hold.
type labelCondition struct {
	key, operator string
	values        []string
}

func (l *labelCondition) String() string {
	if len(l.values) == 0 {
		return fmt.Sprintf("%s %s", l.key, l.operator)
	}
	return fmt.Sprintf("%s %s %q", l.key, l.operator, l.values)
}

// valid reports whether the API defines what l means.
func (l *labelCondition) valid() bool {
	switch l.operator {
	case "In", "NotIn":
		return len(l.values) > 0
	case "Exists", "DoesNotExist":
		return len(l.values) == 0
	}
	return false
}

// holds reports whether labels meet l, which is valid.
func (l *labelCondition) holds(labels map[string]string) bool {
	value, has := labels[l.key]
	switch l.operator {
	case "In":
		return has && slices.Contains(l.values, value)
	case "NotIn":
		return !has || !slices.Contains(l.values, value)
	case "Exists":
		return has
	}
	return !has
}

// selects says why a selector of namespaces does not take a route, empty if it
// does. Of a namespace that is not known it knows the name; what else a selector
// asks for is taken to be met.
func (c *compiler) selects(in *gateway.RouteNamespaces, gr *gatewayRoute, at *field) string {
	if in.Selector == nil {
		return "its selector of namespaces is missing"
	}
	var conditions []labelCondition
	for _, key := range slices.Sorted(maps.Keys(in.Selector.MatchLabels)) {
		conditions = append(conditions, labelCondition{key, "In", []string{in.Selector.MatchLabels[key]}})
	}
	for _, e := range in.Selector.MatchExpressions {
		conditions = append(conditions, labelCondition{e.Key, string(e.Operator), e.Values})
	}
	for i := range conditions {
		if l := &conditions[i]; !l.valid() {
			return "its selector of namespaces is not valid: " + l.String()
		}
	}
	labels, known := map[string]string{}, c.namespaces[gr.meta.Namespace]
	if known != nil {
		maps.Copy(labels, known.Labels)
	}
	labels[namespaceName] = gr.meta.Namespace
	for i := range conditions {
		l := &conditions[i]
		asks := l.key != namespaceName
		c.asksNamespaces = c.asksNamespaces || asks
		switch {
		case asks && known == nil:
			c.warnf(gr.meta, at, "", "namespace %s is taken to have the labels that the Gateway asks for (%s): there is no object Namespace that says",
				gr.meta.Namespace, l)
		case !l.holds(labels):
			return fmt.Sprintf("its selector takes no routes of namespace %s (%s)", gr.meta.Namespace, l)
		}
	}
	return ""
}
