package compare

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
)

// maxRows bounds the rows of a table for people. What is beyond is counted, and
// in the JSON.
const maxRows = 20

// WriteText writes what the judgement says for people, the verdict first.
func (j *Judgement) WriteText(w io.Writer) error {
	// A tabwriter keeps the first error for Flush.
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "%s\n", strings.ToUpper(string(j.Verdict)))
	for _, reason := range j.Reasons {
		fmt.Fprintf(w, "  %s\n", printable(reason))
	}
	if len(j.Mirrors) > 0 {
		fmt.Fprintln(t, "\nMIRROR\tVERDICT\tPAIRS\tSAME\tBUT FOR NOISE\tDIFFERENT\tFAILED\tMISSED")
		for _, m := range j.Mirrors {
			fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%d\t%d\t%s\t%s\n", printable(m.Mirror), m.Verdict,
				m.Pairs, m.Same, m.Noise, m.Different, parts(m.FailedBy), parts(m.MissedBy))
		}
		fmt.Fprintf(t, "\nLATENCY (rounded up by %g %% at most)\tP50\tP95\tP99\n", 100*QuantileError)
		for _, m := range j.Mirrors {
			fmt.Fprint(t, printable(m.Mirror))
			for _, r := range m.Latency {
				fmt.Fprintf(t, "\t%s", r)
			}
			fmt.Fprintln(t)
		}
	}
	if len(j.Differences) > 0 {
		fmt.Fprintln(t, "\nWHERE ANSWERS DIFFER\tPAIRS\tROUTE\tPRODUCTION\tSHADOW\tFOR EXAMPLE")
		for _, d := range j.Differences[:min(len(j.Differences), maxRows)] {
			e := d.example1()
			fmt.Fprintf(t, "%s\t%d\t%s\t%s\t%s\t%s\n", printable(d.key()), d.Pairs, printable(route(d.Rule, d.Method, d.Class)),
				printable(e.Production), printable(e.Shadow), printable(e.request()))
		}
		fmt.Fprint(t, more(len(j.Differences)))
	}
	if len(j.Noise) > 0 {
		fmt.Fprintln(t, "\nNOISE, NOT COUNTED AS DIFFERENT\tPAIRS\tROUTE\tBECAUSE")
		for _, n := range j.Noise[:min(len(j.Noise), maxRows)] {
			fmt.Fprintf(t, "%s\t%d\t%s\t%s\n", printable(n.Part+" "+n.Path), n.Pairs, printable(route(n.Rule, n.Method, n.Class)), n.Why)
		}
		fmt.Fprint(t, more(len(j.Noise)))
	}
	return t.Flush()
}

func more(n int) string {
	if n <= maxRows {
		return ""
	}
	return fmt.Sprintf("and %d more, see -o json\n", n-maxRows)
}

func route(rule, method, class string) string { return method + " " + class + " of " + rule }

// example1 is the first example. A place of another program's report may have
// none.
func (p *Place) example1() Example {
	if len(p.Examples) == 0 {
		return Example{Production: "-", Shadow: "-", Target: "-"}
	}
	return p.Examples[0]
}

func (e *Example) request() string { return strings.TrimSpace(e.Method + " " + e.Target) }

// String is the two latencies and how many times as long the shadow took.
func (r LatencyRatio) String() string {
	if r.Ratio == 0 {
		return "-"
	}
	seconds := func(s float64) time.Duration { return time.Duration(s * float64(time.Second)).Round(time.Microsecond) }
	return fmt.Sprintf("%s -> %s (%sx)", seconds(r.Production), seconds(r.Shadow), times(r.Ratio))
}

// parts is a sum with its parts: 3 (reset 1, timeout 2).
func parts(of map[string]uint64) string {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(of)) {
		names = append(names, fmt.Sprintf("%s %d", printable(name), of[name]))
	}
	if names == nil {
		return "0"
	}
	return fmt.Sprintf("%d (%s)", sum(of), strings.Join(names, ", "))
}

// printable replaces what would do something to a terminal or a table. Names
// and targets come from anybody.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '\uFFFD'
	}, s)
}
