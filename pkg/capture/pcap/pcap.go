// Package pcap turns a capture file into the segments that live capture
// produces, so that everything behind a capture.Sink can be run, debugged and
// benchmarked from a recording: without root, without libpcap and with the
// same rules about what is copied and what is only counted.
//
// Both file formats are read through gopacket's pcapgo: classic pcap (either
// byte order, microsecond or nanosecond) and pcapng (several sections and
// interfaces, each with a link type of its own), either of them gzipped.
// A capture file is untrusted input. pcapgo believes the lengths it reads, so
// records.go checks each record before pcapgo sees it; packets are taken
// apart in decode.go.
package pcap

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"

	"github.com/shadowtap/shadowtap/pkg/capture"
)

const (
	// maxBatch is how many packets one Begin/End pair covers at most.
	maxBatch = 256
	// maxBatchTime is how much packet time, in nanoseconds, one batch may
	// span. capture.Sink promises its timed work a call every 500 ms; in a
	// file the clock is the packets' own.
	maxBatchTime = 500_000_000
)

// Options says what to take from a file.
type Options struct {
	// Match reports whether dst is a captured endpoint. It is called for
	// every TCP packet, from the goroutine that runs Read. IPv4 addresses are
	// passed in their 4-byte form. Nil captures every endpoint, which takes
	// both directions of a connection for requests, unless Responses is set
	// and the file has the connection's SYN.
	Match func(dst netip.AddrPort) bool
	// Responses has what comes from a captured endpoint handed over, too,
	// with capture.FlagResponse. Between two captured endpoints, the one
	// that did not open the connection is the one that answers.
	Responses bool
}

// Stats accounts for every packet of a file:
//
//	Packets = Copied + sum(Skipped)
//
// The names are those of the kernel program's counters where the meaning is
// the same.
type Stats struct {
	// Packets is how many packets were read from the file.
	Packets uint64
	// Seen counts TCP packets towards a captured endpoint, and from one with
	// Options.Responses, plus fragments, whose ports are not known.
	Seen uint64
	// Copied counts packets handed to the sink.
	Copied uint64
	// CopiedBytes counts payload bytes handed to the sink.
	CopiedBytes uint64
	// Responses counts those of Copied that came from a captured endpoint, and
	// ResponseBytes their part of CopiedBytes.
	Responses, ResponseBytes uint64
	// Truncated counts those of Copied that lacked payload because the file
	// was recorded with a snapshot length, and TruncatedBytes the payload
	// bytes they lacked.
	Truncated, TruncatedBytes uint64
	// Skipped counts packets that were not handed over, indexed by Reason.
	Skipped [NumReasons]uint64
}

// Reason is why a packet was not handed over.
type Reason uint8

const (
	// PureACK is a packet towards an endpoint, or from one with
	// Options.Responses, that carries neither payload nor SYN, FIN or RST.
	PureACK Reason = iota
	// Fragment is part of a fragmented IP packet (RFC 791 section 3.2, RFC
	// 8200 section 4.5), the first part included.
	Fragment
	// Malformed is a packet whose headers contradict each other or its length.
	Malformed
	// Truncated is a packet whose headers are incomplete in the file.
	Truncated
	// NotTCP is a packet that is not TCP over IP.
	NotTCP
	// NotTarget is a TCP packet towards something else than a captured
	// endpoint; responses are among them without Options.Responses.
	NotTarget
	// UnsupportedLink is a packet of an interface whose link type is not
	// read.
	UnsupportedLink
	// NumReasons is the number of reasons.
	NumReasons
)

// String returns the reason as it is spelled in counters.
func (r Reason) String() string {
	switch r {
	case PureACK:
		return "pure_ack"
	case Fragment:
		return "fragment"
	case Malformed:
		return "malformed"
	case Truncated:
		return "truncated"
	case NotTCP:
		return "not_tcp"
	case NotTarget:
		return "not_target"
	case UnsupportedLink:
		return "unsupported_link"
	default:
		return fmt.Sprintf("Reason(%d)", uint8(r))
	}
}

// Read hands the segments in r that go to a captured endpoint to sink, in
// file order and from the calling goroutine, and returns once the file ends.
// Batches follow the packets' times: Begin is given the latest one so far, so
// the sink's clock never runs backwards even if the file's does.
//
// The Stats are valid whatever the error. A file that ends within a record
// yields everything before it and an error that wraps io.ErrUnexpectedEOF;
// other damage ends reading with an error that names the packet and the
// offset (of the uncompressed file), because nothing behind it can be
// trusted. When ctx ends, Read returns its error at the next batch; it does
// not interrupt a blocked r.
func Read(ctx context.Context, r io.Reader, sink capture.Sink, o Options) (Stats, error) {
	f, err := open(r)
	if err != nil {
		return Stats{}, fmt.Errorf("pcap: %w", err)
	}
	rd := reader{sink: sink, match: o.Match, responses: o.Responses}
	err = rd.run(ctx, f)
	if err != nil && ctx.Err() == nil {
		err = fmt.Errorf("pcap: %w", err)
	}
	return rd.stats, err
}

// reader carries one Read from packet to packet.
type reader struct {
	sink      capture.Sink
	match     func(netip.AddrPort) bool
	responses bool
	stats     Stats
	lossy     lossy
	calls     calls

	now   int64 // latest packet time, nanoseconds since the Unix epoch
	begun int64 // now when the open batch began
	batch int   // packets in the open batch; 0 when none is open
	pkt   packet
	seg   capture.Segment
}

func (rd *reader) run(ctx context.Context, f *file) error {
	defer rd.end()
	for {
		// Reading may block when the input is a pipe; the sink must not be
		// left inside a batch meanwhile.
		if rd.batch == maxBatch || f.mayBlock() {
			rd.end()
		}
		if rd.batch == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		frame, err := f.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		rd.tick(frame.time)
		rd.packet(frame)
	}
}

// tick accounts for one packet at time t in the batches.
func (rd *reader) tick(t int64) {
	rd.now = max(rd.now, t)
	if rd.now-rd.begun >= maxBatchTime {
		rd.end()
	}
	if rd.batch == 0 {
		rd.begun = rd.now
		rd.sink.Begin(rd.now)
	}
	rd.batch++
}

func (rd *reader) end() {
	if rd.batch > 0 {
		rd.batch = 0
		rd.sink.End()
	}
}

func (rd *reader) packet(f frame) {
	rd.stats.Packets++
	why, ok := decode(f.link, f.data, f.length, &rd.pkt)
	if !ok {
		if why == Fragment {
			rd.stats.Seen++
		}
		rd.stats.Skipped[why]++
		return
	}
	r := rd.role()
	if r == roleNone {
		rd.stats.Skipped[NotTarget]++
		return
	}
	rd.stats.Seen++
	const control = capture.FlagSYN | capture.FlagFIN | capture.FlagRST
	if rd.pkt.length == 0 && rd.pkt.flags&control == 0 {
		rd.stats.Skipped[PureACK]++
		return
	}
	rd.stats.Copied++
	rd.stats.CopiedBytes += uint64(len(rd.pkt.payload))
	if r == roleResponse {
		rd.stats.Responses++
		rd.stats.ResponseBytes += uint64(len(rd.pkt.payload))
	}
	rd.deliver(f.time, r)
}

// deliver hands the decoded packet over. Payload beyond the snapshot length
// becomes a hole in the sequence numbers, and whatever follows in the flow
// says that nothing will fill it.
func (rd *reader) deliver(time int64, r role) {
	p := &rd.pkt
	flow, mark := p.flow, capture.Flags(0)
	if r == roleResponse {
		flow, mark = reverse(p.flow), capture.FlagResponse
		p.flags &^= capture.FlagSubflow
	}
	missing := p.length - len(p.payload)
	rd.seg = capture.Segment{
		Flow: flow, Seq: p.seq, Ack: p.ack, Flags: p.flags | mark,
		Time: time, Payload: p.payload,
	}
	if missing > 0 {
		// The FIN stands behind the last byte; kept on the shortened
		// segment it would end the stream early and hide the loss.
		rd.seg.Flags &^= capture.FlagFIN
	}
	if rd.lossy.take(p.flow) {
		rd.seg.Flags |= capture.FlagLost
	}
	rd.sink.Segment(&rd.seg)
	if missing == 0 {
		return
	}
	rd.stats.Truncated++
	rd.stats.TruncatedBytes += uint64(missing)
	if p.flags&capture.FlagFIN == 0 {
		rd.lossy.add(p.flow)
		return
	}
	seq := p.seq + uint32(p.length)
	if p.flags&capture.FlagSYN != 0 {
		seq++
	}
	rd.seg = capture.Segment{
		Flow: flow, Seq: seq, Ack: p.ack,
		Flags:     p.flags&^capture.FlagSYN | capture.FlagLost | mark,
		Continues: true, Time: time,
	}
	rd.sink.Segment(&rd.seg)
}

// maxLossy bounds the flows remembered as lossy.
const maxLossy = 1 << 16

// lossy is the set of flows, in the direction of their packets, whose next
// segment must carry FlagLost. When it is full every segment does: the flag
// only says that a hole, if there is one, is final, so too many of them cost
// patience but no bytes.
type lossy struct {
	flows    map[capture.Flow]struct{}
	overflow bool
}

func (l *lossy) add(f capture.Flow) {
	if l.flows == nil {
		l.flows = make(map[capture.Flow]struct{})
	}
	if len(l.flows) >= maxLossy {
		l.overflow = true
		return
	}
	l.flows[f] = struct{}{}
}

// take reports whether f is lossy and forgets it.
func (l *lossy) take(f capture.Flow) bool {
	if len(l.flows) == 0 {
		return l.overflow
	}
	_, ok := l.flows[f]
	delete(l.flows, f)
	return ok || l.overflow
}
