package pcap

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"

	"github.com/shadowtap/shadowtap/pkg/capture"
)

// discard is a Sink that does nothing.
type discard struct{}

func (discard) Begin(int64)              {}
func (discard) Segment(*capture.Segment) {}
func (discard) End()                     {}

// BenchmarkRead reads a file of 10,000 packets; bytes are payload bytes.
func BenchmarkRead(b *testing.B) {
	const packets = 10_000
	for _, size := range []int{100, 1000} {
		frame := request(b, 1000, strings.Repeat("x", size))
		var ng bytes.Buffer
		w, err := pcapgo.NewNgWriter(&ng, layers.LinkTypeEthernet)
		if err != nil {
			b.Fatal(err)
		}
		for range packets {
			if err := w.WritePacket(gopacket.CaptureInfo{Timestamp: epoch, CaptureLength: len(frame), Length: len(frame)}, frame); err != nil {
				b.Fatal(err)
			}
		}
		w.Flush()
		files := map[string][]byte{
			"pcap":   pcapFile(b, linkEthernet, slices.Repeat([]any{frame}, packets)...),
			"pcapng": ng.Bytes(),
		}
		for _, format := range []string{"pcap", "pcapng"} {
			b.Run(fmt.Sprintf("%s/%dB", format, size), func(b *testing.B) {
				b.ReportAllocs()
				b.SetBytes(packets * int64(size))
				for b.Loop() {
					st, err := Read(b.Context(), bytes.NewReader(files[format]), discard{}, Options{})
					if err != nil || st.Copied != packets {
						b.Fatal(err, st)
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/packets, "ns/packet")
			})
		}
	}
}
