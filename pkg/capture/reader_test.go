package capture

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func newTestReader(t testing.TB, k *kernel, s Sink) *reader {
	t.Helper()
	r, err := newReader(k.rings[0], k.maps[0].FD(), k.control, 0, k.clock, &Config{Poll: time.Hour, Guard: unguarded}, s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// patience is how long a test waits for what must happen at once.
const patience = 2 * time.Minute

// waiting starts r.wait and returns when its wish is with the kernel.
func waiting(t *testing.T, r *reader, wish tapWake, bytes int) (done chan error) {
	t.Helper()
	done = make(chan error, 1)
	go func() { done <- r.wait(wish, bytes, time.Hour) }()
	for deadline := time.Now().Add(patience); atomic.LoadUint32(r.wake) != uint32(wish); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the reader does not wait")
		}
	}
	return done
}

func mustReturn(t *testing.T, done chan error) {
	t.Helper()
	select {
	case err := <-done:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(patience):
		t.Fatal("still waiting")
	}
}

func mustWait(t *testing.T, done chan error) {
	t.Helper()
	select {
	case err := <-done:
		t.Fatalf("returned (%v) without a reason", err)
	default:
	}
}

// wakeUps counts the records that are nothing but a wake-up, and empties the
// ring.
func (k *kernel) wakeUps() (n int) {
	for {
		record, ok := k.rings[0].next()
		if !ok {
			k.rings[0].release()
			return n
		}
		if len(record) == 0 {
			n++
		}
	}
}

func TestReaderWakesAtNextPacket(t *testing.T) {
	k := newKernel(t, 1, 1<<20, 0, target4)
	r := newTestReader(t, k, newCollector())
	for range 20 {
		done := waiting(t, r, tapWakeWAKE_NEXT, 1)
		k.run(k.TapIngressEth, to4(FlagACK, 1, "").bytes(t)) // not copied
		mustWait(t, done)
		k.run(k.TapIngressEth, to4(FlagACK, 1, "x").bytes(t))
		mustReturn(t, done)
		// Nobody waits: nobody is woken.
		k.run(k.TapIngressEth, to4(FlagACK, 1, "y").bytes(t))
		if n := k.wakeUps(); n != 1 {
			t.Fatalf("%d wake-ups for one wait", n)
		}
	}
}

// The program takes the wish back when it fulfils it, and only then.
func TestProgramWakesOnce(t *testing.T) {
	k := newKernel(t, 1, 1<<20, 0, target4)
	raw := to4(FlagACK, 1, "x").bytes(t)
	for _, wish := range []tapWake{tapWakeWAKE_NEVER, tapWakeWAKE_HALF, tapWakeWAKE_NEXT} {
		atomic.StoreUint32(k.control.wake(0), uint32(wish))
		for range 3 {
			k.run(k.TapIngressEth, raw)
		}
		woken, left := 0, wish
		if wish == tapWakeWAKE_NEXT {
			woken, left = 1, tapWakeWAKE_NEVER
		}
		if n := k.wakeUps(); n != woken {
			t.Errorf("wish %d: %d wake-ups, want %d", wish, n, woken)
		}
		if got := atomic.LoadUint32(k.control.wake(0)); got != uint32(left) {
			t.Errorf("wish %d: %d is left of it, want %d", wish, got, left)
		}
	}
}

func TestReaderWakesAtHalf(t *testing.T) {
	const ringBytes = 64 << 10
	k := newKernel(t, 1, ringBytes, 0, target4)
	r := newTestReader(t, k, newCollector())
	raw := to4(FlagACK, 1, strings.Repeat("p", 1000)).bytes(t)
	record := (ringHeadSize + recordHead + 1000 + 7) &^ 7
	for range 3 {
		done := waiting(t, r, tapWakeWAKE_HALF, ringBytes/2)
		for range (ringBytes/2 - 1) / record {
			k.run(k.TapIngressEth, raw)
		}
		mustWait(t, done)
		k.run(k.TapIngressEth, raw)
		mustReturn(t, done)
		for range 5 {
			k.run(k.TapIngressEth, raw)
		}
		if n := k.wakeUps(); n != 1 {
			t.Fatalf("%d wake-ups for one wait", n)
		}
	}
}

// What is in the ring already ends a wait before it begins.
func TestReaderDoesNotWaitForWhatIsThere(t *testing.T) {
	k := newKernel(t, 1, 1<<20, 0, target4)
	r := newTestReader(t, k, newCollector())
	k.run(k.TapIngressEth, to4(FlagACK, 1, "x").bytes(t))
	if err := r.wait(tapWakeWAKE_NEXT, 1, time.Hour); err != nil {
		t.Fatal(err)
	}
}

func TestReaderStops(t *testing.T) {
	k := newKernel(t, 1, 1<<20, 0, target4)
	c := newCollector()
	r := newTestReader(t, k, c)
	done := make(chan error, 1)
	go func() { done <- r.run() }()
	for range 100 {
		k.run(k.TapIngressEth, to4(FlagACK, 1, "x").bytes(t))
	}
	r.stop()
	mustReturn(t, done)
	if n := k.rings[0].available(); n != 0 {
		t.Errorf("%d bytes left in the ring", n)
	}
	// Stopped before it started: still one look at the ring.
	k.alive()
	k.run(k.TapIngressEth, to4(FlagSYN, 5, "late").bytes(t))
	if err := r.run(); err != nil {
		t.Fatal(err)
	}
	if st, _ := c.stream(flowOf(client4, server4)); string(st.data) != "late" {
		t.Errorf("got %q", st.data)
	}
}

// counter is a Sink that only counts.
type counter struct {
	batches, segments, most int
	inBatch                 int
}

func (c *counter) Begin(int64)      { c.inBatch = 0 }
func (c *counter) Segment(*Segment) { c.inBatch++ }
func (c *counter) End() {
	c.batches++
	c.segments += c.inBatch
	c.most = max(c.most, c.inBatch)
}

func TestReaderBatches(t *testing.T) {
	k := newKernel(t, 1, 4<<20, 0, target4)
	c := &counter{}
	r := newTestReader(t, k, c)
	drain := func(want int) {
		t.Helper()
		if n, err := r.drain(); n != want || err != nil {
			t.Fatalf("drained %d records (%v), want %d", n, err, want)
		}
		if k.rings[0].available() != 0 {
			t.Fatal("records left")
		}
	}
	drain(0)
	if diff := cmp.Diff(counter{batches: 1}, *c, cmp.AllowUnexported(counter{})); diff != "" {
		t.Errorf("empty ring (-want +got):\n%s", diff)
	}
	raw := to4(FlagACK, 1, "x").bytes(t)
	const packets = 2*batchRecords + 10
	for range packets {
		k.run(k.TapIngressEth, raw)
	}
	*c = counter{}
	drain(packets)
	if c.batches != 3 || c.segments != packets || c.most != batchRecords {
		t.Errorf("%d packets in %d batches of at most %d", c.segments, c.batches, c.most)
	}
	// Bytes end a batch too, without leaving anything behind.
	*c = counter{}
	raw = to4(FlagACK, 1, strings.Repeat("p", 3400)).bytes(t)
	for range 400 { // 1.4 MB
		k.run(k.TapIngressEth, raw)
	}
	drain(400)
	if c.segments != 400 {
		t.Errorf("%d of 400 segments", c.segments)
	}
}

// A record that does not keep to the contract ends the run with an error.
func TestDecodeRejects(t *testing.T) {
	var s Segment
	aligned := make([]uint64, 20)
	raw := bytesOf(aligned)
	for _, n := range []int{1, recordHead - 1, recordHead + 1} {
		if err := s.decode(raw[:n], 0); err == nil {
			t.Errorf("%d bytes with length 0 were accepted", n)
		}
	}
	if err := s.decode(raw[:recordHead], 0); err != nil {
		t.Errorf("an empty record: %v", err)
	}
}
