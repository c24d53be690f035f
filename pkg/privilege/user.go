package privilege

import (
	"fmt"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// User is whom a process becomes.
type User struct{ UID, GID int }

// ParseUser takes UID or UID:GID, in numbers: names are a matter of the files
// of one host. A GID that is not given is the same number.
func ParseUser(s string) (*User, error) {
	uid, gid, both := strings.Cut(s, ":")
	if !both {
		gid = uid
	}
	var u User
	for _, id := range []struct {
		text string
		to   *int
	}{{uid, &u.UID}, {gid, &u.GID}} {
		// The highest number means "no change" to the kernel.
		n, err := strconv.ParseUint(id.text, 10, 32)
		if err != nil || n == 1<<32-1 {
			return nil, fmt.Errorf("%q: expected UID or UID:GID, in numbers", s)
		}
		*id.to = int(n)
	}
	return &u, nil
}

// become changes user and group for every thread, and keeps the permitted
// capabilities, which the kernel would else take from who is no longer root.
func (u *User) become() error {
	if err := everywhere("keep capabilities", unix.SYS_PRCTL, unix.PR_SET_KEEPCAPS, 1, 0); err != nil {
		return err
	}
	if err := syscall.Setgroups(nil); err != nil {
		return fmt.Errorf("give up supplementary groups: %w", err)
	}
	if err := syscall.Setresgid(u.GID, u.GID, u.GID); err != nil {
		return fmt.Errorf("become group %d: %w", u.GID, err)
	}
	if err := syscall.Setresuid(u.UID, u.UID, u.UID); err != nil {
		return fmt.Errorf("become user %d: %w", u.UID, err)
	}
	return nil
}
