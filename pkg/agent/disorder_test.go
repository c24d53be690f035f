package agent

import (
	"testing"

	"github.com/shadowtap/shadowtap/pkg/capture"
)

// sendAt gives a shard bytes of a connection that are not the next ones.
func (c *crowd) sendAt(shard int, from capture.Flow, ahead int, text string) {
	s := c.shards[shard]
	now := int64(c.now)
	s.Begin(now)
	s.Segment(&capture.Segment{Flow: from, Seq: c.seq[from] + uint32(ahead), Ack: 1, Flags: capture.FlagACK, Time: now, Payload: []byte(text)})
	s.End()
}

// TestDisorderOfOneClient: a client whose segments leave holes, on as many
// connections as he likes, does not cost others the requests of which two
// segments were exchanged on their way.
func TestDisorderOfOneClient(t *testing.T) {
	c := newCrowd(t, 2)
	for n := range 100 {
		hostile := client(1, 1000+n)
		c.send(n%2, hostile, "G")
		for i := range 200 {
			c.sendAt(n%2, hostile, 1+2*i, "x")
		}
	}
	if s := c.shards[0].asm.Stats(); s.Gaps == 0 {
		t.Fatalf("the hostile client was refused nothing: %+v", s)
	}
	const honest = 100
	for n := range honest {
		from, text := client(2+n, 1), post(3000, 3000)
		c.send(n%2, from, text[:100])
		c.sendAt(n%2, from, 1000, text[1100:])
		c.send(n%2, from, text[100:1100])
	}
	if through, _ := c.outcome(); through != honest {
		t.Errorf("%d of %d requests got through", through, honest)
	}
}
