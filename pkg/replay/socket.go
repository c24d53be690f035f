package replay

import (
	"syscall"
	"unsafe"
)

// These are the system calls of exchange.direct, on sockets that never block.
//
// They are made without telling Go's scheduler, which saves it waking threads
// to watch over, and to stand in for, a thread that might be blocked: with few
// exchanges at a time that costs more than a third of all CPU spent. It is
// right only for calls that return in microseconds.

// recv reads what has arrived. It returns 0 at the end of the stream, and
// EAGAIN if there is nothing.
func recv(fd uintptr, b []byte, flags uintptr) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall6(syscall.SYS_RECVFROM, fd,
		uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), syscall.MSG_DONTWAIT|flags, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

// send writes what fits the socket's buffer, and returns EAGAIN if nothing
// does.
func send(fd uintptr, b []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall6(syscall.SYS_SENDTO, fd,
		uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), syscall.MSG_DONTWAIT|syscall.MSG_NOSIGNAL, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}
