package agent

import (
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shadowtap/shadowtap/pkg/httpstream"
	"github.com/shadowtap/shadowtap/pkg/reassembly"
)

// An agent takes over from another one by talking to it, where the two meet:
//
//	successor                             predecessor
//	hello                         ->
//	                              <-      hello
//	ask                           ->
//	                              <-      places
//	(attaches there, beside the other one, and asks again until it has)
//	(copies, from here on)
//	go, places                    ->
//	                              <-      not yet, places: there are others by now
//	(attaches there, too)
//	go, places                    ->
//	                                      (goes to no new place, copies nothing
//	                                      more, hands over to its own pipeline
//	                                      what it has copied, and stands still)
//	                              <-      places, flow, flow, ... flow, end
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
//
// Pods may come and go meanwhile. One that the predecessor captures in is in
// its places, and it does not go on before the successor captures there, too;
// one that comes later is the successor's alone.

// handoverVersion is to be changed when what the messages mean does. Fields
// may be added without: gob passes over what one side does not know.
const handoverVersion = 2

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
	handoverAsk
	handoverPlaces
	handoverNotYet
)

type handoverMessage struct {
	Kind    handoverKind
	Version int
	Text    string
	// InPods is whether the agent that says hello captures in the network
	// namespaces of pods.
	InPods bool
	// Places are those of the sender, its own network namespace first.
	Places []netPlace
	// Anyway goes even if the successor lacks places of the predecessor's.
	Anyway bool
	Flow   reassembly.FlowState
	Parser httpstream.Continuation // of a flow that has a stream
	// Evicted is reassembly.Assembler.Evicted, at the end.
	Evicted bool
}

// errBrokenOff says that the other agent ended, or closed the connection.
var errBrokenOff = errors.New("the other agent broke off")

// peer is one end of a handover.
type peer struct {
	conn *net.UnixConn
	enc  *gob.Encoder
	dec  *gob.Decoder
}

// newPeer closes the connection unless it is to a process of root or of the
// given user: an abstract socket has no permissions. The kernel translates user
// ids into this process's user namespace (unix(7), SO_PEERCRED), in which root
// of another is an ordinary user, or nobody. Process ids say nothing across pid
// namespaces, and are not looked at.
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

func (p *peer) send(m *handoverMessage) error {
	m.Version = handoverVersion
	if err := p.enc.Encode(m); err != nil {
		return brokenOff(err)
	}
	return nil
}

// receive reads a message, which must be of one of the given kinds.
func (p *peer) receive(kinds ...handoverKind) (handoverMessage, error) {
	var m handoverMessage
	err := p.dec.Decode(&m)
	switch {
	case err != nil:
		return m, brokenOff(err)
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

// brokenOff tells a connection that the other side has ended from other errors.
func brokenOff(err error) error {
	for _, end := range []error{io.EOF, io.ErrUnexpectedEOF, unix.ECONNRESET, unix.EPIPE} {
		if errors.Is(err, end) {
			return fmt.Errorf("handover: %w", errBrokenOff)
		}
	}
	return fmt.Errorf("handover: %w", err)
}

// ended returns once the other side has closed the connection.
func (p *peer) ended() {
	_ = p.conn.SetDeadline(time.Time{})
	_, _ = io.Copy(io.Discard, p.conn)
}

func (p *peer) deadline(d time.Duration) error { return p.conn.SetDeadline(time.Now().Add(d)) }

func (p *peer) close() { _ = p.conn.Close() }
