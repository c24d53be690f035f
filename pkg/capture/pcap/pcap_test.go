package pcap

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/shadowtap/shadowtap/pkg/capture"
)

// request returns an Ethernet frame with data at seq.
func request(t testing.TB, seq uint32, data string, flags ...capture.Flags) []byte {
	segment := tcp(seq)
	for _, f := range flags {
		segment.FIN = segment.FIN || f&capture.FlagFIN != 0
		segment.SYN = segment.SYN || f&capture.FlagSYN != 0
	}
	return frameOf(t, ethernet(layers.EthernetTypeIPv4), ipv4(), segment, gopacket.Payload(data))
}

// headers is how long everything before the payload of request is.
const headers = 14 + 20 + 20

// TestSnapshotLength checks that bytes a recording lacks become a hole that
// the reassembler is told about, never a shorter stream.
func TestSnapshotLength(t *testing.T) {
	f := flow(client4, server4)
	at := func(i int) int64 { return epoch.Add(time.Duration(i) * time.Millisecond).UnixNano() }
	tests := []struct {
		name   string
		frames []any
		want   []capture.Segment
		stats  Stats
	}{
		{
			name:   "the next segment is marked, the one after it is not",
			frames: []any{cut{request(t, 1000, "abcdefghij"), headers + 4}, request(t, 1010, "k"), request(t, 1011, "l")},
			want: []capture.Segment{
				{Flow: f, Seq: 1000, Ack: 77, Flags: capture.FlagACK, Time: at(0), Payload: []byte("abcd")},
				{Flow: f, Seq: 1010, Ack: 77, Flags: capture.FlagACK | capture.FlagLost, Time: at(1), Payload: []byte("k")},
				{Flow: f, Seq: 1011, Ack: 77, Flags: capture.FlagACK, Time: at(2), Payload: []byte("l")},
			},
			stats: Stats{Packets: 3, Seen: 3, Copied: 3, CopiedBytes: 6, Truncated: 1, TruncatedBytes: 6},
		},
		{
			name:   "fin stays behind the hole",
			frames: []any{cut{request(t, 1000, "abcdefghij", capture.FlagFIN), headers + 4}},
			want: []capture.Segment{
				{Flow: f, Seq: 1000, Ack: 77, Flags: capture.FlagACK, Time: at(0), Payload: []byte("abcd")},
				{Flow: f, Seq: 1010, Ack: 77, Flags: capture.FlagACK | capture.FlagFIN | capture.FlagLost, Continues: true, Time: at(0)},
			},
			stats: Stats{Packets: 1, Seen: 1, Copied: 1, CopiedBytes: 4, Truncated: 1, TruncatedBytes: 6},
		},
		{
			name:   "syn with data takes a sequence number",
			frames: []any{cut{request(t, 1000, "abc", capture.FlagSYN|capture.FlagFIN), headers + 1}},
			want: []capture.Segment{
				{Flow: f, Seq: 1000, Ack: 77, Flags: capture.FlagACK | capture.FlagSYN, Time: at(0), Payload: []byte("a")},
				{Flow: f, Seq: 1004, Ack: 77, Flags: capture.FlagACK | capture.FlagFIN | capture.FlagLost, Continues: true, Time: at(0)},
			},
			stats: Stats{Packets: 1, Seen: 1, Copied: 1, CopiedBytes: 1, Truncated: 1, TruncatedBytes: 2},
		},
		{
			name:   "payload missing altogether",
			frames: []any{cut{request(t, 1000, "abc"), headers}},
			want:   []capture.Segment{{Flow: f, Seq: 1000, Ack: 77, Flags: capture.FlagACK, Time: at(0)}},
			stats:  Stats{Packets: 1, Seen: 1, Copied: 1, Truncated: 1, TruncatedBytes: 3},
		},
		{
			name: "headers missing",
			frames: []any{cut{request(t, 1000, "abc"), 0}, cut{request(t, 1000, "abc"), 13}, cut{request(t, 1000, "abc"), 33},
				cut{request(t, 1000, "abc"), headers - 1}},
			stats: Stats{Packets: 4, Skipped: [NumReasons]uint64{Truncated: 4}},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			sink := recorder{t: t}
			st, err := Read(t.Context(), bytes.NewReader(pcapFile(t, linkEthernet, tt.frames...)), &sink, Options{})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, sink.segments, emptyIsNil); diff != "" {
				t.Errorf("segments (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.stats, st); diff != "" {
				t.Errorf("stats (-want +got):\n%s", diff)
			}
		})
	}
}

func TestLossyIsBounded(t *testing.T) {
	var l lossy
	f := flow(client4, server4)
	for i := range maxLossy + 1 {
		f.SrcIP[0], f.SrcPort = byte(i>>16), uint16(i)
		l.add(f)
	}
	if len(l.flows) != maxLossy {
		t.Errorf("%d flows remembered, want %d", len(l.flows), maxLossy)
	}
	if !l.take(f) {
		t.Error("the flow that did not fit is not lossy")
	}
}

func TestBatches(t *testing.T) {
	frame := request(t, 1000, "x")
	file := pcapFile(t, linkEthernet, slices.Repeat([]any{frame}, 1300)...)

	sink := recorder{t: t}
	if _, err := Read(t.Context(), bytes.NewReader(file), &sink, Options{}); err != nil {
		t.Fatal(err)
	}
	// One packet per millisecond: 256 packets are reached before 500 ms.
	if slices.Max(sink.sizes) != maxBatch {
		t.Errorf("batches of %v, want up to %d", sink.sizes, maxBatch)
	}
	for i, n := range sink.batches {
		packet := 0
		for _, size := range sink.sizes[:i] {
			packet += size
		}
		if want := epoch.Add(time.Duration(packet) * time.Millisecond).UnixNano(); n != want {
			t.Errorf("batch %d begins at %d, its first packet was seen at %d", i, n, want)
		}
	}

	t.Run("sparse", func(t *testing.T) {
		sink := recorder{t: t}
		// Every other packet is of no interest; the batches follow all of them.
		var frames []any
		for i := range 1300 {
			if i%650 == 0 {
				frames = append(frames, frame)
			} else {
				frames = append(frames, frame[:20])
			}
		}
		if _, err := Read(t.Context(), bytes.NewReader(pcapFile(t, linkEthernet, frames...)), &sink, Options{}); err != nil {
			t.Fatal(err)
		}
		for i := 1; i < len(sink.batches); i++ {
			if d := sink.batches[i] - sink.batches[i-1]; d > maxBatchTime {
				t.Errorf("%d ns between two calls of Begin", d)
			}
		}
	})
}

// TestPipe checks that what has arrived through a pipe is handed over, and
// its batch closed, before the next packet comes.
func TestPipe(t *testing.T) {
	r, w := io.Pipe()
	frame := request(t, 1000, "x")
	file := pcapFile(t, linkEthernet, frame, frame)
	half := len(file) - 16 - len(frame)
	ended := make(chan struct{}, 2)
	done := make(chan error, 1)
	go func() {
		_, err := Read(t.Context(), r, onEnd{&recorder{t: t}, ended}, Options{})
		done <- err
	}()
	for _, part := range [][]byte{file[:half], file[half:]} {
		if _, err := w.Write(part); err != nil {
			t.Fatal(err)
		}
		<-ended
	}
	w.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// onEnd signals the end of each batch.
type onEnd struct {
	capture.Sink
	ended chan<- struct{}
}

func (o onEnd) End() {
	o.Sink.End()
	o.ended <- struct{}{}
}

func TestContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	file := pcapFile(t, linkEthernet, slices.Repeat([]any{request(t, 1000, "x")}, 1000)...)
	sink := recorder{t: t}
	match := func(netip.AddrPort) bool {
		cancel()
		return true
	}
	st, err := Read(ctx, bytes.NewReader(file), &sink, Options{Match: match})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Read returned %v, want %v", err, context.Canceled)
	}
	if st.Packets == 0 || st.Packets > maxBatch || sink.open {
		t.Errorf("%d packets read, batch open: %t; want one closed batch", st.Packets, sink.open)
	}
}
