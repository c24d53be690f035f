package capture

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"slices"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"

	"github.com/shadowtap/shadowtap/pkg/capture/attach"
)

// InstanceConfig says which network namespace an Instance is for.
type InstanceConfig struct {
	// Name says in messages which one it is.
	Name string
	// Enter calls f on a thread that is inside the namespace, and returns what
	// f returns, or another error if it cannot enter, which wraps
	// fs.ErrNotExist if the namespace is gone.
	Enter func(f func() error) error
}

// Instance is the capture of one more network namespace, a pod's, by the rings
// and Sinks of the Tap that made it. It attaches at ingress to every interface
// of the namespace that is up: on each path to a pod, whatever the network
// plugin, a packet arrives there once, after all address translation. Requests
// that a proxy in the pod hands on over lo are taken there instead; SetTargets
// says when. Responses are taken on the same side, at egress where it is the
// outside.
//
// It holds nothing that would keep the namespace from ending where tcx is used;
// with clsact it holds a socket in it. Its methods may be called concurrently.
type Instance struct {
	tap      *Tap
	config   InstanceConfig
	id       uint32
	programs *instancePrograms
	site     *attach.Site

	mu     sync.Mutex
	closed bool
	table  targetTable         // guarded by tap.mu
	ports  map[uint16]struct{} // with a side; guarded by tap.mu
}

// The addresses that targets of an Instance have on lo; see struct target in
// bpf/contract.h.
var loopbackTargets = [...]netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}

// NewInstance loads the programs of another network namespace. Sync attaches
// them. It may be called before and during Run, whose end closes it, on a Tap
// with Config.Instances.
func (t *Tap) NewInstance(c InstanceConfig) (_ *Instance, err error) {
	if t.loader == nil {
		return nil, errNoInstances
	}
	t.mu.Lock()
	if t.closed || t.ended {
		t.mu.Unlock()
		return nil, ErrClosed
	}
	id := t.nextInstance()
	t.mu.Unlock()

	i := &Instance{tap: t, config: c, id: id, ports: make(map[uint16]struct{})}
	if i.programs, err = t.loader.load(id); err != nil {
		return nil, fmt.Errorf("%s: %w", c.Name, err)
	}
	defer func() {
		if err != nil {
			_ = i.programs.close()
		}
	}()
	i.site, err = attach.NewSite(attach.Options{
		Programs: i.programs.attachable(),
		Mode:     t.config.Attach,
		Priority: t.config.Priority,
		Select: func(l netlink.Link) attach.Want {
			up, lo := l.Attrs().Flags&net.FlagUp != 0, l.Attrs().Flags&net.FlagLoopback != 0
			return attach.Want{Ingress: up, Egress: up && !lo && t.config.Responses}
		},
		Guard:  t.guardInterfaces,
		Logger: t.log.With("namespace", c.Name),
	})
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed || t.ended {
		return nil, ErrClosed
	}
	i.table = newTargetTable(t.objs.Targets, t.ports)
	t.instances[i] = struct{}{}
	return i, nil
}

// nextInstance is called with the lock held.
func (t *Tap) nextInstance() uint32 {
	t.lastInstance++
	return t.lastInstance
}

// UnusedInstance returns a number that no Instance has or will have: for flows
// of a namespace that is gone.
func (t *Tap) UnusedInstance() uint32 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.nextInstance()
}

// ID is what Flow.Instance is for flows in this namespace: not 0, and never
// the same again.
func (i *Instance) ID() uint32 { return i.id }

// Hooks returns where the programs were attached when Sync last looked.
func (i *Instance) Hooks() []attach.Hook { return i.site.Hooks() }

// Sync looks at the interfaces of the namespace and attaches where it has to.
// It is to be called when there are targets, and whenever interfaces may have
// changed.
func (i *Instance) Sync() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.closed {
		return ErrClosed
	}
	if err := i.config.Enter(i.site.Sync); err != nil {
		return fmt.Errorf("%s: %w", i.config.Name, err)
	}
	return nil
}

// SetTargets replaces the endpoints whose incoming packets are captured, each
// with an address of the namespace. New ones are added before old ones are
// removed.
//
// A proxy in the pod may take the connections to a port and hand their
// requests on to the same port over lo, to the pod's address or a loopback
// one. Requests to a port are therefore taken from one side only: from outside
// until a TLS handshake is seen to be completed there, and then, or at once if
// proxied says that there is such a proxy, from lo. What passes on the other
// side is counted as SkippedOtherSide. A side is kept as long as the port is.
func (i *Instance) SetTargets(targets []Target, proxied bool) error {
	next := make(map[tapTarget]struct{})
	ports := make(map[uint16]struct{})
	for _, target := range targets {
		if target.Port == 0 || target.anyAddr() {
			return fmt.Errorf("%s: target %v: an address and a port are needed", i.config.Name, target)
		}
		next[i.key(target)] = struct{}{}
		ports[target.Port] = struct{}{}
		for _, lo := range loopbackTargets {
			next[i.key(Target{lo, target.Port})] = struct{}{}
		}
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.closed {
		return ErrClosed
	}
	i.tap.mu.Lock()
	defer i.tap.mu.Unlock()
	return i.retarget(next, ports, proxied)
}

func (i *Instance) key(t Target) tapTarget {
	k := t.key()
	k.Instance = i.id
	return k
}

// retarget is called with both locks held.
func (i *Instance) retarget(next map[tapTarget]struct{}, ports map[uint16]struct{}, proxied bool) error {
	for port := range ports {
		if err := i.setSide(port, proxied); err != nil {
			return err
		}
		i.ports[port] = struct{}{}
	}
	if err := i.table.replace(next); err != nil {
		return err
	}
	for port := range i.ports {
		if _, ok := ports[port]; ok {
			continue
		}
		if err := i.tap.objs.Sides.Delete(i.port(port)); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("remove a port: %w", err)
		}
		delete(i.ports, port)
	}
	return nil
}

// Inside returns the ports whose requests are taken from lo, in order.
func (i *Instance) Inside() ([]uint16, error) {
	i.tap.mu.Lock()
	defer i.tap.mu.Unlock()
	var inside []uint16
	for port := range i.ports {
		var side tapSide
		if err := i.tap.objs.Sides.Lookup(i.port(port), &side); err != nil {
			return nil, fmt.Errorf("%s: side of port %d: %w", i.config.Name, port, err)
		}
		if side == tapSideSIDE_LOOPBACK {
			inside = append(inside, port)
		}
	}
	slices.Sort(inside)
	return inside, nil
}

// TakeInside takes the requests to ports from lo, as if the program had found
// out that there is a proxy in front. What is no port of a target is passed
// over.
func (i *Instance) TakeInside(ports []uint16) error {
	i.tap.mu.Lock()
	defer i.tap.mu.Unlock()
	for _, port := range ports {
		if _, ok := i.ports[port]; !ok {
			continue
		}
		if err := i.setSide(port, true); err != nil {
			return fmt.Errorf("%s: %w", i.config.Name, err)
		}
	}
	return nil
}

// setSide says from where requests to a port are taken, unless the program
// knows better.
func (i *Instance) setSide(port uint16, proxied bool) error {
	side, how := tapSideSIDE_OUTSIDE, ebpf.UpdateNoExist
	if proxied {
		side, how = tapSideSIDE_LOOPBACK, ebpf.UpdateAny
	}
	err := i.tap.objs.Sides.Update(i.port(port), side, how)
	if err != nil && !errors.Is(err, ebpf.ErrKeyExist) {
		return fmt.Errorf("add a port: %w", err)
	}
	return nil
}

func (i *Instance) port(port uint16) tapPodPort { return tapPodPort{Instance: i.id, Port: port} }

// Close detaches the programs and removes what they were told. A namespace that
// is gone (fs.ErrNotExist of InstanceConfig.Enter) has taken what was attached
// in it with it; in one that cannot be entered for another reason filters stay,
// which is an error, and copy nothing. Segments that are in a ring already still
// arrive. It may be called more than once.
func (i *Instance) Close() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.closed {
		return nil
	}
	i.closed = true
	var errs []error
	entered := false
	err := i.config.Enter(func() error {
		entered = true
		return i.site.Detach()
	})
	if err != nil && (entered || !errors.Is(err, fs.ErrNotExist)) {
		errs = append(errs, err)
	}
	if err != nil {
		i.site.Abandon() // a link that is open would stay attached
	}
	i.tap.mu.Lock()
	defer i.tap.mu.Unlock()
	errs = append(errs, i.retarget(nil, nil, false), i.programs.close())
	delete(i.tap.instances, i)
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("%s: %w", i.config.Name, err)
	}
	return nil
}

// closeInstances closes all instances, and lets no more be made.
func (t *Tap) closeInstances() error {
	t.mu.Lock()
	t.ended = true
	all := make([]*Instance, 0, len(t.instances))
	for i := range t.instances {
		all = append(all, i)
	}
	t.mu.Unlock()
	var errs []error
	for _, i := range all {
		errs = append(errs, i.Close())
	}
	return errors.Join(errs...)
}
