package reassembly

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"
	"time"
)

// model is the oracle: it keeps every byte that was ever sent, one by one,
// and judges each call of the assembler against them.
type model struct {
	t      *testing.T
	first  []byte // the first copy of each byte
	have   []bool
	bad    []bool // contradicted before it was delivered
	pos    int    // where the stream stands
	clash  bool   // there was a contradiction
	end    bool   // FIN was sent
	closed CloseReason
}

// arrive notes a segment before the assembler sees it.
func (m *model) arrive(at int, p []byte) {
	for i, b := range p {
		o := at + i
		switch {
		case !m.have[o]:
			m.have[o], m.first[o] = true, b
		case m.first[o] != b && o >= m.pos:
			m.bad[o], m.clash = true, true
		}
	}
}

func (m *model) Data(p []byte, _ bool, _ int64) {
	if m.closed != 0 || len(p) == 0 {
		m.t.Fatalf("data at %d: %d bytes, closed: %v", m.pos, len(p), m.closed)
	}
	for _, b := range p {
		if m.pos >= len(m.have) || !m.have[m.pos] || m.bad[m.pos] || m.first[m.pos] != b {
			m.t.Fatalf("wrong byte at %d", m.pos)
		}
		m.pos++
	}
}

func (m *model) Gap(n int64, _ int64) {
	if m.closed != 0 || n <= 0 || m.pos+int(n) > len(m.have) {
		m.t.Fatalf("gap of %d at %d, closed: %v", n, m.pos, m.closed)
	}
	for range n {
		if m.have[m.pos] && !m.clash {
			m.t.Fatalf("byte %d came in time and was not delivered", m.pos)
		}
		m.pos++
	}
}

func (m *model) Closed(why CloseReason, _ int64) {
	if m.closed != 0 {
		m.t.Fatalf("closed twice: %v, %v", m.closed, why)
	}
	m.closed = why
}

// settle checks what must hold between two segments: nothing that could be
// delivered waits.
func (m *model) settle() {
	if m.closed == 0 && m.pos < len(m.have) && m.have[m.pos] && !m.clash {
		m.t.Fatalf("byte %d is there and was not delivered", m.pos)
	}
	if m.end && m.pos == len(m.have) && m.closed != CloseFIN {
		m.t.Fatalf("at the end, and closed: %v", m.closed)
	}
}

// FuzzSegments cuts a known stream as the fuzzer says - pieces of any size
// from anywhere, again, overlapping, contradicting, some never, with time
// passing and losses announced - and compares with the model.
func FuzzSegments(f *testing.F) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		b := make([]byte, 6+6*(rnd.IntN(60)+1))
		for i := range b {
			b[i] = byte(rnd.Uint32())
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) < 6 || len(in) > 6+6*2000 {
			return
		}
		isn, size, mode := binary.LittleEndian.Uint32(in), 16+int(in[4])*16, in[5]
		const (
			nearWrap = 1 << iota
			forging
			smallBounds
			lossy
		)
		if mode&nearWrap != 0 {
			isn = -isn % uint32(2*size)
		}
		m := &model{t: t, first: make([]byte, size), have: make([]bool, size), bad: make([]bool, size)}
		held := 0
		cfg := Config{
			NewStream: func(Flow, bool, int64) Stream { return m },
			Reserve:   func(_ uint32, _, n int) bool { held += n; return true },
			Release:   func(_ uint32, n int) { held -= n },
		}
		if mode&smallBounds != 0 {
			cfg.MaxBufferedPerFlow = 5 * cost(0)
		}
		a := New(cfg)
		now := int64(0)
		send := func(at, n int, flags Flags, ack uint32, forge byte) {
			p := make([]byte, n)
			for i := range p {
				p[i] = pattern(at + i)
			}
			if n > 0 && mode&forging != 0 && forge&7 == 1 {
				p[int(forge>>3)%n] ^= 0xff
			}
			m.arrive(at, p)
			seq := isn + 1 + uint32(at)
			if flags&FlagSYN != 0 {
				seq = isn
			} else if at+n == size && forge&8 != 0 {
				flags |= FlagFIN
				m.end = true
			}
			a.Segment(Flow{}, &Segment{Seq: seq, Ack: ack, Flags: flags, Time: now, Payload: p})
			clear(p)
			m.settle()
		}
		send(0, int(in[5]>>4), FlagSYN, 0, 0)
		for ops := in[6:]; len(ops) >= 6 && m.closed == 0; ops = ops[6:] {
			at := int(binary.LittleEndian.Uint16(ops)) % size
			n := min(int(ops[2]), size-at)
			flags := FlagACK
			if mode&lossy != 0 {
				switch ops[3] & 7 {
				case 0:
					flags |= FlagLost
				case 1:
					now += int64(time.Duration(ops[3]) * 50 * time.Millisecond)
					a.Advance(now)
					m.settle()
				}
			}
			if m.closed == 0 {
				send(at, n, flags, uint32(ops[4]&3), ops[5])
			}
		}
		a.Close()
		m.settle()
		switch {
		case m.closed == 0:
			t.Fatal("not closed")
		case m.end && m.closed != CloseFIN && !m.clash, !m.end && m.closed != CloseShutdown:
			t.Fatalf("closed: %v", m.closed)
		}
		for o := m.pos; o < size && m.closed == CloseShutdown; o++ {
			if m.have[o] {
				t.Fatalf("byte %d came and was neither delivered nor in a gap", o)
			}
		}
		s := a.Stats()
		if s.BytesDelivered+s.BytesRetransmitted+s.BytesDiscarded != s.BytesReceived || s.Memory != 0 || held != 0 {
			t.Fatalf("%d bytes held: %+v", held, s)
		}
		if s.GapBytes+s.BytesDelivered != uint64(m.pos) || (s.Conflicts == 0 && !m.end && s.BytesDiscarded != 0) {
			t.Fatalf("at %d: %+v", m.pos, s)
		}
	})
}
