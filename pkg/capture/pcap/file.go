package pcap

import (
	"bufio"
	"compress/gzip"
	"errors"
	"fmt"
	"io"

	"github.com/google/gopacket"
	"github.com/google/gopacket/pcapgo"
)

// inputBuffer is how much of the input is read at once.
const inputBuffer = 64 << 10

// frame is one packet record of a file. Its data is valid until the next one
// is read.
type frame struct {
	link   uint32 // link type
	time   int64  // nanoseconds since the Unix epoch
	data   []byte
	length int // bytes on the wire, at least len(data)
}

// packetSource is what pcapgo's readers of both formats have in common.
type packetSource interface {
	ZeroCopyReadPacketData() ([]byte, gopacket.CaptureInfo, error)
}

// file reads the packets of a capture file of either format.
type file struct {
	records records
	source  packetSource
	packets uint64 // read so far
	time    int64  // of the latest packet that had one
}

// open reads the beginning of r and picks the format from it.
func open(r io.Reader) (*file, error) {
	in := bufio.NewReaderSize(r, inputBuffer)
	if magic, _ := in.Peek(2); len(magic) == 2 && magic[0] == 0x1f && magic[1] == 0x8b { // RFC 1952
		unzipped, err := gzip.NewReader(in)
		if err != nil {
			return nil, fmt.Errorf("gzip: %w", unexpected(err))
		}
		in = bufio.NewReaderSize(unzipped, inputBuffer)
	}
	f := &file{records: records{in: in}}
	err := f.protect(func() error {
		if err := f.records.advance(); err != nil {
			return err
		}
		if f.records.ng {
			ng, err := pcapgo.NewNgReader(&f.records, pcapgo.NgReaderOptions{WantMixedLinkType: true})
			f.source = ng
			return err
		}
		classic, err := pcapgo.NewReader(&f.records)
		if err != nil {
			return err
		}
		classic.SetSnaplen(maxRecord)
		f.source = classic
		return nil
	})
	return f, err
}

// next reads one packet; io.EOF is the regular end of the file.
func (f *file) next() (frame, error) {
	var data []byte
	var info gopacket.CaptureInfo
	err := f.protect(func() (err error) {
		data, info, err = f.source.ZeroCopyReadPacketData()
		return err
	})
	if err == nil || errors.Is(err, io.EOF) {
		// A malformed option can make pcapgo read on into the next block.
		taken := f.records.packets
		if err == nil {
			taken--
		}
		if taken != f.packets {
			return frame{}, f.located(errors.New("malformed options in a block before this one"))
		}
	}
	if err != nil {
		return frame{}, err
	}
	f.packets++
	if !info.Timestamp.IsZero() { // simple packet blocks have no time
		f.time = info.Timestamp.UnixNano()
	}
	return frame{link: f.records.link, time: f.time, data: data, length: info.Length}, nil
}

// mayBlock reports whether the next packet has to be waited for if the input
// is a pipe.
func (f *file) mayBlock() bool {
	return f.records.in.Buffered() == 0
}

// protect runs a call into pcapgo. It contains pcapgo's panics (a pcapng time
// resolution of 2^-64 divides by zero) and says where an error happened. There
// is no reading on after a panic: pcapgo has lost its place in the file.
func (f *file) protect(call func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = f.located(fmt.Errorf("malformed block options: %v", p))
		}
	}()
	err = call()
	if f.records.err != nil { // pcapgo does not wrap
		err = f.records.err
	}
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	return f.located(err)
}

// located adds the place in the file to err.
func (f *file) located(err error) error {
	return fmt.Errorf("packet %d at offset %d: %w", f.packets+1, f.records.offset, err)
}

var _ packetSource = (*pcapgo.Reader)(nil)
var _ packetSource = (*pcapgo.NgReader)(nil)
