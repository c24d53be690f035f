package reassembly

import (
	"runtime"
	"strings"
	"testing"
	"time"
)

func TestFlowBoundGivesUpTheOldestHole(t *testing.T) {
	h := newHarness(t, Config{MaxBufferedPerFlow: 3 * cost(0)})
	h.open(Flow{})
	h.data(Flow{}, 1, "b")
	h.data(Flow{}, 3, "d")
	h.data(Flow{}, 5, "f")
	h.data(Flow{}, 7, "h") // the fourth needs room
	h.data(Flow{}, 2, "c")
	h.data(Flow{}, 9, "j")
	h.check("open", "gap 1", "data b", "data c", "data d")
	h.a.Close()
	h.check("open", "gap 1", "data b", "data c", "data d",
		"gap 1", "data f", "gap 1", "data h", "gap 1", "data j", "closed shutdown")
}

func TestSegmentInFrontOfAFullQueue(t *testing.T) {
	h := newHarness(t, Config{MaxBufferedPerFlow: 2 * cost(0)})
	h.open(Flow{})
	h.data(Flow{}, 6, "g")
	h.data(Flow{}, 8, "i")
	h.data(Flow{}, 3, "de") // no hole in front of g could make room for it
	h.data(Flow{}, 5, "f")
	h.data(Flow{}, 7, "h")
	h.check("open", "gap 3", "data de", "data f", "data g", "data h", "data i")
}

func TestSegmentLargerThanTheBound(t *testing.T) {
	h := newHarness(t, Config{MaxBufferedPerFlow: 2 * cost(3)})
	h.open(Flow{})
	big := strings.Repeat("x", 3*classes[3])
	h.data(Flow{}, 5, big)
	h.data(Flow{}, 5+uint32(len(big)), "y")
	var got int
	for _, e := range h.log {
		got += strings.Count(e, "x")
	}
	if got != len(big) || h.log[1] != "gap 5" || h.log[len(h.log)-1] != "data y" {
		t.Errorf("%d bytes in %d events", got, len(h.log))
	}
	h.checkBooks()
}

func TestTotalBoundAndRefusedReserve(t *testing.T) {
	budget := 1 << 30
	configs := map[string]Config{
		"total": {MaxBufferedTotal: 2 * cost(0)},
		"reserve": {
			Reserve: func(_ uint32, _, n int) bool {
				if budget < n {
					return false
				}
				budget -= n
				return true
			},
			Release: func(_ uint32, n int) { budget += n },
		},
	}
	for name, cfg := range configs {
		t.Run(name, func(t *testing.T) {
			budget = 2 * cost(0)
			h := newHarness(t, cfg)
			for i := range uint16(3) {
				h.open(port(i + 1))
				h.data(port(i+1), 1, "b")
			}
			h.data(port(1), 0, "a")
			h.data(port(3), 3, "d")
			h.data(port(2), 0, "a")
			h.data(port(3), 2, "c")
			want := []string{"1: open", "2: open", "3: open", "3: gap 1", "3: data b", "1: start a", "1: data b",
				"2: start a", "2: data b", "3: data c", "3: data d"}
			if strings.Join(h.log, ",") != strings.Join(want, ",") {
				t.Errorf("got  %q\nwant %q", h.log, want)
			}
			if m := h.a.Stats().Memory; m != 0 {
				t.Errorf("%d bytes left", m)
			}
			if name == "reserve" && budget != 2*cost(0) {
				t.Errorf("%d bytes of the budget left", budget)
			}
		})
	}
}

func TestFragmentBound(t *testing.T) {
	h := newHarness(t, Config{})
	h.open(Flow{})
	for i := range uint32(maxFragments) {
		h.data(Flow{}, 1+2*i, "x")
	}
	h.check("open")
	h.data(Flow{}, 1+2*maxFragments, "x")
	h.check("open", "gap 1", "data x")
}

// quiet is a Stream that only counts.
type quiet struct{ bytes, gaps, lost, closed int }

func (q *quiet) Data(p []byte, _ bool, _ int64) { q.bytes += len(p) }
func (q *quiet) Gap(n int64, _ int64)           { q.gaps++; q.lost += int(n) }
func (q *quiet) Closed(CloseReason, int64)      { q.closed++ }

// TestHostileFragments sends what costs the most memory and time per byte:
// single bytes that never touch, forwards, backwards and in a shuffle, on a
// thousand flows. The bound on memory must be one on real memory.
func TestHostileFragments(t *testing.T) {
	const total = 4 << 20
	q := new(quiet)
	a := New(Config{
		MaxBufferedTotal: total,
		NewStream:        func(Flow, bool, int64) Stream { return q },
	})
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	const flows, perFlow = 1000, 1000
	s := Segment{Payload: []byte("x")}
	for i := range uint16(flows) {
		s.Seq, s.Flags = 0, FlagSYN
		s.Payload = nil
		a.Segment(port(i), &s)
	}
	s.Payload, s.Flags = []byte("x"), FlagACK
	for n := range uint32(perFlow) {
		for i := range uint16(flows) {
			switch i % 3 {
			case 0:
				s.Seq = 2 + 2*n
			case 1:
				s.Seq = 2 + 2*(perFlow-n)
			default:
				s.Seq = 2 + 2*(n*389%perFlow)
			}
			s.Ack = n
			a.Segment(port(i), &s)
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	st := a.Stats()
	if st.Memory > total || st.MemoryPeak > total {
		t.Errorf("%d bytes, peak %d", st.Memory, st.MemoryPeak)
	}
	if grown := int(after.HeapAlloc) - int(before.HeapAlloc); grown > total+2<<20 {
		t.Errorf("the heap grew by %d bytes for a bound of %d", grown, total)
	}
	a.Close()
	st = a.Stats()
	if got := uint64(q.bytes) + st.BytesRetransmitted; got != flows*perFlow || st.BytesReceived != got {
		t.Errorf("%d bytes went somewhere, %d came; %+v", got, flows*perFlow, st)
	}
	if st.Memory != 0 || q.closed != flows {
		t.Errorf("%d bytes left, %d streams closed", st.Memory, q.closed)
	}
	runtime.KeepAlive(a)
}

// TestManyGigabytes takes one connection around the sequence space more than
// twice, with segments out of order at every place the wrap may fall.
func TestManyGigabytes(t *testing.T) {
	const size = 1 << 20
	q := &checker{t: t}
	a := New(Config{NewStream: func(Flow, bool, int64) Stream { return q }})
	buf := make([]byte, size+maxStep)
	for i := range buf {
		buf[i] = pattern(i)
	}
	isn := uint32(1<<32 - 5)
	a.Segment(Flow{}, &Segment{Seq: isn, Flags: FlagSYN})
	send := func(from, n int) {
		p := buf[from%maxStep:][:n]
		a.Segment(Flow{}, &Segment{Seq: isn + 1 + uint32(from), Ack: 1, Flags: FlagACK, Payload: p})
	}
	at := 0
	for at < 9<<30 {
		switch (at / size) % 4 {
		case 0:
			send(at, size)
		case 1:
			send(at+size/2, size/2)
			send(at, size/2+100)
		case 2:
			send(at+10, size-10)
			send(max(at-1000, 0), 2000)
		case 3:
			send(at+900_000, size-900_000)
			send(at+1000, 899_500)
			send(at-7, 1009)
			send(at+899_000, 1001)
		}
		at += size
	}
	if q.at != at {
		t.Errorf("%d of %d bytes delivered", q.at, at)
	}
	if s := a.Stats(); s.Gaps != 0 || s.Rejected != 0 || s.Conflicts != 0 || s.BytesDelivered != uint64(at) {
		t.Errorf("%+v", s)
	}
}

// maxStep is the period of pattern: a prime, so that no shift by a power of
// two goes unnoticed.
const maxStep = 251

func pattern(i int) byte { return byte(i % maxStep) }

// checker compares a sample of the bytes of pattern: both ends of each run.
type checker struct {
	t  *testing.T
	at int
}

func (c *checker) Data(p []byte, _ bool, _ int64) {
	if p[0] != pattern(c.at) || p[len(p)-1] != pattern(c.at+len(p)-1) {
		c.t.Fatalf("wrong bytes at %d", c.at)
	}
	c.at += len(p)
}
func (c *checker) Gap(n int64, _ int64)            { c.t.Errorf("gap of %d at %d", n, c.at) }
func (c *checker) Closed(why CloseReason, _ int64) { c.t.Errorf("closed: %v", why) }

func TestNoAllocations(t *testing.T) {
	q := new(quiet)
	a := New(Config{NewStream: func(Flow, bool, int64) Stream { return q }})
	s := Segment{Payload: make([]byte, 1000), Flags: FlagACK, Seq: 1}
	a.Segment(Flow{}, &s)
	a.Segment(Flow{}, &Segment{Seq: 1001, Flags: FlagACK, Payload: s.Payload})
	s.Seq = 2001
	inOrder := func() {
		a.Segment(Flow{}, &s)
		s.Seq += 1000
	}
	swapped := func() {
		s.Seq += 1000
		a.Segment(Flow{}, &s)
		s.Seq -= 1000
		a.Segment(Flow{}, &s)
		s.Seq += 2000
		s.Time += int64(time.Millisecond)
		a.Advance(s.Time)
	}
	f := Flow{DstPort: 80}
	var isn uint32
	connection := func() {
		f.SrcPort++
		isn += 99999
		a.Segment(f, &Segment{Seq: isn, Flags: FlagSYN, Time: s.Time})
		a.Segment(f, &Segment{Seq: isn + 1, Flags: FlagACK, Payload: s.Payload, Time: s.Time})
		a.Segment(f, &Segment{Seq: isn + 1001, Flags: FlagACK | FlagFIN, Time: s.Time})
		s.Time += int64(time.Millisecond)
		a.Advance(s.Time)
	}
	for range 200_000 {
		connection() // until the table and the free lists are warm
	}
	swapped()
	for name, f := range map[string]func(){"in order": inOrder, "out of order": swapped, "connection": connection} {
		if n := testing.AllocsPerRun(1000, f); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
	if q.gaps != 0 {
		t.Errorf("%d gaps", q.gaps)
	}
}
