package capture

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

const (
	// Address changes come in groups (one interface, several addresses).
	addrSettle = 50 * time.Millisecond
	// A list now and then makes up for notifications that were missed.
	addrResync    = 30 * time.Second
	addrRetry     = time.Second
	addrListTries = 5
)

// hostAddrs are the addresses for which packets end on this host.
type hostAddrs struct {
	addrs []netip.Addr
	// On a loopback interface the kernel takes the whole prefix of an address
	// for local (net/ipv4/fib_frontend.c, fib_add_ifaddr).
	loopback []netip.Prefix
}

func (h hostAddrs) has(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	for _, p := range h.loopback {
		if p.Contains(a) {
			return true
		}
	}
	for _, l := range h.addrs {
		if l == a {
			return true
		}
	}
	return false
}

// addrWatcher knows the addresses of one network namespace.
type addrWatcher struct {
	ns     netns.NsHandle
	handle *netlink.Handle
	guard  func(step func()) (fault error) // see Config.Guard
	log    *slog.Logger
}

// newAddrWatcher returns the watcher of the calling thread's network
// namespace.
func newAddrWatcher(guard func(step func()) (fault error), log *slog.Logger) (*addrWatcher, error) {
	ns, err := netns.Get()
	if err != nil {
		return nil, fmt.Errorf("open this network namespace: %w", err)
	}
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		_ = ns.Close()
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	return &addrWatcher{ns: ns, handle: handle, guard: guard, log: log}, nil
}

func (w *addrWatcher) close() error {
	w.handle.Close()
	return w.ns.Close()
}

// list returns the present addresses, in a stable order.
func (w *addrWatcher) list() (hostAddrs, error) {
	var h hostAddrs
	links, err := dump(w.handle.LinkList)
	if err != nil {
		return h, fmt.Errorf("list the interfaces: %w", err)
	}
	loopback := make(map[int]bool)
	for _, l := range links {
		loopback[l.Attrs().Index] = l.Attrs().Flags&net.FlagLoopback != 0
	}
	addrs, err := dump(func() ([]netlink.Addr, error) {
		return w.handle.AddrList(nil, netlink.FAMILY_ALL)
	})
	if err != nil {
		return h, fmt.Errorf("list the addresses: %w", err)
	}
	for _, a := range addrs {
		ip, ok := netip.AddrFromSlice(a.IP)
		if !ok {
			continue
		}
		ip = ip.Unmap()
		h.addrs = append(h.addrs, ip)
		if ones, _ := a.Mask.Size(); loopback[a.LinkIndex] {
			if p, err := ip.Prefix(ones); err == nil {
				h.loopback = append(h.loopback, p)
			}
		}
	}
	slices.SortFunc(h.addrs, netip.Addr.Compare)
	h.addrs = slices.Compact(h.addrs)
	slices.SortFunc(h.loopback, netip.Prefix.Compare)
	return h, nil
}

// dump repeats a netlink listing that the kernel says changed under it.
func dump[T any](list func() ([]T, error)) (v []T, err error) {
	for range addrListTries {
		if v, err = list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			return v, err
		}
	}
	return v, nil // what could be read of it; a change brings a notification
}

// run calls changed with every new set of addresses until ctx ends. Once it
// has begun it does not give up: when netlink fails it tries again.
func (w *addrWatcher) run(ctx context.Context, known hostAddrs, changed func(hostAddrs)) error {
	// A netlink socket belongs to the namespace of the thread that opens it.
	// Entering one takes CAP_SYS_ADMIN, so it is only done if it is another.
	runtime.LockOSThread()
	if moved, err := w.enter(); err != nil {
		return fmt.Errorf("follow this host's addresses: %w", err)
	} else if !moved {
		defer runtime.UnlockOSThread() // otherwise the thread ends here
	}

	refresh := func() {
		h, err := w.list()
		if err != nil {
			w.log.Warn("cannot list this host's addresses; going by the last known", "error", err)
			return
		}
		if !slices.Equal(h.addrs, known.addrs) || !slices.Equal(h.loopback, known.loopback) {
			changed(h) // again, if it panics
			known = h
		}
	}
	for ctx.Err() == nil {
		var err error
		if fault := w.guard(func() { err = w.follow(ctx, refresh) }); fault != nil {
			err = fault
		}
		if err != nil && ctx.Err() == nil {
			w.log.Warn("lost the notifications about addresses; subscribing again", "error", err)
			sleep(ctx, addrRetry)
		}
	}
	return nil
}

// enter puts the calling thread into the namespace.
func (w *addrWatcher) enter() (moved bool, err error) {
	here, err := netns.Get()
	if err != nil {
		return false, fmt.Errorf("open this network namespace: %w", err)
	}
	defer here.Close()
	if here.Equal(w.ns) {
		return false, nil
	}
	if err := netns.Set(w.ns); err != nil {
		return false, fmt.Errorf("enter the network namespace: %w", err)
	}
	return true, nil
}

var errUnsubscribed = errors.New("netlink closed the subscription")

// follow calls refresh at once, after changes, and now and then.
func (w *addrWatcher) follow(ctx context.Context, refresh func()) error {
	var (
		updates = make(chan netlink.AddrUpdate, 64)
		done    = make(chan struct{})
		failed  = errUnsubscribed
		failure = make(chan error, 1)
	)
	err := netlink.AddrSubscribeWithOptions(updates, done, netlink.AddrSubscribeOptions{
		ErrorCallback: func(err error) {
			select {
			case failure <- err:
			default:
			}
		},
	})
	if err != nil {
		close(done)
		return fmt.Errorf("subscribe to address changes: %w", err)
	}
	defer func() { // the sender must not be left blocked
		close(done)
		for range updates {
		}
	}()

	refresh() // only now: what changes from here on is notified
	resync := time.NewTicker(addrResync)
	defer resync.Stop()
	var settle <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-failure:
			failed = err
		case _, ok := <-updates:
			if !ok {
				return failed
			}
			if settle == nil {
				settle = time.After(addrSettle)
			}
		case <-settle:
			settle = nil
			refresh()
		case <-resync.C:
			refresh()
		}
	}
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
