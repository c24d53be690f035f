package torture

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"

	shadowtap "github.com/shadowtap/shadowtap/pkg/agent"
	"github.com/shadowtap/shadowtap/pkg/capture/attach"
)

// cycles starts and stops the agent again and again while production goes on,
// inside this process, where what it leaves behind shows: kernel objects, file
// descriptors, goroutines, sockets.
func cycles(s *stage) {
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(-1))
	l, err := net.Listen("tcp", "127.0.0.1:0") // the agent's workers are out here
	must(s, err)
	shadow := serveShadow(l, s.arrived)
	defer shadow.stop()
	s.rules = rulesFor(s, l.Addr())

	n := s.times(6, 1000)
	from := time.Now()
	var left objects
	left.add(s, s.cycle(attach.TCX)) // what is made once and for all
	left.add(s, s.cycle(attach.Clsact))
	goroutines, files := runtime.NumGoroutine(), len(openFiles(s))
	s.begin()
	for i := range n {
		left.add(s, s.cycle([]attach.Mode{attach.TCX, attach.Clsact}[i%2]))
	}
	s.traffic.end()
	s.bad = append(s.bad, period{from, time.Now()})
	waitFor(s, "the kernel forgetting all programs, maps and links", left.gone)
	waitFor(s, "goroutines ending", func() bool { return runtime.NumGoroutine() <= goroutines })
	waitFor(s, "files being closed", func() bool { return len(openFiles(s)) <= files })
	if names := s.remains(); len(names) > 0 {
		s.Errorf("left in the namespace: %v", names)
	}
}

// cycle runs an agent until it captures, and stops it. It returns the kernel
// objects that the agent had.
func (s *stage) cycle(mode attach.Mode) (o objects) {
	s.Helper()
	var log lockedBuffer
	cfg := shadowtap.DefaultConfig()
	cfg.Name, cfg.Files, cfg.Admin, cfg.Attach = agentName, []string{s.rules}, "", mode
	cfg.RingBytes = 4 << 20 // small, but more than comes while this process gets no CPU
	cfg.DrainTimeout = patience
	cfg.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelInfo}))
	var a *shadowtap.Agent
	must(s, s.node.Do(func() (err error) {
		a, err = shadowtap.New(cfg)
		return err
	}))
	ctx, stop := context.WithCancel(s.Context())
	defer stop()
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	waitFor(s, "the agent capturing", func() bool { return strings.Contains(log.String(), "msg=capturing") })
	o = s.objects()
	stop()
	must(s, <-done)
	acc, err := a.Account()
	must(s, err)
	text, err := json.Marshal(acc)
	must(s, err)
	var same account
	must(s, json.Unmarshal(text, &same))
	s.accounts = append(s.accounts, same)
	return o
}

// objects are kernel objects by id.
type objects struct {
	programs []ebpf.ProgramID
	maps     []ebpf.MapID
	links    []link.ID
}

// add keeps those of o that are not gone yet.
func (all *objects) add(s *stage, o objects) {
	s.Helper()
	if len(o.programs) == 0 || len(o.maps) < 8 {
		s.Fatalf("objects %+v: those of an agent are more", o)
	}
	all.programs = append(all.programs, o.programs...)
	all.maps = append(all.maps, o.maps...)
	all.links = append(all.links, o.links...)
	all.gone()
}

// gone forgets those that the kernel has forgotten. Ids are not used again for
// a long time.
func (all *objects) gone() bool {
	all.programs = slices.DeleteFunc(all.programs, func(id ebpf.ProgramID) bool {
		p, err := ebpf.NewProgramFromID(id)
		return missing(p, err)
	})
	all.maps = slices.DeleteFunc(all.maps, func(id ebpf.MapID) bool {
		m, err := ebpf.NewMapFromID(id)
		return missing(m, err)
	})
	all.links = slices.DeleteFunc(all.links, func(id link.ID) bool {
		l, err := link.NewFromID(id)
		if err != nil {
			return errors.Is(err, os.ErrNotExist)
		}
		_ = l.Close()
		return false
	})
	return len(all.programs)+len(all.maps)+len(all.links) == 0
}

func missing(o interface{ Close() error }, err error) bool {
	if err != nil {
		return errors.Is(err, os.ErrNotExist)
	}
	_ = o.Close()
	return false
}

// objects lists what the agents in the namespace have in the kernel: the
// programs on its interfaces, their links, their maps and the rings in these.
func (s *stage) objects() (o objects) {
	s.Helper()
	must(s, s.node.Do(func() error {
		links, err := netlink.LinkList()
		if err != nil {
			return err
		}
		for _, l := range links {
			for _, hook := range []ebpf.AttachType{ebpf.AttachTCXIngress, ebpf.AttachTCXEgress} {
				found, err := link.QueryPrograms(link.QueryOptions{Target: l.Attrs().Index, Attach: hook})
				if errors.Is(err, ebpf.ErrNotSupported) {
					s.Skipf("this kernel has no tcx: %v", err)
				}
				if err != nil {
					return err
				}
				for _, p := range found.Programs {
					o.programs = append(o.programs, p.ID)
					if id, ok := p.LinkID(); ok {
						o.links = append(o.links, id)
					}
				}
			}
			for _, parent := range []uint32{netlink.HANDLE_MIN_INGRESS, netlink.HANDLE_MIN_EGRESS} {
				filters, err := netlink.FilterList(l, parent)
				if err != nil {
					return err
				}
				for _, f := range filters {
					if bpf, ok := f.(*netlink.BpfFilter); ok {
						o.programs = append(o.programs, ebpf.ProgramID(bpf.Id))
					}
				}
			}
		}
		return nil
	}))
	for _, id := range o.programs {
		p, err := ebpf.NewProgramFromID(id)
		must(s, err)
		info, err := p.Info()
		must(s, err)
		ids, _ := info.MapIDs()
		for _, id := range ids {
			if !slices.Contains(o.maps, id) {
				o.maps = append(o.maps, id)
				o.maps = append(o.maps, inner(s, id)...)
			}
		}
		_ = p.Close()
	}
	return o
}

// inner returns the maps that are in a map of maps.
func inner(s *stage, id ebpf.MapID) (ids []ebpf.MapID) {
	m, err := ebpf.NewMapFromID(id)
	must(s, err)
	defer m.Close()
	for key := uint32(0); m.Type() == ebpf.ArrayOfMaps && key < m.MaxEntries(); key++ {
		var id ebpf.MapID
		must(s, m.Lookup(key, &id))
		ids = append(ids, id)
	}
	return ids
}

// remains names what agents have left in the namespace.
func (s *stage) remains() (names []string) {
	s.Helper()
	if o := s.objects(); len(o.programs) > 0 {
		names = append(names, "programs")
	}
	must(s, s.node.Do(func() error {
		qdiscs, err := netlink.QdiscList(nil)
		for _, q := range qdiscs {
			if q.Type() == "clsact" {
				names = append(names, "a clsact qdisc")
			}
		}
		sockets, readErr := os.ReadFile("/proc/thread-self/net/unix")
		if bytes.Contains(sockets, []byte("@shadowtap")) {
			names = append(names, "a socket")
		}
		return errors.Join(err, readErr)
	}))
	return names
}

func openFiles(s *stage) []os.DirEntry {
	s.Helper()
	files, err := os.ReadDir("/proc/self/fd")
	must(s, err)
	return files
}

// lockedBuffer is a buffer that is read while it is being written.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
