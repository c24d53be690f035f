package torture

import (
	"bufio"
	"bytes"
	"io"
	"strings"
	"testing"
)

// copyOf is what the shadow must get of m.
func copyOf(m *message) []byte {
	return bytes.Join([][]byte{
		m.raw[:m.target.from], []byte(shadowPrefix), m.raw[m.target.from+len(servedPrefix) : m.head-len("\r\n")],
		[]byte(guardLine + "\r\n"), m.raw[m.head:],
	}, nil)
}

// TestLedgerFindsFaults shows that a copy that is missing, doubled, changed in
// a single byte, cut short or of nothing that was sent is not overlooked, nor
// an account that differs by one.
func TestLedgerFindsFaults(t *testing.T) {
	g := newGenerator(1, usual, true)
	m := g.message(0, false)
	for len(m.raw) == m.head {
		m = g.message(0, false)
	}
	good := copyOf(m)
	changed := bytes.Clone(good)
	changed[len(changed)-1] ^= 1
	for name, test := range map[string]struct {
		arrives []byte
		account func(*account)
		faults  bool
	}{
		"nothing wrong":  {good, func(*account) {}, false},
		"missing":        {nil, func(*account) {}, true},
		"doubled":        {append(bytes.Clone(good), good...), func(*account) {}, true},
		"changed":        {changed, func(*account) {}, true},
		"cut short":      {good[:len(good)-1], func(*account) {}, true},
		"unguarded":      {bytes.Replace(good, []byte(guardLine), nil, 1), func(*account) {}, true},
		"never sent":     {append(bytes.Clone(good), "GET / HTTP/1.1\r\n"+guardLine+"\r\n"...), func(*account) {}, true},
		"one drop more":  {good, func(a *account) { a.Requests.Seen++; a.Requests.Dropped["gap"]++ }, true},
		"one in silence": {good, func(a *account) { a.Requests.Seen++ }, true},
		"one failed":     {good, func(a *account) { a.Shadow.Answered["2xx"]--; a.Shadow.Failed["reset"]++ }, true},
		"bytes skipped":  {good, func(a *account) { a.Flows.SkippedBytes++ }, true},
		"packets lost":   {good, func(a *account) { a.Packets.Lost["ring_full"]++ }, true},
	} {
		t.Run(name, func(t *testing.T) {
			var l ledger
			l.sent(&connection{synced: true, messages: []*message{m}, starts: []int{0}, stream: m.raw,
				parts: []part{{span: span{0, len(m.raw)}, gets: len(m.raw)}}})
			r := bufio.NewReaderSize(bytes.NewReader(test.arrives), 64<<10)
			for {
				a, err := receive(r)
				if err == io.EOF {
					break
				}
				a.err = err
				if l.arrived(a); err != nil {
					break
				}
			}
			var acc account
			acc.Requests.Seen, acc.Requests.Mirrored, acc.Shadow.Sent = 1, 1, 1
			acc.Requests.Dropped = map[string]uint64{}
			acc.Packets.Lost = map[string]uint64{}
			acc.Shadow.Answered, acc.Shadow.Failed = map[string]uint64{"2xx": 1}, map[string]uint64{}
			test.account(&acc)
			l.settle(acc, attack{})
			if got := l.unexpl > 0; got != test.faults {
				t.Errorf("faults %q, want some: %v", strings.Join(l.faults, "; "), test.faults)
			}
		})
	}
}
