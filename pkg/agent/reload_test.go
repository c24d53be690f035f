package agent

import (
	"strings"
	"testing"

	"github.com/shadowtap/shadowtap/pkg/capture"
)

// TestReloadKeepsLimits: a reload does not begin a rate anew, however often
// there is one.
func TestReloadKeepsLimits(t *testing.T) {
	text := strings.Replace(shadowRules("127.0.0.1:9"), "metadata: {name: bookinfo}",
		"metadata: {name: bookinfo, annotations: {shadowtap.dev/mirrors: '[{maxRequestsPerSecond: 1}]'}}", 1)
	a := idleAgent(t, text)
	s := a.shards[0]
	seq := uint32(1)
	send := func(flags capture.Flags, payload string) {
		s.Begin(1)
		s.Segment(&capture.Segment{
			Flow: capture.Flow{SrcIP: [16]byte{10: 0xff, 11: 0xff, 12: 10, 15: 1}, DstIP: [16]byte{10: 0xff, 11: 0xff, 12: 10, 13: 99, 15: 2}, SrcPort: 1, DstPort: 80},
			Seq:  seq, Ack: 1, Flags: flags, Payload: []byte(payload), Time: 1,
		})
		s.End()
		seq += uint32(len(payload))
	}
	seq--
	send(capture.FlagSYN, "")
	seq++
	const n = 5
	for range n {
		send(capture.FlagACK, "GET /httpbin HTTP/1.1\r\n"+host+"\r\n")
		a.reloadNow()
	}
	account, err := a.Account()
	if err != nil {
		t.Fatal(err)
	}
	if r := account.Requests; r.Seen != n || r.Mirrored != 1 || r.SampledOut != n-1 || a.RulesStatus().Failed {
		t.Errorf("%+v", r)
	}
}
