package netns

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"
)

const (
	// Changes come in groups: an interface, its addresses, its state.
	settle = 20 * time.Millisecond
	// How often a namespace is looked at for what happens in it, when that
	// never ends: whoever is root in a pod can change its interfaces for ever.
	visitsPerSecond, visitsAtOnce = 2, 20
	// How long after a qdisc or filter was removed in a namespace it is looked
	// at. Who removes a qdisc may be about to make it anew, and must not find
	// that we have been faster.
	removalSettle = time.Second
	// A file that was just made is not a namespace yet. It is looked at again
	// after this, and twice as long each time.
	firstRetry, lastRetry = 5 * time.Millisecond, time.Second
	// How often everything is looked at without a reason, and where changes
	// are not announced.
	rescanQuiet, rescanBlind = 30 * time.Second, 5 * time.Second
	// How often every namespace is looked at without a reason, for what
	// nothing announces, such as a tcx link that somebody detached.
	revisitAfter = 2 * time.Minute
	// How long nothing is heard after a panic that was contained.
	faultPause = 100 * time.Millisecond
)

// Watcher knows the network namespaces of this machine. Create it with New
// and call Run once.
type Watcher struct {
	o      Options
	events *events
	handle *netlink.Handle // of the agent's namespace
	own    identity

	// What follows belongs to Run.
	changed func(*Namespace)
	gone    func(*Namespace)
	known   map[identity]*Namespace
	byNSID  map[int]*Namespace
	dirty   map[*Namespace]struct{}
	robbed  map[*Namespace]time.Time // when to look at those that something was removed from
	young   map[string]retry         // files that may become namespaces
	due     time.Time                // when the next look is, if there is to be one
	dirs    map[string]bool          // watched
	failure string                   // of a scan, as it was last logged
}

// retry is when to look at something again, and how long that is after the
// last look.
type retry struct {
	at   time.Time
	wait time.Duration
}

// New returns a Watcher that belongs to the network namespace of the calling
// thread, which it leaves out. It takes CAP_NET_ADMIN and CAP_NET_BROADCAST.
func New(o Options) (_ *Watcher, err error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	w := &Watcher{
		o:      o,
		known:  make(map[identity]*Namespace),
		byNSID: make(map[int]*Namespace),
		dirty:  make(map[*Namespace]struct{}),
		robbed: make(map[*Namespace]time.Time),
		young:  make(map[string]retry),
		dirs:   make(map[string]bool),
	}
	f, id, err := openNamespace("/proc/thread-self/ns/net")
	if err != nil {
		return nil, fmt.Errorf("network namespace of this thread: %w", err)
	}
	_ = f.Close()
	w.own = id
	if w.handle, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	if w.events, err = newEvents(); err != nil {
		w.handle.Close()
		return nil, err
	}
	return w, nil
}

// Close releases what New got hold of, if Run was not called.
func (w *Watcher) Close() error {
	w.handle.Close()
	return w.events.close()
}

// Run calls changed with each namespace it finds, and again whenever its
// addresses or interfaces may have changed, and gone when it is gone. All
// calls come from one goroutine. Before they return nothing else is noticed,
// and nothing is lost either. ready is called once all namespaces that exist
// have been reported. It returns nil when ctx ends.
func (w *Watcher) Run(ctx context.Context, changed, gone func(*Namespace), ready func()) error {
	defer w.handle.Close()
	w.changed, w.gone = changed, gone
	files, err := fsnotify.NewWatcher()
	if err != nil {
		_ = w.events.close()
		return fmt.Errorf("watch directories: %w", err)
	}
	defer files.Close()
	ctx, cancel := context.WithCancel(ctx)
	happened, deaf := make(chan event, 256), make(chan struct{})
	var failure error // once deaf
	go func() {
		defer close(deaf)
		failure = w.hear(ctx, happened)
	}()
	defer func() {
		cancel()
		_ = w.events.close()
		<-deaf
	}()

	w.rescan(files)
	w.visitDirty()
	ready()
	rescan := time.NewTimer(w.rescanAfter())
	defer rescan.Stop()
	revisit := time.NewTicker(revisitAfter)
	defer revisit.Stop()
	work := time.NewTimer(0) // when there is something to look at
	defer work.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-deaf:
			return failure
		case e := <-happened:
			w.note(e)
			w.schedule(work)
		case e, ok := <-files.Events:
			if !ok {
				return errors.New("the watch of directories ended")
			}
			w.file(e)
			w.schedule(work)
		case err := <-files.Errors:
			w.o.Logger.Warn("watching for network namespaces, looking at all of them", "err", err)
			rescan.Reset(0)
		case now := <-work.C:
			w.due = time.Time{}
			if w.lookAgain(now) {
				w.rescan(files)
			}
			w.soilRobbed(now)
			w.visitDirty()
			w.schedule(work)
		case <-rescan.C:
			w.rescan(files)
			rescan.Reset(w.rescanAfter())
			w.schedule(work)
		case <-revisit.C:
			w.soilAll()
			w.schedule(work)
		}
	}
}

// hear passes on what the kernel says until the socket is closed.
func (w *Watcher) hear(ctx context.Context, happened chan<- event) error {
	deliver := func(e event) {
		select {
		case happened <- e:
		case <-ctx.Done():
		}
	}
	for {
		var err error
		fault := w.o.Guard(func() { err = w.events.next(deliver) })
		switch {
		case fault != nil:
			deliver(event{missed: true})
			select {
			case <-time.After(faultPause):
			case <-ctx.Done():
			}
		case errors.Is(err, os.ErrClosed):
			return nil
		case err != nil:
			return err
		}
	}
}

// rescanEverything is a key of young that no file has.
const rescanEverything = ""

// note remembers what has to be looked at after an event.
func (w *Watcher) note(e event) {
	n := w.byNSID[e.nsid]
	switch {
	case e.missed:
		w.young[rescanEverything] = retry{}
		w.soilAll()
	case e.ended && n != nil:
		// By the time it is heard of, the id may be that of a new namespace,
		// which lives, and so may the inode: then the new one may have been
		// taken for the old one.
		if n.hasNSID(w.handle, e.nsid) {
			w.dirty[n] = struct{}{}
		} else {
			w.forget(n)
		}
		w.young[rescanEverything] = retry{}
	case e.started && n == nil:
		w.young[rescanEverything] = retry{}
	case n != nil && e.removed:
		if w.robbed[n].IsZero() {
			w.robbed[n] = time.Now().Add(removalSettle)
		}
	case n != nil && !e.started:
		w.dirty[n] = struct{}{}
	}
}

// soilAll has every namespace looked at.
func (w *Watcher) soilAll() {
	for _, n := range w.known {
		w.dirty[n] = struct{}{}
	}
}

// soilRobbed has the namespaces looked at that something was removed from, if it
// is time to.
func (w *Watcher) soilRobbed(now time.Time) {
	for n, at := range w.robbed {
		if !at.After(now) {
			delete(w.robbed, n)
			w.dirty[n] = struct{}{}
		}
	}
}

// file remembers a file that appeared or vanished.
func (w *Watcher) file(e fsnotify.Event) {
	switch {
	case e.Has(fsnotify.Create):
		w.young[e.Name] = retry{time.Now().Add(firstRetry), firstRetry}
	case e.Has(fsnotify.Remove), e.Has(fsnotify.Rename):
		w.young[rescanEverything] = retry{}
	}
}

// schedule sets the timer for what has to be looked at next. It never puts a
// look off: one pod in which something happens all the time would keep all
// others from being looked at.
func (w *Watcher) schedule(t *time.Timer) {
	now, next := time.Now(), time.Time{}
	sooner := func(at time.Time) {
		if next.IsZero() || at.Before(next) {
			next = at
		}
	}
	if len(w.dirty) > 0 {
		sooner(now.Add(settle))
	}
	for _, at := range w.robbed {
		sooner(at)
	}
	for _, r := range w.young {
		if soonest := now.Add(firstRetry); r.at.Before(soonest) {
			r.at = soonest
		}
		sooner(r.at)
	}
	if next.IsZero() || !w.due.IsZero() && !next.Before(w.due) {
		return
	}
	w.due = next
	t.Reset(next.Sub(now))
}

// lookAgain reports whether there may be new namespaces, and ages those files
// that have not become any.
func (w *Watcher) lookAgain(now time.Time) (look bool) {
	for path, r := range w.young {
		if r.at.After(now) {
			continue
		}
		look = true
		if r.wait *= 2; path == rescanEverything || r.wait > lastRetry || !pending(path) {
			delete(w.young, path)
			continue
		}
		r.at = now.Add(r.wait)
		w.young[path] = r
	}
	return look
}

func (w *Watcher) rescanAfter() time.Duration {
	if _, complete := w.o.directories(); complete {
		return rescanQuiet
	}
	return rescanBlind
}

// rescan finds all namespaces, and out which are gone.
func (w *Watcher) rescan(files *fsnotify.Watcher) {
	// Watch before looking: what changes in between is announced.
	dirs, _ := w.o.directories()
	for _, dir := range dirs {
		if !w.dirs[dir] && files.Add(dir) == nil {
			w.dirs[dir] = true
		}
	}
	maps.DeleteFunc(w.dirs, func(dir string, _ bool) bool { return !slices.Contains(files.WatchList(), dir) })

	var found map[identity][]string
	var err error
	if fault := w.o.Guard(func() { found, err = w.o.scan(w.own) }); fault != nil {
		return // until the next look, what is known stays
	}
	w.complain(err)
	for id, n := range w.known {
		if found[id] != nil {
			continue
		}
		// Not to be found is not to be gone: a directory that cannot be read,
		// for want of descriptors, looks empty.
		if errors.Is(err, errTooMany) || !n.isThere() {
			w.forget(n)
		}
	}
	for id, paths := range found {
		n, ok := w.known[id]
		if !ok {
			n = &Namespace{id: id, guard: w.o.Guard, visits: rate.NewLimiter(visitsPerSecond, visitsAtOnce)}
			w.known[id] = n
			w.dirty[n] = struct{}{}
		}
		n.setPaths(paths)
	}
}

// complain logs why something could not be looked at, once.
func (w *Watcher) complain(err error) {
	failure := ""
	if err != nil {
		failure = err.Error()
	}
	if failure != w.failure && failure != "" {
		w.o.Logger.Warn("looking for network namespaces", "err", strings.ReplaceAll(failure, "\n", "; "))
	}
	w.failure = failure
}

// visitDirty looks at the namespaces in which something may have changed.
func (w *Watcher) visitDirty() {
	for n := range w.dirty {
		if !n.visits.Allow() {
			continue // stays dirty
		}
		delete(w.dirty, n)
		_ = w.o.Guard(func() { w.look(n) })
	}
}

// look looks at one namespace.
func (w *Watcher) look(n *Namespace) {
	switch err := w.visit(n); {
	case err == nil:
		w.changed(n)
	case errors.Is(err, fs.ErrNotExist):
		w.forget(n)
	default:
		w.o.Logger.Warn("looking at a network namespace", "namespace", n.String(), "err", err)
	}
}

// visit finds out the addresses of a namespace, and has it heard from then on.
func (w *Watcher) visit(n *Namespace) error {
	if w.byNSID[n.nsid] != n {
		f, err := n.open()
		if err != nil {
			return err
		}
		id, err := nsidFor(w.handle, f)
		_ = f.Close()
		if err != nil {
			return err
		}
		if last := w.byNSID[id]; last != nil { // it has ended, which is not heard of yet
			w.forget(last)
			w.young[rescanEverything] = retry{}
		}
		n.nsid, w.byNSID[id] = id, n
	}
	var c uint64
	var addresses []netip.Addr
	if err := n.Enter(func() (err error) {
		if c, err = cookie(); err != nil {
			return err
		}
		addresses, err = listAddresses()
		return err
	}); err != nil {
		return err
	}
	if last := n.cookie.Swap(c); last != 0 && c != last {
		w.young[rescanEverything] = retry{}
		return fmt.Errorf("network namespace %s: the inode is another's now: %w", n, fs.ErrNotExist)
	}
	n.addresses.Store(&addresses)
	return nil
}

// forget drops a namespace that is gone.
func (w *Watcher) forget(n *Namespace) {
	delete(w.known, n.id)
	delete(w.dirty, n)
	delete(w.robbed, n)
	if w.byNSID[n.nsid] == n {
		delete(w.byNSID, n.nsid)
	}
	n.setPaths(nil)
	_ = w.o.Guard(func() { w.gone(n) })
}

// dumpAttempts is how often a listing is tried that the kernel reports as
// inconsistent because something changed meanwhile.
const dumpAttempts = 5

// listAddresses lists the addresses of the calling thread's namespace.
func listAddresses() ([]netip.Addr, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	defer h.Close()
	var list []netlink.Addr
	for range dumpAttempts {
		if list, err = h.AddrList(nil, netlink.FAMILY_ALL); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return nil, fmt.Errorf("list the addresses: %w", err)
	}
	var addresses []netip.Addr
	for _, a := range list {
		ip, ok := netip.AddrFromSlice(a.IP)
		if ip = ip.Unmap(); ok && !ip.IsLoopback() && !ip.IsLinkLocalUnicast() {
			addresses = append(addresses, ip)
		}
	}
	slices.SortFunc(addresses, netip.Addr.Compare)
	return slices.Compact(addresses), nil
}
