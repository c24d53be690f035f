package agent

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/shadowtap/shadowtap/pkg/compare"
	"github.com/shadowtap/shadowtap/pkg/httpstream"
	"github.com/shadowtap/shadowtap/pkg/reassembly"
	"github.com/shadowtap/shadowtap/pkg/replay"
	"github.com/shadowtap/shadowtap/pkg/rules"
)

// TestDialoguePanic: every copy that was taken is a pair, and what was kept to
// compare it is given back.
func TestDialoguePanic(t *testing.T) {
	want := func(same, panics int) compared {
		return compared{Same: same, Missed: map[string]int{"panic": panics}}
	}
	tests := []struct {
		name string
		run  func(a *Agent, c *talk)
		want compared
	}{
		{"in the answers", func(_ *Agent, c *talk) {
			c.open()
			c.ask(getFor("a"), getFor("b"))
			c.answer(okFor("a")[:60])
			d := c.shard.dialogues[reassembly.Flow(c.flow)]
			func() {
				defer d.contain()
				panic("in an answer")
			}()
			c.answer(okFor("a")[60:], okFor("b"))
		}, want(0, 2)},
		{"once a copy is taken", func(a *Agent, c *talk) {
			c.open()
			c.ask(getFor("a"))
			c.answer(okFor("a"))
			a.printer = &printer{records: make(chan queuedRecord, 1), limit: 1 << 20}
			close(a.printer.records) // what is sent there panics
			c.ask(getFor("b"))
			a.printer = nil
			c.answer(okFor("b"))
		}, want(1, 1)},
		{"in the assembler, and while it is closed", func(_ *Agent, c *talk) {
			c.shard.answers = c.shard.newAssembler(func(f reassembly.Flow, midstream bool, now int64) reassembly.Stream {
				return faultyStream{c.shard.listen(f, midstream, now)}
			})
			c.open()
			c.ask(getFor("a"))
			c.answer(okFor("a")[:60])
			func() {
				c.shard.mu.Lock()
				defer c.shard.mu.Unlock()
				defer c.shard.contain()
				panic("in the assembler")
			}()
		}, want(0, 1)},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			a := comparingAgent(t)
			c := newTalk(a.shards[0], 40000)
			test.run(a, c)
			c.finish()
			if diff := cmp.Diff(test.want, result(t, a)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// TestCopyDonePanic: a copy is a pair even if its request cannot be looked at,
// and the worker that reports it does not notice.
func TestCopyDonePanic(t *testing.T) {
	a := comparingAgent(t)
	c := a.comparing
	if !c.reserve(0, 0, comparisonCost) {
		t.Fatal("no memory")
	}
	m := &comparison{comparing: c, cost: comparisonCost, text: &requestText{}}
	m.refs.Store(2) // the dialogue's, and the copy's
	answer, shadow := c.kept.Get(0), c.kept.Get(0)
	c.copyDone(replay.Result{Shaper: &copied{of: m, mirror: "shadow"}, Response: shadow}) // without a request
	m.production(answer, compare.Compared)
	c.close()
	if got := c.comparer.Report().Mirrors["shadow"]; got == nil || got.Pairs != 1 || got.Missed["panic"] != 1 {
		t.Errorf("got %+v, want one pair, missed for a panic", got)
	}
	if n := a.panics.counts[inComparison].Load(); n != 1 {
		t.Errorf("%d panics are counted", n)
	}
	if n := a.memory.used.Load(); n != 0 {
		t.Errorf("%d bytes are still held", n)
	}
}

// TestSubmitPanic: what was reserved for a copy that a panic kept from being
// taken is given back.
func TestSubmitPanic(t *testing.T) {
	a := comparingAgent(t)
	c := newTalk(a.shards[0], 40000)
	c.open()
	c.ask(getFor("a"))
	c.answer(okFor("a"))
	g := a.current.Load()
	a.current.Store(&generation{agent: a, program: g.program, mirrors: []*replay.Mirror{nil}})
	c.ask(getFor("b"))
	a.current.Store(g)
	c.answer(okFor("b"))
	c.finish()
	if diff := cmp.Diff(compared{Same: 1, Missed: map[string]int{}}, result(t, a)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if n := a.shards[0].tally.dropped[dropPanic]; n != 1 {
		t.Errorf("%d requests were dropped as panic", n)
	}
	if n := a.comparing.throttle.busy.Load(); n != 0 {
		t.Errorf("the reader of a file would wait for %d copies that are with no mirror", n)
	}
}

// TestBeginPanic: nothing is reserved yet when a rule turns out not to have a
// name.
func TestBeginPanic(t *testing.T) {
	a := comparingAgent(t)
	r, err := httpstream.ParseRequest([]byte(getFor("a")))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Release()
	func() {
		defer func() {
			if recover() == nil {
				t.Error("there was no panic: the test tries nothing")
			}
		}()
		a.comparing.begin(r, new(rules.Decision), 0)
	}()
	if n := a.memory.used.Load(); n != 0 {
		t.Errorf("%d bytes are still held", n)
	}
}
