package torture

import "time"

// playLong records one connection that carries more bytes than there are
// sequence numbers.
func (c *scenario) playLong(g *generator, rec *recording, l *ledger) error {
	ends := client(0)
	seq, ack := g.Uint32(), g.Uint32()
	if err := rec.write(packet{tuple: ends, seq: seq, flags: flagSYN}); err != nil {
		return err
	}
	seq++
	for id, sent := 0, int64(0); sent < c.bytes; id++ {
		m := g.message(id, false)
		conn := &connection{synced: true, messages: []*message{m}, starts: []int{0}, stream: m.raw}
		for at := 0; at < len(m.raw); {
			k := min(c.network.cut(g), len(m.raw)-at)
			conn.parts = append(conn.parts, part{span: span{at, at + k}, ack: ack, gets: k})
			at += k
		}
		w := &wire{generator: g, network: &c.network, connection: conn, ends: ends, isn: seq - 1}
		w.burst(0, len(conn.parts), false)
		l.sent(conn)
		for _, p := range conn.packets {
			if err := rec.write(p); err != nil {
				return err
			}
			rec.now = rec.now.Add(time.Microsecond)
		}
		seq += uint32(len(m.raw))
		ack += 1 + g.Uint32N(2000)
		sent += int64(len(m.raw))
	}
	if err := rec.write(packet{tuple: ends, seq: seq, ack: ack, flags: flagFIN | flagACK}); err != nil {
		return err
	}
	return rec.w.Flush()
}
