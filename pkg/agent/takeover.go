package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shadowtap/shadowtap/pkg/capture"
)

// meet finds the agent to take over from, if this one is to and there is one,
// and listens for a successor of its own.
func (a *Agent) meet() error {
	ctx, cancel := context.WithTimeout(context.Background(), attachTimeout)
	defer cancel()
	end, err := a.meeting().begin(ctx)
	if err != nil {
		if a.cfg.Takeover {
			return err
		}
		a.log.Warn("no other agent will be able to take over from this one", "error", err)
		return nil
	}
	var conn *net.UnixConn
	if a.cfg.Takeover {
		conn, err = a.meeting().dial(ctx, nil)
	}
	if err == nil || errors.Is(err, errNobody) {
		a.offerHandover(conn != nil)
	}
	end()
	switch {
	case errors.Is(err, errNobody):
		a.log.Info("nobody to take over from", "name", a.cfg.Name)
		return nil
	case err != nil || conn == nil:
		return err
	}
	return a.greet(ctx, conn)
}

// TakesOver reports whether another agent was found to take over from. It is to be
// called before Run.
func (a *Agent) TakesOver() bool { return a.predecessor != nil }

func (a *Agent) meeting() meeting { return meeting{agent: a.cfg.Name, dir: a.cfg.TakeoverDir} }

// greet says hello to the agent that this one is to take over from, and again
// if that breaks off. One that is about to end does, and then there is nobody,
// or another one, to take over from.
func (a *Agent) greet(ctx context.Context, conn *net.UnixConn) error {
	a.predecessor = nil
	for {
		p, err := newPeer(conn, a.user)
		if err != nil {
			return err
		}
		err = p.deadline(attachTimeout)
		if err == nil {
			err = p.send(&handoverMessage{Kind: handoverHello, InPods: a.cfg.inPods(), Places: []netPlace{{Namespace: a.home}}})
		}
		if err == nil {
			_, err = p.receive(handoverHello)
		}
		if err == nil {
			a.predecessor = p
			return nil
		}
		p.close()
		if !errors.Is(err, errBrokenOff) {
			return err
		}
		select {
		case <-time.After(askPause):
		case <-ctx.Done():
			return err
		}
		if conn, err = a.meeting().dial(ctx, a.successors); errors.Is(err, errNobody) {
			a.log.Info("nobody to take over from any more", "name", a.cfg.Name)
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// establish returns once this agent is the one that mirrors, having taken over
// from another one if it was told to. An error leaves everything to that one.
func (a *Agent) establish(ctx context.Context) error {
	held := a.predecessor != nil
	for a.predecessor != nil {
		p := a.predecessor
		anyway, err := a.prepare(ctx, p)
		if errors.Is(err, errBrokenOff) && ctx.Err() == nil {
			// Whoever cannot be found any more does not mirror any more.
			p.close()
			if err = a.findAgain(ctx); err == nil {
				continue
			}
		}
		if err == nil {
			// What was taken over is ours even if ctx has ended by then.
			if err = a.takeOver(ctx, p, anyway); err == nil {
				break
			}
		}
		if ctx.Err() != nil {
			return nil // told to stop before it had begun
		}
		return fmt.Errorf("take over: %w", err)
	}
	if held && a.predecessor == nil {
		if err := a.tap.Copy(); err != nil {
			return err
		}
	}
	if held {
		_ = a.panics.guard(inTakeover, a.afterTakeover)
		a.tap.Deliver()
	}
	close(a.established)
	return nil
}

// findAgain finds the agent to take over from anew, if there still is one.
func (a *Agent) findAgain(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, attachTimeout)
	defer cancel()
	a.predecessor = nil
	conn, err := a.meeting().dial(ctx, a.successors)
	switch {
	case errors.Is(err, errNobody):
		a.log.Info("nobody to take over from any more", "name", a.cfg.Name)
		return nil
	case err != nil:
		return err
	}
	return a.greet(ctx, conn)
}

// prepare returns once this agent is ready and attached wherever the other one
// is, which takes as long as it takes; or anyway, if it has waited in vain for a
// while. It asks again and again what the other one captures, which also tells
// that one that it is still to hand over.
func (a *Agent) prepare(ctx context.Context, p *peer) (anyway bool, err error) {
	stop := context.AfterFunc(ctx, p.close)
	defer stop()
	tick := time.NewTicker(askPause)
	defer tick.Stop()
	var late <-chan time.Time
	for {
		theirs, err := a.ask(p)
		if err != nil {
			return false, err
		}
		if a.waitingFor() == waitingForPredecessor {
			if late == nil {
				late = time.After(placesTimeout)
			}
			_, lacking, err := a.match(theirs)
			if err != nil || len(lacking) == 0 {
				return false, err
			}
			select {
			case <-late:
				a.log.Warn("the agent before captures in network namespaces where this one finds nothing to capture",
					"namespaces", len(lacking), "endpoints", lacking[0].Endpoints)
				return true, nil
			default:
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
}

// ask returns what the other agent captures.
func (a *Agent) ask(p *peer) ([]netPlace, error) {
	if err := p.deadline(attachTimeout); err != nil {
		return nil, err
	}
	if err := p.send(&handoverMessage{Kind: handoverAsk}); err != nil {
		return nil, err
	}
	m, err := p.receive(handoverPlaces)
	return m.Places, err
}

// match makes this agent capture as the other one does in the places that both
// are in, and returns its own and those of the other's that it lacks.
func (a *Agent) match(theirs []netPlace) (own, lacking []netPlace, err error) {
	defer a.tap.hold()()
	if err := a.tap.assume(theirs); err != nil {
		return nil, nil, err
	}
	if own, err = a.tap.places(); err != nil {
		return nil, nil, err
	}
	return own, uncovered(theirs, own), nil
}

// takeOver takes the flows over once capture is attached. Before it returns
// nil, nothing has been delivered; after an error nothing may be.
func (a *Agent) takeOver(ctx context.Context, p *peer, anyway bool) error {
	defer context.AfterFunc(ctx, p.close)()
	a.handing.Lock()
	defer a.handing.Unlock()
	a.given.Store(true) // until it is ours, also if a panic ends this
	if err := errors.Join(ctx.Err(), a.tap.Copy()); err != nil {
		return err
	}
	begin, flows := time.Now(), 0
	theirs, err := a.goAhead(ctx, p, anyway)
	if err != nil {
		return err
	}
	numbers := newRenumbering(a.tap, theirs)
	for {
		m, err := p.receive(handoverFlow, handoverEnd)
		if err != nil {
			return err
		}
		if m.Kind == handoverEnd {
			if m.Evicted {
				a.noteEvicted()
			}
			break
		}
		m.Flow.Flow.Instance = numbers.of(m.Flow.Flow.Instance)
		a.adopt(&m)
		flows++
	}
	if err := p.send(&handoverMessage{Kind: handoverTaken}); err != nil {
		return err
	}
	if _, err := p.receive(handoverYours); err != nil {
		return err
	}
	a.given.Store(false)
	a.expel(numbers.gone)
	a.log.Info("took over from another agent", "flows", flows, "namespaces", len(theirs)-1, "after", time.Since(begin))
	return nil
}

// goAhead says go until the other agent does, and returns the places that its
// flows are from.
func (a *Agent) goAhead(ctx context.Context, p *peer, anyway bool) ([]netPlace, error) {
	var theirs []netPlace
	for begin := time.Now(); ; {
		own, _, err := a.match(theirs)
		if err != nil {
			return nil, err
		}
		if err := p.deadline(2 * handoverTimeout); err != nil { // it gives up first
			return nil, err
		}
		// The rings have to hold what is copied meanwhile.
		anyway = anyway || time.Since(begin) > handoverTimeout
		if err := p.send(&handoverMessage{Kind: handoverGo, Places: own, Anyway: anyway}); err != nil {
			return nil, err
		}
		m, err := p.receive(handoverPlaces, handoverNotYet)
		if err != nil {
			return nil, err
		}
		theirs = m.Places
		if m.Kind == handoverPlaces {
			_, _, err := a.match(theirs) // a port may have changed sides since
			return theirs, err
		}
		select {
		case <-time.After(askPause):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// adopt goes on with a flow of the predecessor's.
func (a *Agent) adopt(m *handoverMessage) {
	flow := capture.Flow(m.Flow.Flow)
	s := a.shards[a.tap.ShardOf(flow)]
	s.mu.Lock()
	defer s.mu.Unlock()
	stream := s.asm.Adopt(m.Flow, time.Now().UnixNano())
	if m.Flow.Ignored {
		a.source.Ignore(flow)
	}
	if stream != nil {
		stream.(*conn).resume(m.Parser)
	}
}

func (a *Agent) noteEvicted() {
	for _, s := range a.shards {
		s.mu.Lock()
		s.asm.NoteEvicted()
		s.mu.Unlock()
	}
}

// renumbering gives the flows of another agent the numbers that their network
// namespaces have here.
type renumbering struct {
	tap   handoverTap
	known map[uint32]uint32
	gone  map[uint32]bool // numbers of namespaces that are not captured in here
}

func newRenumbering(tap handoverTap, theirs []netPlace) *renumbering {
	r := &renumbering{tap: tap, known: make(map[uint32]uint32), gone: make(map[uint32]bool)}
	defer tap.hold()()
	for _, their := range theirs {
		if n, ok := tap.instanceOf(their); ok {
			r.known[their.Instance] = n
		}
	}
	return r
}

// of returns the number here for one of the other agent's. Where nothing
// is captured it is one that will be expelled, so that what is pending there is
// accounted for.
func (r *renumbering) of(their uint32) uint32 {
	n, ok := r.known[their]
	if !ok {
		n = r.tap.UnusedInstance()
		r.known[their], r.gone[n] = n, true
	}
	return n
}

// afterTakeover listens where the predecessor did. That must not end an agent
// which is the only one left.
func (a *Agent) afterTakeover() {
	if err := a.listen(false); err != nil {
		a.log.Error("not listening where the agent before did", "error", err)
	}
}

// listen opens the listeners that are not open yet. With later, those whose
// address the predecessor has are left for later.
func (a *Agent) listen(later bool) error {
	later = later && a.predecessor != nil
	if a.cfg.Admin != "" && a.admin == nil {
		l, err := listenAdmin(&a.cfg)
		switch {
		case err == nil:
			a.admin = l
		case !later || !errors.Is(err, unix.EADDRINUSE):
			return err
		}
	}
	if a.cfg.Metrics != "" && a.metrics == nil {
		l, err := net.Listen("tcp", a.cfg.Metrics)
		switch {
		case err == nil:
			a.metrics = &boundedListener{Listener: l, most: maxAdminConns}
		case !later || !errors.Is(err, unix.EADDRINUSE):
			return fmt.Errorf("--metrics: %w", err)
		}
	}
	return nil
}

const (
	// askPause is between two questions for what the other agent captures.
	askPause = 100 * time.Millisecond
	// placesTimeout bounds how long an agent that is ready waits for what it
	// does not capture and the one before does. What comes from the same rules
	// comes within moments; what does not may be meant.
	placesTimeout = 30 * time.Second
)
