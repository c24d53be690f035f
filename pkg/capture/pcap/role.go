package pcap

import "github.com/shadowtap/shadowtap/pkg/capture"

// role is what a packet is to the captured endpoints.
type role uint8

const (
	roleNone role = iota // neither goes to one nor comes from one
	roleRequest
	roleResponse
)

// role says what the packet is, by the same rules as the kernel program
// (is_response in bpf/tap.bpf.c).
func (rd *reader) role() role {
	p := &rd.pkt
	to := rd.match == nil || rd.match(p.flow.Destination())
	from := rd.responses && (rd.match == nil || rd.match(p.flow.Source()))
	switch {
	case from && !to:
		return roleResponse
	case !to:
		return roleNone
	case !from:
		return roleRequest
	}
	opens := p.flags&(capture.FlagSYN|capture.FlagACK) == capture.FlagSYN
	if !opens && rd.calls.answers(p.flow) {
		return roleResponse
	}
	if opens {
		rd.calls.add(p.flow)
	}
	return roleRequest
}

// reverse returns the flow of the other direction.
func reverse(f capture.Flow) capture.Flow {
	f.SrcIP, f.DstIP = f.DstIP, f.SrcIP
	f.SrcPort, f.DstPort = f.DstPort, f.SrcPort
	return f
}

// maxCalls bounds the connections of which calls knows who opened them.
const maxCalls = 1 << 16

// calls knows who called whom of connections between two captured endpoints,
// in two generations: what was not asked for since the younger one was full
// is forgotten, and both of its directions are then taken for requests.
type calls struct {
	young, old map[capture.Flow]struct{}
}

func (c *calls) add(f capture.Flow) {
	delete(c.young, reverse(f)) // the 4-tuple is used again, the other way round
	delete(c.old, reverse(f))
	if c.young == nil || len(c.young) >= maxCalls/2 {
		c.young, c.old = make(map[capture.Flow]struct{}), c.young
	}
	c.young[f] = struct{}{}
}

// answers reports whether f is the way back of a connection.
func (c *calls) answers(f capture.Flow) bool {
	back := reverse(f)
	if _, ok := c.young[back]; ok {
		return true
	}
	if _, ok := c.old[back]; ok {
		c.add(back)
		return true
	}
	return false
}
