package capture

import (
	"context"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
)

// span is the sequence numbers [from, to).
type span struct{ from, to uint32 }

// spans collects which sequence numbers were delivered.
type spans struct {
	mu  sync.Mutex
	all []span
	on  *pace
	way Flags // FlagResponse: of the responses
}

func (s *spans) add(seg *Segment) {
	if len(seg.Payload) == 0 || seg.Flags&FlagResponse != s.way {
		return
	}
	s.mu.Lock()
	s.all = append(s.all, span{seg.Seq, seg.Seq + uint32(len(seg.Payload))})
	s.mu.Unlock()
	if s.on != nil {
		s.on.delivered(seg.Seq + uint32(len(seg.Payload)))
	}
}

// pace lets a sender run ahead of what was delivered by no more than fits a
// ring: a sender faster than the machine would otherwise overflow it, and that
// is another test's matter.
type pace struct {
	mu        sync.Mutex
	moved     sync.Cond
	limit     int
	sent      int
	most      int // of sent, 0: of any
	known     bool
	start     uint32 // the sequence number of the first byte delivered
	end       int    // how many bytes from there were delivered
	abandoned bool
}

func newPace(limit int) *pace {
	p := &pace{limit: limit}
	p.moved.L = &p.mu
	return p
}

func (p *pace) delivered(to uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.known {
		// The connection is tapped from its first byte, and begins slowly: a
		// segment's length of error is nothing beside the limit.
		p.known, p.start = true, to
	}
	p.end = max(p.end, int(int32(to-p.start)))
	p.moved.Broadcast()
}

// lost says that what was sent up to now may never be delivered. All of it
// together still fits a ring.
func (p *pace) lost() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.end = max(p.end, p.sent)
	p.moved.Broadcast()
}

// send waits until n bytes may be sent; false says that there is nothing more
// to send.
func (p *pace) send(n int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for !p.abandoned && (p.sent+n-p.end > p.limit || p.most > 0 && p.sent+n > p.most) {
		p.moved.Wait()
	}
	if !p.abandoned {
		p.sent += n
	}
	return !p.abandoned
}

// ration lets no more than the limit be sent until it is lifted, whatever is
// delivered: while both taps copy nobody reads the ring of the second.
func (p *pace) ration() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.most = p.sent + p.limit
}

func (p *pace) lift() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.most = 0
	p.moved.Broadcast()
}

// stop ends the sending.
func (p *pace) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.abandoned = true
	p.moved.Broadcast()
}

func (s *spans) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.all)
}

// TestTapTakesOver: while one tap takes over from another, every byte of a
// connection is delivered by one of them; and after a handover that fails, by
// the first one again.
func TestTapTakesOver(t *testing.T) { testTakeover(t, 0) }

// TestTapTakesOverResponses: the same of what the server sends.
func TestTapTakesOverResponses(t *testing.T) { testTakeover(t, FlagResponse) }

func testTakeover(t *testing.T, way Flags) {
	n := newNetwork(t)
	c, sink := connect(t, n, netip.AddrPortFrom(serverAddr4, 8080))
	if way == FlagResponse {
		c, sink = sink, c
	}
	received := make(chan int64, 1)
	go func() {
		n, _ := io.Copy(io.Discard, sink)
		received <- n
	}()
	// Of 12 MiB that responses get of a ring, this is there three times at most
	// when the ration is lifted: on its way, rationed, and new.
	pace := newPace(2 << 20)
	first, second := spans{on: pace, way: way}, spans{on: pace, way: way}
	tapFor := func(to *spans, cfg Config) *running {
		c := newCollector()
		c.onSegment = to.add
		return startTap(t, n.server, cfg, c, Target{serverAddr4, 8080})
	}
	responses := way == FlagResponse
	before := tapFor(&first, Config{RingBytes: 16 << 20, Responses: responses})
	after := tapFor(&second, Config{RingBytes: 16 << 20, Responses: responses, Held: true})

	var sending sync.WaitGroup
	sending.Go(func() {
		for piece := random(1000); pace.send(len(piece)); {
			if _, err := c.Write(piece); err != nil {
				t.Error(err)
				return
			}
		}
	})
	defer pace.stop()
	flowing := func(r *running, s *spans) {
		t.Helper()
		n := s.count()
		r.until("traffic", func() bool { return s.count() > n+20 })
	}
	flowing(before, &first)
	if n := second.count(); n != 0 {
		t.Errorf("%d segments delivered by a tap that is held", n)
	}
	// Nobody takes over this time.
	if err := before.Pause(t.Context()); err != nil {
		t.Fatal(err)
	}
	before.Resume()
	pace.lost() // what was sent in the meantime
	flowing(before, &first)
	early := first.count()

	pace.ration()
	if err := after.Copy(); err != nil {
		t.Fatal(err)
	}
	if err := before.Pause(t.Context()); err != nil {
		t.Fatal(err)
	}
	last := first.count()
	after.Deliver()
	pace.lift()
	flowing(after, &second)
	pace.stop()
	sending.Wait()
	c.Close()
	if got := <-received; got != int64(pace.sent) {
		t.Fatalf("%d bytes arrived of %d", got, pace.sent)
	}
	before.finish()
	after.finish()
	if n := first.count(); n != last {
		t.Errorf("%d segments delivered after Pause", n-last)
	}

	// From the first byte that came after the failed handover.
	all := append(first.all[early-1:], second.all...)
	slices.SortFunc(all, func(a, b span) int { return int(int32(a.from - b.from)) })
	end := all[0].from
	for _, s := range all {
		if int32(s.from-end) > 0 {
			t.Fatalf("%d bytes were delivered by neither", s.from-end)
		}
		if int32(s.to-end) > 0 {
			end = s.to
		}
	}
	if start := first.all[0].from; end-start != uint32(pace.sent) {
		t.Errorf("the last byte delivered is %d, sent were %d", end-start, pace.sent)
	}
}

// connect returns both ends of a connection to addr.
func connect(t testing.TB, n *network, addr netip.AddrPort) (client, server net.Conn) {
	t.Helper()
	l := inNetns(t, n.server, func() (net.Listener, error) { return net.Listen("tcp", addr.String()) })
	defer l.Close()
	client, _ = dial(t, n.client, addr)
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	return client, server
}

// TestHeldTapEndsSilently: a successor that gives up delivers nothing.
func TestHeldTapEndsSilently(t *testing.T) {
	n := newNetwork(t)
	at, received := listen(t, n.server, netip.AddrPortFrom(serverAddr4, 8080))
	var s spans
	c := newCollector()
	c.onSegment = s.add
	tap := startTap(t, n.server, Config{Held: true}, c, Target{serverAddr4, 8080})
	if err := tap.Copy(); err != nil {
		t.Fatal(err)
	}
	conn, _ := dial(t, n.client, at)
	send(t, conn, random(1000))
	conn.Close()
	<-received
	if _, counters := tap.finish(); counters.CopiedBytes < 1000 {
		t.Errorf("counters %+v: nothing was copied", counters)
	}
	if n := s.count(); n != 0 {
		t.Errorf("%d segments delivered", n)
	}
}

// TestDeliverBeforeTheEnd: a reader that was told to deliver does, also if the
// end came at the same moment.
func TestDeliverBeforeTheEnd(t *testing.T) {
	delivering := make(chan struct{})
	close(delivering)
	ended, end := context.WithCancel(t.Context())
	end()
	for range 100 { // which of the two is seen first is chance
		if !(&reader{}).hold(ended, delivering) {
			t.Fatal("what was copied is delivered by nobody")
		}
	}
	if (&reader{}).hold(ended, make(chan struct{})) {
		t.Error("delivers what it was not told to")
	}
}

func TestPauseNeedsARunningTap(t *testing.T) {
	newNetwork(t)
	tap, err := Open(Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer tap.Close()
	if err := tap.Pause(context.Background()); err == nil {
		t.Error("paused")
	}
}

// TestShardOf: the agent and the kernel program agree on a flow's shard.
func TestShardOf(t *testing.T) {
	const shards = 8
	k := newKernel(t, shards, 1<<20, 0, target4)
	var key shardKey
	if err := k.spec.Variables[tapVarShardKey].Get(&key); err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		p := to4(FlagACK, 1, "x")
		p.src = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 9, byte(i * 7), byte(i)}), uint16(10000+i*31))
		k.run(k.TapIngressEth, p.bytes(t))
		ring := slices.IndexFunc(k.rings, func(r *ring) bool { return r.available() > 0 })
		s := k.segments()
		if got := shardOf(s[0].Flow, &key, shards); got != ring {
			t.Fatalf("flow %v: shard %d, the kernel says %d", s[0].Flow, got, ring)
		}
	}
}
