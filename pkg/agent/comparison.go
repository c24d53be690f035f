package agent

import (
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/shadowtap/shadowtap/pkg/compare"
	"github.com/shadowtap/shadowtap/pkg/httpstream"
	"github.com/shadowtap/shadowtap/pkg/replay"
	"github.com/shadowtap/shadowtap/pkg/rules"
)

// comparing compares what the shadows answered with what production did, if
// that is asked for. Each copy that a mirror took is one pair.
type comparing struct {
	kept     *httpstream.ResponsePool
	comparer *compare.Comparer
	memory   *budget
	used     atomic.Int64 // of it
	panics   *panics
	pairs    chan *pair
	throttle *throttle // nil unless the traffic comes from a file
	ending   sync.Once
	done     sync.WaitGroup
}

const (
	// pairsWaiting is how many pairs may wait to be compared.
	pairsWaiting = 1024
	// comparisonCost is what a request that waits for its answers takes of the
	// budget, in bytes, besides its text and the answers.
	comparisonCost = 1 << 10
	// maxCompared bounds the method, target and host that a pair is known by,
	// each, in bytes.
	maxCompared = 2 << 10
)

// newComparing returns an error if an option is malformed.
func newComparing(cfg *Config, memory *budget, panics *panics) (*comparing, error) {
	comparer, err := compare.New(cfg.CompareOptions)
	if err != nil {
		return nil, err
	}
	c := &comparing{
		comparer: comparer,
		memory:   memory,
		panics:   panics,
		pairs:    make(chan *pair, pairsWaiting),
	}
	if cfg.PCAP != "" {
		c.throttle = newThrottle()
	}
	c.kept = httpstream.NewResponsePool(int(cfg.CompareBody), c.reserve, c.release)
	c.done.Go(c.run)
	return c, nil
}

// reserve takes n bytes of the budget for what waits to be compared, which
// requests are worth more than: it never has more than a quarter.
func (c *comparing) reserve(source uint32, held, n int) bool {
	if c.used.Add(int64(n)) <= c.memory.limit/4 && c.memory.reserve(source, held, n) {
		return true
	}
	c.used.Add(int64(-n))
	return false
}

// room reports whether two thirds of what reserve allows are free: what is held
// are production's answers in the main, and the shadow's are as large.
func (c *comparing) room() bool { return c.used.Load() <= c.memory.limit/12 }

func (c *comparing) release(source uint32, n int) {
	c.used.Add(int64(-n))
	c.memory.release(source, n)
}

// run compares. It is not done where answers arrive: that would keep a shard
// from its ring, or a worker from its shadow, for as long as it takes.
func (c *comparing) run() {
	for p := range c.pairs {
		if c.panics.guard(inComparison, func() { c.compare(p) }) != nil {
			p.missed = compare.Panic
			c.comparer.Add(p.pair())
		}
		p.release()
	}
}

// close compares what waits. No pair may come any more. It may be called again.
func (c *comparing) close() {
	c.ending.Do(func() { close(c.pairs) })
	c.done.Wait()
}

func (c *comparing) compare(p *pair) {
	m := p.pair()
	if p.missed == compare.Compared {
		m.Production = answerOf(p.of.answer, time.Duration(p.of.answer.End-p.of.start))
		if p.shadow != nil {
			m.Shadow = answerOf(p.shadow, p.latency)
		}
	}
	c.comparer.Add(m)
}

// Report returns what was compared so far, nil without Config.Compare. It is
// safe for concurrent use.
func (a *Agent) Report() *compare.Report {
	if a.comparing == nil {
		return nil
	}
	return a.comparing.comparer.Report()
}

// answerOf copies what is kept of a response.
func answerOf(r *httpstream.Response, latency time.Duration) *compare.Answer {
	a := &compare.Answer{
		Status: r.Status(), Body: append([]byte(nil), r.Content()...), Length: r.Length(), Digest: r.Digest(), Latency: latency,
	}
	for i := range r.NumFields() {
		name, value := r.Field(i)
		a.Header = append(a.Header, compare.Field{Name: string(name), Value: string(value)})
	}
	for i := range r.NumTrailers() {
		name, value := r.Trailer(i)
		a.Trailers = append(a.Trailers, compare.Field{Name: string(name), Value: string(value)})
	}
	return a
}

// comparison is a request that is mirrored and waits for the answers to it and
// to its copies.
type comparison struct {
	comparing *comparing
	source    uint32
	cost      int
	start     int64
	text      *requestText

	mu     sync.Mutex
	known  bool // what production answered, or that it will not be known
	answer *httpstream.Response
	missed compare.Reason // why there is no answer
	early  []*pair        // copies that were done before

	refs atomic.Int32 // copies that are not compared, and one of the dialogue's
}

// requestText is what a pair says of its request.
type requestText struct {
	time                       time.Time
	method, target, host, rule string
}

// begin prepares for the answers to r. It returns nil if the budget refuses
// that.
func (c *comparing) begin(r *httpstream.Request, d *rules.Decision, source uint32) *comparison {
	method, target, host := clip(r.Method()), clip(r.Target()), clip(r.Host())
	cost := comparisonCost + len(method) + len(target) + len(host)
	if !c.reserve(source, 0, cost) {
		return nil
	}
	m := &comparison{comparing: c, source: source, cost: cost, start: r.Start, text: &requestText{
		time: time.Unix(0, r.Start), method: string(method), target: string(target), host: string(host), rule: ruleName(d.Route.Rule()),
	}}
	m.refs.Store(1)
	return m
}

// ruleName is how a route is called in reports.
func ruleName(r rules.Rule) string {
	route := r.Route
	if route == "" {
		route = "#" + strconv.Itoa(r.Index)
	}
	return r.Kind + " " + r.Namespace + "/" + r.Name + " " + route
}

func clip(b []byte) []byte { return b[:min(len(b), maxCompared)] }

// copied is a copy whose answer is compared: what Mirror.Submit is given.
type copied struct {
	replay.Shaper
	of     *comparison // nil: for want of memory
	mirror string
}

// Timeout implements replay.Bounded.
func (c *copied) Timeout() time.Duration {
	if b, ok := c.Shaper.(replay.Bounded); ok {
		return b.Timeout()
	}
	return 0
}

// HeadBound implements replay.Growing.
func (c *copied) HeadBound(r *httpstream.Request) int {
	if g, ok := c.Shaper.(replay.Growing); ok {
		return g.HeadBound(r)
	}
	return len(r.HeaderBlock())
}

// pair is one copy that is done.
type pair struct {
	of      *comparison
	mirror  string
	shadow  *httpstream.Response // nil if there is none
	latency time.Duration
	request uint64 // its identity
	failure string
	missed  compare.Reason
}

func (p *pair) pair() *compare.Pair {
	t := p.of.text
	return &compare.Pair{
		Time: t.time, Method: t.method, Target: t.target, Host: t.host, Rule: t.rule, Request: p.request,
		Mirror: p.mirror, Failure: p.failure, Missed: p.missed,
	}
}

func (p *pair) release() {
	p.forget()
	p.of.release()
	p.of.comparing.throttle.end() // see send
}

// forget gives up what is kept of the shadow's answer.
func (p *pair) forget() {
	if p.shadow != nil {
		p.shadow.Release()
		p.shadow = nil
	}
}

// copy is what a mirror is given instead of to. m may be nil.
func (m *comparison) copy(to *rules.RouteMirror) *copied {
	if m != nil {
		m.refs.Add(1)
	}
	return &copied{Shaper: to, of: m, mirror: to.Mirror.Key()}
}

// notTaken says that the mirror did not take the last copy. m may be nil.
func (m *comparison) notTaken() {
	if m != nil {
		m.release()
	}
}

func (m *comparison) release() {
	if m.refs.Add(-1) > 0 {
		return
	}
	if m.answer != nil {
		m.answer.Release()
	}
	m.comparing.release(m.source, m.cost)
}

// production says what production answered, or why that is not known. It is
// called once.
func (m *comparison) production(r *httpstream.Response, why compare.Reason) {
	m.mu.Lock()
	m.known, m.answer, m.missed = true, r, why
	early := m.early
	m.early = nil
	m.mu.Unlock()
	for _, p := range early {
		m.send(p)
	}
	m.release()
}

// copyDone is replay.Config.OnResult.
func (c *comparing) copyDone(r replay.Result) {
	made, ok := r.Shaper.(*copied)
	if !ok { // queued before comparing was asked for: cannot be
		return
	}
	defer c.throttle.end()
	if made.of == nil {
		if r.Response != nil {
			r.Response.Release()
		}
		c.comparer.Add(&compare.Pair{Mirror: made.mirror, Missed: compare.Memory})
		return
	}
	p := &pair{of: made.of, mirror: made.mirror, shadow: r.Response, latency: r.Latency}
	fault := c.panics.guard(inComparison, func() { p.request = identityOf(r.Request) })
	switch {
	case fault != nil:
		p.missed = compare.Panic
	case !r.Outcome.Answered():
		p.failure = r.Outcome.String()
		p.forget() // half an answer is none
	case r.Partial:
		p.missed = compare.TooLarge
	case r.Response == nil, !r.Response.Whole():
		p.missed = compare.Memory
	}
	m := made.of
	m.mu.Lock()
	if !m.known {
		m.early = append(m.early, p)
		m.mu.Unlock()
		return
	}
	m.mu.Unlock()
	m.send(p)
}

// identityOf tells questions apart that production may answer differently.
func identityOf(r *httpstream.Request) uint64 {
	var id compare.Identity
	for i := range r.NumFields() {
		id.Field(r.Field(i))
	}
	id.Content(r.Body())
	return id.Sum()
}

// send has a pair compared, of which both sides are known.
func (m *comparison) send(p *pair) {
	c := m.comparing
	if m.answer == nil {
		p.missed = m.missed
	}
	c.throttle.begin()
	if c.throttle != nil {
		c.pairs <- p // neither a worker nor the reader of a file is in a hurry
		return
	}
	select {
	case c.pairs <- p:
	default:
		p.missed = compare.Busy
		c.comparer.Add(p.pair())
		p.release()
	}
}
