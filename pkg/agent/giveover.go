package agent

import (
	"context"
	"errors"
	"net"
	"os"
	"time"

	"github.com/shadowtap/shadowtap/pkg/reassembly"
)

// offerHandover listens for a successor. If another agent does already where
// this one would, and is none to take over from, they go on beside each other.
func (a *Agent) offerHandover(takingOver bool) {
	s, others, failed := a.meeting().listen()
	a.successors = s
	if others && !takingOver {
		a.log.Warn("another agent of this name runs here: what both capture is mirrored twice; --takeover would replace it", "name", a.cfg.Name)
	}
	if a.successors == nil {
		a.log.Warn("no other agent will be able to take over from this one", "error", failed)
	}
}

// serveHandover hands everything over to the first successor that takes it,
// and calls leave then. It returns when it has, or ctx ends.
func (a *Agent) serveHandover(ctx context.Context, leave func()) {
	// The listener stays: whoever finds none takes capture to have ended.
	stop := context.AfterFunc(ctx, func() { _ = a.successors.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	refusals := occasionally() // anybody in the network namespace can knock
	for {
		conn, err := a.successors.AcceptUnix()
		switch {
		case errors.Is(err, net.ErrClosed), errors.Is(err, os.ErrDeadlineExceeded):
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
	defer func() {
		if a.successor == nil {
			p.close()
		}
	}()
	stay := context.AfterFunc(ctx, p.close)
	defer stay()
	if err := p.deadline(handoverTimeout); err != nil {
		return err
	}
	m, err := p.receive(handoverHello)
	if err == nil {
		err = a.mayGiveTo(&m)
	}
	if err != nil {
		_ = p.send(&handoverMessage{Kind: handoverRefused, Text: err.Error()})
		return err
	}
	if err := p.send(&handoverMessage{Kind: handoverHello}); err != nil {
		return err
	}
	for {
		// The successor attaches now, which may take a while, but asks meanwhile.
		if err := p.deadline(attachTimeout); err != nil {
			return err
		}
		m, err := p.receive(handoverAsk, handoverGo)
		if err != nil {
			return err
		}
		if m.Kind == handoverGo {
			if given, err := a.giveFlows(ctx, p, &m, stay); given || err != nil {
				return err
			}
			continue
		}
		places, err := a.places()
		if err == nil {
			err = p.send(&handoverMessage{Kind: handoverPlaces, Places: places})
		}
		if err != nil {
			return err
		}
	}
}

// mayGiveTo says why nothing can be handed over to the agent that says hello.
func (a *Agent) mayGiveTo(hello *handoverMessage) error {
	select {
	case <-a.established:
	default:
		return errors.New("it is about to take over from another agent itself")
	}
	switch {
	case hello.InPods != a.cfg.inPods():
		// What goes to a pod would be one flow to one of them and another to
		// the other, and be mirrored by both.
		return errors.New("one of the two captures in the network namespaces of pods, and the other does not")
	case !hello.InPods && a.cfg.TakeoverDir != "" && (len(hello.Places) != 1 || hello.Places[0].Namespace != a.home):
		return errors.New("it captures in another network namespace")
	}
	return nil
}

func (a *Agent) places() ([]netPlace, error) {
	defer a.tap.hold()()
	return a.tap.places()
}

// giveFlows gives everything away, unless the successor lacks places (given is
// false), or stay, which keeps the end of ctx from closing the connection,
// comes too late for that.
func (a *Agent) giveFlows(ctx context.Context, p *peer, to *handoverMessage, stay func() bool) (given bool, err error) {
	a.handing.Lock()
	defer a.handing.Unlock()
	if err := p.deadline(handoverTimeout); err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(ctx, handoverTimeout)
	defer cancel()
	defer a.tap.hold()() // until it is known whose the pods are that come now
	places, err := a.tap.places()
	if err != nil {
		return false, err
	}
	if !to.Anyway && len(uncovered(places, to.Places)) > 0 {
		return false, p.send(&handoverMessage{Kind: handoverNotYet, Places: places})
	}
	defer func() {
		if !given {
			a.tap.Resume()
			a.freeze(false)
		}
	}()
	if err := errors.Join(ctx.Err(), a.tap.Pause(ctx)); err != nil {
		return false, err
	}
	a.freeze(true)
	if err := a.sendFlows(p); err != nil {
		return false, err
	}
	if _, err := p.receive(handoverTaken); err != nil {
		return false, err
	}
	if !stay() {
		return false, errors.New("told to stop")
	}
	a.given.Store(true)
	_ = a.successors.Close()
	if a.cfg.Linger > 0 {
		a.successor = p
	} else {
		// The successor wants to listen where this one does.
		a.closeListeners()
	}
	// If this cannot be sent the successor is gone, or will be, and nobody
	// mirrors any more; both of them doing so would be worse.
	if err := p.send(&handoverMessage{Kind: handoverYours}); err != nil {
		a.log.Error("the agent that took over is gone", "error", err)
	}
	return true, nil
}

// sendFlows sends where is captured, and all flows, which are frozen.
func (a *Agent) sendFlows(p *peer) error {
	places, err := a.tap.places() // again: a port may have changed sides
	if err == nil {
		err = p.send(&handoverMessage{Kind: handoverPlaces, Places: places})
	}
	if err != nil {
		return err
	}
	evicted := false
	for _, s := range a.shards {
		evicted = evicted || s.asm.Evicted()
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
	return p.send(&handoverMessage{Kind: handoverEnd, Evicted: evicted})
}

// linger stays after everything was handed over, until ctx ends, for
// Config.Linger at most, or until the successor is gone: then whoever runs this
// agent is to start it again.
func (a *Agent) linger(ctx context.Context) {
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		a.successor.ended()
	}()
	over := time.NewTimer(a.cfg.Linger)
	defer over.Stop()
	select {
	case <-ctx.Done():
	case <-over.C:
		a.log.Warn("nobody has stopped this agent since another one took over")
	case <-gone:
		a.log.Warn("the agent that took over is gone")
	}
	a.successor.close()
	<-gone
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
	// attachTimeout bounds how long each of two agents waits for the other while
	// nothing depends on it yet.
	attachTimeout = time.Minute
	// acceptPause keeps an error of accept(2) that lasts from taking a processor.
	acceptPause = 100 * time.Millisecond
)
