package capture

import (
	"sync"
	"testing"
)

// collector is a Sink that puts streams together in the simplest way: every
// byte goes where its distance from the SYN says.
type collector struct {
	mu      sync.Mutex
	streams map[Flow]*stream
	answers map[Flow]*stream // the other direction
	batches int
	open    bool

	// onSegment, if set, is called for every segment.
	onSegment func(*Segment)
	changed   chan struct{} // gets a value after a batch with segments
	news      bool
}

type stream struct {
	opened  bool
	isn     uint32
	data    []byte
	fin     bool
	largest int // bytes of the largest packet
	current int // bytes of the packet whose parts are arriving
	marked  int // segments with FlagLost
	last    Flags
	next    uint32 // sequence number behind the last segment
	torn    int    // parts of a packet with flags that belong to another part
}

func newCollector() *collector {
	return &collector{streams: make(map[Flow]*stream), answers: make(map[Flow]*stream), changed: make(chan struct{}, 1)}
}

func (c *collector) Begin(int64) {
	c.mu.Lock()
	c.batches++
	c.open, c.news = true, false
}

func (c *collector) Segment(s *Segment) {
	c.news = true
	streams := c.streams
	if s.Flags&FlagResponse != 0 {
		streams = c.answers
	}
	st := streams[s.Flow]
	if st == nil {
		st = &stream{}
		streams[s.Flow] = st
	}
	seq := s.Seq
	if s.Flags&FlagSYN != 0 {
		st.opened, st.isn = true, s.Seq
		seq++
	}
	if !s.Continues {
		st.current = 0
	} else if s.Flags&FlagSYN != 0 || st.next == seq && st.last&(FlagFIN|FlagRST|FlagPSH) != 0 {
		// Where the numbers do not follow, another CPU's packet of the flow
		// came in between.
		st.torn++
	}
	st.last, st.next = s.Flags, seq+uint32(len(s.Payload))
	st.current += len(s.Payload)
	st.largest = max(st.largest, st.current)
	if s.Flags&FlagLost != 0 {
		st.marked++
	}
	if at := int(seq - st.isn - 1); st.opened && at < 1<<30 {
		if need := at + len(s.Payload); need > len(st.data) {
			st.data = append(st.data, make([]byte, need-len(st.data))...)
		}
		copy(st.data[at:], s.Payload)
	}
	st.fin = st.fin || s.Flags&FlagFIN != 0
	if c.onSegment != nil {
		c.onSegment(s)
	}
}

func (c *collector) End() {
	c.open = false
	if c.news {
		select {
		case c.changed <- struct{}{}:
		default:
		}
	}
	c.mu.Unlock()
}

func (c *collector) stream(f Flow) (stream, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if st := c.streams[f]; st != nil {
		return *st, true
	}
	return stream{}, false
}

func (c *collector) answer(f Flow) stream {
	c.mu.Lock()
	defer c.mu.Unlock()
	if st := c.answers[f]; st != nil {
		return *st
	}
	return stream{}
}

// sinksOf gives a tap one and the same collector for all of its shards.
func sinksOf(t testing.TB, tap *Tap, c *collector) []Sink {
	t.Helper()
	sinks := make([]Sink, tap.Shards())
	for i := range sinks {
		sinks[i] = c
	}
	return sinks
}
