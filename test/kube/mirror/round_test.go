package mirror

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"text/tabwriter"
)

// host is the one that the example's rule is for.
const host = "www.bookinfo.com"

// round is a time of traffic while something happens.
type round struct {
	name string
	// urls are asked by the client of every node, over new connections and
	// over persistent ones.
	urls []string
	// during is what happens. Traffic stops when it returns; without it, after
	// some requests of each kind.
	during func()
	// percent of what v1 answers is mirrored; -1 is unknown, as while a rule
	// changes.
	percent float64
	// v1 may be changed where its pods are named otherwise, and host where the
	// rule is another.
	v1, host string
}

// verdict is what became of the requests of a round.
type verdict struct {
	name             string
	sent, byV1, byV2 int
	// failed are requests that production did not answer as it should.
	failed []outcome
	// once and never: v2 received one copy, or none, of what v1 answered.
	once, never int
	// wrong are copies that should not be, or not as they are.
	wrong []string
	// untapped were answered while no agent had their pod; unexplained were
	// answered while one had, and no account says why there is no copy.
	untapped    int
	unexplained []outcome
	agents      tally
}

// ledger is what became of the requests of all rounds.
type ledger struct{ rounds []verdict }

// String is a table.
func (l *ledger) String() string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "round\tsent\tfailed\tto v2\tto v1\tonce\twrong\tnever\tsampled\tdropped\tuntapped\tUNEXPL")
	for _, v := range l.rounds {
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\n", v.name, v.sent, len(v.failed), v.byV2, v.byV1,
			v.once, len(v.wrong), v.never, v.agents.sampledOut, v.agents.missing(), v.untapped, len(v.unexplained))
	}
	_ = w.Flush() // to memory
	return b.String()
}

// String is for failures: the row of the ledger, and what the agents say.
func (v verdict) String() string {
	return fmt.Sprintf("\n%sagents: %+v", &ledger{[]verdict{v}}, v.agents)
}

// play runs a round and says what became of its requests. What must hold in
// every round is checked here: production is not harmed, nothing is mirrored
// twice or otherwise than the rule says, and nothing is missing without a
// reason.
func (l *ledger) play(t *testing.T, r round) verdict {
	t.Helper()
	if r.v1 == "" {
		r.v1 = "httpbin-v1"
	}
	if r.host == "" {
		r.host = host
	}
	clients := clientPods(t)
	agents := watchAgents(t)
	t.Cleanup(func() {
		for _, c := range clients {
			_ = call("POST", clientURL(c, "/stop"), nil, nil) // nothing is left, unless the round failed
		}
	})
	const each, perSecond = 60, 15
	for node, c := range clients {
		for i, url := range r.urls {
			for _, closing := range []bool{false, true} {
				l := load{Name: fmt.Sprintf("%s-%s-%d-%v", r.name, node, i, closing), URL: url, Host: r.host, PerSecond: perSecond, Close: closing}
				if r.during == nil {
					l.Limit = each
				}
				must(t, call("POST", clientURL(c, "/start"), l, nil))
			}
		}
	}
	end := "/finish"
	if r.during != nil {
		r.during()
		end = "/stop"
	}
	var outcomes []outcome
	for _, c := range clients {
		var some []outcome
		must(t, call("POST", clientURL(c, end), nil, &some))
		outcomes = append(outcomes, some...)
	}
	settle(t)
	agents.close()
	agents.sampleAll()
	v := judge(t, r, outcomes, agents)
	l.rounds = append(l.rounds, v)
	check(t, v, agents)
	return v
}

// judge joins what clients, v2 and agents saw.
func judge(t *testing.T, r round, outcomes []outcome, agents *watch) verdict {
	t.Helper()
	got := copies(t)
	v := verdict{name: r.name, sent: len(outcomes), agents: agents.total()}
	var missing []outcome
	for _, o := range outcomes {
		all := got[o.ID]
		for _, c := range all {
			if want := map[string]string{"GET": "//get", "POST": "//post"}[c.Method]; c.Target != want || c.Host != r.host {
				v.wrong = append(v.wrong, fmt.Sprintf("%s was copied as %s %s to %s", o.ID, c.Method, c.Target, c.Host))
			}
		}
		switch {
		case o.Status != 200 || o.Error != "":
			v.failed = append(v.failed, o)
		case strings.HasPrefix(o.By, r.v1):
			v.byV1++
			switch len(all) {
			case 0:
				v.never++
				missing = append(missing, o)
			case 1:
				v.once++
			default:
				v.wrong = append(v.wrong, fmt.Sprintf("%s was copied %d times", o.ID, len(all)))
			}
		default:
			v.byV2++
			if len(all) > 0 {
				v.wrong = append(v.wrong, fmt.Sprintf("%s was answered by %s and copied", o.ID, o.By))
			}
		}
	}
	if r.percent != 100 {
		return v // some are not to be mirrored; which, the sampling says
	}
	for _, o := range missing {
		endpoint, err := netip.ParseAddrPort(agents.addresses[o.By] + ":80")
		if err != nil || !agents.captured(endpoint, o.At, o.Done) {
			v.untapped++
			continue
		}
		v.unexplained = append(v.unexplained, o)
	}
	// What the accounts say is missing is explained, whichever it was.
	v.unexplained = v.unexplained[min(int(v.agents.missing()), len(v.unexplained)):]
	return v
}

// check fails the test where a law is broken.
func check(t *testing.T, v verdict, agents *watch) {
	t.Helper()
	if v.sent == 0 || v.byV1 == 0 {
		t.Errorf("%s: %d requests were sent and v1 answered %d: that shows nothing", v.name, v.sent, v.byV1)
	}
	for _, o := range few(v.failed) {
		t.Errorf("%s: production failed: %+v", v.name, o)
	}
	for _, w := range few(v.wrong) {
		t.Errorf("%s: %s", v.name, w)
	}
	for _, o := range few(v.unexplained) {
		t.Errorf("%s: no copy and no reason: %+v", v.name, o)
	}
	for _, b := range few(agents.broken) {
		t.Errorf("%s: an account does not add up: %s", v.name, b)
	}
}

// few keeps a failure readable.
func few[T any](all []T) []T { return all[:min(len(all), 5)] }
