package torture

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"testing"
	"time"
)

// TestTorture prints what became of every request and fails on anything that
// cannot be explained.
func TestTorture(t *testing.T) {
	s := sizeOfRun(t)
	var table table
	for i, c := range scenarios {
		if (c.bytes > 0 || c.attack.long) && s.requests <= shortRequests {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			n := max(20, s.requests*c.share/100)
			if c.most > 0 {
				n = min(n, c.most)
			}
			table.add(c.run(t, n, s.seed+uint64(i)<<32))
		})
	}
	for i, p := range paths {
		if !p.short && s.requests <= shortRequests {
			continue
		}
		t.Run(p.name, func(t *testing.T) {
			table.add(p.run(t, max(20, s.requests*liveShare/100), s.seed+uint64(1000+i)<<32))
		})
	}
	for i, o := range outages {
		if o.long && s.requests <= shortRequests {
			continue
		}
		t.Run(o.name, func(t *testing.T) {
			table.add(o.run(t, s.requests*outageShare/100, s.seed+uint64(2000+i)<<32))
		})
	}
	for i, a := range ailments {
		if a.long && s.requests <= shortRequests {
			continue
		}
		t.Run(a.name, func(t *testing.T) {
			n := max(30, s.requests*ailmentShare/100)
			if a.bound > 0 {
				n = min(n, a.bound)
			}
			if a.most {
				n = max(n, 150)
			}
			table.add(a.run(t, n, s.seed+uint64(3000+i)<<32))
		})
	}
	fmt.Printf("seed %d\n%s%s", s.seed, table, costs(table))
}

// run sends n requests through the program and returns what became of them.
func (c *scenario) run(t *testing.T, n int, seed uint64) row {
	begin := time.Now()
	var l ledger
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	s := serveShadow(listener, l.arrived)
	defer s.stop()
	read, write, err := os.Pipe()
	must(t, err)
	a := startAgent(t, (*exec.Cmd).Start, read, "-f", rulesFor(t, listener.Addr()), "--pcap", "/dev/stdin", "--admin", "", "--memory-limit", fmt.Sprint(c.limitMiB(), "MiB"), "--max-body", "32MiB")
	must(t, read.Close())
	rec := newRecording(write)
	g := newGenerator(seed, c.sizes, !c.network.loses())
	if c.bytes > 0 {
		err = c.playLong(g, rec, &l)
	} else {
		err = c.play(g, rec, &l, n)
	}
	if err != nil {
		<-a.done
		t.Fatalf("write the recording: %v\n%s", err, a.log.String())
	}
	a.sample()
	must(t, write.Close())
	acc, peak, err := a.ended()
	must(t, err)
	s.stop()
	if acc.Packets.Seen != rec.packets {
		l.fault("packets.seen is %d, want %d", acc.Packets.Seen, rec.packets)
	}
	l.settle(acc, c.attack)
	if c.attack.client != nil && peak > attackLimitMiB+attackSlackMiB {
		l.fault("the agent took %d MiB of memory, want at most %d and %d", peak, attackLimitMiB, attackSlackMiB)
	}
	l.report(t)
	l.cost.cpu = a.cpu()
	return row{name: c.name, cost: l.cost, requests: len(l.entries), expected: l.expected, unexplained: l.unexpl, peakMiB: peak, seconds: time.Since(begin).Seconds()}
}

const (
	// atOnce is how many connections are open at a time.
	atOnce = 24
	// mostAtOnce is how many packets a client sends before another one's turn,
	// so that a flood does not pass between two turns of an honest one.
	mostAtOnce = 4096
	// afterwards is longer than a hole in a stream is waited for.
	afterwards = 6 * time.Second
)

// limitMiB is the limit of the agent's memory: its default, or less where it
// is attacked, or more where there is more to hold at once.
func (c *scenario) limitMiB() int {
	if c.limit > 0 {
		return c.limit
	}
	if c.attack.client != nil {
		return attackLimitMiB
	}
	return 256
}

// play makes n requests and records their packets.
func (c *scenario) play(g *generator, rec *recording, l *ledger, n int) error {
	id, clients := 0, 0
	for id < n {
		var streams [][]packet
		for len(streams) < atOnce && id < n {
			ends := client(clients)
			clients++
			var packets []packet
			before := byFIN
			for life := range max(1, c.network.lives) {
				if id == n {
					break
				}
				conn := g.connection(&c.network, ends, id, n-id, before)
				before = conn.end
				id += len(conn.messages)
				if life+1 < c.network.lives && id < n && conn.end == openEnd {
					conn.end = replaced
				}
				l.sent(conn)
				packets = append(packets, conn.packets...)
			}
			streams = append(streams, packets)
		}
		for range c.attack.clients {
			packets := c.attack.client(g, c.attack.sources.address(clients))
			l.cost.add(packets)
			streams = append(streams, packets)
			clients++
			l.hostile++
		}
		for len(streams) > 0 {
			i := g.IntN(len(streams))
			// Who has much to send sends faster, so that all end together.
			k := min(len(streams[i]), 1+g.IntN(6)+len(streams[i])/32, mostAtOnce)
			for _, p := range streams[i][:k] {
				if err := rec.write(p); err != nil {
					return err
				}
			}
			rec.now = rec.now.Add(time.Duration(1+g.IntN(200)) * time.Microsecond)
			if streams[i] = streams[i][k:]; len(streams[i]) == 0 {
				streams[i] = streams[len(streams)-1]
				streams = streams[:len(streams)-1]
			}
		}
		rec.now = rec.now.Add(afterwards)
	}
	return rec.w.Flush()
}

// client is the n-th client's address and the endpoint it uses; one in four
// speaks IPv6.
func client(n int) tuple {
	port := uint16(1024 + n%60000)
	if n%4 == 3 {
		ip := [16]byte{0: 0xfd, 1: 0x98, 13: byte(n / 60000 >> 8), 14: byte(n / 60000), 15: 1}
		return tuple{netip.AddrPortFrom(netip.AddrFrom16(ip), port), served6}
	}
	return tuple{netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 98, byte(n / 60000), 1}), port), served4}
}
