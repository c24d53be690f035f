package agent

import (
	"context"
	"crypto/sha256"
	"encoding/gob"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shadowtap/shadowtap/pkg/httpstream"
	"github.com/shadowtap/shadowtap/pkg/reassembly"
)

// An agent takes over from another one of the same name in the same network
// namespace by talking to it:
//
//	successor                             predecessor
//	hello                         ->
//	                              <-      hello
//	(attaches, beside the other one)
//	(copies, from here on)
//	go                            ->
//	                                      (copies nothing more, hands over to
//	                                      its own pipeline what it has copied,
//	                                      and stands still)
//	                              <-      flow, flow, ... flow, end
//	taken                         ->
//	                              <-      yours
//	(delivers what it copied)             (detaches, sends what it has queued,
//	                                      and ends)
//
// A packet is copied by at least one of them. What both copied is a
// retransmission to the successor, because it goes on at the sequence number
// that the predecessor names. Only "yours" gives the flows away: whatever
// fails before, the predecessor goes on as if nothing had been, and the
// successor ends without having sent anything.

// handoverVersion is to be changed when what the messages mean does. Fields
// may be added without: gob passes over what one side does not know.
const handoverVersion = 1

// handoverTimeout bounds the time between go and yours, in which the
// successor's rings have to hold what is captured. It is well below the time
// after which the kernel program takes an agent for dead.
const handoverTimeout = 5 * time.Second

type handoverKind uint8

const (
	handoverHello handoverKind = iota + 1
	handoverGo
	handoverFlow
	handoverEnd
	handoverTaken
	handoverYours
	handoverRefused // Text says why
)

type handoverMessage struct {
	Kind    handoverKind
	Version int
	Text    string
	Flow    reassembly.FlowState
	Parser  httpstream.Continuation // of a flow that has a stream
}

// errNobody says that there is no agent to take over from.
var errNobody = errors.New("no agent of this name runs here")

// handoverPlaces is how many addresses there are for the agents of one name: a
// successor listens, as the user who started it, while the predecessor does.
const handoverPlaces = 2

// handoverAddress is that of an abstract Unix socket (unix(7)), which exists
// once in a network namespace and ends with the process that has it, however
// that ends. place is less than handoverPlaces.
func handoverAddress(agent string, place int) *net.UnixAddr {
	if len(agent) > 64 {
		sum := sha256.Sum256([]byte(agent))
		agent = hex.EncodeToString(sum[:])
	}
	return &net.UnixAddr{Net: "unix", Name: fmt.Sprintf("@shadowtap:agent:%s:%d", agent, place)}
}

// peer is one end of a handover.
type peer struct {
	conn *net.UnixConn
	enc  *gob.Encoder
	dec  *gob.Decoder
}

// newPeer closes the connection unless it is to a process of root or of the
// given user: an abstract socket has no permissions.
func newPeer(conn *net.UnixConn, user int) (*peer, error) {
	raw, err := conn.SyscallConn()
	var cred *unix.Ucred
	var credErr error
	if err == nil {
		err = raw.Control(func(fd uintptr) { cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	}
	if err = errors.Join(err, credErr); err == nil && cred.Uid != 0 && int(cred.Uid) != user {
		err = fmt.Errorf("refused to user %d", cred.Uid)
	}
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("handover: %w", err)
	}
	return &peer{conn: conn, enc: gob.NewEncoder(conn), dec: gob.NewDecoder(conn)}, nil
}

// dialPeer connects to the agent of a name. The error is errNobody if there
// is none.
func dialPeer(ctx context.Context, agent string, user int) (*peer, error) {
	var d net.Dialer
	for place := range handoverPlaces {
		conn, err := d.DialContext(ctx, "unix", handoverAddress(agent, place).Name)
		if errors.Is(err, unix.ECONNREFUSED) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("handover: %w", err)
		}
		return newPeer(conn.(*net.UnixConn), user)
	}
	return nil, errNobody
}

func (p *peer) send(m *handoverMessage) error {
	m.Version = handoverVersion
	if err := p.enc.Encode(m); err != nil {
		return fmt.Errorf("handover: %w", err)
	}
	return nil
}

// receive reads a message, which must be of one of the given kinds.
func (p *peer) receive(kinds ...handoverKind) (handoverMessage, error) {
	var m handoverMessage
	err := p.dec.Decode(&m)
	switch {
	case errors.Is(err, io.EOF):
		return m, errors.New("handover: the other agent broke off")
	case err != nil:
		return m, fmt.Errorf("handover: %w", err)
	case m.Kind == handoverRefused:
		return m, fmt.Errorf("handover: the other agent says: %s", m.Text)
	case m.Version != handoverVersion:
		return m, fmt.Errorf("handover: the other agent speaks version %d of it, this one %d", m.Version, handoverVersion)
	}
	for _, k := range kinds {
		if m.Kind == k {
			return m, nil
		}
	}
	return m, fmt.Errorf("handover: message of kind %d, expected one of %v", m.Kind, kinds)
}

func (p *peer) deadline(d time.Duration) error { return p.conn.SetDeadline(time.Now().Add(d)) }

func (p *peer) close() { _ = p.conn.Close() }
