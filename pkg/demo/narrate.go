package demo

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// narrator tells the audience what happens. What cannot be written is not
// told: the verdict does not depend on it.
type narrator struct{ w io.Writer }

func (n narrator) say(format string, args ...any) {
	_, _ = fmt.Fprintf(n.w, format+"\n", args...)
}

// line is one labelled line of an act.
func (n narrator) line(label, format string, args ...any) {
	n.say("   %-14s %s", label, fmt.Sprintf(format, args...))
}

func (n narrator) intro() {
	n.say(`shadowtap demo: production is httpbin v1, its shadow is v2

   client 10.99.2.2 ───▶ node ───▶ v1 %s    untouched, nothing in its path
                          ╎
                      shadowtap ─▶ v2 %s    copies of /httpbin, rewritten to /
`, v1Address, v2Address)
}

func (n narrator) started(command string) {
	n.say("On the node: %s\n", command)
}

func (n narrator) act(number int, a act) { n.say("%d. %s", number, a.title) }

// message is how a request line, a host and a body are shown.
func message(method, target, host string, body int64) string {
	return fmt.Sprintf("%-6s %-42s %s, %s", method, target, host, size(body))
}

func (n narrator) answered(r request, a answer, same bool) {
	n.line("client sent", "%s", message(r.method, r.target, r.host, int64(len(r.body))))
	verdict := "as without shadowtap"
	if !same {
		verdict = "NOT as without shadowtap"
	}
	n.line("v1 answered", "%s, %s, %s", a.status, size(int64(len(a.body))), verdict)
}

func (n narrator) unmatched() { n.line("rule", "none: not mirrored\n") }

// mirrored tells the way of one copy to v2.
func (n narrator) mirrored(rec record, got receipt) {
	for _, m := range rec.Mirrors {
		n.line("rule", "%s %s/%s, route %s: %g %% to %s subset %s",
			rec.Rule.Kind, rec.Rule.Namespace, rec.Rule.Name, rec.Rule.Route, m.Percentage, m.Host, m.Subset)
		n.line("copy", "%-6s %s %s to %s",
			m.Request.Method, m.Request.Target, m.Request.Version, strings.Join(m.Endpoints, ", "))
	}
	n.line("v2 received", "%s\n", message(got.method, got.target, got.host, got.body))
}

func (n narrator) burst(a act, s *stage) {
	first, last := a.requests[0], a.requests[len(a.requests)-1]
	received := 0
	for _, r := range a.requests {
		received += len(s.v2.receipts.get(r.id))
	}
	n.line("client sent", "%s to", message(first.method, first.target, first.host, 0))
	n.line("", "%s", message(last.method, last.target, last.host, 0))
	n.line("v2 received", "%d of %d\n", received, len(a.requests))
}

func (n narrator) account(a *account) {
	r, s, p := a.Requests, a.Shadow, a.Packets
	n.say("shadowtap's account")
	n.line("requests", "%d seen = %d mirrored + %d filtered + %d sampled out + %d looped + %d dropped + %d pending",
		r.Seen, r.Mirrored, r.Filtered, r.SampledOut, r.Looped, r.Dropped.sum(), r.Pending)
	n.line("copies", "%d sent = %d answered%s + %d failed%s + %d pending",
		s.Sent, s.Answered.sum(), s.Answered, s.Failed.sum(), s.Failed, s.Pending)
	n.line("packets", "%d seen = %d copied + %d skipped%s + %d lost%s\n",
		p.Seen, p.Copied, p.Skipped.sum(), p.Skipped, p.Lost.sum(), p.Lost)
}

// String lists the reasons that occurred, " (2xx 3, 4xx 1)".
func (c counts) String() string {
	var list []string
	for _, reason := range slices.Sorted(maps.Keys(c)) {
		if c[reason] != 0 {
			list = append(list, fmt.Sprintf("%s %d", reason, c[reason]))
		}
	}
	if list == nil {
		return ""
	}
	return " (" + strings.Join(list, ", ") + ")"
}

func (n narrator) verdict(t tally, problems []error) {
	if len(problems) > 0 {
		n.say("It does NOT add up: %d problems.", len(problems))
		return
	}
	n.say("It adds up. v2 received each of the %d requests the rule takes exactly once, the same", t.matching)
	n.say("bytes as v1, and none of the other %d. v1 answered all %d as it does without shadowtap.",
		t.filtered, len(t.requests))
}

// size shows a number of bytes.
func size(n int64) string {
	switch {
	case n == 0:
		return "no body"
	case n < 10_000:
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%d kB", n/1000)
}
