package agent

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/shadowtap/shadowtap/pkg/reassembly"
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
