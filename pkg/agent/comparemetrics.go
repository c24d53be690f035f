package agent

import (
	"github.com/prometheus/client_golang/prometheus"
)

// compareMetrics reads what was compared when it is scraped.
type compareMetrics struct {
	agent                 *Agent
	comparing             *comparing
	pairs, failed, missed *prometheus.Desc
	packets               *prometheus.Desc
}

// registerCompared adds the metrics of what is compared, if anything is.
func (a *Agent) registerCompared(r *prometheus.Registry) {
	if a.comparing == nil {
		return
	}
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("shadowtap_"+name, help, append([]string{"mirror"}, labels...), nil)
	}
	r.MustRegister(&compareMetrics{
		comparing: a.comparing,
		agent:     a,
		packets: prometheus.NewDesc("shadowtap_response_packets_total",
			"TCP packets from captured endpoints, by what became of them.", []string{"result"}, nil),
		pairs:  desc("pairs_total", "Copies whose answer was compared with production's, by result.", "result"),
		failed: desc("pairs_failed_total", "Copies that got no answer where production gave one, by what became of them.", "outcome"),
		missed: desc("pairs_missed_total", "Copies whose answer could not be compared, by reason.", "reason"),
	})
}

// Describe sends nothing: the set of series depends on the rules.
func (m *compareMetrics) Describe(chan<- *prometheus.Desc) {}

// Collect reads the totals. It runs in a goroutine of the registry's.
func (m *compareMetrics) Collect(ch chan<- prometheus.Metric) {
	if err := m.comparing.panics.guard(inMetrics, func() { m.collect(ch) }); err != nil {
		ch <- prometheus.NewInvalidMetric(m.pairs, err)
	}
}

func (m *compareMetrics) collect(ch chan<- prometheus.Metric) {
	counter := func(d *prometheus.Desc, n uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
	}
	account, err := m.agent.Account()
	if err != nil {
		ch <- prometheus.NewInvalidMetric(m.packets, err)
	} else if p := account.Responses; p != nil {
		counter(m.packets, p.Copied, "copied")
		counter(m.packets, sum(p.Skipped), "skipped")
		counter(m.packets, sum(p.Lost), "lost")
	}
	for name, mirror := range m.comparing.comparer.Mirrors() {
		counter(m.pairs, mirror.Same, name, "same")
		counter(m.pairs, mirror.Different, name, "different")
		for outcome, n := range mirror.Failed {
			counter(m.failed, n, name, outcome)
		}
		for reason, n := range mirror.Missed {
			counter(m.missed, n, name, reason)
		}
	}
}
