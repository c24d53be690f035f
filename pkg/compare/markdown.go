package compare

import (
	"fmt"
	"io"
	"strings"
)

// WriteMarkdown writes what the judgement says as the comment of a pull
// request.
func (j *Judgement) WriteMarkdown(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "### shadowtap: %s\n\n", j.Verdict)
	for _, reason := range j.Reasons {
		fmt.Fprintf(&b, "- %s\n", cell(reason))
	}
	if len(j.Mirrors) > 0 {
		b.WriteString("\n| mirror | verdict | pairs | same | but for noise | different | failed | missed | p50 | p95 | p99 |\n|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n")
		for _, m := range j.Mirrors {
			fmt.Fprintf(&b, "| %s | %s | %d | %d | %d | %d | %s | %s |", code(m.Mirror), m.Verdict,
				m.Pairs, m.Same, m.Noise, m.Different, cell(parts(m.FailedBy)), cell(parts(m.MissedBy)))
			for _, r := range m.Latency {
				fmt.Fprintf(&b, " %s |", r)
			}
			b.WriteByte('\n')
		}
	}
	if len(j.Differences) > 0 {
		b.WriteString("\n| where answers differ | pairs | route | production | shadow | for example |\n|---|--:|---|---|---|---|\n")
		for _, d := range j.Differences[:min(len(j.Differences), maxRows)] {
			e := d.example1()
			fmt.Fprintf(&b, "| %s | %d | %s | %s | %s | %s |\n", code(d.key()), d.Pairs, cell(route(d.Rule, d.Method, d.Class)),
				code(e.Production), code(e.Shadow), code(e.request()))
		}
		if s := more(len(j.Differences)); s != "" {
			b.WriteString("\n" + s)
		}
	}
	if len(j.Noise) > 0 {
		b.WriteString("\n<details><summary>Noise, not counted as different</summary>\n\n| where | pairs | route | because |\n|---|--:|---|---|\n")
		for _, n := range j.Noise[:min(len(j.Noise), maxRows)] {
			fmt.Fprintf(&b, "| %s | %d | %s | %s |\n", code(n.Part+" "+n.Path), n.Pairs, cell(route(n.Rule, n.Method, n.Class)), n.Why)
		}
		fmt.Fprintf(&b, "\n%s</details>\n", more(len(j.Noise)))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// cell is text that means nothing to Markdown: names and targets come from
// anybody.
func cell(s string) string {
	var b strings.Builder
	for _, r := range printable(s) {
		if strings.ContainsRune("\\`*_{}[]()#+!|~&@:", r) {
			b.WriteByte('\\')
		}
		switch r {
		case '<':
			b.WriteString("&lt;")
		case '>':
			b.WriteString("&gt;")
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// code is text in a code span. A backquote would end it, and a bar the cell,
// one behind a backslash, too: that would then escape ours.
func code(s string) string {
	s = strings.NewReplacer("`", "'", `\|`, `\ \|`, "|", `\|`).Replace(printable(s))
	return "`" + s + "`"
}
