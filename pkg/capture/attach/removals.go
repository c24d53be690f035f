package attach

import (
	"fmt"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// removalSettle is how long after a qdisc or filter was removed the link is
// looked at. Who removes a qdisc may be about to make it anew, and must not find
// that we have been faster.
const removalSettle = time.Second

// removals is the stream of messages that qdiscs and filters were removed from
// links of a namespace. Programs attached by tcx go without a message.
type removals struct {
	socket *nl.NetlinkSocket
	links  chan int // indexes; closed when the stream ends
}

// openRemovals subscribes in the namespace of the calling thread, and reads until
// close, or until messages are lost.
func openRemovals() (*removals, error) {
	s, err := nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_TC)
	if err != nil {
		return nil, fmt.Errorf("subscribe to removals of filters: %w", err)
	}
	if err := s.SetReceiveBufferSize(receiveBuffer, true); err != nil {
		s.Close()
		return nil, fmt.Errorf("subscribe to removals of filters: %w", err)
	}
	r := &removals{socket: s, links: make(chan int, 64)}
	go r.read()
	return r, nil
}

func (r *removals) read() {
	defer close(r.links)
	for {
		messages, from, err := r.socket.Receive()
		if err != nil {
			return
		}
		if from.Pid != nl.PidKernel {
			continue
		}
		for _, m := range messages {
			removed := m.Header.Type == unix.RTM_DELQDISC || m.Header.Type == unix.RTM_DELTFILTER
			if removed && len(m.Data) >= nl.SizeofTcMsg {
				r.links <- int(nl.DeserializeTcMsg(m.Data).Ifindex)
			}
		}
	}
}

func (r *removals) close() {
	r.socket.Close()
	for range r.links { // it may be waiting for us
	}
}
