package attach

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	// resyncInterval is how often all links are looked at without a reason.
	// It finds what nothing announces: a tcx link that somebody detached.
	resyncInterval = 30 * time.Second
	// minBackoff and maxBackoff bound the time between attempts to listen to
	// the kernel again.
	minBackoff, maxBackoff = 100 * time.Millisecond, 10 * time.Second
	// receiveBuffer is how many bytes of link messages the kernel may hold
	// for us. When they do not suffice the subscription fails, is renewed,
	// and everything is looked at.
	receiveBuffer = 1 << 20
	// dumpAttempts is how often a listing is tried that the kernel reports
	// as inconsistent because something changed meanwhile.
	dumpAttempts = 5
)

// Run attaches to all links, follows their changes, and detaches everything
// when ctx ends. It then returns nil, or what could not be removed. Before
// that it only fails if it cannot begin: a link that cannot be attached to is
// logged, once, and tried again when something about it changes and every 30
// seconds. Run can be called once.
func (f *Follower) Run(ctx context.Context) error {
	if f.started.Swap(true) {
		return errors.New("attach: Run called twice")
	}
	defer f.ns.Close()
	// tcx attaches by interface index in the namespace of the calling thread.
	// The work gets a thread of its own; if that had to change its namespace
	// it ends with its goroutine, which stays locked to it.
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		moved, err := enterNamespace(f.ns)
		if !moved {
			defer runtime.UnlockOSThread()
		}
		if err == nil {
			err = f.guarded(func() error { return f.run(ctx) })
		}
		done <- err
	}()
	if err := <-done; err != nil {
		return fmt.Errorf("attach: %w", err)
	}
	return nil
}

func (f *Follower) run(ctx context.Context) (err error) {
	if f.nl, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		return fmt.Errorf("netlink: %w", err)
	}
	defer f.nl.Close()
	f.clsact = &clsact{nl: f.nl, priority: f.o.Priority}
	defer f.clsact.close()
	defer func() { err = f.guarded(f.detachAll) }()

	tick := time.NewTicker(f.every)
	defer tick.Stop()
	var sub subscription
	defer func() { sub.close() }()
	backoff := minBackoff
	again := time.NewTimer(0) // time to subscribe and look at everything
	defer again.Stop()
	robbed := make(map[int]bool) // links that something was removed from
	var settled <-chan time.Time // when to look at them
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-again.C:
			// Subscribe before listing: what changes in between is announced.
			err := f.guarded(func() error {
				if err := sub.open(); err != nil {
					return err
				}
				return f.round()
			})
			if err != nil {
				f.o.Logger.Warn("following links failed, trying again", "err", err, "after", backoff)
				sub.close()
				again.Reset(backoff)
				backoff = min(2*backoff, maxBackoff)
			}
		case u, ok := <-sub.updates:
			if !ok {
				f.o.Logger.Warn("subscription to link changes ended, renewing it", "err", sub.err(), "after", backoff)
				sub.close()
				again.Reset(backoff)
				backoff = min(2*backoff, maxBackoff)
				continue
			}
			f.changed(sub.pending(u))
		case index, ok := <-sub.removed():
			if !ok {
				f.o.Logger.Warn("subscription to removals ended, renewing it", "after", backoff)
				sub.close()
				again.Reset(backoff)
				backoff = min(2*backoff, maxBackoff)
				continue
			}
			if f.clsact.owner == nil {
				continue // we have no filters
			}
			if robbed[index] = true; settled == nil {
				settled = time.After(removalSettle)
			}
		case <-settled:
			f.changed(robbed)
			clear(robbed)
			settled = nil
		case <-f.resync:
			f.roundOrLog()
		case <-tick.C:
			if sub.updates != nil {
				backoff = minBackoff
			}
			f.roundOrLog()
		}
	}
}

func (f *Follower) roundOrLog() {
	if err := f.guarded(f.round); err != nil {
		f.o.Logger.Warn("looking at all links failed", "err", err)
	}
}

// round looks at every link there is, and at what became of those there were.
func (f *Follower) round() error {
	links, err := f.links()
	if err != nil {
		return err
	}
	present := make(map[int]bool, len(links))
	for _, l := range links {
		present[l.Attrs().Index] = true
	}
	// The vanished ones first: their descriptors are free for the new ones.
	for index := range f.devices {
		if !present[index] {
			_ = f.o.Guard(func() { f.vanished(index) })
		}
	}
	for _, l := range links {
		_ = f.o.Guard(func() { f.reconcile(l) })
	}
	f.publish()
	select {
	case <-f.ready:
	default:
		close(f.ready)
	}
	return nil
}

func (f *Follower) links() (links []netlink.Link, err error) {
	for range dumpAttempts {
		links, err = f.nl.LinkList()
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	return links, nil
}

// guarded runs a step whose panic is an error of it, if it is contained.
func (f *Follower) guarded(step func() error) (err error) {
	if fault := f.o.Guard(func() { err = step() }); fault != nil {
		return fault
	}
	return err
}

// changed looks at the links with the given indexes. What a message said about
// them does not matter: it may be outdated, and RTM_DELLINK is also sent for
// bridge ports that only left their bridge.
func (f *Follower) changed(indexes map[int]bool) {
	for index := range indexes {
		_ = f.o.Guard(func() { f.look(index) })
	}
	f.publish()
}

// look looks at one link.
func (f *Follower) look(index int) {
	l, err := f.nl.LinkByIndex(index)
	switch {
	case err == nil:
		f.reconcile(l)
	case errors.As(err, &netlink.LinkNotFoundError{}):
		f.vanished(index)
	default:
		f.o.Logger.Warn("looking at a link failed", "ifindex", index, "err", err)
	}
}

// subscription is the stream of link messages. The zero value is closed: its
// channel never delivers.
type subscription struct {
	updates  chan netlink.LinkUpdate
	errs     chan error
	done     chan struct{}
	removals *removals
}

// open subscribes anew in the namespace of the calling thread.
func (s *subscription) open() error {
	s.close()
	updates := make(chan netlink.LinkUpdate, 64)
	errs := make(chan error, 1)
	done := make(chan struct{})
	err := netlink.LinkSubscribeWithOptions(updates, done, netlink.LinkSubscribeOptions{
		ErrorCallback: func(err error) {
			select {
			case errs <- err:
			default:
			}
		},
		ReceiveBufferSize:      receiveBuffer,
		ReceiveBufferForceSize: true,
	})
	if err != nil {
		close(done)
		return fmt.Errorf("subscribe to link changes: %w", err)
	}
	removals, err := openRemovals()
	*s = subscription{updates, errs, done, removals}
	return err
}

// removed delivers the indexes of links that something was removed from.
func (s *subscription) removed() <-chan int {
	if s.removals == nil {
		return nil
	}
	return s.removals.links
}

// close ends the subscription and its goroutines.
func (s *subscription) close() {
	if s.updates == nil {
		return
	}
	close(s.done)
	for range s.updates { // its sender may be waiting for us
	}
	if s.removals != nil {
		s.removals.close()
	}
	*s = subscription{}
}

// err returns why the stream ended, if that is known.
func (s *subscription) err() error {
	select {
	case err := <-s.errs:
		return err
	default:
		return nil
	}
}

// pending returns the indexes of the links in u and in all messages that are
// there already. One change makes several messages.
func (s *subscription) pending(u netlink.LinkUpdate) map[int]bool {
	indexes := map[int]bool{int(u.Index): true}
	for range cap(s.updates) {
		select {
		case u, ok := <-s.updates:
			if !ok {
				return indexes // noticed by the next receive
			}
			indexes[int(u.Index)] = true
		default:
			return indexes
		}
	}
	return indexes
}

// openNamespace opens the network namespace of the calling thread.
func openNamespace() (*os.File, error) {
	ns, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, fmt.Errorf("network namespace of the thread: %w", err)
	}
	return ns, nil
}

// enterNamespace moves the calling thread to ns, unless it is there already:
// moving takes CAP_SYS_ADMIN, which an agent that stays at home need not have.
func enterNamespace(ns *os.File) (moved bool, err error) {
	current, err := openNamespace()
	if err != nil {
		return false, err
	}
	defer current.Close()
	here, err := current.Stat()
	if err != nil {
		return false, fmt.Errorf("network namespace of the thread: %w", err)
	}
	there, err := ns.Stat()
	if err != nil {
		return false, fmt.Errorf("network namespace: %w", err)
	}
	if os.SameFile(here, there) {
		return false, nil
	}
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
		return false, fmt.Errorf("enter network namespace: %w", err)
	}
	return true, nil
}
