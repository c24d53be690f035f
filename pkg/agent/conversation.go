package agent

import (
	"github.com/shadowtap/shadowtap/pkg/compare"
	"github.com/shadowtap/shadowtap/pkg/httpstream"
)

// What a conn has to do with its dialogue, if there is one.

// compare prepares for the answers to r, which is mirrored.
func (c *conn) compare(r *httpstream.Request) *comparison {
	if c.asked == nil {
		return nil
	}
	return c.shard.agent.comparing.begin(r, &c.shard.decision, c.source)
}

// decided says that the request that is open is complete, or given up. What
// waits for its answer, if anything, is c.comparison.
func (c *conn) decided() {
	q, m := c.asked, c.comparison
	c.asked, c.comparison = nil, nil
	if q != nil {
		q.decide(m)
	}
}

// hangUp says that no more requests will come.
func (c *conn) hangUp(why compare.Reason) {
	d := c.dialogue
	if d == nil {
		return
	}
	c.decided()
	c.dialogue, d.requests = nil, false
	if !d.responses {
		// Nothing has come from the server, and hardly will.
		if why == compare.Incomplete {
			why = compare.NoProductionAnswer
		}
		d.giveUp(why)
	}
	d.forget()
}

// silence says that nothing of the connection is understood any more.
func (c *conn) silence(why compare.Reason) {
	d := c.dialogue
	if d == nil {
		return
	}
	c.decided()
	c.dialogue = nil
	d.silence(why)
	c.shard.answers.Ignore(c.flow)
}
