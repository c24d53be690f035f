package netns

import (
	"encoding/binary"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// FuzzNSID compares what nsidOf reads with what the netlink library does.
func FuzzNSID(f *testing.F) {
	attribute := func(kind uint16, value int32) []byte {
		b := binary.NativeEndian.AppendUint16(nil, 8)
		b = binary.NativeEndian.AppendUint16(b, kind)
		return binary.NativeEndian.AppendUint32(b, uint32(value))
	}
	head := []byte{unix.AF_UNSPEC, 0, 0, 0}
	f.Add(append(head, attribute(unix.NETNSA_NSID, 7)...))
	f.Add(append(append(head, attribute(unix.NETNSA_FD, 3)...), attribute(unix.NETNSA_NSID, -1)...))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		got, ok := nsidOf(data)
		if len(data) < len(head) {
			if ok {
				t.Fatalf("%d out of %d bytes", got, len(data))
			}
			return
		}
		data = data[:len(data)&^3] // the library cannot bear less than padded attributes
		got, ok = nsidOf(data)
		attrs, err := nl.ParseRouteAttr(data[len(head):])
		if err != nil {
			return // the library believes nothing of it
		}
		for _, a := range attrs {
			if a.Attr.Type == unix.NETNSA_NSID && len(a.Value) >= 4 {
				if want := int(int32(binary.NativeEndian.Uint32(a.Value))); !ok || got != want {
					t.Fatalf("got %d, %v, want %d", got, ok, want)
				}
				return
			}
		}
		if ok {
			t.Fatalf("got %d out of %x", got, data)
		}
	})
}

func TestEventsEnd(t *testing.T) {
	needRoot(t)
	e, err := newEvents()
	if err != nil {
		t.Fatal(err)
	}
	if err := e.close(); err != nil {
		t.Fatal(err)
	}
	if err := e.next(func(event) {}); !errors.Is(err, os.ErrClosed) {
		t.Errorf("after the end: %v", err)
	}
}

// TestEventsOfRemovals: that a qdisc is removed is heard from other namespaces,
// and that one is made is not.
func TestEventsOfRemovals(t *testing.T) {
	needRoot(t)
	pod := newNamespace(t)
	e, err := newEvents()
	if err != nil {
		t.Fatal(err)
	}
	defer time.AfterFunc(patience, func() { _ = e.close() }).Stop()
	defer func() { _ = e.close() }()
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	var id int
	qdisc := &netlink.GenericQdisc{QdiscType: "clsact", QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: 1, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT,
	}}
	err = pod.Do(func() error {
		f, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			return err
		}
		defer f.Close()
		if id, err = nsidFor(h, f); err != nil {
			return err
		}
		return errors.Join(netlink.QdiscAdd(qdisc), netlink.QdiscDel(qdisc))
	})
	if err != nil {
		t.Fatal(err)
	}
	for removed := false; !removed; {
		err := e.next(func(e event) {
			if e.nsid != id || e.started || e.ended || e.missed { // one that ended had the id before
				return
			}
			if removed = e.removed; !removed {
				t.Errorf("heard of %+v", e)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}
