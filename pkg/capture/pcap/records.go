package pcap

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

const (
	// maxRecord bounds the memory one record of a file may ask for: libpcap
	// and Wireshark read packets of at most 256 KiB, and a pcapng block adds
	// its options.
	maxRecord = 1 << 20
	// maxInterfaces bounds the interfaces of one pcapng section.
	maxInterfaces = 1 << 12
)

// Block types of pcapng (draft-ietf-opsawg-pcapng section 11.1).
const (
	blockSection   = 0x0a0d0d0a
	blockInterface = 1
	blockPacket    = 2 // obsolete, still found
	blockSimple    = 3
	blockEnhanced  = 6
)

// records is the io.Reader underneath pcapgo. It takes one record of the
// file at a time - a header or packet of pcap, a block of pcapng - checks the
// lengths in it and only then lets pcapgo have it. pcapgo believes those
// lengths: it allocates what they say (4 GiB, from 16 bytes of input) and
// skips as far as they say, which silently swallows the rest of a file.
// Blocks that have nothing to do with packets are left out altogether.
//
// It also keeps what pcapgo loses: where in the file a record stands, and
// link types above 255.
type records struct {
	in    *bufio.Reader
	ng    bool
	order binary.ByteOrder

	buf    []byte // the current record
	rest   []byte // what of it has not been read
	offset int64  // where the current record starts in the file
	size   int64  // how long it is
	err    error  // sticky

	packets uint64 // packet records let through
	link    uint32 // link type of the latest one
	links   []uint32
	snaplen uint32 // of the section's first interface
}

// Read implements io.Reader. It never returns bytes of two records at once,
// so a reader that buffers does not run ahead.
func (r *records) Read(p []byte) (int, error) {
	if len(r.rest) == 0 {
		if r.err == nil {
			r.err = r.advance()
		}
		if r.err != nil {
			return 0, r.err
		}
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// advance loads the next record that concerns pcapgo into rest.
func (r *records) advance() error {
	for {
		r.offset += r.size
		r.size = 0
		var pass bool
		var err error
		switch {
		case r.order == nil:
			pass, err = true, r.first()
		case r.ng:
			pass, err = r.block()
		default:
			pass, err = true, r.packet()
		}
		if err != nil || pass {
			r.rest = r.buf
			return err
		}
	}
}

// first reads the header of a pcap file or the first section header of a
// pcapng file.
func (r *records) first() error {
	magic, err := r.peek(4)
	if err != nil {
		return fmt.Errorf("file header: %w", unexpected(err))
	}
	switch m := binary.BigEndian.Uint32(magic); m {
	case 0xa1b2c3d4, 0xa1b23c4d: // microseconds, nanoseconds
		r.order = binary.BigEndian
	case 0xd4c3b2a1, 0x4d3cb2a1:
		r.order = binary.LittleEndian
	case blockSection:
		r.ng = true
		_, err := r.block()
		return err
	default:
		return fmt.Errorf("neither a pcap nor a pcapng file: it begins with %#08x", m)
	}
	if err := r.load(24); err != nil {
		return fmt.Errorf("file header: %w", err)
	}
	// The upper bits of the field say how long a frame check sequence is.
	r.links = []uint32{r.order.Uint32(r.buf[20:]) & 0xffff}
	return nil
}

// packet reads one packet of a pcap file. Packets may be longer than the
// snapshot length the file header promises: enough writers are careless.
func (r *records) packet() error {
	header, err := r.peek(16)
	if errors.Is(err, io.EOF) {
		return err
	}
	if err != nil {
		return fmt.Errorf("packet header: %w", err)
	}
	captured, length := r.order.Uint32(header[8:]), r.order.Uint32(header[12:])
	if captured > maxRecord-16 || captured > length {
		return fmt.Errorf("implausible lengths: %d bytes captured of %d, at most %d are read", captured, length, maxRecord-16)
	}
	r.packets++
	r.link = r.links[0]
	return r.load(16 + int(captured))
}

// block reads one block of a pcapng file and reports whether it is for
// pcapgo.
func (r *records) block() (bool, error) {
	header, err := r.peek(12)
	if errors.Is(err, io.EOF) {
		return false, err
	}
	if err != nil {
		return false, fmt.Errorf("block header: %w", err)
	}
	if binary.BigEndian.Uint32(header) == blockSection { // a palindrome
		switch binary.BigEndian.Uint32(header[8:]) {
		case 0x1a2b3c4d:
			r.order = binary.BigEndian
		case 0x4d3c2b1a:
			r.order = binary.LittleEndian
		default:
			return false, fmt.Errorf("section header: %#08x is not a byte-order magic", header[8:12])
		}
		r.links = r.links[:0]
	}
	kind, size := r.order.Uint32(header), r.order.Uint32(header[4:])
	if size < 12 || size%4 != 0 {
		return false, fmt.Errorf("block of type %#x: %d is not a block length", kind, size)
	}
	var fixed uint32 // bytes up to the variable part, and the length behind it
	switch kind {
	case blockSection:
		fixed = 24 + 4
	case blockInterface:
		fixed = 16 + 4
	case blockEnhanced, blockPacket:
		fixed = 28 + 4
	case blockSimple:
		fixed = 12 + 4
	default:
		r.size = int64(size)
		if _, err := io.CopyN(io.Discard, r.in, int64(size)); err != nil {
			return false, fmt.Errorf("block of type %#x: %w", kind, unexpected(err))
		}
		return false, nil
	}
	if size < fixed || size > maxRecord {
		return false, fmt.Errorf("block of type %#x: implausible length %d, expected %d to %d", kind, size, fixed, maxRecord)
	}
	if err := r.load(int(size)); err != nil {
		return false, fmt.Errorf("block of type %#x: %w", kind, err)
	}
	if again := r.order.Uint32(r.buf[size-4:]); again != size {
		return false, fmt.Errorf("block of type %#x: its length is %d at the beginning and %d at the end", kind, size, again)
	}
	return true, r.check(kind, size-fixed)
}

// check looks at what a block says about the room bytes of its variable part.
func (r *records) check(kind, room uint32) error {
	switch kind {
	case blockInterface:
		if len(r.links) == maxInterfaces {
			return fmt.Errorf("more than %d interfaces in a section", maxInterfaces)
		}
		snaplen := r.order.Uint32(r.buf[12:])
		if snaplen > maxRecord {
			snaplen = maxRecord // pcapgo allocates this much
			r.order.PutUint32(r.buf[12:], snaplen)
		}
		if len(r.links) == 0 {
			r.snaplen = snaplen
		}
		r.links = append(r.links, uint32(r.order.Uint16(r.buf[8:])))
	case blockEnhanced, blockPacket:
		id := r.order.Uint32(r.buf[8:])
		if kind == blockPacket {
			id = uint32(r.order.Uint16(r.buf[8:]))
		}
		captured, length := r.order.Uint32(r.buf[20:]), r.order.Uint32(r.buf[24:])
		if captured > room || captured > length {
			return fmt.Errorf("implausible lengths: %d bytes captured of %d in %d bytes of block", captured, length, room)
		}
		return r.interfaceOf(id)
	case blockSimple:
		// Its captured length is not in the file (section 4.4).
		captured := r.order.Uint32(r.buf[8:])
		if len(r.links) > 0 && r.snaplen != 0 {
			captured = min(captured, r.snaplen)
		}
		if captured > room {
			return fmt.Errorf("implausible length: %d bytes captured in %d bytes of block", captured, room)
		}
		return r.interfaceOf(0)
	}
	return nil
}

// interfaceOf notes a packet taken from interface id.
func (r *records) interfaceOf(id uint32) error {
	if id >= uint32(len(r.links)) {
		return fmt.Errorf("packet of interface %d, of which the section has %d", id, len(r.links))
	}
	r.packets++
	r.link = r.links[id]
	return nil
}

// peek returns the next n bytes without taking them: io.EOF if there is none,
// io.ErrUnexpectedEOF if there are fewer.
func (r *records) peek(n int) ([]byte, error) {
	b, err := r.in.Peek(n)
	if len(b) > 0 {
		err = unexpected(err)
	}
	return b, err
}

// load takes the next n bytes into buf.
func (r *records) load(n int) error {
	if cap(r.buf) < n {
		r.buf = make([]byte, n, max(n, 2*cap(r.buf)))
	}
	r.buf = r.buf[:n]
	r.size = int64(n)
	_, err := io.ReadFull(r.in, r.buf)
	return unexpected(err)
}

// unexpected makes the end of the file an unexpected one.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
