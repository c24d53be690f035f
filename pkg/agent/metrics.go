package agent

import (
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/shadowtap/shadowtap/pkg/replay"
)

// metrics reads the account when it is scraped; nothing is kept twice.
// Labels are bounded by the rules and by fixed lists of reasons.
type metrics struct {
	agent *Agent

	requests, requestsDropped, requestsSeen, requestsPending   *prometheus.Desc
	packets, packetsSkipped, packetsLost                       *prometheus.Desc
	flows, flowsOpen, flowsIgnored, panics, gaps, skippedBytes *prometheus.Desc
	copies, copiesRefused, copiesPending, latency, shadowOpen  *prometheus.Desc
	memory, memoryLimit, hooks, reloads, reloadFailed          *prometheus.Desc
	namespaces, namespacesMissing, rulesMemory                 *prometheus.Desc
}

// registry returns a registry of the agent's own.
func (a *Agent) registry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("shadowtap_"+name, help, labels, nil)
	}
	r.MustRegister(
		newMirrorMetrics(a),
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		&metrics{
			agent:             a,
			requestsSeen:      desc("requests_seen_total", "Requests whose first byte was recognised."),
			requests:          desc("requests_total", "Requests by what became of them, without those dropped.", "outcome"),
			requestsDropped:   desc("requests_dropped_total", "Requests that could not be mirrored, by reason.", "reason"),
			requestsPending:   desc("requests_pending", "Requests whose end has not arrived."),
			packets:           desc("packets_total", "TCP packets towards captured endpoints, by whether their bytes were copied.", "result"),
			packetsSkipped:    desc("packets_skipped_total", "TCP packets towards captured endpoints that needed no copy, by reason.", "reason"),
			packetsLost:       desc("packets_lost_total", "TCP packets towards captured endpoints that could not be copied, by reason.", "reason"),
			flows:             desc("flows_total", "Connections seen."),
			flowsOpen:         desc("flows_open", "Connections being followed."),
			flowsIgnored:      desc("flows_ignored_total", "Connections given up because they carry something else than HTTP/1, by what.", "protocol"),
			panics:            desc("flows_panicked_total", "Connections given up because of a defect of the agent's."),
			gaps:              desc("stream_gaps_total", "Holes in byte streams that nothing filled."),
			skippedBytes:      desc("stream_skipped_bytes_total", "Bytes passed over while looking for the start of a request."),
			copies:            desc("shadow_requests_total", "Copies by mirror and result.", "mirror", "result"),
			copiesRefused:     desc("shadow_requests_refused_total", "Copies a mirror's queue did not take, by reason.", "mirror", "reason"),
			copiesPending:     desc("shadow_requests_pending", "Copies queued or in flight.", "mirror"),
			latency:           desc("shadow_request_duration_seconds", "Time from sending a copy to the end of its response.", "mirror"),
			shadowOpen:        desc("shadow_connections_open", "Open connections to a mirror's endpoints.", "mirror"),
			memory:            desc("traffic_memory_bytes", "Bytes of traffic held."),
			memoryLimit:       desc("traffic_memory_limit_bytes", "Bound of traffic_memory_bytes."),
			rulesMemory:       desc("rules_memory_bytes", rulesMemoryHelp),
			hooks:             desc("hooks", "Interfaces and directions the TC program is attached to."),
			namespaces:        desc("namespaces", "Network namespaces other than the agent's that are captured in."),
			namespacesMissing: desc("namespaces_missing", "Addresses of pods to be captured that no network namespace has."),
			reloads:           desc("rules_loads_total", "Attempts to load the rules, by result.", "result"),
			reloadFailed:      desc("rules_last_load_failed", "1 if the last attempt to load the rules failed and older ones are in use."),
		},
		a.clusterMetrics(),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name:        "shadowtap_build_info",
			Help:        "Always 1.",
			ConstLabels: prometheus.Labels{"version": a.cfg.Version, "goversion": runtime.Version()},
		}, func() float64 { return 1 }),
	)
	a.registerCompared(r)
	return r
}

// Describe sends nothing: the set of series depends on the traffic.
func (m *metrics) Describe(chan<- *prometheus.Desc) {}

// Collect reads the account. It runs in a goroutine of the registry's.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	if err := m.agent.panics.guard(inMetrics, func() { m.collect(ch) }); err != nil {
		ch <- prometheus.NewInvalidMetric(m.packets, err)
	}
}

func (m *metrics) collect(ch chan<- prometheus.Metric) {
	counter := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	gauge := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), labels...)
	}
	byName := func(d *prometheus.Desc, counts map[string]uint64, before ...string) {
		for name, n := range counts {
			counter(d, n, append(before[:len(before):len(before)], name)...)
		}
	}
	acc, err := m.agent.Account()
	if err != nil {
		ch <- prometheus.NewInvalidMetric(m.packets, err)
	}
	counter(m.requestsSeen, acc.Requests.Seen)
	counter(m.requests, acc.Requests.Mirrored, "mirrored")
	counter(m.requests, acc.Requests.Filtered, "filtered")
	counter(m.requests, acc.Requests.SampledOut, "sampled_out")
	counter(m.requests, acc.Requests.Looped, "looped")
	byName(m.requestsDropped, acc.Requests.Dropped)
	gauge(m.requestsPending, acc.Requests.Pending)

	counter(m.packets, acc.Packets.Copied, "copied")
	counter(m.packets, sum(acc.Packets.Skipped), "skipped")
	counter(m.packets, sum(acc.Packets.Lost), "lost")
	byName(m.packetsSkipped, acc.Packets.Skipped)
	byName(m.packetsLost, acc.Packets.Lost)
	counter(m.flows, acc.Flows.Total)
	gauge(m.flowsOpen, acc.Flows.Open)
	byName(m.flowsIgnored, acc.Flows.Ignored)
	counter(m.panics, acc.Flows.Panics)
	counter(m.gaps, acc.Flows.Gaps)
	counter(m.skippedBytes, acc.Flows.SkippedBytes)

	for mirror, st := range m.agent.mirrors.stats() {
		byName(m.copies, st.Answered, mirror)
		byName(m.copies, st.Failed, mirror)
		byName(m.copiesRefused, st.Refused, mirror)
		gauge(m.copiesPending, st.Pending, mirror)
		gauge(m.shadowOpen, st.Connections, mirror)
		ch <- histogram(m.latency, st.Latency, mirror)
	}
	gauge(m.memory, uint64(m.agent.memory.used.Load()))
	gauge(m.memoryLimit, uint64(m.agent.memory.limit))
	if m.agent.cluster == nil { // which has its own
		gauge(m.rulesMemory, uint64(m.agent.rulesSize.Load()*rulesCost))
	}
	gauge(m.hooks, uint64(len(m.agent.source.Hooks())))
	if pods, ok := m.agent.source.(*podSource); ok {
		captured, missing := pods.Namespaces()
		gauge(m.namespaces, uint64(captured))
		gauge(m.namespacesMissing, uint64(missing))
	}
	loaded := m.agent.loaded.Load()
	counter(m.reloads, loaded.Loads, "success")
	counter(m.reloads, loaded.Failures, "failure")
	failed := uint64(0)
	if loaded.Failed {
		failed = 1
	}
	gauge(m.reloadFailed, failed)
}

// histogram turns counts per bucket into Prometheus' cumulative ones.
func histogram(d *prometheus.Desc, h replay.Histogram, labels ...string) prometheus.Metric {
	buckets, n := map[float64]uint64{}, uint64(0)
	for i, bound := range replay.LatencyBounds() {
		n += h.Counts[i]
		buckets[bound] = n
	}
	return prometheus.MustNewConstHistogram(d, h.Count(), h.Sum.Seconds(), buckets, labels...)
}
