package torture

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shadowtap/shadowtap/pkg/netlab"
)

// hostileCable carries frames through this process, which loses, repeats and
// delays some of those that hold data, so that others overtake them. The
// kernel's TCP mends that, and the tap has to as well.
func hostileCable(t *testing.T, p *path, client, node *netlab.Namespace) []netip.AddrPort {
	t.Helper()
	clients, v1, servers := addresses(p.mtu)
	a, b := tap(t, client, clients), tap(t, node, v1)
	var carriers sync.WaitGroup
	var towards, back fortunes
	carriers.Go(func() { towards = carry(a, b, rand.New(rand.NewPCG(1, 0))) })
	carriers.Go(func() { back = carry(b, a, rand.New(rand.NewPCG(2, 0))) })
	t.Cleanup(func() {
		_ = a.Close()
		_ = b.Close()
		carriers.Wait()
		if f := towards; f.frames > 1000 && (f.lost == 0 || f.repeated == 0 || f.late == 0) {
			t.Errorf("the cable is not hostile: %+v, back %+v", f, back)
		}
	})
	return servers
}

// tap makes a TAP device eth0; frames that are sent there are read from the
// file, and the other way round.
func tap(t *testing.T, ns *netlab.Namespace, addresses []netip.Prefix) *os.File {
	t.Helper()
	var f *os.File
	must(t, ns.Do(func() error {
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		request, err := unix.NewIfreq("eth0")
		if err == nil {
			request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
			err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
		}
		f = os.NewFile(uintptr(fd), "tap")
		if err != nil {
			return errors.Join(fmt.Errorf("make a TAP device: %w", err), f.Close())
		}
		return nil
	}))
	must(t, ns.Up("eth0", addresses...))
	return f
}

const (
	largestFrame = 2048
	// holdsData is longer than a frame without: Ethernet, IPv6 and the longest
	// TCP header. What sets up connections is left alone; the kernel repeats it
	// a second later.
	holdsData = 14 + 40 + 60
	mostLate  = 5 * time.Millisecond
)

// fortunes counts frames with data by what became of them.
type fortunes struct{ frames, lost, repeated, late int }

// carry carries frames until a file is closed. One in fifty is lost, one in
// thirty comes again, one in ten comes late.
func carry(from, to *os.File, r *rand.Rand) (f fortunes) {
	type late struct {
		frame []byte
		due   time.Time
	}
	var held []late // few
	frame := make([]byte, largestFrame)
	for {
		var next time.Time
		for _, l := range held {
			if next.IsZero() || l.due.Before(next) {
				next = l.due
			}
		}
		if from.SetReadDeadline(next) != nil {
			return f
		}
		n, err := from.Read(frame)
		now := time.Now()
		kept := held[:0]
		for _, l := range held {
			if l.due.After(now) {
				kept = append(kept, l)
			} else if _, err := to.Write(l.frame); err != nil {
				return f
			}
		}
		held = kept
		if errors.Is(err, os.ErrDeadlineExceeded) {
			continue
		}
		if err != nil {
			return f
		}
		hold := func() {
			held = append(held, late{append([]byte(nil), frame[:n]...), now.Add(rand.N(mostLate))})
		}
		if n > holdsData {
			f.frames++
			switch luck := r.IntN(300); {
			case luck < 6:
				f.lost++
				continue
			case luck < 16:
				f.repeated++
				hold()
			case luck < 46:
				f.late++
				hold()
				continue
			}
		}
		if _, err := to.Write(frame[:n]); err != nil {
			return f
		}
	}
}
