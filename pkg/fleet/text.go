package fleet

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/shadowtap/shadowtap/pkg/agent"
)

// WriteText writes the sum for people, in tables.
func (r *Status) WriteText(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "AGENT\tVERSION\tCAPTURING\tSEEN\tMIRRORED\tDROPPED\tPENDING")
	for _, a := range r.Agents {
		if a.Status == nil {
			fmt.Fprintf(t, "%s\t-\tno answer\t-\t-\t-\t-\n", printable(a.Agent))
			continue
		}
		q := a.Status.Account.Requests
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%d\t%d\t%d\n", printable(a.Agent), printable(a.Status.Version), yes(a.Status.Capturing), q.Seen, q.Mirrored, sum(q.Dropped), q.Pending)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, a := range r.Agents {
		if a.Status == nil {
			fmt.Fprintf(t, "\n%s: %s\n", printable(a.Agent), printable(a.Error))
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if r.Failed() == len(r.Agents) {
		return nil
	}
	if _, err := fmt.Fprintf(w, "\n%s", r.account()); err != nil {
		return err
	}
	if len(r.Mirrors) > 0 {
		fmt.Fprintln(t, "\nMIRROR\tSENT\tANSWERED\tFAILED\tREFUSED\tPENDING\tP50\tP99")
		for _, name := range slices.Sorted(maps.Keys(r.Mirrors)) {
			m := r.Mirrors[name]
			fmt.Fprintf(t, "%s\t%d\t%s\t%s\t%s\t%d\t%s\t%s\n", printable(name), m.Sent,
				split(m.Answered), split(m.Failed), split(m.Refused), m.Pending, quantile(m.Latency, 0.5), quantile(m.Latency, 0.99))
		}
		if err := t.Flush(); err != nil {
			return err
		}
	}
	if len(r.Problems) > 0 {
		fmt.Fprintln(t, "\nPROBLEM OF THE RULES\tAGENTS")
		for _, p := range r.Problems {
			fmt.Fprintf(t, "%s\t%d\n", printable(p.Message), p.Agents)
		}
	}
	return t.Flush()
}

func (r *Status) account() string {
	p, q, s := r.Account.Packets, r.Account.Requests, r.Account.Shadow
	var b strings.Builder
	fmt.Fprintf(&b, "since     %s\n", r.Account.Since.Format(time.RFC3339))
	fmt.Fprintf(&b, "packets   %d seen = %d copied + %d skipped%s + %d lost%s\n",
		p.Seen, p.Copied, sum(p.Skipped), reasons(p.Skipped), sum(p.Lost), reasons(p.Lost))
	fmt.Fprintf(&b, "requests  %d seen = %d mirrored + %d filtered%s + %d sampled out + %d looped + %d dropped%s + %d pending\n",
		q.Seen, q.Mirrored, q.Filtered, reasons(q.FilteredBy), q.SampledOut, q.Looped, sum(q.Dropped), reasons(q.Dropped), q.Pending)
	fmt.Fprintf(&b, "copies    %d sent = %d answered%s + %d failed%s + %d pending\n",
		s.Sent, sum(s.Answered), reasons(s.Answered), sum(s.Failed), reasons(s.Failed), s.Pending)
	if !r.Balanced() {
		fmt.Fprintln(&b, "It does NOT add up: something is lost or counted twice. That is a defect of shadowtap; please report it with the output of -o json.")
	}
	return b.String()
}

// printable replaces what would do something to a terminal, or to the table: an
// agent, or what answers in its place, may say anything.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return utf8.RuneError
	}, s)
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// split writes a sum with what it is made of: "3 (2xx 2, 5xx 1)".
func split(parts map[string]uint64) string { return fmt.Sprint(sum(parts)) + reasons(parts) }

// reasons writes what a sum is made of: " (2xx 2, 5xx 1)", "" if it is 0.
func reasons(parts map[string]uint64) string {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(parts)) {
		if parts[name] > 0 {
			names = append(names, fmt.Sprintf("%s %d", printable(name), parts[name]))
		}
	}
	if names == nil {
		return ""
	}
	return " (" + strings.Join(names, ", ") + ")"
}

// quantile writes the bound of the bucket in which a quantile lies, "-" if nothing
// was counted.
func quantile(l agent.Latency, q float64) string {
	if bound, ok := l.Quantile(q); ok {
		return "<=" + time.Duration(bound*float64(time.Second)).String()
	}
	if n := len(l.Counts); n > 0 && l.Counts[n-1] > 0 {
		return ">" + time.Duration(l.Bounds[len(l.Bounds)-1]*float64(time.Second)).String()
	}
	return "-"
}

func sum(parts map[string]uint64) (n uint64) {
	for _, v := range parts {
		n += v
	}
	return n
}
