package attach

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// The name of a filter says whose it is:
//
//	shadowtap:OWNER or shadowtap:OWNER:q
//
// OWNER is 16 hexadecimal digits, drawn anew by each Follower. As long as the
// Follower lives it holds an abstract Unix socket of the name shadowtap:OWNER
// (unix(7)), which exists once per network namespace, as filters do, and which
// the kernel removes with the process however that ends. So whoever can see
// the filter can find out whether its owner lives. A process id would not do:
// in another container it means another process, and a filter whose owner is
// taken for dead is removed.
//
// The suffix says that the qdisc was made by us, too, so that the last one out
// removes it.
const (
	markPrefix = "shadowtap:"
	markQdisc  = ":q"
)

// owner is the identity of a Follower towards other agents.
type owner struct {
	id     string
	socket int
}

// newOwner draws an identity that lives in the network namespace of the
// calling thread.
func newOwner() (*owner, error) {
	var id [8]byte
	rand.Read(id[:]) // never fails
	o := &owner{id: hex.EncodeToString(id[:])}
	var err error
	// Nobody reads from it: what is sent to it stays on the sender's account.
	if o.socket, err = unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
		return nil, fmt.Errorf("owner's socket: %w", err)
	}
	if err := unix.Bind(o.socket, ownerAddress(o.id)); err != nil {
		unix.Close(o.socket)
		return nil, fmt.Errorf("owner's socket: %w", err)
	}
	return o, nil
}

func (o *owner) close() { unix.Close(o.socket) }

// mark returns the name for a filter of o.
func (o *owner) mark(qdisc bool) string {
	if qdisc {
		return markPrefix + o.id + markQdisc
	}
	return markPrefix + o.id
}

// parseMark takes the name of a filter apart. It reports false for names that
// are not exactly what mark returns.
func parseMark(name string) (id string, qdisc, ok bool) {
	id, ok = strings.CutPrefix(name, markPrefix)
	if !ok {
		return "", false, false
	}
	id, qdisc = strings.CutSuffix(id, markQdisc)
	if b, err := hex.DecodeString(id); err != nil || len(b) != 8 || strings.ToLower(id) != id {
		return "", false, false
	}
	return id, qdisc, true
}

// alive reports whether the owner with the given id lives. When in doubt it
// returns an error.
func alive(id string) (bool, error) {
	socket, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false, fmt.Errorf("owner %s: %w", id, err)
	}
	defer unix.Close(socket)
	err = unix.Connect(socket, ownerAddress(id))
	if errors.Is(err, unix.ECONNREFUSED) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("owner %s: %w", id, err)
	}
	return true, nil
}

// ownerAddress is an abstract address; package unix writes them with an @.
func ownerAddress(id string) unix.Sockaddr {
	return &unix.SockaddrUnix{Name: "@" + markPrefix + id}
}
