package agent

import (
	"runtime/debug"

	"github.com/shadowtap/shadowtap/pkg/compare"
	"github.com/shadowtap/shadowtap/pkg/reassembly"
)

// contain keeps a panic of the assembler from ending the agent. No one
// connection can be blamed, and nobody knows what state the assembler is in:
// all connections of the shard are given up, the requests under way are
// counted, and another assembler picks up what follows. It is called, with the
// shard's mutex held, by a defer of what uses the assembler.
func (s *shard) contain() {
	fault := recover()
	if fault == nil {
		return
	}
	stack := debug.Stack()
	broken := s.asm
	s.asm = s.newAssembler(s.newStream)
	s.asm.NoteEvicted() // the connections come back in the middle
	s.faulty = true
	func() {
		// This releases the memory of most, unless that panics, too.
		defer func() { _ = recover() }()
		broken.Close()
	}()
	s.renewAnswers()
	s.faulty = false
	st := broken.Stats()
	s.past.FlowsTotal += st.FlowsTotal
	s.past.Gaps += st.Gaps
	s.tally.dropped[dropPanic] += s.tally.pending
	s.tally.pending = 0
	s.tally.panics++
	s.agent.panicLog.Do(func() {
		s.agent.log.Error("panic contained, the connections of a shard are given up; please report this", "panic", fault, "stack", string(stack))
	})
}

// renewAnswers gives up the answers of all connections.
func (s *shard) renewAnswers() {
	if s.answers == nil {
		return
	}
	broken, dialogues := s.answers, s.dialogues
	s.answers, s.dialogues = s.newAssembler(s.listen), map[reassembly.Flow]*dialogue{}
	func() {
		defer func() { _ = recover() }()
		broken.Close()
	}()
	for _, d := range dialogues {
		d.silence(compare.Panic) // the panic may have come before its end
	}
}

// stats are those of the assembler, and what those before it had counted.
func (s *shard) stats() reassembly.Stats {
	st := s.asm.Stats()
	st.FlowsTotal += s.past.FlowsTotal
	st.Gaps += s.past.Gaps
	return st
}
