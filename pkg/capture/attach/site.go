package attach

import (
	"fmt"
	"log/slog"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Site does for one network namespace what a Follower does, but only when told
// to and on the caller's thread: it has no goroutine, no thread and, where
// programs go in by tcx, no descriptor that would keep the namespace from
// ending. It is for those who look after many namespaces. Its methods must not
// be called concurrently, except Hooks.
type Site struct{ f *Follower }

// NewSite returns a Site for the namespace in which Sync will be called.
// Nothing is attached yet.
func NewSite(o Options) (*Site, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	f := newFollower(o)
	f.clsact = &clsact{priority: o.Priority}
	return &Site{f}, nil
}

// Sync looks at every link of the calling thread's namespace, which must be
// the same each time, and makes what is attached what Options.Select says. It
// only fails if the links cannot be listed; a link that cannot be attached to
// is logged, once, and tried again by the next Sync.
func (s *Site) Sync() error { return s.with(s.f.round) }

// Detach removes everything from the calling thread's namespace, which must be
// that of Sync, and returns what could not be removed. Sync may be called
// again afterwards.
func (s *Site) Detach() error {
	defer s.f.clsact.close()
	return s.with(s.f.detachAll)
}

// Abandon lets go of a namespace that is gone, or about to go: what was
// attached goes with it. It may be called from any thread, and ends the Site.
func (s *Site) Abandon() {
	for _, d := range s.f.devices {
		for _, side := range d.sides {
			if t, ok := side.attachment.(*tcx); ok {
				_ = t.detach()
			}
		}
	}
	clear(s.f.devices)
	s.f.publish()
	s.f.clsact.close()
}

// Hooks returns where programs were attached when Sync last looked, ordered by
// interface index and direction.
func (s *Site) Hooks() []Hook { return s.f.Hooks() }

// with calls f with a netlink socket of the calling thread's namespace.
func (s *Site) with(f func() error) (err error) {
	if s.f.nl, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		return fmt.Errorf("attach: netlink: %w", err)
	}
	s.f.clsact.nl = s.f.nl
	defer func() {
		s.f.nl.Close()
		s.f.nl, s.f.clsact.nl = nil, nil
	}()
	if err := f(); err != nil {
		return fmt.Errorf("attach: %w", err)
	}
	return nil
}

// Clean removes the filters, and qdiscs, that agents which are gone left in the
// calling thread's namespace. A Site does so on its own where it attaches; this
// is for namespaces in which nothing is to be attached any more.
func Clean(logger *slog.Logger) error {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("attach: netlink: %w", err)
	}
	defer h.Close()
	f := newFollower(Options{Logger: logger})
	f.nl, f.clsact = h, &clsact{nl: h}
	links, err := f.links()
	if err != nil {
		return fmt.Errorf("attach: %w", err)
	}
	for _, l := range links {
		f.clean(l.Attrs())
	}
	return nil
}
