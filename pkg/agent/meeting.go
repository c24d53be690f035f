package agent

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// meeting is where agents of which one may take over from another find each
// other: those of one name in a network namespace, or those, in whatever
// network and mount namespaces, that were given the same directory.
type meeting struct {
	agent string
	dir   string // if not empty
}

// errNobody says that there is no agent to take over from.
var errNobody = errors.New("no agent to take over from runs here")

// seats is how many agents may listen in one place: a successor does, as the
// user who started it, while the predecessor still does.
const seats = 2

// seat is a listener for successors, one of a meeting's seats.
type seat struct {
	*net.UnixListener
	number int
	lock   *os.File // held as long as the seat is; nil without a directory
}

// Close gives the seat up. It may be called more than once.
func (s *seat) Close() error {
	err := s.UnixListener.Close() // which removes the socket's file first
	if s.lock != nil {
		_ = s.lock.Close()
	}
	return err
}

// address of a seat is a socket in the directory, or an abstract one (unix(7)),
// which exists once in a network namespace and ends with the process that has
// it, however that ends.
func (m meeting) address(number int) *net.UnixAddr {
	if m.dir != "" {
		return &net.UnixAddr{Net: "unix", Name: filepath.Join(m.dir, fmt.Sprintf("%d.sock", number))}
	}
	agent := m.agent
	if len(agent) > 64 {
		sum := sha256.Sum256([]byte(agent))
		agent = hex.EncodeToString(sum[:])
	}
	return &net.UnixAddr{Net: "unix", Name: fmt.Sprintf("@shadowtap:agent:%s:%d", agent, number)}
}

// begin keeps others that use the directory from looking for an agent and
// taking a seat until end is called, or two that start at once might each find
// nobody.
func (m meeting) begin(ctx context.Context) (end func(), err error) {
	if m.dir == "" {
		return func() {}, nil
	}
	if err := m.checkDir(); err != nil {
		return nil, err
	}
	for {
		lock, err := m.tryLock("start.lock")
		if err == nil {
			return func() { _ = lock.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, err
		}
		select {
		case <-time.After(lockPause):
		case <-ctx.Done():
			return nil, fmt.Errorf("%s: another agent that starts holds it: %w", filepath.Join(m.dir, "start.lock"), ctx.Err())
		}
	}
}

// checkDir makes the directory if there is none, and refuses one in which
// others than root and our own user could put something.
func (m meeting) checkDir() error {
	if err := os.MkdirAll(m.dir, 0o700); err != nil {
		return fmt.Errorf("--takeover-dir: %w", err)
	}
	var stat unix.Stat_t
	if err := unix.Stat(m.dir, &stat); err != nil {
		return fmt.Errorf("--takeover-dir %s: %w", m.dir, err)
	}
	if stat.Uid != 0 && int(stat.Uid) != os.Geteuid() {
		return fmt.Errorf("--takeover-dir %s belongs to user %d: expected root's or our own", m.dir, stat.Uid)
	}
	if stat.Mode&0o022 != 0 {
		return fmt.Errorf("--takeover-dir %s has mode %#o: others must not be able to write to it", m.dir, stat.Mode&0o777)
	}
	return nil
}

// tryLock locks a file of the directory, by flock(2): a lock ends with the
// process that has it. The error wraps EWOULDBLOCK if another process does.
func (m meeting) tryLock(name string) (*os.File, error) {
	path := filepath.Join(m.dir, name)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("handover: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return f, nil
}

// dial connects to the agent that listens, other than in our own seat. The
// error is errNobody if there is none.
func (m meeting) dial(ctx context.Context, own *seat) (*net.UnixConn, error) {
	var d net.Dialer
	for number := range seats {
		if own != nil && own.number == number {
			continue
		}
		conn, err := d.DialContext(ctx, "unix", m.address(number).Name)
		// A file whose process has ended refuses.
		if errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("handover: %w", err)
		}
		return conn.(*net.UnixConn), nil
	}
	return nil, errNobody
}

// listen takes a free seat. others reports that another agent has one; s is nil
// if they have all.
func (m meeting) listen() (s *seat, others bool, err error) {
	for number := range seats {
		got, e := m.sit(number)
		switch {
		case e == nil && s == nil:
			s = got
		case e == nil:
			_ = got.Close()
		case errors.Is(e, unix.EADDRINUSE), errors.Is(e, unix.EWOULDBLOCK):
			others, err = true, e
		default:
			err = e
		}
	}
	if s != nil {
		err = nil
	}
	return s, others, err
}

// sit takes a seat. The error wraps EADDRINUSE or EWOULDBLOCK if another agent
// has it.
func (m meeting) sit(number int) (s *seat, err error) {
	s = &seat{number: number}
	address := m.address(number)
	if m.dir != "" {
		if s.lock, err = m.tryLock(fmt.Sprintf("%d.lock", number)); err != nil {
			return nil, err
		}
		// Whoever made the file is gone, or would hold the lock.
		if err = os.Remove(address.Name); errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
	}
	if err == nil {
		s.UnixListener, err = net.ListenUnix("unix", address)
	}
	if err == nil && m.dir != "" {
		err = os.Chmod(address.Name, 0o600)
	}
	if err != nil {
		if s.UnixListener != nil {
			_ = s.UnixListener.Close()
		}
		if s.lock != nil {
			_ = s.lock.Close()
		}
		return nil, err
	}
	return s, nil
}

// lockPause is between two attempts to lock what another agent holds for as
// long as it takes to connect and to bind.
const lockPause = 10 * time.Millisecond
