package agent

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/shadowtap/shadowtap/pkg/replay"
)

// maxEndpointSeries bounds the series there are of a mirror's endpoints one by
// one; those beyond are in the counts by state.
const maxEndpointSeries = 64

// mirrorMetrics reads the state of the mirrors' endpoints, and the panics that
// were contained, when it is scraped.
type mirrorMetrics struct {
	agent                     *Agent
	endpoints, circuit, panic *prometheus.Desc
}

func newMirrorMetrics(a *Agent) *mirrorMetrics {
	return &mirrorMetrics{
		agent: a,
		endpoints: prometheus.NewDesc("shadowtap_shadow_endpoints",
			"Endpoints of a mirror, by the state of their circuits.", []string{"mirror", "state"}, nil),
		circuit: prometheus.NewDesc("shadowtap_shadow_endpoint_circuit",
			"Circuit of an endpoint: 0 closed, 1 half open, 2 open, 3 ejected. The first 64 endpoints of a mirror.", []string{"mirror", "endpoint"}, nil),
		panic: prometheus.NewDesc("shadowtap_panics_total",
			"Defects of the agent's that were contained, by where; those met on connections are in shadowtap_flows_panicked_total.", []string{"in"}, nil),
	}
}

// Describe sends nothing: the set of series depends on the rules.
func (m *mirrorMetrics) Describe(chan<- *prometheus.Desc) {}

// Collect reads the states.
func (m *mirrorMetrics) Collect(ch chan<- prometheus.Metric) {
	err := m.agent.panics.guard(inMetrics, func() { m.collect(ch) })
	if err != nil {
		ch <- prometheus.NewInvalidMetric(m.endpoints, err)
	}
}

func (m *mirrorMetrics) collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v int, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), labels...)
	}
	for mirror, endpoints := range m.agent.mirrors.endpoints() {
		var states [replay.NumStates]int
		seen := map[string]bool{} // http and https of one address share a series
		for _, e := range endpoints {
			states[e.State]++
			if len(seen) < maxEndpointSeries && !seen[e.Address] {
				seen[e.Address] = true
				gauge(m.circuit, int(e.State), mirror, e.Address)
			}
		}
		for s, n := range states {
			gauge(m.endpoints, n, mirror, replay.State(s).String())
		}
	}
	for in := range numPlaces {
		ch <- prometheus.MustNewConstMetric(m.panic, prometheus.CounterValue,
			float64(m.agent.panics.counts[in].Load()), in.String())
	}
}

// unavailable lists the endpoints that get no copies.
func unavailable(endpoints []replay.EndpointState) (list []EndpointStatus) {
	for _, e := range endpoints {
		if e.State == replay.StateClosed || len(list) == maxEndpointSeries {
			continue
		}
		s := EndpointStatus{Address: e.Address, State: e.State.String()}
		if e.Err != nil {
			s.Error = e.Err.Error()
		}
		list = append(list, s)
	}
	return list
}

// endpoints returns the endpoints of every mirror in use, by key.
func (s *mirrorSet) endpoints() map[string][]replay.EndpointState {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make(map[string][]replay.EndpointState, len(s.byKey))
	for key, m := range s.byKey {
		all[key] = m.Endpoints()
	}
	return all
}
