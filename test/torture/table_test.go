package torture

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"
)

// row is what became of the requests of one case.
type row struct {
	name        string
	requests    int
	expected    [numFates]uint64
	unexplained int
	failures    int           // of production
	p99, alone  time.Duration // of production, with an agent and without one; 0 where not measured
	peakMiB     int
	seconds     float64
	copies      string // what became of them, where they may fail
	cost        cost
}

// delays is what the slowest exchanges of production took.
func (r row) delays() string {
	if r.p99 == 0 {
		return ""
	}
	return fmt.Sprintf("%.1f, %.1f", r.p99.Seconds()*1e3, r.alone.Seconds()*1e3)
}

type table []row

func (t *table) add(r row) { *t = append(*t, r) }

// String is the table with a line of sums.
func (t table) String() string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "case\trequests\tmirrored\tgap\tincomplete\tnot ended\tno memory\thanded over\tunseen, explained\tunexplained\tproduction failures\tp99 ms, alone\tpeak MiB\tseconds\t copies")
	total := row{name: "all"}
	for _, r := range append(t[:len(t):len(t)], row{name: ""}) {
		if r.name == "" {
			r = total
		}
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%s\t%d\t%.1f\t %s\n", r.name, r.requests,
			r.expected[mirrored], r.expected[gap], r.expected[incomplete], r.expected[unfinished], r.expected[noMemory], r.expected[handedOver], r.expected[unseen],
			r.unexplained, r.failures, r.delays(), r.peakMiB, r.seconds, r.copies)
		for i, n := range r.expected {
			total.expected[i] += n
		}
		total.requests += r.requests
		total.unexplained += r.unexplained
		total.failures += r.failures
		total.peakMiB = max(total.peakMiB, r.peakMiB)
		total.seconds += r.seconds
	}
	_ = w.Flush()
	return b.String()
}
