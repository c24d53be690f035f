package torture

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/shadowtap/shadowtap/pkg/netlab"
)

// ailment is a way for the shadow to fail, and what must come of it. While it
// fails, production must not notice, nothing must be lost on the way to the
// mirror, and every copy be counted; once it is mended copies must be answered
// again without anybody's help.
type ailment struct {
	name string
	// begin makes the shadow fail, before the agent starts, and returns what
	// mends it.
	begin func(p *patient) (mend func())
	args  []string
	// failed are the reasons for which copies may fail meanwhile. The first of
	// them must occur, and is the truth.
	failed []string
	// dropped is the reason for which requests may be dropped; "" is none.
	dropped string
	answers bool // copies may be answered meanwhile
	body    int  // the longest content of requests, in bytes; 0 is the usual
	most    bool // as much as there can be at a time is to be held
	limit   int  // of the agent's memory in MiB; 0 is the usual
	long    bool // not part of the short form
	bound   int  // of requests, whatever the share, where each takes its time; 0 is none
}

// Shadows are tried again fast enough for a test.
var eager = []string{"--max-backoff", "200ms", "--in-flight", "8"}

// Where only time tells that a copy has failed, and a healthy shadow must get
// by with the same afterwards, however slow the machine is.
var hasty = []string{"--timeout", "5s", "--connect-timeout", "3s"}

// With these the agent holds as much as it may.
var hoarding = []string{"--in-flight", "300", "--timeout", "5s", "--connect-timeout", "5s", "--max-failures", "100000"}

var ailments = []ailment{
	{name: "shadow: down", begin: down, failed: []string{"connect", "circuit_open"}},
	{name: "shadow: refusing", begin: refusing, failed: []string{"connect", "circuit_open"}},
	{name: "shadow: packets vanish", begin: vanishing, args: hasty, failed: []string{"connect", "circuit_open"}},
	{name: "shadow: silent", begin: ailing(hold), args: hasty, failed: []string{"timeout", "circuit_open"}},
	{name: "shadow: a byte a second", begin: ailing(drip), args: hasty, failed: []string{"timeout", "circuit_open"}},
	// What follows the answer to a HEAD may be taken for the next answer.
	{name: "shadow: endless answers", begin: ailing(flood), args: append(hasty[:len(hasty):len(hasty)], "--in-flight", "32"), failed: []string{"timeout", "protocol"}, answers: true, bound: 300},
	{name: "shadow: heads of 100 MB", begin: ailing(bigHead), failed: []string{"protocol", "circuit_open"}},
	{name: "shadow: garbage", begin: ailing(garbage), failed: []string{"protocol", "circuit_open"}},
	{name: "shadow: resets within answers", begin: ailing(breakOff), failed: []string{"reset"}, answers: true},
	{name: "shadow: closes at once", begin: ailing(func(net.Conn) {}), failed: []string{"reset", "circuit_open"}},
	{name: "shadow: another's certificate", begin: misnamed, failed: []string{"tls", "circuit_open"}},
	{name: "shadow: no TLS on its port", begin: unencrypted, failed: []string{"tls", "circuit_open"}},
	{name: "shadow: name does not resolve", begin: nameless, failed: []string{"dns", "circuit_open"}},
	{name: "shadow: no endpoints", begin: deserted, dropped: "no_endpoints", answers: true},
	{name: "shadow: too slow", begin: slow, args: []string{"--queue", "8", "--in-flight", "2", "--timeout", "1m"}, dropped: "queue_full", answers: true},

	{name: "shadow: silent, bodies of 1 MB", begin: ailing(hold), args: append(hoarding[:len(hoarding):len(hoarding)], "--timeout", "10s", "--ring-size", "32MiB"), failed: []string{"timeout", "memory"}, dropped: "memory", body: 1 << 20, most: true, bound: 300},
	{name: "shadow: 300 heads of 100 MB", begin: ailing(bigHead), args: hoarding, failed: []string{"protocol", "memory", "timeout"}, most: true, bound: 300},
	{name: "shadow: 300 endless answers over TLS", begin: encryptedFlood, args: hoarding, failed: []string{"timeout", "memory", "protocol"}, answers: true, most: true, bound: 300},
	{name: "reload: 2.5 MB of rules, again and again", begin: bulky, answers: true, limit: 256, long: true},
}

const (
	// ailmentShare of all requests are sent while each ailment lasts, in
	// percent, and as many once it is over.
	ailmentShare = 1
	// Whatever the shadow does, the agent's memory stays below its limit and
	// what no limit governs; rings, and the program's code, come on top.
	ailmentLimitMiB = 64
	ailmentSlackMiB = 24
)

func (c *ailment) limitMiB() int { return cmp.Or(c.limit, ailmentLimitMiB) }

// shadowAt is where the rules find the shadow.
var shadowAt = netip.MustParseAddrPort("10.99.7.2:80")

// patient is a network whose shadow fails.
type patient struct {
	*testing.T
	client, node, shadow *netlab.Namespace
	rules                string // path
	admin                http.Client
	agent                *agent
	server               *server // at the shadow's address, if there is one
	onset                func()  // if set, makes the shadow fail once the agent runs

	ledger   ledger
	source   requests
	failures []error // of production
}

// run sends n requests while the shadow fails, and n more when it is mended.
func (c *ailment) run(t *testing.T, n int, seed uint64) row {
	begin := time.Now()
	p := &patient{T: t, client: namespace(t, "client"), node: namespace(t, "node"), shadow: namespace(t, "shadow")}
	must(t, netlab.Connect(
		netlab.End{Namespace: p.client, Name: "eth0", Addresses: []netip.Prefix{netip.MustParsePrefix("10.99.0.1/24")}},
		netlab.End{Namespace: p.node, Name: "eth0", Addresses: []netip.Prefix{netip.PrefixFrom(served4.Addr(), 24)}}))
	p.connect()
	p.rules = rulesFor(t, net.TCPAddrFromAddrPort(shadowAt))
	p.admin = http.Client{Transport: &http.Transport{DialContext: p.node.Dial, DisableKeepAlives: true}, Timeout: patience}
	s := sizes{body: cmp.Or(c.body, usual.body), field: usual.field}
	p.source = requests{generator: newGenerator(seed, s, true), ledger: &p.ledger}
	v1, err := p.node.Listen("tcp", served4.String())
	must(t, err)
	defer serveProduction(v1).stop()
	mend := c.begin(p)
	defer func() { p.serve(nil) }()
	p.agent = startAgent(t, p.node.Start, nil, slices.Concat([]string{"-f", p.rules, "--admin", "127.0.0.1:9901",
		"--memory-limit", fmt.Sprint(c.limitMiB(), "MiB")}, eager, c.args)...)
	ready(t, p.agent, p.node)
	if p.onset != nil {
		p.onset()
	}
	if c.dropped == "" && !c.most {
		p.sendPaced(n)
	} else {
		p.send(n)
	}
	ill := p.settled()
	if got := ill.Shadow.Failed; len(c.failed) > 0 && got[c.failed[0]] == 0 || !within(got, c.failed...) {
		t.Errorf("copies failed for %v, want %v, the first of which is the truth", got, c.failed)
	}
	if got := ill.Requests.Dropped; c.dropped != "" && got[c.dropped] == 0 || !within(got, c.dropped, "incomplete") {
		t.Errorf("requests were dropped for %v, want %q", got, c.dropped)
	}
	if got := ill.Shadow.Answered; !c.answers && sum(got) > 0 {
		t.Errorf("copies were answered: %v", got)
	}

	mend()
	came := p.ledger.came()
	well := p.recovered(sum(ill.Shadow.Answered))
	p.sendPaced(n)
	must(t, p.agent.cmd.Process.Signal(syscall.SIGTERM))
	acc, _, err := p.agent.ended()
	must(t, err)
	p.serve(nil)
	c.settle(p, ill, well, acc, came)
	p.ledger.report(t)
	return row{
		name: c.name, requests: len(p.ledger.entries), expected: p.ledger.expected,
		unexplained: p.ledger.unexpl, failures: len(p.failures), peakMiB: p.agent.peakAnonMiB(),
		copies: fates(acc), seconds: time.Since(begin).Seconds(),
	}
}

// settle compares the account with what was sent and what arrived: ill was
// read before the shadow was mended, when came copies had arrived, well when
// it answered again, acc at the end.
func (c *ailment) settle(p *patient, ill, well, acc account, came uint64) {
	l := &p.ledger
	for _, err := range p.failures {
		l.fault("production failed: %v", err)
	}
	if err := acc.closed(); err != nil {
		l.fault("%v", err)
	}
	r, s := acc.Requests, acc.Shadow
	sent, x := uint64(len(l.entries)), &l.expected
	if starved := r.Dropped["memory"] > 0; starved && c.dropped == "memory" {
		if r.Seen > sent || r.Mirrored > x[mirrored] || r.Dropped["incomplete"] > x[incomplete] || s.Sent != r.Mirrored {
			l.fault("%d requests sent, %d of them incomplete: %+v", sent, x[incomplete], acc)
		}
		x[noMemory], x[incomplete] = r.Dropped["memory"], r.Dropped["incomplete"]
		x[unseen] = sent - r.Seen
		acc.Flows.SkippedBytes = 0
	} else if r.Seen != sent || r.Mirrored+r.Dropped[c.dropped] != x[mirrored] || r.Dropped["incomplete"] != x[incomplete] || s.Sent != r.Mirrored {
		l.fault("%d requests sent, %d of them incomplete: %+v", sent, x[incomplete], acc)
	}
	x[mirrored] = r.Mirrored
	if n := sum(acc.Packets.Lost) + acc.Flows.Gaps + acc.Flows.SkippedBytes + acc.Flows.Panics; n != 0 {
		l.fault("capture suffered: %+v", acc)
	}
	if got, want := sum(s.Answered)-sum(ill.Shadow.Answered), l.came()-came; got != want {
		l.fault("%d copies were answered, %d arrived, since the shadow is mended", got, want)
	}
	if !maps.Equal(well.Shadow.Failed, s.Failed) {
		l.fault("copies fail though the shadow had answered again: %v, then %v", well.Shadow.Failed, s.Failed)
	}
	if got := p.agent.peakAnonMiB(); got > c.limitMiB()+ailmentSlackMiB {
		l.fault("the agent took %d MiB of memory, want at most %d and %d", got, c.limitMiB(), ailmentSlackMiB)
	}
}

// within reports whether m counts nothing but reasons.
func within(m map[string]uint64, reasons ...string) bool {
	for reason, n := range m {
		if n > 0 && !slices.Contains(reasons, reason) {
			return false
		}
	}
	return true
}

// fates is what became of all copies, in words.
func fates(acc account) string {
	words := []string{fmt.Sprint(sum(acc.Shadow.Answered), " answered")}
	delete(acc.Requests.Dropped, "incomplete") // not the shadow's doing
	for _, m := range []map[string]uint64{acc.Shadow.Failed, acc.Requests.Dropped} {
		for _, reason := range slices.Sorted(maps.Keys(m)) {
			words = append(words, fmt.Sprint(m[reason], " ", reason))
		}
	}
	return strings.Join(words, ", ")
}

// came is how many copies arrived.
func (l *ledger) came() (n uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.entries {
		n += uint64(e.arrivals)
	}
	return n
}

// send has clients send n more requests.
func (p *patient) send(n int) {
	p.source.mu.Lock()
	p.source.left += n
	p.source.mu.Unlock()
	var wg sync.WaitGroup
	for range min(n, liveClients) {
		wg.Go(func() {
			for c := p.source.next(); c != nil; c = p.source.next() {
				if err := c.send(p.client, served4); err != nil {
					p.source.mu.Lock()
					p.failures = append(p.failures, err)
					p.source.mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
}

// sendPaced sends n requests with no more of them under way to the shadow than
// a queue holds, whatever the time that copies take to fail.
func (p *patient) sendPaced(n int) {
	const atOnce = 200
	for ; n > 0; n -= atOnce {
		p.send(min(n, atOnce))
		p.until("room in the queue", func(acc account) bool { return acc.Shadow.Pending < atOnce })
	}
}

// account asks the agent.
func (p *patient) account() (acc account) {
	p.Helper()
	must(p, json.Unmarshal(p.get("/api/v1/account"), &acc))
	return acc
}

// get reads a page of the admin API. That closes a connection on which nothing
// comes for seconds, and on a busy machine this process may not run for so long.
func (p *patient) get(path string) []byte {
	p.Helper()
	resp, err := p.admin.Get("http://127.0.0.1:9901" + path)
	for deadline := time.Now().Add(patience); hungUp(err) && time.Now().Before(deadline); {
		resp, err = p.admin.Get("http://127.0.0.1:9901" + path)
	}
	must(p, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	must(p, err)
	return body
}

// hungUp reports whether a server closed the connection without an answer.
func hungUp(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// until asks for the account again and again until it is as it must be.
func (p *patient) until(what string, ok func(account) bool) account {
	p.Helper()
	for deadline := time.Now().Add(patience); ; {
		acc := p.account()
		if ok(acc) {
			return acc
		}
		if time.Now().After(deadline) {
			p.Fatalf("no %s: %+v\n%s", what, acc, p.agent.log.String())
		}
		select {
		case <-p.agent.done:
			p.Fatalf("shadowtap ended: %v\n%s", p.agent.exit, p.agent.log.String())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// settled waits for the end of all that was sent and of its copies.
func (p *patient) settled() account {
	p.Helper()
	sent := uint64(len(p.ledger.entries))
	return p.until("end of what is pending", func(acc account) bool {
		// Behind a request whose head found no memory others are not seen.
		all := acc.Requests.Seen == sent || acc.Requests.Dropped["memory"] > 0 && acc.Flows.Open == 0
		return all && acc.Requests.Pending == 0 && acc.Shadow.Pending == 0
	})
}

// recovered sends requests, one by one, until a copy is answered that was not
// among the first ones.
func (p *patient) recovered(answered uint64) account {
	p.Helper()
	for deadline := time.Now().Add(patience); ; {
		p.send(1)
		if acc := p.settled(); sum(acc.Shadow.Answered) > answered {
			return acc
		} else if time.Now().After(deadline) {
			p.Fatalf("the shadow is not used again: %+v\n%s", acc, p.agent.log.String())
		}
	}
}

// reload changes the rules and waits until they are in use.
func (p *patient) reload(change func(text string) string) {
	p.Helper()
	loaded, failed := p.loads()
	p.rewrite(change)
	for deadline := time.Now().Add(patience); ; {
		good, bad := p.loads()
		if bad > failed {
			p.Fatalf("the rules do not load\n%s", p.agent.log.String())
		}
		if good > loaded {
			return
		}
		if time.Now().After(deadline) {
			p.Fatal("the rules are not loaded again")
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// loads is how often the rules were loaded, and how often they could not be.
func (p *patient) loads() (good, bad int) {
	p.Helper()
	for line := range strings.Lines(string(p.get("/metrics"))) {
		_, _ = fmt.Sscanf(line, `shadowtap_rules_loads_total{result="success"} %d`, &good)
		_, _ = fmt.Sscanf(line, `shadowtap_rules_loads_total{result="failure"} %d`, &bad)
	}
	return good, bad
}

// rewrite changes the rules. They are replaced in one step, so that nobody
// reads half of them.
func (p *patient) rewrite(change func(text string) string) {
	p.Helper()
	text, err := os.ReadFile(p.rules)
	must(p, err)
	changed := change(string(text))
	if bytes.Equal(text, []byte(changed)) {
		p.Fatal("the rules do not change")
	}
	must(p, os.WriteFile(p.rules+".new", []byte(changed), 0o600))
	must(p, os.Rename(p.rules+".new", p.rules))
}
