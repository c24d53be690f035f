package reassembly

import (
	"fmt"
	"testing"
	"time"
)

func TestStreams(t *testing.T) {
	const far = maxAhead + 1
	tests := map[string]struct {
		steps []relStep
		want  []string
	}{
		"in order": {
			[]relStep{syn(-1, ""), data(0, "abc"), data(3, "def"), data(6, "", fin), end()},
			[]string{"open", "start abc", "data def", "closed fin"},
		},
		"FIN with data": {
			[]relStep{syn(-1, ""), data(0, "abc", fin), end()},
			[]string{"open", "start abc", "closed fin"},
		},
		"retransmission": {
			[]relStep{syn(-1, ""), data(0, "abc"), data(0, "abc"), data(3, "d"), retransmitted(3), end()},
			[]string{"open", "start abc", "data d", "closed shutdown"},
		},
		"retransmission with more": {
			[]relStep{syn(-1, ""), data(0, "abc"), data(1, "bcde"), retransmitted(2), end()},
			[]string{"open", "start abc", "data de", "closed shutdown"},
		},
		"out of order": {
			[]relStep{syn(-1, ""), data(3, "def"), data(0, "abc"), data(6, "g"), end()},
			[]string{"open", "start abc", "data def", "data g", "closed shutdown"},
		},
		"two holes": {
			[]relStep{syn(-1, ""), data(8, "i"), data(4, "ef"), data(6, "gh"), data(0, "abcd"), end()},
			[]string{"open", "start abcd", "data efgh", "data i", "closed shutdown"},
		},
		"filling overlaps what waits": {
			[]relStep{syn(-1, ""), data(3, "def"), data(8, "i"), data(0, "abcde"), data(5, "fghi"),
				retransmitted(2 + 1 + 1), end()},
			[]string{"open", "start abcde", "data f", "data ghi", "closed shutdown"},
		},
		"filling covers what waits": {
			[]relStep{syn(-1, ""), data(2, "c"), data(4, "e"), data(0, "abcdef"), data(6, "g"), end()},
			[]string{"open", "start abcdef", "data g", "closed shutdown"},
		},
		"out of order twice": {
			[]relStep{syn(-1, ""), data(3, "def"), data(2, "cdefg"), data(2, "cdefg"), retransmitted(3 + 5),
				data(0, "ab"), end()},
			// One byte was already kept at the front, one came behind.
			[]string{"open", "start ab", "data c", "data defg", "closed shutdown"},
		},
		"hole given up in time": {
			[]relStep{syn(-1, ""), data(3, "def"), pass(4900 * time.Millisecond), pass(200 * time.Millisecond),
				data(0, "abc"), data(6, "g"), gapBytes(3), retransmitted(3), end()},
			[]string{"open", "gap 3", "data def", "data g", "closed shutdown"},
		},
		"hole given up, a younger one not": {
			[]relStep{syn(-1, ""), data(3, "d"), pass(3 * time.Second), data(6, "g"), pass(3 * time.Second),
				data(4, "ef"), end()},
			[]string{"open", "gap 3", "data d", "data ef", "data g", "closed shutdown"},
		},
		"hole that shrinks is not given up": {
			[]relStep{syn(-1, ""), data(3, "d"), pass(3 * time.Second), data(0, "a"), pass(3 * time.Second),
				data(1, "bc"), end()},
			[]string{"open", "start a", "data bc", "data d", "closed shutdown"},
		},
		"lost": {
			[]relStep{syn(-1, ""), data(0, "a"), data(5, "f", lost), data(6, "g"), gapBytes(4), end()},
			[]string{"open", "start a", "gap 4", "data f", "data g", "closed shutdown"},
		},
		"lost behind what waits": {
			[]relStep{syn(-1, ""), data(2, "c"), data(5, "f"), data(8, "i", lost), end()},
			[]string{"open", "gap 2", "data c", "gap 2", "data f", "gap 2", "data i", "closed shutdown"},
		},
		"lost in front of what waits": {
			[]relStep{syn(-1, ""), data(5, "f"), data(2, "c", lost), data(3, "de"), end()},
			[]string{"open", "gap 2", "data c", "data de", "data f", "closed shutdown"},
		},
		"lost, bytes there waited": {
			[]relStep{syn(-1, ""), data(2, "cdef"), data(4, "efg", lost), end()},
			[]string{"open", "gap 2", "data cdef", "data g", "closed shutdown"},
		},
		"lost without a hole": {
			[]relStep{syn(-1, ""), data(0, "a"), data(1, "b", lost), data(0, "a", lost), end()},
			[]string{"open", "start a", "data b", "closed shutdown"},
		},
		"lost, on FIN": {
			[]relStep{syn(-1, ""), data(0, "a"), data(3, "", fin, lost)},
			[]string{"open", "start a", "gap 2", "closed fin"},
		},
		"lost, on RST": {
			[]relStep{syn(-1, ""), data(0, "a"), data(2, "c"), rst(5, lost)},
			[]string{"open", "start a", "gap 1", "data c", "gap 2", "closed rst"},
		},
		"lost, on an acknowledgement": {
			[]relStep{syn(-1, ""), data(0, "a"), data(3, "", lost), data(3, "d"), end()},
			[]string{"open", "start a", "gap 2", "data d", "closed shutdown"},
		},
		"lost, far away": {
			[]relStep{syn(-1, ""), data(0, "a"), data(1+1<<29, "x", lost), gapBytes(1 << 29),
				data(2+1<<29+1<<31-1<<28, "y", lost), gapBytes(1 << 29), end()},
			[]string{"open", "start a", "gap 536870912", "data x", "gap ?", "data y", "closed shutdown"},
		},
		"keep-alive probes": {
			[]relStep{syn(-1, ""), data(0, "abc"), data(2, ""), data(2, "\x00"), data(3, ""), data(3, "d"), end()},
			[]string{"open", "start abc", "data d", "closed shutdown"},
		},
		"zero-window probe": {
			[]relStep{syn(-1, ""), data(0, "abc"), data(3, "d"), data(3, "d"), data(3, "def"), end()},
			[]string{"open", "start abc", "data d", "data ef", "closed shutdown"},
		},
		"SYN again": {
			[]relStep{syn(-1, ""), syn(-1, ""), data(0, "abc"), syn(-1, ""), data(3, "d"), end()},
			[]string{"open", "start abc", "data d", "closed shutdown"},
		},
		"SYN with data": {
			[]relStep{syn(-1, "abc"), syn(-1, "abc"), data(0, "abcd"), data(4, "e"), end()},
			[]string{"open", "start abc", "data d", "data e", "closed shutdown"},
		},
		"SYN refused, other SYN": {
			[]relStep{syn(-1, ""), syn(99, ""), data(100, "a"), end()},
			[]string{"open", "closed reused", "open", "start a", "closed shutdown"},
		},
		"reused after data": {
			[]relStep{syn(-1, ""), data(0, "a"), data(2, "c"), syn(499, ""), data(500, "x", ack(700)), end()},
			[]string{"open", "start a", "gap 1", "data c", "closed reused", "open", "start x", "closed shutdown"},
		},
		"reused, empty": {
			[]relStep{syn(-1, ""), data(0, "a"), syn(499, ""), data(500, "", fin), end()},
			[]string{"open", "start a", "closed reused", "open", "closed fin"},
		},
		"reused, overtaken": {
			[]relStep{syn(-1, ""), data(0, "a"), syn(far+499, ""), data(far+503, "d", ack(800)), data(far+500, "abc", ack(700)),
				data(far+504, "e", ack(800)), end()},
			[]string{"open", "start a", "closed reused", "open", "start abc", "start d", "data e", "closed shutdown"},
		},
		"reused, overtaken by data near the old place": {
			[]relStep{syn(-1, ""), data(0, "a"), syn(499, ""), data(503, "d"), data(500, "abc"), end()},
			[]string{"open", "start a", "gap 502", "data d", "closed reused", "open", "start abc", "closed shutdown"},
		},
		"forged SYN": {
			[]relStep{syn(-1, ""), data(0, "a"), syn(499, "evil"), data(1, "b"), data(500, "evil"), end()},
			[]string{"open", "start a", "data b", "gap 498", "data evil", "closed shutdown"},
		},
		"reused after FIN": {
			[]relStep{syn(-1, ""), data(0, "a", fin), syn(499, ""), data(500, "x"), end()},
			[]string{"open", "start a", "closed fin", "open", "start x", "closed shutdown"},
		},
		"SYN seen late": {
			[]relStep{data(0, "ab"), syn(-1, ""), data(2, "c"), end()},
			[]string{"open midstream", "start ab", "data c", "closed shutdown"},
		},
		"data after FIN": {
			[]relStep{syn(-1, ""), data(0, "a", fin), data(1, "b"), data(2, "c"), data(0, "a", fin), end()},
			[]string{"open", "start a", "closed fin"},
		},
		"SYN again after FIN": {
			[]relStep{syn(-1, ""), data(0, "a", fin), syn(-1, "a"), data(0, "a"), end()},
			[]string{"open", "start a", "closed fin"},
		},
		"a grave does not last longer for being visited": {
			[]relStep{syn(-1, ""), data(0, "ab", fin), pass(16 * time.Second), data(0, "ab"), pass(16 * time.Second),
				stat("tracked", func(s Stats) uint64 { return uint64(s.FlowsTracked) }, 0)},
			[]string{"open", "start ab", "closed fin"},
		},
		"grave reopened": {
			[]relStep{syn(-1, ""), data(0, "a", fin), pass(31 * time.Second), data(0, "again"), end()},
			[]string{"open", "start a", "closed fin", "open midstream", "start again", "closed shutdown"},
		},
		"another connection after FIN, its SYN not seen": {
			[]relStep{syn(-1, ""), data(0, "a", fin), data(far+9, "xyz"), end()},
			[]string{"open", "start a", "closed fin", "open midstream", "start xyz", "closed shutdown"},
		},
		"another connection at an old place after FIN": {
			[]relStep{syn(-1, ""), data(0, "a", fin), data(-far, "xyz"), end()},
			[]string{"open", "start a", "closed fin", "open midstream", "start xyz", "closed shutdown"},
		},
		"FIN that was none": {
			[]relStep{syn(-1, ""), data(0, "a"), data(3, "", fin), data(3*far, "xx"), data(3*far+2, "yy", ack(200)), end()},
			[]string{"open", "start a", "gap ?", "data yy", "closed shutdown"},
		},
		"FIN out of order": {
			[]relStep{syn(-1, ""), data(3, "de", fin), data(0, "abc"), data(5, "x")},
			[]string{"open", "start abc", "data de", "closed fin"},
		},
		"FIN alone out of order": {
			[]relStep{syn(-1, ""), data(3, "", fin), data(0, "abc"), end()},
			[]string{"open", "start abc", "closed fin"},
		},
		"FIN behind a hole that stays": {
			[]relStep{syn(-1, ""), data(3, "", fin), pass(6 * time.Second)},
			[]string{"open", "gap 3", "closed fin"},
		},
		"data beyond FIN": {
			[]relStep{syn(-1, ""), data(3, "", fin), data(3, "xyz"), data(0, "abc"), end()},
			[]string{"open", "start abc", "closed fin"},
		},
		"data across FIN": {
			[]relStep{syn(-1, ""), data(3, "", fin), data(0, "abcdef"), conflicts(1), data(6, "g"), end()},
			[]string{"open", "start abcdef", "data g", "closed shutdown"},
		},
		"old FIN": {
			[]relStep{syn(-1, ""), data(0, "abc"), data(1, "", fin), rejected(1), data(3, "d"), end()},
			[]string{"open", "start abc", "data d", "closed shutdown"},
		},
		"RST": {
			[]relStep{syn(-1, ""), data(0, "abc"), rst(3), data(0, "abc")},
			[]string{"open", "start abc", "closed rst"},
		},
		"RST drops what waits": {
			[]relStep{syn(-1, ""), data(0, "abc"), data(5, "f"), rst(3), data(3, "de")},
			[]string{"open", "start abc", "gap 3", "closed rst"},
		},
		"RST ahead, reached": {
			[]relStep{syn(-1, ""), data(0, "abc"), rst(5), data(3, "de")},
			[]string{"open", "start abc", "data de", "closed rst"},
		},
		"two ends, the nearer last": {
			[]relStep{syn(-1, ""), data(5, "", fin), rst(3), data(0, "abcde"), end()},
			[]string{"open", "start abcde", "closed shutdown"},
		},
		"two ends, the nearer first": {
			[]relStep{syn(-1, ""), rst(3), data(5, "", fin), data(0, "abc"), end()},
			[]string{"open", "start abc", "closed rst"},
		},
		"RST ahead, given up": {
			[]relStep{syn(-1, ""), data(0, "abc"), rst(5), pass(4 * time.Second), pass(2 * time.Second)},
			[]string{"open", "start abc"},
		},
		"RST ahead, given up, and the stream goes on": {
			[]relStep{syn(-1, ""), data(0, "abc"), rst(5), pass(6 * time.Second), rejected(1), data(3, "defg"), end()},
			[]string{"open", "start abc", "data defg", "closed shutdown"},
		},
		"RST ahead, behind what waits": {
			[]relStep{syn(-1, ""), data(0, "a"), data(3, "d"), rst(6), pass(6 * time.Second), rejected(1),
				data(4, "efg"), end()},
			[]string{"open", "start a", "gap 2", "data d", "data efg", "closed shutdown"},
		},
		"RST ahead, in front of what waits": {
			[]relStep{syn(-1, ""), data(0, "a"), rst(3), data(5, "f"), pass(6 * time.Second), rejected(1), data(6, "g"), end()},
			[]string{"open", "start a", "gap 4", "data f", "data g", "closed shutdown"},
		},
		"RST ahead does not say why a stream ended": {
			[]relStep{syn(-1, ""), data(0, "abc"), rst(5), end()},
			[]string{"open", "start abc", "closed shutdown"},
		},
		"RST that was none": {
			[]relStep{syn(-1, ""), data(0, "abc"), rst(3), data(1, "bc"), data(3, "de", ack(200)), data(5, "fg", ack(300)), end()},
			[]string{"open", "start abc", "closed rst", "open midstream", "data de", "start fg", "closed shutdown"},
		},
		"FIN ahead that was none": {
			[]relStep{syn(-1, ""), data(0, "abc"), data(9, "", fin), pass(6 * time.Second), data(0, "abc"),
				data(3, "de", ack(200)), data(5, "fg", ack(300)), end()},
			[]string{"open", "start abc", "gap 6", "closed fin", "open midstream", "data de", "start fg", "closed shutdown"},
		},
		"RST ahead, forged": {
			[]relStep{syn(-1, ""), data(0, "abc"), rst(5), data(3, "defg"), conflicts(1), data(7, "h"), end()},
			[]string{"open", "start abc", "data defg", "data h", "closed shutdown"},
		},
		"RST implausible": {
			[]relStep{syn(-1, ""), data(0, "abc"), rst(2), rst(3 + far), rst(1 << 31), rejected(3), data(3, "d"), end()},
			[]string{"open", "start abc", "data d", "closed shutdown"},
		},
		"data on RST": {
			[]relStep{syn(-1, ""), segment(FlagRST|FlagACK, 0, "why", nil)},
			[]string{"open", "closed rst"},
		},
		"implausible data": {
			[]relStep{syn(-1, ""), data(0, "a"), data(1+far, "xx"), data(1<<31, "yy"), data(1+far, "xx"), rejected(3),
				data(1, "b"), data(1+far+2, "zz"), rejected(4), end()},
			[]string{"open", "start a", "data b", "closed shutdown"},
		},
		"the stream is elsewhere": {
			[]relStep{syn(-1, ""), data(0, "a"), data(2, "c"), data(1+2*far, "xx"), data(1+2*far+2, "yy", ack(200)),
				data(1+2*far+4, "zz", ack(200)), end()},
			[]string{"open", "start a", "gap 1", "data c", "gap ?", "data yy", "data zz", "closed shutdown"},
		},
		"a place of the past is no proof": {
			[]relStep{syn(-1, ""), data(0, "a"), data(1+2*far, "xx"), data(1<<31, "b", lost), data(1+2*far+2, "yy"),
				rejected(2), data(1<<31+1, "c"), end()},
			[]string{"open", "start a", "gap ?", "data b", "data c", "closed shutdown"},
		},
		"old data is never taken for the stream": {
			[]relStep{syn(-1, ""), data(1<<29, "x", lost), data(0, "aa"), data(2, "bb"), data(4, "cc"), retransmitted(6),
				data(1<<29+1, "y"), end()},
			[]string{"open", "gap 536870912", "data x", "data y", "closed shutdown"},
		},
		"as far ahead as can be": {
			[]relStep{syn(-1, ""), data(maxAhead, "x"), data(far, "y"), rejected(1), end()},
			[]string{"open", "gap 16777216", "data x", "closed shutdown"},
		},
		"no flags": {
			[]relStep{data(0, "abc", noAck), syn(-1, ""), data(0, "abc", noAck), data(0, "abc", noAck, fin), rejected(3),
				data(0, "abc"), end()},
			[]string{"open", "start abc", "closed shutdown"},
		},
		"SYN and FIN": {
			[]relStep{syn(-1, "", fin), rejected(1), syn(-1, ""), syn(-1, "x", fin), rejected(2), data(0, "a"), end()},
			[]string{"open", "start a", "closed shutdown"},
		},
		"midstream": {
			[]relStep{data(0, "abc"), data(5, "f"), data(3, "de"), end()},
			[]string{"open midstream", "start abc", "data de", "data f", "closed shutdown"},
		},
		"midstream, before the first segment": {
			[]relStep{data(3, "def"), data(0, "abc"), data(0, "abcdefg"), retransmitted(3 + 6), end()},
			[]string{"open midstream", "start def", "data g", "closed shutdown"},
		},
		"midstream, in the middle of a segment": {
			[]relStep{data(0, "abc", cont), data(3, "def", ack(200)), end()},
			[]string{"open midstream", "data abc", "start def", "closed shutdown"},
		},
		"midstream, nothing to see": {
			[]relStep{data(0, "", fin), rst(1), data(1, ""), rst(2), data(2, "\x00"),
				stat("tracked", func(s Stats) uint64 { return uint64(s.FlowsTracked) }, 0), end()},
			nil,
		},
		"midstream, all at once": {
			[]relStep{data(0, "abc", fin), data(0, "abc", fin), end()},
			[]string{"open midstream", "start abc", "closed fin"},
		},
		"start: another acknowledgement": {
			[]relStep{syn(-1, ""), data(0, "a"), data(1, "b"), data(2, "c", ack(900)), data(3, "d", ack(900)), end()},
			[]string{"open", "start a", "data b", "start c", "data d", "closed shutdown"},
		},
		"start: 100 (Continue) is no answer": {
			[]relStep{syn(-1, ""), data(0, "head", func(s *Segment) { s.Ack = 1000 }), data(4, "body", func(s *Segment) { s.Ack = 1025 }),
				data(8, "next", func(s *Segment) { s.Ack = 1051 }), end()},
			[]string{"open", "start head", "data body", "start next", "closed shutdown"},
		},
		"start: not when acknowledgements go back": {
			[]relStep{syn(-1, ""), data(0, "a", ack(900)), data(1, "b", ack(200)), data(2, "c", ack(900)), end()},
			[]string{"open", "start a", "data b", "data c", "closed shutdown"},
		},
		"start: after a gap": {
			[]relStep{syn(-1, ""), data(0, "a"), data(5, "f", lost), data(6, "g", ack(900)), data(9, "j", lost, ack(1000)), end()},
			[]string{"open", "start a", "gap 4", "data f", "start g", "gap 2", "data j", "closed shutdown"},
		},
		"start: not in the middle of a segment": {
			[]relStep{syn(-1, ""), data(0, "ab"), data(1, "bc", ack(900)), data(3, "d", ack(1000), cont), end()},
			[]string{"open", "start ab", "data c", "data d", "closed shutdown"},
		},
		"start: out of order": {
			[]relStep{syn(-1, ""), data(2, "c", ack(300)), data(3, "d", ack(400)), data(1, "b", ack(200)), data(0, "a"), end()},
			[]string{"open", "start a", "start b", "start c", "start d", "closed shutdown"},
		},
		"start: data on SYN, then the rest": {
			[]relStep{syn(-1, "ab"), data(2, "cd", ack(900)), data(4, "ef", ack(1000)), end()},
			[]string{"open", "start ab", "data cd", "start ef", "closed shutdown"},
		},
		"conflict": {
			[]relStep{syn(-1, ""), data(3, "def"), data(4, "eX"), conflicts(1), data(0, "abc"), data(6, "g"), gapBytes(3), end()},
			[]string{"open", "start abc", "gap 3", "data g", "closed shutdown"},
		},
		"conflict condemns both copies": {
			[]relStep{syn(-1, ""), data(3, "def"), data(9, "j"), data(1, "bcX"), conflicts(1),
				data(0, "abc"), data(1, "bcdefghi"), end()},
			[]string{"open", "start a", "gap 5", "data ghi", "data j", "closed shutdown"},
		},
		"conflict with the next bytes": {
			[]relStep{syn(-1, ""), data(3, "def"), data(7, "h"), data(0, "abcX"), conflicts(1), data(6, "g"), end()},
			[]string{"open", "gap 6", "data g", "data h", "closed shutdown"},
		},
		"conflict with two": {
			[]relStep{syn(-1, ""), data(3, "d"), data(5, "f"), data(7, "hij"), data(3, "XefgX"), conflicts(1),
				data(0, "abcdefgh"), data(8, "ijk"), end()},
			[]string{"open", "start abc", "gap 7", "data k", "closed shutdown"},
		},
		"conflict leaves the neighbours alone": {
			[]relStep{syn(-1, ""), data(2, "c"), data(3, "d", ack(200)), data(4, "e", ack(300)), data(3, "X"), conflicts(1),
				data(0, "ab"), end()},
			[]string{"open", "start ab", "data c", "gap 1", "data e", "closed shutdown"},
		},
		"conflict, lost": {
			[]relStep{syn(-1, ""), data(3, "d"), data(2, "cX", lost), conflicts(1), data(4, "e")},
			[]string{"open", "gap 2", "gap 2", "data e"},
		},
		"conflict and FIN": {
			[]relStep{syn(-1, ""), data(1, "bc"), data(0, "aX", fin), conflicts(1), end()},
			[]string{"open", "gap 3", "closed shutdown"},
		},
		"urgent data": {
			[]relStep{syn(-1, ""), data(0, "abc"), data(3, "d", urg), data(4, "ef"), data(3, "d"), retransmitted(1), end()},
			[]string{"open", "start abc", "gap ?", "data ef", "closed shutdown"},
		},
		"urgent data behind a hole": {
			[]relStep{syn(-1, ""), data(0, "a"), data(5, "f"), data(2, "cd", urg), data(1, "b"), data(4, "e"), data(6, "g"), end()},
			[]string{"open", "start a", "gap 4", "data f", "gap ?", "data g", "closed shutdown"},
		},
		"urgent data in a hole": {
			[]relStep{syn(-1, ""), data(0, "a"), data(3, "d"), data(1, "bc", urg), data(4, "e"), end()},
			[]string{"open", "start a", "gap 2", "data d", "gap ?", "data e", "closed shutdown"},
		},
		"urgent data again": {
			[]relStep{syn(-1, ""), data(0, "abc"), data(1, "b", urg), data(3, "d"), end()},
			[]string{"open", "start abc", "data d", "closed shutdown"},
		},
		"urgent data first": {
			[]relStep{syn(-1, ""), data(0, "a", urg), data(1, "b"), end()},
			[]string{"open", "gap ?", "data b", "closed shutdown"},
		},
		"urgent data last": {
			[]relStep{syn(-1, ""), data(0, "a"), data(1, "b", urg, fin), end()},
			[]string{"open", "start a", "gap ?", "closed fin"},
		},
		"urgent data picked up": {
			[]relStep{data(0, "ab", urg), data(2, "c", ack(100)), end()},
			[]string{"open midstream", "gap ?", "data c", "closed shutdown"},
		},
		"idle": {
			[]relStep{syn(-1, ""), data(0, "a"), pass(time.Minute), data(1, "b"), pass(299 * time.Second),
				pass(2 * time.Second), stat("tracked", func(s Stats) uint64 { return uint64(s.FlowsTracked) }, 0)},
			[]string{"open", "start a", "data b", "closed idle"},
		},
		"kept alive by probes": {
			[]relStep{syn(-1, ""), data(0, "a"), pass(200 * time.Second), data(0, ""), pass(200 * time.Second), data(1, "b")},
			[]string{"open", "start a", "data b"},
		},
		"ignored": {
			[]relStep{syn(-1, ""), data(0, "a"), data(2, "c"), ignore(), data(1, "b"), data(3, "d"), ignore(),
				stat("ignored", func(s Stats) uint64 { return s.BytesIgnored }, 3),
				stat("buffered", func(s Stats) uint64 { return uint64(s.BytesBuffered) }, 0), end()},
			[]string{"open", "start a"},
		},
		"ignored until a new SYN": {
			[]relStep{syn(-1, ""), data(0, "a"), ignore(), syn(-1, ""), data(1, "b"), syn(99, ""), data(100, "x"), end()},
			[]string{"open", "start a", "open", "start x", "closed shutdown"},
		},
		"ignored until FIN": {
			[]relStep{syn(-1, ""), data(0, "a"), ignore(), data(1, "b", fin), data(1, "b"), syn(99, ""), end()},
			[]string{"open", "start a", "open", "closed shutdown"},
		},
		"ignored until RST": {
			[]relStep{syn(-1, ""), data(0, "a"), ignore(), rst(9), data(1, "b"), end()},
			[]string{"open", "start a"},
		},
		"closed with a hole": {
			[]relStep{syn(-1, ""), data(0, "a"), data(2, "c"), data(5, "f"), data(8, "", fin), end()},
			[]string{"open", "start a", "gap 1", "data c", "gap 2", "data f", "gap 2", "closed fin"},
		},
	}
	for name, test := range tests {
		for _, base := range bases {
			t.Run(fmt.Sprintf("%s/%#x", name, base), func(t *testing.T) {
				h := newHarness(t, Config{})
				for _, s := range test.steps {
					s(base)(h)
				}
				h.check(test.want...)
			})
		}
	}
}
