package torture

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"text/tabwriter"
	"time"
)

// Where hostile clients are.
type sources int

const (
	oneSource   sources = iota // all of them at one address of their own
	manySources                // each at its own
	sameSource                 // at an address that honest ones share
)

// address is the n-th hostile client's.
func (s sources) address(n int) tuple {
	from := client(n)
	if s == sameSource {
		return from
	}
	if s == oneSource {
		n = 0
	}
	if from.server == served6 {
		// Neighbours within a /64 are one client.
		ip := [16]byte{0: 0xfd, 1: 0x66, 6: byte(n >> 8), 7: byte(n), 15: byte(from.client.Port())}
		return tuple{netip.AddrPortFrom(netip.AddrFrom16(ip), from.client.Port()), served6}
	}
	return tuple{netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 66, byte(n >> 8), byte(n)}), from.client.Port()), served4}
}

// otherPort is the n-th connection of a client.
func (t tuple) otherPort(n int) tuple {
	t.client = netip.AddrPortFrom(t.client.Addr(), t.client.Port()+uint16(n))
	return t
}

// slowHeads are thousands of connections, each with the first part of a head.
func slowHeads(g *generator, from tuple) []packet {
	var packets []packet
	for i := range 6000 {
		s := speak(g, from.otherPort(i))
		s.say(hostileHead, 40)
		packets = append(packets, s.packets...)
	}
	return packets
}

// manyFields are hundreds of connections, each with a head of a thousand empty
// fields that does not end: to know where they are takes more than they do.
func manyFields(g *generator, from tuple) []packet {
	var packets []packet
	for i := range 400 {
		s := speak(g, from.otherPort(i))
		s.say("GET /t/hostile HTTP/1.1\r\n"+strings.Repeat("a:\r\n", 990), 1460)
		packets = append(packets, s.packets...)
	}
	return packets
}

// idle are connections that sent something once, more of them than fit the
// table.
func idle(g *generator, from tuple) []packet {
	var packets []packet
	for i := range 20_000 {
		s := speak(g, from.otherPort(i))
		s.say("GET", 2)
		packets = append(packets, s.packets...)
	}
	return packets
}

// drops sends a long head byte by byte, in order.
func drops(g *generator, from tuple) []packet {
	s := speak(g, from)
	s.say(hostileHead+"x: "+strings.Repeat("a", 20_000), 1)
	return s.packets
}

// millionSYNs are half-open connections from everywhere.
func millionSYNs(g *generator, from tuple) []packet {
	packets := make([]packet, 0, 1_000_000)
	for len(packets) < cap(packets) {
		packets = append(packets, synFlood(g, from)...)
	}
	return packets
}

// colliding are connections whose addresses and ports add up, and combine by
// exclusive or, to the same: one bucket of a hash that is no better.
func colliding(g *generator, from tuple) []packet {
	var packets []packet
	for i := range uint16(20_000) {
		ip := from.client.Addr().As16()
		binary.BigEndian.PutUint16(ip[14:], i)
		from.client = netip.AddrPortFrom(netip.AddrFrom16(ip).Unmap(), i)
		s := speak(g, from)
		s.say("GET", 2)
		packets = append(packets, s.packets...)
	}
	return packets
}

// cost is what the agent spent where hostile clients were.
type cost struct {
	packets int
	bytes   int64 // with IPv4 and TCP headers
	cpu     time.Duration
}

func (c *cost) add(packets []packet) {
	c.packets += len(packets)
	for i := range packets {
		c.bytes += int64(40 + packets[i].wire)
	}
}

// costs is the table of what attacks cost. The agent's start and the honest
// requests are in it, so it only means something for many packets.
func costs(rows table) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "attack\thostile packets\tMB\tagent's CPU s\tns/packet\tns/byte\tpeak MiB\t")
	for _, r := range rows {
		if c := r.cost; c.packets > 0 {
			fmt.Fprintf(w, "%s\t%d\t%.1f\t%.2f\t%.0f\t%.1f\t%d\t\n", strings.TrimPrefix(r.name, "attack: "), c.packets, float64(c.bytes)/1e6,
				c.cpu.Seconds(), float64(c.cpu.Nanoseconds())/float64(c.packets), float64(c.cpu.Nanoseconds())/float64(c.bytes), r.peakMiB)
		}
	}
	_ = w.Flush()
	return b.String()
}
