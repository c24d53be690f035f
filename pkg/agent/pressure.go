package agent

import (
	"math/bits"
	"time"

	"github.com/shadowtap/shadowtap/pkg/httpstream"
)

// What is asked of a budget that has nothing left gets it from messages that
// are not complete and cost much more: bytes times the time they have been
// held. So a slow body goes before a fast one, a large before a small one, and
// hostile clients who hold much for long lose it wherever they are, while a
// request that is small or fast finds room. Until the budget refuses something
// this takes no time at all.
//
// Queued requests are not touched: a mirror sends or fails them soon enough.

// pressure is what a shard remembers of looking for room.
type pressure struct {
	heard *httpstream.Claim // the last plea it has dealt with
	// barren is until when it is no use to look again, because there was not
	// enough to be had, for large and for small messages. A shard that did
	// nothing but look could be held up by whoever fills the budget.
	barren [2]int64
}

// lookPause is how long a shard that did not find enough does not look again.
const lookPause = 20 * time.Millisecond

// holding is what a message that is not complete holds.
type holding struct {
	bytes uint64
	age   uint64 // in microseconds, and a millisecond more
}

func (s *shard) holding(n int, since int64) holding {
	age := time.Duration(max(0, max(s.now, s.segment.Time)-since))
	return holding{bytes: uint64(n), age: uint64(min(age, time.Hour).Microseconds()) + 1000}
}

// cost is in bytes times microseconds. That of a message of 64 MiB and an hour
// leaves bits to spare.
func (h holding) cost() uint64 { return h.bytes * h.age }

// much is by how much a message must cost more than another one to yield. Where
// all are alike and there is simply not enough for them, nothing would ever be
// complete if young ones displaced those that nearly are.
const much = 8

// yields reports whether a message makes room for one that wants to hold c.
func (h holding) yields(c holding) bool { return h.cost()/much >= c.cost() }

// reserve is the budget's, except that it makes room if there is none.
func (s *shard) reserve(c httpstream.Claim) bool {
	b := s.agent.memory
	return b.reserve(c.Source, c.Held, c.N) || s.makeRoom(c) && b.reserve(c.Source, c.Held, c.N)
}

// reserveDisorder is the same for bytes out of order. All of them are given up
// after a few seconds, and meanwhile leave most of the budget to messages. What
// they may have is shared like all of it: else one client could see to it that
// what overtakes something on its way is torn.
func (s *shard) reserveDisorder(source uint32, held, n int) bool {
	c := httpstream.Claim{Source: source, Held: held, N: n, Since: s.segment.Time}
	if !s.agent.disorder.reserve(source, held, n) {
		return false
	}
	if s.reserve(c) {
		return true
	}
	s.agent.disorder.release(source, n)
	return false
}

func (s *shard) releaseDisorder(source uint32, n int) {
	s.agent.disorder.release(source, n)
	s.agent.memory.release(source, n)
}

// makeRoom gives up messages for c, and reports false if that is no use. What
// this shard does not have is asked of the others, for those who come later.
func (s *shard) makeRoom(c httpstream.Claim) bool {
	kind := 0
	if s.agent.memory.small(c.Held + c.N) {
		kind = 1
	}
	now := max(s.now, s.segment.Time)
	if now < s.pressure.barren[kind] {
		return false
	}
	if !s.yield(c) {
		s.pressure.barren[kind] = now + int64(lookPause)
		s.pressure.heard = &c
		s.agent.memory.plea.Store(&c)
	}
	return true
}

// heed makes room for what another shard had none for.
func (s *shard) heed() {
	if plea := s.agent.memory.plea.Load(); plea != s.pressure.heard {
		s.pressure.heard = plea
		s.yield(*plea)
	}
}

// yield gives up messages that cost much more than c would: of c's source,
// until that holds no more than a quarter of the budget, and of all, until a
// quarter is free. That is more than c needs, so that looking through all flows
// is rare. It reports whether there were enough.
func (s *shard) yield(c httpstream.Claim) bool {
	b := s.agent.memory
	wants := s.holding(c.Held+c.N, c.Since)
	source := c.Source % numSources
	enough := s.giveUp(func() int64 { return b.sources[source].Load() + int64(c.N) - b.limit/4 },
		func(k *conn, h holding) bool { return k.source%numSources == source && h.yields(wants) })
	return s.giveUp(func() int64 { return b.used.Load() + int64(c.N) - b.limit*3/4 },
		func(_ *conn, h holding) bool { return h.yields(wants) }) && enough
}

// giveUp gives up messages that fit, until no bytes are missing, those first
// that cost most, to a factor of 2. Other shards may do the same at the same
// time. The one that memory is wanted for never yields to itself, so its parser
// is not in the middle of anything.
func (s *shard) giveUp(missing func() int64, fits func(*conn, holding) bool) (enough bool) {
	n := missing()
	if n <= 0 {
		return true
	}
	each := func(f func(c *conn, bytes int64, magnitude int)) {
		for stream := range s.asm.Streams {
			c := stream.(*conn)
			held, since := c.parser.Held()
			if held == 0 {
				continue
			}
			if h := s.holding(held, since); fits(c, h) {
				f(c, int64(held), bits.Len64(h.cost()))
			}
		}
	}
	var there [65]int64
	each(func(_ *conn, bytes int64, magnitude int) { there[magnitude] += bytes })
	least := len(there) - 1
	for ; least > 0 && there[least] < n; least-- {
		n -= there[least]
	}
	each(func(c *conn, bytes int64, magnitude int) {
		switch {
		case magnitude < least, magnitude == least && n <= 0, missing() <= 0:
			return
		case magnitude == least:
			n -= bytes
		}
		c.parser.GiveUp()
	})
	return missing() <= 0
}
