package agent

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"

	"github.com/shadowtap/shadowtap/pkg/capture"
	"github.com/shadowtap/shadowtap/pkg/capture/attach"
	"github.com/shadowtap/shadowtap/pkg/capture/netns"
	"github.com/shadowtap/shadowtap/pkg/capture/pcap"
)

// source is where segments come from.
type source interface {
	// Shards is how many sinks Run wants.
	Shards() int
	// SetTargets replaces the captured endpoints.
	SetTargets([]netip.AddrPort) error
	// Run delivers until ctx ends, and then what it still holds.
	Run(ctx context.Context, sinks []capture.Sink) error
	// Ready is closed once traffic is being captured.
	Ready() <-chan struct{}
	// Ignore asks for no more of a flow. It is advice and called from a Sink.
	Ignore(capture.Flow)
	// Packets returns the packet counts.
	Packets() (Packets, error)
	// Endpoint returns the captured endpoint that a flow goes to. It is called
	// from Sinks.
	Endpoint(capture.Flow) netip.AddrPort
	// Hooks says where live capture is attached.
	Hooks() []hook
	Close() error
}

// handoverTap is live capture that can be handed over.
type handoverTap interface {
	// See capture.Tap.
	Copy() error
	Deliver()
	Pause(context.Context) error
	Resume()
	ShardOf(capture.Flow) int
	UnusedInstance() uint32

	// hold keeps what is captured where from changing until release is called.
	// What follows is called on hold.
	hold() (release func())
	// places returns where is captured, this agent's own namespace first.
	places() ([]netPlace, error)
	// assume takes requests in another agent's places from the side that it
	// takes them from.
	assume([]netPlace) error
	// instanceOf returns the number of a place of another agent's here; it
	// reports false if nothing is captured there.
	instanceOf(netPlace) (uint32, bool)
}

// hook is a place where the program is attached.
type hook struct {
	attach.Hook
	Namespace string // a pod's; empty: the agent's own
}

// openSource opens what the configuration names. expel ends the flows of
// instances that are gone; it is called from any goroutine while Run runs. Live
// capture may be held; see capture.Config.
func openSource(cfg Config, panics *panics, expel func(instances map[uint32]bool), held bool) (source, error) {
	switch {
	case cfg.PCAP != "":
		return openFile(cfg.PCAP, cfg.Compare)
	case cfg.inPods():
		return openPods(cfg, panics, expel, held)
	}
	live, err := openLive(cfg, panics, held)
	if err != nil {
		return nil, err // and not live: a source that is not nil would be closed
	}
	return live, nil
}

// liveSource captures from this host's interfaces.
type liveSource struct {
	*capture.Tap
	own netns.ID
}

func openLive(cfg Config, panics *panics, held bool) (*liveSource, error) {
	tap, err := capture.Open(capture.Config{
		Interfaces:        cfg.Interfaces,
		Attach:            cfg.Attach,
		Priority:          cfg.Priority,
		RingBytes:         cfg.RingBytes,
		MaxBytesPerSecond: cfg.MaxCaptureRate,
		Held:              held,
		Instances:         cfg.inPods(),
		Guard:             panics.inTap,
		Responses:         cfg.Compare,
		Logger:            cfg.Logger,
	})
	if err != nil {
		return nil, err
	}
	own, err := netns.Own()
	if err != nil {
		return nil, errors.Join(err, tap.Close())
	}
	return &liveSource{tap, own}, nil
}

func (l *liveSource) SetTargets(endpoints []netip.AddrPort) error {
	targets := make([]capture.Target, len(endpoints))
	for i, e := range endpoints {
		targets[i] = capture.Target{Addr: e.Addr(), Port: e.Port()}
	}
	return l.Tap.SetTargets(targets)
}

func (l *liveSource) Ignore(f capture.Flow) {
	// A failure costs copies of bytes that the shard discards; the kernel
	// may also have forgotten the flow, which is no failure at all.
	_ = l.Tap.Ignore(f)
}

func (l *liveSource) Endpoint(f capture.Flow) netip.AddrPort { return f.Destination() }

func (l *liveSource) Hooks() []hook {
	var hooks []hook
	for _, h := range l.Tap.Hooks() {
		hooks = append(hooks, hook{Hook: h})
	}
	return hooks
}

func (l *liveSource) Packets() (Packets, error) {
	return packets(l.Counters())
}

// Responses returns the counts of packets that came from captured endpoints.
func (l *liveSource) Responses() (Packets, error) {
	return packets(l.ResponseCounters())
}

func packets(c capture.Counters, err error) (Packets, error) {
	if err != nil {
		return Packets{}, err
	}
	return Packets{Seen: c.Seen, Copied: c.Copied, Skipped: c.Skipped, Lost: c.Lost}, nil
}

// fileSource reads a capture file.
type fileSource struct {
	name      string
	file      *os.File
	responses bool // are wanted, too
	targets   atomic.Pointer[map[netip.AddrPort]struct{}]
	ready     chan struct{}

	mu    sync.Mutex
	stats pcap.Stats
}

func openFile(name string, responses bool) (source, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("capture file: %w", err)
	}
	return &fileSource{name: name, file: f, responses: responses, ready: make(chan struct{})}, nil
}

func (s *fileSource) Shards() int { return 1 }

func (s *fileSource) SetTargets(endpoints []netip.AddrPort) error {
	m := make(map[netip.AddrPort]struct{}, len(endpoints))
	for _, e := range endpoints {
		if e.Addr().IsUnspecified() || !e.Addr().IsValid() {
			e = netip.AddrPortFrom(netip.Addr{}, e.Port())
		}
		m[e] = struct{}{}
	}
	s.targets.Store(&m)
	return nil
}

// match reports whether dst is a captured endpoint.
func (s *fileSource) match(dst netip.AddrPort) bool {
	m := *s.targets.Load()
	if _, ok := m[dst]; ok {
		return true
	}
	_, ok := m[netip.AddrPortFrom(netip.Addr{}, dst.Port())]
	return ok
}

func (s *fileSource) Run(ctx context.Context, sinks []capture.Sink) error {
	close(s.ready)
	stats, err := pcap.Read(ctx, s.file, sinks[0], pcap.Options{Match: s.match, Responses: s.responses})
	s.mu.Lock()
	s.stats = stats
	s.mu.Unlock()
	if err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("%s: %w", s.name, err)
	}
	return nil
}

func (s *fileSource) Ready() <-chan struct{} { return s.ready }

func (s *fileSource) Ignore(capture.Flow) {}

// Packets counts every packet of the file, those of other connections too.
func (s *fileSource) Packets() (Packets, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Packets{
		Seen:    s.stats.Packets,
		Copied:  s.stats.Copied,
		Skipped: named(s.stats.Skipped[:], func(i int) string { return pcap.Reason(i).String() }),
		Lost:    map[string]uint64{},
	}, nil
}

func (s *fileSource) Endpoint(f capture.Flow) netip.AddrPort { return f.Destination() }

func (s *fileSource) Hooks() []hook { return nil }

func (s *fileSource) Close() error { return s.file.Close() }
