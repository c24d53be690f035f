package netns

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// ID names a network namespace to every process of the machine, whatever
// namespaces that is in itself. It is comparable; the zero ID is none's.
type ID struct {
	// Device and Inode are those of its file in nsfs (namespaces(7)), which may
	// be used again once the namespace has ended.
	Device, Inode uint64
	// Cookie is never used again (socket(7), SO_NETNS_COOKIE); 0 before Linux
	// 5.14, which does not tell.
	Cookie uint64
}

// Own returns the ID of the calling thread's namespace.
func Own() (ID, error) {
	f, id, err := openNamespace("/proc/thread-self/ns/net")
	if err != nil {
		return ID{}, fmt.Errorf("network namespace of this thread: %w", err)
	}
	_ = f.Close()
	c, err := cookie()
	if err != nil {
		return ID{}, err
	}
	return ID{Device: id.device, Inode: id.inode, Cookie: c}, nil
}

// ID returns the name of the namespace.
func (n *Namespace) ID() ID {
	return ID{Device: n.id.device, Inode: n.id.inode, Cookie: n.cookie.Load()}
}

// cookie is that of the calling thread's namespace, 0 if the kernel has none.
// Not to know it is an error: by a name without it another agent would take the
// namespace for one that it does not capture in.
func cookie() (uint64, error) {
	s, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("cookie of a network namespace: %w", err)
	}
	defer unix.Close(s)
	c, err := unix.GetsockoptUint64(s, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if err != nil && !errors.Is(err, unix.ENOPROTOOPT) { // too old a kernel
		return 0, fmt.Errorf("cookie of a network namespace: %w", err)
	}
	return c, nil
}
