package torture

import (
	"fmt"
	"net/netip"
	"strings"
)

// attack is what hostile clients send while honest ones send their requests.
// No client of it is authenticated: whoever can reach the endpoint can send
// all of this.
type attack struct {
	// clients is how many there are with every set of honest connections.
	clients int
	// client returns the packets of one of them.
	client func(g *generator, from tuple) []packet
	// sources is where they are.
	sources sources
	// long is set where it takes too much time for every day.
	long bool
	// starves is set where honest requests may find no memory left. Each
	// hostile client then sends one request that is dropped, so that those
	// can be told from honest ones in the account.
	starves bool
}

// Honest requests must all be mirrored meanwhile, and the agent's memory stay
// below its limit and what the program takes that no limit governs: its code,
// thread stacks and the runtime's tables.
const (
	attackLimitMiB = 128
	attackSlackMiB = 32
)

// speaker sends one side of a connection.
type speaker struct {
	tuple
	packets  []packet
	seq, ack uint32
}

func speak(g *generator, from tuple) *speaker {
	s := &speaker{tuple: from, seq: g.Uint32(), ack: 1}
	s.packets = append(s.packets, packet{tuple: from, seq: s.seq, flags: flagSYN})
	s.seq++
	return s
}

// say sends text in segments of at most n bytes.
func (s *speaker) say(text string, n int) {
	for len(text) > 0 {
		k := min(n, len(text))
		s.packets = append(s.packets, packet{tuple: s.tuple, seq: s.seq, ack: s.ack, flags: flagACK, payload: []byte(text[:k]), wire: k})
		s.seq += uint32(k)
		text = text[k:]
	}
}

// hole leaves bytes out that never come.
func (s *speaker) hole(n uint32) { s.seq += n }

const hostileHead = "POST /t/hostile HTTP/1.1\r\nHost: hostile.test\r\n"

// headBombs never end their heads, in one field or in many.
func headBombs(g *generator, from tuple) []packet {
	s := speak(g, from)
	s.say(hostileHead, 1460)
	if g.chance(2) {
		s.say("x: "+strings.Repeat("a", 1<<20), 1460)
	} else {
		s.say(strings.Repeat("a:b\r\n", 200_000), maxPayload)
	}
	return s.packets
}

// crumbs are single bytes with holes between them, each of which has to be
// kept, in case the holes fill.
func crumbs(g *generator, from tuple) []packet {
	s := speak(g, from)
	for range 3000 {
		s.hole(1 + g.Uint32N(3000))
		s.say("x", 1)
	}
	return s.packets
}

// synFlood is half-open connections from everywhere.
func synFlood(g *generator, from tuple) []packet {
	var packets []packet
	for range 50_000 {
		ip := netip.AddrFrom4([4]byte{172, byte(16 + g.IntN(16)), byte(g.IntN(256)), byte(g.IntN(256))})
		from.client = netip.AddrPortFrom(ip, uint16(g.IntN(1<<16)))
		from.server = served4
		packets = append(packets, packet{tuple: from, seq: g.Uint32(), flags: flagSYN})
	}
	return packets
}

// ambiguous sends what two servers might frame differently.
func ambiguous(g *generator, from tuple) []packet {
	s := speak(g, from)
	te := hostileHead + "Transfer-Encoding: chunked\r\n\r\n"
	text := g.pick(
		hostileHead+"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		hostileHead+"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
		hostileHead+"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
		hostileHead+"Content-Length: 18446744073709551621\r\n\r\nhello",
		hostileHead+"Content-Length: 9223372036854775807\r\n\r\nhello",
		hostileHead+"Content-Length: -1\r\n\r\n",
		hostileHead+"Content-Length: +5\r\n\r\nhello",
		hostileHead+"Content-Length: 0x5\r\n\r\nhello",
		hostileHead+"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
		hostileHead+"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
		hostileHead+"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
		hostileHead+"X: a\n\r\n",
		strings.ReplaceAll(hostileHead, "\r\n", "\n")+"\n",
		hostileHead+"X: a\x00b\r\n\r\n",
		hostileHead+"X\x00: a\r\n\r\n",
		hostileHead+"X: a\r\n b\r\n\r\n",
		hostileHead+" X: a\r\n\r\n",
		"POST\t/t/x HTTP/1.1\r\n\r\n", "POST /t/x HTTP/1.1 \r\n\r\n", "POST  /t/x  HTTP/1.1\r\n\r\n", "POST /t/x HTTP/9.9\r\n\r\n",
		te+"ffffffffffffffff\r\nx", te+"10000000000000005\r\nhello\r\n0\r\n\r\n", te+"7fffffffffffffff\r\nx",
		te+"5 \r\nhello\r\n0\r\n\r\n", te+"5\nhello\r\n0\r\n\r\n", te+"0x5\r\nhello\r\n0\r\n\r\n", te+"-5\r\nhello\r\n", te+"\r\n",
		te+"5\r\nhelloXX0\r\n\r\n", te+"0\r\nContent-Length: 5\r\n\r\n",
		te+"1;"+strings.Repeat("e", 1<<20), te+strings.Repeat("1;"+strings.Repeat("e", 4000)+"\r\nx\r\n", 500),
		te+"1\r\nx\r\n0\r\n"+strings.Repeat("t: v\r\n", 50_000),
	)
	s.say(text, max(len(text)/5000, []int{1, 100, 1460, maxPayload}[g.IntN(4)]))
	// What follows must not be taken for a request of an honest client.
	s.ack++
	s.say("GET /t/smuggled HTTP/1.1\r\nHost: torture.test\r\n"+idField+": 0 0\r\n\r\n", 1460)
	return s.packets
}

// pipelines are thousands of requests without waiting for an answer. No rule
// mirrors them.
func pipelines(g *generator, from tuple) []packet {
	s := speak(g, from)
	s.say(strings.Repeat("GET /t/hostile HTTP/1.1\r\nHost: hostile.test\r\n\r\n", 5000), maxPayload)
	return s.packets
}

// slowBodies announce bodies of the largest size that is mirrored, and stop
// short of their end.
func slowBodies(g *generator, from tuple) []packet {
	const most = 1 << 20
	s := speak(g, from)
	s.say(hostileHead+fmt.Sprintf("Content-Length: %d\r\n\r\n", most), 1460)
	s.say(string(g.content(most-1)), maxPayload)
	return s.packets
}
