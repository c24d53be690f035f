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

// findPredecessor says hello to the agent that this one is to take over from,
// if there is one.
func (a *Agent) findPredecessor() error {
	ctx, cancel := context.WithTimeout(context.Background(), handoverTimeout)
	defer cancel()
	p, err := dialPeer(ctx, a.cfg.Name, a.user)
	if errors.Is(err, errNobody) {
		a.log.Info("nobody to take over from", "name", a.cfg.Name)
		return nil
	}
	if err != nil {
		return err
	}
	err = p.deadline(handoverTimeout)
	if err == nil {
		err = p.send(&handoverMessage{Kind: handoverHello})
	}
	if err == nil {
		_, err = p.receive(handoverHello)
	}
	if err != nil {
		p.close()
		return err
	}
	a.predecessor = p
	return nil
}

// establish returns once this agent is the one that mirrors, having taken over
// from another one if it was told to. An error leaves everything to that one.
func (a *Agent) establish(ctx context.Context) error {
	if a.predecessor != nil {
		// What was taken over is ours even if ctx has ended by then.
		if err := a.takeOver(ctx); err != nil {
			if ctx.Err() != nil {
				return nil // told to stop before it had begun
			}
			return fmt.Errorf("take over: %w", err)
		}
		_ = a.panics.guard(inTakeover, a.afterTakeover)
		a.tap.Deliver()
	}
	close(a.established)
	return nil
}

// takeOver takes the flows over once capture is attached. Before it returns
// nil, nothing has been delivered; after an error nothing may be.
func (a *Agent) takeOver(ctx context.Context) error {
	p := a.predecessor
	defer p.close()
	defer context.AfterFunc(ctx, p.close)()
	select {
	case <-a.source.Ready():
	case <-ctx.Done():
		return ctx.Err()
	}
	if a.cluster != nil {
		select {
		case <-a.cluster.synced:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	a.handing.Lock()
	defer a.handing.Unlock()
	a.given.Store(true) // until it is ours, also if a panic ends this
	if err := errors.Join(ctx.Err(), a.tap.Copy()); err != nil {
		return err
	}
	if err := p.deadline(2 * handoverTimeout); err != nil { // it gives up first
		return err
	}
	if err := p.send(&handoverMessage{Kind: handoverGo}); err != nil {
		return err
	}
	begin, flows := time.Now(), 0
	for {
		m, err := p.receive(handoverFlow, handoverEnd)
		if err != nil {
			return err
		}
		if m.Kind == handoverEnd {
			break
		}
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
	a.log.Info("took over from another agent", "flows", flows, "after", time.Since(begin))
	return nil
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

// afterTakeover listens where the predecessor did. That must not end an agent
// which is the only one left.
func (a *Agent) afterTakeover() {
	a.predecessor = nil
	if err := a.listen(); err != nil {
		a.log.Error("not listening where the agent before did", "error", err)
	}
}

// listen opens the listeners that are not open yet. Those whose address the
// predecessor has are left for later.
func (a *Agent) listen() error {
	later := func(err error) bool { return a.predecessor != nil && errors.Is(err, unix.EADDRINUSE) }
	if a.cfg.Admin != "" && a.admin == nil {
		l, err := listenAdmin(&a.cfg)
		switch {
		case err == nil:
			a.admin = l
		case !later(err):
			return err
		}
	}
	if a.cfg.Metrics != "" && a.metrics == nil {
		l, err := net.Listen("tcp", a.cfg.Metrics)
		switch {
		case err == nil:
			a.metrics = &boundedListener{Listener: l, most: maxAdminConns}
		case !later(err):
			return fmt.Errorf("--metrics: %w", err)
		}
	}
	return nil
}
