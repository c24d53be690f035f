package netns

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// eventBuffer is how many bytes of messages the kernel may hold for us. When
// they do not suffice, everything is looked at again.
const eventBuffer = 1 << 20

// events is a netlink socket that hears of links and addresses in every
// network namespace that has an id in the socket's own, of qdiscs and filters
// that are removed there, and of such ids.
type events struct {
	file *os.File
	conn syscall.RawConn
	buf  []byte
	oob  []byte
}

// event says that something happened in a namespace. All other fields being
// zero it says that something may have happened anywhere.
type event struct {
	nsid    int
	ended   bool // the namespace has, and the id with it
	started bool // the id is new
	missed  bool // messages were lost
	removed bool // a qdisc or filter was removed
}

// newEvents opens the socket in the network namespace of the calling thread.
func newEvents() (_ *events, err error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	file := os.NewFile(uintptr(fd), "netlink")
	defer func() {
		if err != nil {
			_ = file.Close()
		}
	}()
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, eventBuffer)
	if err := unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_LISTEN_ALL_NSID, 1); err != nil {
		return nil, fmt.Errorf("listen to all network namespaces (it takes CAP_NET_BROADCAST): %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, fmt.Errorf("bind netlink: %w", err)
	}
	for _, group := range []int{unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR, unix.RTNLGRP_TC, unix.RTNLGRP_NSID} {
		if err := unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, group); err != nil {
			return nil, fmt.Errorf("join netlink group %d: %w", group, err)
		}
	}
	e := &events{file: file, buf: make([]byte, 1<<16), oob: make([]byte, 256)}
	if e.conn, err = file.SyscallConn(); err != nil {
		return nil, fmt.Errorf("poll netlink: %w", err)
	}
	return e, nil
}

// close ends the socket and every next.
func (e *events) close() error { return e.file.Close() }

// next waits for messages and passes on what they say. It returns
// os.ErrClosed after close.
func (e *events) next(deliver func(event)) error {
	var n, oobn int
	var failure error
	err := e.conn.Read(func(fd uintptr) bool {
		n, oobn, _, _, failure = unix.Recvmsg(int(fd), e.buf, e.oob, 0)
		return !errors.Is(failure, unix.EAGAIN) && !errors.Is(failure, unix.EINTR)
	})
	switch {
	case err != nil:
		return os.ErrClosed // no other end without a deadline, but package os does not call it so
	case errors.Is(failure, unix.ENOBUFS):
		deliver(event{missed: true})
		return nil
	case failure != nil:
		return fmt.Errorf("receive from netlink: %w", failure)
	}
	messages, err := syscall.ParseNetlinkMessage(e.buf[:n])
	if err != nil {
		deliver(event{missed: true})
		return nil
	}
	from, foreign := senderNamespace(e.oob[:oobn])
	for _, m := range messages {
		switch m.Header.Type {
		case unix.RTM_NEWNSID, unix.RTM_DELNSID:
			if id, ok := nsidOf(m.Data); ok && !foreign {
				deliver(event{nsid: id, ended: m.Header.Type == unix.RTM_DELNSID, started: m.Header.Type == unix.RTM_NEWNSID})
			}
		case unix.RTM_NEWLINK, unix.RTM_DELLINK, unix.RTM_NEWADDR, unix.RTM_DELADDR:
			if foreign {
				deliver(event{nsid: from})
			}
		case unix.RTM_DELQDISC, unix.RTM_DELTFILTER:
			if foreign {
				deliver(event{nsid: from, removed: true})
			}
		}
	}
	return nil
}

// senderNamespace returns the id of the namespace that a message is from, and
// false if it is from the socket's own.
func senderNamespace(oob []byte) (int, bool) {
	controls, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return 0, false
	}
	for _, c := range controls {
		if c.Header.Level == unix.SOL_NETLINK && c.Header.Type == unix.NETLINK_LISTEN_ALL_NSID && len(c.Data) >= 4 {
			id := int(int32(binary.NativeEndian.Uint32(c.Data)))
			return id, id >= 0
		}
	}
	return 0, false
}

// nsidOf reads struct rtgenmsg and the attribute NETNSA_NSID behind it
// (linux/net_namespace.h).
func nsidOf(data []byte) (int, bool) {
	const head = (int(unsafe.Sizeof(unix.RtGenmsg{})) + unix.NLMSG_ALIGNTO - 1) &^ (unix.NLMSG_ALIGNTO - 1)
	for data = data[min(head, len(data)):]; len(data) >= unix.SizeofRtAttr; {
		size, kind := int(binary.NativeEndian.Uint16(data)), binary.NativeEndian.Uint16(data[2:])
		if size < unix.SizeofRtAttr || size > len(data) {
			break
		}
		if kind == unix.NETNSA_NSID && size >= unix.SizeofRtAttr+4 {
			return int(int32(binary.NativeEndian.Uint32(data[unix.SizeofRtAttr:]))), true
		}
		data = data[min((size+3)&^3, len(data)):]
	}
	return 0, false
}

// nsidFor returns the id that a namespace has in that of the handle, giving it
// one if it has none. The kernel forgets it with the namespace.
func nsidFor(h *netlink.Handle, f *os.File) (int, error) {
	id, err := h.GetNetNsIdByFd(int(f.Fd()))
	if err == nil && id >= 0 {
		return id, nil
	}
	if err := h.SetNetNsIdByFd(int(f.Fd()), -1); err != nil && !errors.Is(err, unix.EEXIST) {
		return 0, fmt.Errorf("give a network namespace an id: %w", err)
	}
	if id, err = h.GetNetNsIdByFd(int(f.Fd())); err != nil {
		return 0, fmt.Errorf("id of a network namespace: %w", err)
	}
	return id, nil
}

// hasNSID reports whether the namespace lives and has the id in that of the
// handle; if in doubt yes.
func (n *Namespace) hasNSID(h *netlink.Handle, id int) bool {
	f, err := n.open()
	if err != nil {
		return !errors.Is(err, fs.ErrNotExist)
	}
	defer f.Close()
	has, err := h.GetNetNsIdByFd(int(f.Fd()))
	return err != nil || has == id
}
