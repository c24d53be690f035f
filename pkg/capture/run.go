package capture

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"
)

// Run attaches, follows interfaces and addresses as they change, and hands the
// segments of shard i to sinks[i], each on a goroutine of its own. When ctx
// ends it detaches, hands over what the rings still hold, and returns nil. A
// Tap runs once.
func (t *Tap) Run(ctx context.Context, sinks []Sink) error {
	if len(sinks) != len(t.rings) {
		return fmt.Errorf("%d sinks for %d shards", len(sinks), len(t.rings))
	}
	host, err := t.begin()
	if err != nil {
		return err
	}
	defer t.runs.Done()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(t.ending, cancel)()

	var readers []*reader
	defer func() {
		for _, r := range readers {
			_ = r.close()
		}
	}()
	for i, s := range sinks {
		r, err := newReader(t.rings[i], t.ringMaps[i].FD(), t.control, i, t.clock, &t.config, s)
		if err != nil {
			return err
		}
		readers = append(readers, r)
	}
	t.setReaders(readers)
	defer t.setReaders(nil)
	var reading errgroup.Group
	for _, r := range readers {
		reading.Go(func() error {
			defer cancel() // one shard short is not a capture
			if !r.hold(ctx, t.delivering) {
				return nil // what was copied is somebody else's to deliver
			}
			return r.run()
		})
	}

	following, fctx := errgroup.WithContext(ctx)
	following.Go(func() error { return t.follower.Run(fctx) })
	following.Go(func() error { return t.addrs.run(fctx, host, t.setHost) })
	err = following.Wait()
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		err = nil
	}

	cancel()
	// Detached: once nobody writes any more, what is in the rings is all.
	err = errors.Join(err, t.closeInstances(), t.quiesce())
	for _, r := range readers {
		r.stop()
	}
	return errors.Join(err, reading.Wait())
}

// begin claims the only run, and returns the addresses it starts from.
func (t *Tap) begin() (hostAddrs, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.closed:
		return hostAddrs{}, ErrClosed
	case t.ran:
		return hostAddrs{}, errRan
	}
	t.ran = true
	t.runs.Add(1)
	return t.host, nil
}
