package agent

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/shadowtap/shadowtap/pkg/capture"
)

// crowd is an agent with a small budget and clients that send to its shards.
// No rule is about their requests: one that is complete is counted as filtered.
type crowd struct {
	*Agent
	t   *testing.T
	now time.Duration
	seq map[capture.Flow]uint32
}

func newCrowd(t *testing.T, shards int) *crowd {
	t.Helper()
	cfg := testConfig(t, shadowRules("127.0.0.1:9"), writePCAP(t))
	cfg.MemoryLimit = 16 << 20
	a, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for len(a.shards) < shards {
		a.shards = append(a.shards, a.newShard())
	}
	c := &crowd{Agent: a, t: t, seq: map[capture.Flow]uint32{}}
	t.Cleanup(func() {
		for _, s := range a.shards {
			s.close()
		}
		if n, d := a.memory.used.Load(), a.disorder.used.Load(); n != 0 || d != 0 {
			t.Errorf("%d bytes are held in the end, %d of them out of order", n, d)
		}
		a.close()
	})
	return c
}

// client is the n-th connection from the address of a source.
func client(source, n int) capture.Flow {
	f := capture.Flow{SrcIP: [16]byte{10: 0xff, 11: 0xff, 12: 10}, DstIP: [16]byte{10: 0xff, 11: 0xff, 12: 10, 13: 99, 15: 2}, SrcPort: uint16(n), DstPort: 80}
	binary.BigEndian.PutUint16(f.SrcIP[14:], uint16(source))
	return f
}

// send gives a shard the next bytes of a connection.
func (c *crowd) send(shard int, from capture.Flow, text string) {
	s := c.shards[shard]
	now := int64(c.now)
	s.Begin(now)
	seq, open := c.seq[from]
	if !open {
		seq = 1
		s.Segment(&capture.Segment{Flow: from, Flags: capture.FlagSYN, Time: now})
	}
	s.Segment(&capture.Segment{Flow: from, Seq: seq, Ack: 1, Flags: capture.FlagACK, Time: now, Payload: []byte(text)})
	c.seq[from] = seq + uint32(len(text))
	s.End()
}

// batch is one in which a shard gets nothing.
func (c *crowd) batch(shard int) {
	c.shards[shard].Begin(int64(c.now))
	c.shards[shard].End()
}

// post is a request with a body of n bytes, of which have are there.
func post(n, have int) string {
	return fmt.Sprintf("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n", n) + strings.Repeat("b", have)
}

// outcome is how many requests got through, and were dropped for want of
// memory.
func (c *crowd) outcome() (through, dropped uint64) {
	c.t.Helper()
	a, err := c.Account()
	if err != nil {
		c.t.Fatal(err)
	}
	if !a.Requests.Balanced() {
		c.t.Errorf("the account does not balance: %+v", a.Requests)
	}
	return a.Requests.Filtered, a.Requests.Dropped["memory"]
}

// TestRoomForSmallRequests: hostile clients stop short of the end of what they
// send, until nothing is left. Requests that are small go through all the same,
// from the address of a hostile one, too.
func TestRoomForSmallRequests(t *testing.T) {
	for name, hostile := range map[string]struct {
		clients int // enough to fill the budget
		sources int
		text    string
	}{
		"large bodies from everywhere": {100, 1000, post(1<<17, 1<<17-1)},
		"small bodies from everywhere": {1400, 3000, post(3000, 2999)},
		"heads from everywhere":        {1400, 3000, "GET / HTTP/1.1\r\nHost: a\r\nx: " + strings.Repeat("x", 3000)},
		"many fields from everywhere":  {400, 3000, "GET / HTTP/1.1\r\n" + strings.Repeat("a:\r\n", 900)},
		"large bodies from one source": {50, 1, post(1<<18, 1<<18-1)},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCrowd(t, 1)
			clients := 0
			attack := func() {
				c.now += time.Millisecond
				c.send(0, client(clients%hostile.sources, 1000+clients), hostile.text)
				clients++
			}
			for range hostile.clients {
				attack()
			}
			const honest, atOnce = 300, 20
			text := post(3000, 3000)
			for i := range honest + atOnce {
				if i%8 == 0 || len(hostile.text) < 4000 {
					attack()
				}
				if i < honest {
					c.send(0, client(5000, i%100), text[:1400])
				}
				if i >= atOnce {
					c.send(0, client(5000, (i-atOnce)%100), text[1400:])
				}
			}
			through, dropped := c.outcome()
			if through != honest {
				t.Errorf("%d of %d small requests got through", through, honest)
			}
			if dropped == 0 {
				t.Error("nobody was refused memory: the attack is none")
			}
		})
	}
}

// TestRoomYieldsTheCostliest: what is given up held the most bytes for the
// longest time. A request under way that costs little stays.
func TestRoomYieldsTheCostliest(t *testing.T) {
	c := newCrowd(t, 1)
	for i := range 1500 { // until nothing is left
		c.send(0, client(i, 1), post(3000, 2999))
	}
	c.now += time.Minute
	_, before := c.outcome()
	c.send(0, client(5001, 1), post(3000, 2999)) // costs little so far
	c.send(0, client(5002, 1), post(3000, 3000))
	through, dropped := c.outcome()
	if through != 1 || dropped == before {
		t.Fatalf("%d requests got through, %d were dropped for it", through, dropped-before)
	}
	if want := c.memory.limit * 3 / 4; c.memory.used.Load() > want || c.memory.used.Load() < want-64<<10 {
		t.Errorf("%d bytes are held, want a little less than %d", c.memory.used.Load(), want)
	}
	c.send(0, client(5001, 1), "b")
	if through, _ := c.outcome(); through != 2 {
		t.Error("a request that cost little was given up")
	}
}

// TestRoomInAnotherShard: a shard that holds nothing itself is heard by the
// one that does.
func TestRoomInAnotherShard(t *testing.T) {
	c := newCrowd(t, 2)
	for i := range 4000 {
		c.send(0, client(i, 1), post(3000, 2999))
	}
	c.now += time.Minute
	own := c.memory.plea.Load()
	for i := 0; c.memory.plea.Load() == own; i++ { // until nothing is left for them, either
		c.send(1, client(5000+i, 1), post(3000, 2999))
		if i == 4000 {
			t.Fatal("a shard that has no room says nothing")
		}
	}
	c.batch(0)
	if c.memory.used.Load() > c.memory.limit*3/4 {
		t.Errorf("%d bytes are held: nothing was given up", c.memory.used.Load())
	}
	before, _ := c.outcome()
	for i := range 100 {
		c.send(1, client(10_000+i, 1), post(3000, 3000))
	}
	if through, _ := c.outcome(); through != before+100 {
		t.Errorf("%d of 100 requests got through", through-before)
	}
}

// TestLargeAlikeDoNotDisplaceEachOther: where there is simply not enough for
// large requests that come at one pace, the young ones are refused, so that
// some are completed.
func TestLargeAlikeDoNotDisplaceEachOther(t *testing.T) {
	t.Run("from one source", func(t *testing.T) { alike(t, 1, 10) })
	t.Run("from everywhere", func(t *testing.T) { alike(t, 200, 20) })
}

func alike(t *testing.T, sources, steps int) {
	c := newCrowd(t, 1)
	piece := 1_000_000 / steps
	for at := range 100 { // one begins at each step
		c.now += 100 * time.Millisecond
		for i := max(0, at-steps); i <= at; i++ {
			text := strings.Repeat("b", piece)
			if i == at {
				text = post(steps*piece, 0)
			}
			c.send(0, client(i%sources, i), text)
		}
	}
	if n, _ := c.outcome(); n < 10 {
		t.Errorf("%d of 100 large requests were completed", n)
	}
}

// TestFruitlessSearchesAreFew: whoever fills the budget with what cannot be
// given up does not make a shard look for room at each request.
func TestFruitlessSearchesAreFew(t *testing.T) {
	c := newCrowd(t, 1)
	queued := c.memory.limit - 4<<10
	c.memory.used.Add(queued)
	defer c.memory.used.Add(-queued)
	pleas := map[any]bool{}
	for i := range 1000 {
		c.now += time.Millisecond / 10
		c.send(0, client(i, 1), post(30_000, i%2*20_000))
		if p := c.memory.plea.Load(); p != nil {
			pleas[p] = true
		}
	}
	if n := len(pleas); n < 2 || n > 12 { // large and small ones, each once in 20 ms
		t.Errorf("%d searches in 100 ms", n)
	}
}
