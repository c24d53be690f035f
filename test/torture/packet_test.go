package torture

import (
	"bufio"
	"encoding/binary"
	"io"
	"net/netip"
	"time"
)

const (
	flagFIN = 0x01
	flagSYN = 0x02
	flagRST = 0x04
	flagACK = 0x10

	// maxPayload is what fits an IPv4 packet behind both headers.
	maxPayload = 65535 - 40
)

// tuple is the addresses and ports of a connection.
type tuple struct{ client, server netip.AddrPort }

// packet is a TCP segment. wire is how long its payload was; payload may be
// less of it.
type packet struct {
	tuple
	seq, ack uint32
	flags    byte
	payload  []byte
	wire     int
}

// recording writes packets in the format of pcap-savefile(5), bare IP packets
// with times in nanoseconds, as they happen.
type recording struct {
	w       *bufio.Writer
	now     time.Time
	packets uint64
}

const (
	pcapMagic = 0xa1b23c4d
	linkRaw   = 101
)

func newRecording(w io.Writer) *recording {
	r := &recording{w: bufio.NewWriterSize(w, 256<<10), now: time.Date(2026, 11, 23, 3, 0, 0, 0, time.UTC)}
	h := make([]byte, 24)
	binary.LittleEndian.PutUint32(h, pcapMagic)
	binary.LittleEndian.PutUint16(h[4:], 2)
	binary.LittleEndian.PutUint16(h[6:], 4)
	binary.LittleEndian.PutUint32(h[16:], 1<<18)
	binary.LittleEndian.PutUint32(h[20:], linkRaw)
	_, _ = r.w.Write(h) // an error comes again with Flush
	return r
}

// write adds a packet. Checksums stay 0, as in any recording made above a card
// that computes them.
func (r *recording) write(p packet) error {
	r.packets++
	var buf [16 + 40 + 20]byte
	record, headers := buf[:16], 20+20
	ip := buf[16:]
	if p.client.Addr().Is4() {
		ip[0] = 0x45
		binary.BigEndian.PutUint16(ip[2:], uint16(40+p.wire))
		ip[8], ip[9] = 64, 6
		src, dst := p.client.Addr().As4(), p.server.Addr().As4()
		copy(ip[12:], src[:])
		copy(ip[16:], dst[:])
	} else {
		headers = 40 + 20
		ip[0] = 0x60
		binary.BigEndian.PutUint16(ip[4:], uint16(20+p.wire))
		ip[6], ip[7] = 6, 64
		src, dst := p.client.Addr().As16(), p.server.Addr().As16()
		copy(ip[8:], src[:])
		copy(ip[24:], dst[:])
	}
	tcp := ip[headers-20:]
	binary.BigEndian.PutUint16(tcp, p.client.Port())
	binary.BigEndian.PutUint16(tcp[2:], p.server.Port())
	binary.BigEndian.PutUint32(tcp[4:], p.seq)
	binary.BigEndian.PutUint32(tcp[8:], p.ack)
	tcp[12], tcp[13] = 5<<4, p.flags
	binary.BigEndian.PutUint16(tcp[14:], 0xffff)

	binary.LittleEndian.PutUint32(record, uint32(r.now.Unix()))
	binary.LittleEndian.PutUint32(record[4:], uint32(r.now.Nanosecond()))
	binary.LittleEndian.PutUint32(record[8:], uint32(headers+len(p.payload)))
	binary.LittleEndian.PutUint32(record[12:], uint32(headers+p.wire))
	_, _ = r.w.Write(buf[:16+headers])
	_, err := r.w.Write(p.payload)
	return err
}
