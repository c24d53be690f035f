package agent

import (
	"context"
	"errors"
	"net"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shadowtap/shadowtap/pkg/reassembly"
)

// offerHandover listens for a successor. If another agent of the same name
// does already, and is not the predecessor, this one goes on beside it.
func (a *Agent) offerHandover() {
	var failed error
	others := false
	for place := range handoverPlaces {
		l, err := net.ListenUnix("unix", handoverAddress(a.cfg.Name, place))
		switch {
		case err == nil && a.successors == nil:
			a.successors = l
		case err == nil:
			_ = l.Close()
		case errors.Is(err, unix.EADDRINUSE):
			others, failed = true, err
		default:
			failed = err
		}
	}
	if others && a.predecessor == nil {
		a.log.Warn("another agent of this name runs here: what both capture is mirrored twice; --takeover would replace it", "name", a.cfg.Name)
	}
	if a.successors == nil {
		a.log.Warn("no other agent will be able to take over from this one", "error", failed)
	}
}

// serveHandover hands everything over to the first successor that takes it,
// and calls leave then. It returns when it has, or ctx ends.
func (a *Agent) serveHandover(ctx context.Context, leave func()) {
	stop := context.AfterFunc(ctx, func() { _ = a.successors.Close() })
	defer stop()
	refusals := occasionally() // anybody in the network namespace can knock
	for {
		conn, err := a.successors.AcceptUnix()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil: // no descriptor is left, say, and none will be at once
			select {
			case <-time.After(acceptPause):
			case <-ctx.Done():
			}
		default:
			err = a.giveTo(ctx, conn)
		}
		if err == nil {
			a.log.Info("handed over to another agent")
			leave()
			return
		}
		refusals.Do(func() { a.log.Warn("not handed over to another agent", "error", err) })
	}
}

// giveTo hands over to one successor. After an error everything is as it was.
func (a *Agent) giveTo(ctx context.Context, conn *net.UnixConn) error {
	p, err := newPeer(conn, a.user)
	if err != nil {
		return err
	}
	defer p.close()
	stay := context.AfterFunc(ctx, p.close)
	defer stay()
	if err := p.deadline(handoverTimeout); err != nil {
		return err
	}
	_, err = p.receive(handoverHello)
	if err == nil && a.tap == nil {
		err = errors.New("it captures in the network namespaces of pods, which cannot be handed over")
	}
	if err != nil {
		_ = p.send(&handoverMessage{Kind: handoverRefused, Text: err.Error()})
		return err
	}
	if err := p.send(&handoverMessage{Kind: handoverHello}); err != nil {
		return err
	}
	// The successor attaches now, which may take a while.
	if err := p.deadline(attachTimeout); err != nil {
		return err
	}
	if _, err := p.receive(handoverGo); err != nil {
		return err
	}
	return a.giveFlows(ctx, p, stay)
}

// giveFlows gives everything away, unless stay, which keeps the end of ctx from
// closing the connection, comes too late for that.
func (a *Agent) giveFlows(ctx context.Context, p *peer, stay func() bool) (err error) {
	a.handing.Lock()
	defer a.handing.Unlock()
	if err := p.deadline(handoverTimeout); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, handoverTimeout)
	defer cancel()
	given := false
	defer func() {
		if !given {
			a.tap.Resume()
			a.freeze(false)
		}
	}()
	if err := errors.Join(ctx.Err(), a.tap.Pause(ctx)); err != nil {
		return err
	}
	a.freeze(true)
	for _, s := range a.shards {
		err := s.asm.Export(func(f reassembly.FlowState, stream reassembly.Stream) error {
			m := &handoverMessage{Kind: handoverFlow, Flow: f}
			if stream != nil {
				m.Parser = stream.(*conn).parser.Continuation()
			}
			return p.send(m)
		})
		if err != nil {
			return err
		}
	}
	if err := p.send(&handoverMessage{Kind: handoverEnd}); err != nil {
		return err
	}
	if _, err := p.receive(handoverTaken); err != nil {
		return err
	}
	if !stay() {
		return errors.New("told to stop")
	}
	given = true
	a.given.Store(true)
	// The successor wants to listen where this one does.
	_ = a.successors.Close()
	for _, l := range []net.Listener{a.admin, a.metrics} {
		if l != nil {
			_ = l.Close()
		}
	}
	// If this cannot be sent the successor is gone, or will be, and nobody
	// mirrors any more; both of them doing so would be worse.
	if err := p.send(&handoverMessage{Kind: handoverYours}); err != nil {
		a.log.Error("the agent that took over is gone", "error", err)
	}
	return nil
}

// freeze keeps the flows from changing while they are handed over: nothing is
// captured, and with it no time passes for them.
func (a *Agent) freeze(frozen bool) {
	for _, s := range a.shards {
		s.mu.Lock()
		s.frozen = frozen
		s.mu.Unlock()
	}
}

const (
	// attachTimeout bounds how long a successor may take to attach.
	attachTimeout = time.Minute
	// acceptPause keeps an error of accept(2) that lasts from taking a processor.
	acceptPause = 100 * time.Millisecond
)
