package attach

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
)

// attachment is one program on one hook, by whatever means.
type attachment interface {
	// state reports whether the program is still where it was attached, and
	// names the programs of others that see packets before it does.
	state() (attached bool, ahead []string, err error)
	// detach removes the program. That it is gone already, or that its
	// interface is, is not an error.
	detach() error
}

// device is what is known of one link.
type device struct {
	name  string
	sides [2]side // by Direction
}

// side is one direction of a device.
type side struct {
	attachment attachment // nil when nothing is attached
	program    *ebpf.Program
	mode       Mode
	since      time.Time
	ahead      string // what is ahead of us, as it was last logged
	failure    string // why attaching failed, as it was last logged
}

// reconcile makes what is attached to l what it should be.
func (f *Follower) reconcile(l netlink.Link) {
	attrs := l.Attrs()
	d, known := f.devices[attrs.Index]
	if !known {
		d = &device{}
		f.devices[attrs.Index] = d
		f.clean(attrs)
	}
	d.name = attrs.Name
	want := f.o.Select(l)
	for _, direction := range []Direction{Ingress, Egress} {
		s := &d.sides[direction]
		logger := f.o.Logger.With("interface", d.name, "ifindex", attrs.Index, "direction", direction)
		if !want.on(direction) {
			s.failure = ""
			f.detach(s, logger)
			continue
		}
		program, err := f.o.Programs.pick(attrs.EncapType, direction)
		if err == nil {
			if s.program == program && f.verify(s, attrs.Index, logger) {
				continue
			}
			f.detach(s, logger)
			err = f.attach(s, attrs.Index, direction, program)
		} else {
			f.detach(s, logger)
		}
		if err != nil && f.exists(attrs.Index) {
			if failure := err.Error(); failure != s.failure {
				s.failure = failure
				logger.Error("not attached", "err", err)
			}
			continue
		}
		s.failure = ""
		if s.attachment != nil {
			logger.Debug("attached", "mode", s.mode)
			f.verify(s, attrs.Index, logger)
		}
	}
}

// clean removes what dead agents left on a link that is seen for the first
// time.
func (f *Follower) clean(attrs *netlink.LinkAttrs) {
	removed, err := f.clsact.cleanDead(attrs.Index)
	for _, name := range removed {
		f.o.Logger.Info("removed the filter of an agent that is gone", "interface", attrs.Name, "filter", name)
	}
	if err != nil && f.exists(attrs.Index) {
		f.o.Logger.Warn("looking for filters of agents that are gone", "interface", attrs.Name, "err", err)
	}
}

// attach attaches program in the way the mode says.
func (f *Follower) attach(s *side, ifindex int, d Direction, program *ebpf.Program) error {
	mode := f.o.Mode
	if mode == Auto && f.tcxGone {
		mode = Clsact
	}
	var a attachment
	var err error
	if mode != Clsact {
		a, err = attachTCX(ifindex, d, program)
		if mode == Auto && errors.Is(err, ebpf.ErrNotSupported) {
			f.tcxGone = true
			mode = Clsact
		} else {
			mode = TCX
		}
	}
	if mode == Clsact {
		a, err = f.clsact.attach(ifindex, d, program)
	}
	if err != nil {
		return err
	}
	s.attachment, s.program, s.mode, s.since = a, program, mode, time.Now()
	return nil
}

// verify reports whether s is still attached, and warns of programs ahead of
// it that are new.
func (f *Follower) verify(s *side, ifindex int, logger *slog.Logger) bool {
	attached, ahead, err := s.attachment.state()
	if err != nil {
		// Not knowing is no reason to attach a second time.
		logger.Debug("state of a hook is unknown", "err", err)
		return true
	}
	if !attached {
		if f.exists(ifindex) {
			logger.Warn("the program was removed by somebody else, attaching it again")
		}
		return false
	}
	if names := strings.Join(ahead, ", "); names != s.ahead {
		s.ahead = names
		if names != "" {
			logger.Warn("other programs run first; packets they do not pass on are not captured", "ahead", names)
		}
	}
	return true
}

// detach removes what is attached to s, if anything is.
func (f *Follower) detach(s *side, logger *slog.Logger) {
	if s.attachment == nil {
		return
	}
	if err := s.attachment.detach(); err != nil {
		logger.Error("not detached", "err", err)
	}
	failure := s.failure
	*s = side{failure: failure}
}

// vanished forgets a link that is gone: deleted, or in another namespace now,
// where it is no business of ours.
func (f *Follower) vanished(index int) {
	d, ok := f.devices[index]
	if !ok {
		return
	}
	for i := range d.sides {
		f.detach(&d.sides[i], f.o.Logger.With("interface", d.name, "ifindex", index))
	}
	delete(f.devices, index)
}

// exists reports whether the link is still there, if in doubt yes.
func (f *Follower) exists(index int) bool {
	_, err := f.nl.LinkByIndex(index)
	return !errors.As(err, &netlink.LinkNotFoundError{})
}

// detachAll removes everything of ours and returns what could not be removed.
func (f *Follower) detachAll() error {
	var errs []error
	for index, d := range f.devices {
		for direction, s := range d.sides {
			if s.attachment == nil {
				continue
			}
			if err := s.attachment.detach(); err != nil {
				errs = append(errs, fmt.Errorf("detach from %s of %s (%d): %w", Direction(direction), d.name, index, err))
			}
		}
		if err := f.clsact.cleanOwn(index); err != nil {
			errs = append(errs, fmt.Errorf("detach from %s (%d): %w", d.name, index, err))
		}
	}
	clear(f.devices)
	f.publish()
	return errors.Join(errs...)
}

// publish makes what is attached visible to Hooks.
func (f *Follower) publish() {
	var hooks []Hook
	for index, d := range f.devices {
		for direction, s := range d.sides {
			if s.attachment != nil {
				hooks = append(hooks, Hook{index, d.name, Direction(direction), s.mode, s.since})
			}
		}
	}
	slices.SortFunc(hooks, func(a, b Hook) int {
		return cmp.Or(cmp.Compare(a.Ifindex, b.Ifindex), cmp.Compare(a.Direction, b.Direction))
	})
	f.hooks.Store(&hooks)
}
