// Package privilege gives up what a process was started with and does not need
// any more, for all of its threads and for good: see capabilities(7),
// credentials(7) and PR_SET_NO_NEW_PRIVS in prctl(2).
package privilege

import (
	"errors"
	"fmt"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Set is a set of capabilities: bit n is the capability of number n.
type Set uint64

// Of returns the set of the capabilities given, unix.CAP_BPF and its like.
func Of(capabilities ...int) (s Set) {
	for _, c := range capabilities {
		s |= 1 << c
	}
	return s
}

// Has reports whether c is in the set.
func (s Set) Has(c int) bool { return s>>c&1 != 0 }

// ErrCgo says that privileges cannot be dropped in a program that is linked
// with cgo: the Go runtime cannot reach threads that are not its own.
var ErrCgo = errors.New("the program is linked with cgo; build it with CGO_ENABLED=0")

// Permitted returns the capabilities that the calling thread may use.
func Permitted() (Set, error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return 0, fmt.Errorf("read capabilities: %w", err)
	}
	return Set(data[0].Permitted) | Set(data[1].Permitted)<<32, nil
}

// Drop leaves the process with those capabilities of keep that it has, as
// permitted and effective ones, and with no others, also not after an exec. If
// user is not nil the process becomes that user, without supplementary groups.
//
// It acts on every thread, and must not run at the same time as something that
// changes the credentials of one. After an error the process may have given up
// a part. ErrCgo comes before any change.
func Drop(keep Set, user *User) error {
	if err := everywhere("no_new_privs", unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0); err != nil {
		return err
	}
	permitted, err := Permitted()
	if err != nil {
		return err
	}
	keep &= permitted
	// Without no_new_privs an exec would regain what is in the bounding set;
	// with it this is the second lock on the door.
	if permitted.Has(unix.CAP_SETPCAP) {
		for c := 0; unix.Prctl(unix.PR_CAPBSET_READ, uintptr(c), 0, 0, 0) == nil && c < 64; c++ {
			if keep.Has(c) {
				continue
			}
			if err := everywhere("bounding set", unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, uintptr(c), 0); err != nil {
				return err
			}
		}
	}
	if err := everywhere("ambient capabilities", unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0); err != nil {
		return err
	}
	if user != nil {
		if err := user.become(); err != nil {
			return err
		}
	}
	header := &unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	data := &[2]unix.CapUserData{
		{Effective: uint32(keep), Permitted: uint32(keep)},
		{Effective: uint32(keep >> 32), Permitted: uint32(keep >> 32)},
	}
	return everywhere("capabilities", unix.SYS_CAPSET, uintptr(unsafe.Pointer(header)), uintptr(unsafe.Pointer(data)), 0)
}

// everywhere makes a system call on every thread.
//
//go:uintptrescapes
func everywhere(what string, trap, a1, a2, a3 uintptr) error {
	_, _, errno := syscall.AllThreadsSyscall6(trap, a1, a2, a3, 0, 0, 0)
	switch errno {
	case 0:
		return nil
	case syscall.ENOTSUP:
		return ErrCgo
	}
	return fmt.Errorf("drop privileges: %s: %w", what, errno)
}
