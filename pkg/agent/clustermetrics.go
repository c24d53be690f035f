package agent

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/shadowtap/shadowtap/pkg/rules"
)

// clusterMetrics says how the API server and the objects in it are doing.
type clusterMetrics struct {
	agent *Agent

	up, failures, watches, objects, memory, problems *prometheus.Desc
}

func (a *Agent) clusterMetrics() *clusterMetrics {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("shadowtap_"+name, help, labels, nil)
	}
	return &clusterMetrics{
		agent:    a,
		up:       desc("kube_reached", "1 if the API server answered the last request."),
		failures: desc("kube_request_failures_total", "Requests to the API server that failed."),
		watches:  desc("kube_watches", "Watches of the API server."),
		objects:  desc("kube_objects", "Objects that are known from the API server."),
		memory:   desc("rules_memory_bytes", rulesMemoryHelp),
		problems: desc("rule_problems", "What is wrong with rules, by the kind of object.", "kind", "severity"),
	}
}

// Describe sends nothing: which series there are depends on the source of the
// rules.
func (m *clusterMetrics) Describe(chan<- *prometheus.Desc) {}

// Collect reads the state.
func (m *clusterMetrics) Collect(ch chan<- prometheus.Metric) {
	if err := m.agent.panics.guard(inMetrics, func() { m.collect(ch) }); err != nil {
		ch <- prometheus.NewInvalidMetric(m.problems, err)
	}
}

func (m *clusterMetrics) collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	for of, n := range countProblems(m.agent.loaded.Load().Problems) {
		gauge(m.problems, float64(n), of.kind, of.severity)
	}
	if m.agent.cluster == nil {
		return
	}
	st := m.agent.cluster.source.Status()
	reached := 0.0
	if st.Reached {
		reached = 1
	}
	gauge(m.up, reached)
	gauge(m.watches, float64(st.Watches))
	gauge(m.objects, float64(st.Objects))
	gauge(m.memory, float64(st.Memory))
	ch <- prometheus.MustNewConstMetric(m.failures, prometheus.CounterValue, float64(st.Failures))
}

type problemClass struct{ kind, severity string }

// countProblems counts problems by the kind of object that has them. A file may
// say it is of any kind, so those that rules do not know are counted together.
func countProblems(problems rules.Problems) map[problemClass]int {
	out := map[problemClass]int{}
	for _, p := range problems {
		kind, _, _ := strings.Cut(p.Object, " ")
		switch kind {
		case "VirtualService", "DestinationRule", "ServiceEntry", "WorkloadEntry", "Gateway",
			"HTTPRoute", "GRPCRoute", "ReferenceGrant", "Service", "EndpointSlice", "Pod":
		default:
			kind = "other"
		}
		severity := "error"
		if p.Warning {
			severity = "warning"
		}
		out[problemClass{kind, severity}]++
	}
	return out
}
