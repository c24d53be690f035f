package capture

import (
	"fmt"
	"net"
	"path"

	"github.com/vishvananda/netlink"

	"github.com/shadowtap/shadowtap/pkg/capture/attach"
)

// selection says where packets towards the targets can be seen, and those from
// them if responses are wanted. It is a value computed from the targets and this
// host's addresses, and immutable.
//
//   - Packets to an address of this host come in through some interface, lo
//     included. What it answers goes out of some interface; what goes out of lo
//     comes in there, too.
//   - Packets to another host's address may be forwarded, bridged or sent from
//     here: they come in through or go out of any interface but lo. So do its
//     answers.
//   - The ports of a bond are left to the bond, which passes all of their
//     packets: a bond may spread a connection over its ports packet by packet,
//     and which hook saw a packet first means nothing then.
//   - Any address means any of this host's. Unless interfaces are named it
//     becomes a target for each of them; if they are named, what comes in there
//     is meant, whatever its address (a bridge, a router, a mirror port).
//
// Packets that are thereby seen twice are copied once: the kernel program
// knows which hook a flow belongs to.
type selection struct {
	patterns      []string // interface names or globs; none: every interface
	responses     bool
	local, remote bool // there are targets of this host, of other hosts
	keys          map[tapTarget]struct{}
}

func checkPatterns(patterns []string) error {
	for _, p := range patterns {
		if _, err := path.Match(p, ""); err != nil {
			return fmt.Errorf("interface pattern %q: %w", p, err)
		}
	}
	return nil
}

func newSelection(patterns []string, responses bool, targets []Target, host hostAddrs) *selection {
	s := &selection{patterns: patterns, responses: responses, keys: make(map[tapTarget]struct{}, len(targets))}
	for _, t := range targets {
		switch {
		case t.anyAddr() && len(patterns) == 0:
			for _, a := range host.addrs {
				s.keys[Target{a, t.Port}.key()] = struct{}{}
			}
			s.local = true
		case t.anyAddr() || host.has(t.Addr):
			s.keys[t.key()] = struct{}{}
			s.local = true
		default:
			s.keys[t.key()] = struct{}{}
			s.remote = true
		}
	}
	return s
}

// want says on which hooks of an interface the program is needed.
func (s *selection) want(name string, flags net.Flags) attach.Want {
	if !s.matches(name) {
		return attach.Want{}
	}
	outside := flags&net.FlagLoopback == 0
	return attach.Want{
		Ingress: s.local || s.remote && outside,
		Egress:  (s.remote || s.local && s.responses) && outside,
	}
}

func (s *selection) wantLink(l netlink.Link) attach.Want {
	a := l.Attrs()
	if a.Slave != nil && a.Slave.SlaveType() == "bond" && len(s.patterns) == 0 {
		return attach.Want{}
	}
	return s.want(a.Name, a.Flags)
}

func (s *selection) matches(name string) bool {
	for _, p := range s.patterns {
		if ok, _ := path.Match(p, name); ok {
			return true
		}
	}
	return len(s.patterns) == 0
}
