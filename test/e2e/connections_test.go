package e2e

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
)

// manyRequests is 10,000 requests over keep-alive connections.
const (
	manyConnections   = 8
	manyPerConnection = 1250
)

func TestTenThousandKeepAliveRequests(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	v1, v2 := serve(t, l.v1, v4.v1At(), nil), serve(t, l.v2, v4.v2At(), nil)
	a := startAgent(t, l.node, "-f", rulesFile(t, seedRules(t, v4)))
	c := l.clients(v4.v1At())
	c.load(manyConnections, manyPerConnection, nil, func(i int) request {
		if i%10 == 0 {
			return request{method: "POST", body: "body of " + strconv.Itoa(i)}
		}
		return request{}
	})()
	final := a.stop()
	checkReceived(t, c.messages(), v1.messages())
	checkCopies(t, v1.messages(), v2.messages(), seedRewrite, nil)
	final.expect(t, outcome{mirrored: manyConnections * manyPerConnection})
}

// TestOrderPerConnection: with one copy in flight at a time, the shadow gets
// the requests of each production connection in their order.
func TestOrderPerConnection(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	v1, v2 := serve(t, l.v1, v4.v1At(), nil), serve(t, l.v2, v4.v2At(), nil)
	a := startAgent(t, l.node, "-f", rulesFile(t, seedRules(t, v4)), "--in-flight", "1", "--queue", "20000")
	c := l.clients(v4.v1At())
	c.load(4, 500, nil, plain)()
	final := a.stop()
	checkCopies(t, v1.messages(), v2.messages(), seedRewrite, nil)
	final.expect(t, outcome{mirrored: 2000})

	connection := map[string]int{} // of production, by id
	for _, m := range v1.messages() {
		connection[m.id()] = m.conn
	}
	inOrder := func(list []message) map[int][]string {
		ids := map[int][]string{}
		for _, m := range list {
			n := connection[m.id()]
			ids[n] = append(ids[n], m.id())
		}
		return ids
	}
	production, shadow := inOrder(v1.messages()), inOrder(v2.messages())
	for n := range production {
		if got, want := fmt.Sprint(shadow[n]), fmt.Sprint(production[n]); got != want {
			t.Errorf("connection %d: the shadow got the requests in the order %s, want %s", n, brief([]byte(got)), brief([]byte(want)))
		}
	}
}

// TestOpenConnectionsArePickedUp: what was open before the agent is mirrored
// from its next request on, also if the agent came in the middle of a body.
func TestOpenConnectionsArePickedUp(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	v1, v2 := serve(t, l.v1, v4.v1At(), nil), serve(t, l.v2, v4.v2At(), nil)
	c := l.clients(v4.v1At())
	idle, busy := c.open(), c.open()
	must(t, idle.do(request{}))

	// The body's first half is sent before the agent starts, the rest after.
	m, err := parse(request{method: "POST", body: strings.Repeat("half of a body ", 70_000)}.bytes(c.nextID()))
	must(t, err)
	half := len(m.raw) / 2
	_, err = busy.Write(m.raw[:half])
	must(t, err)
	before := 2

	a := startAgent(t, l.node, "-f", rulesFile(t, seedRules(t, v4)))
	_, err = busy.Write(m.raw[half:])
	must(t, err)
	must(t, busy.answered(m))
	for range 3 {
		must(t, idle.do(request{}))
		must(t, busy.do(request{method: "POST", body: "picked up"}))
		must(t, c.open().do(request{}))
	}
	final := a.stop()
	checkReceived(t, c.messages(), v1.messages())
	after := func(m message) bool { n, _ := strconv.Atoi(m.id()); return n > before }
	checkCopies(t, v1.messages(), v2.messages(), seedRewrite, after)
	if got := final.Requests.Mirrored; got != 9 {
		t.Errorf("%d requests mirrored, want 9: %+v", got, final.Requests)
	}
}

// TestConnectionsThatEndBadly: a request that its client gives up is counted
// as incomplete and never reaches the shadow.
func TestConnectionsThatEndBadly(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	v1, v2 := serve(t, l.v1, v4.v1At(), nil), serve(t, l.v2, v4.v2At(), nil)
	a := startAgent(t, l.node, "-f", rulesFile(t, seedRules(t, v4)))
	c := l.clients(v4.v1At())
	whole := request{method: "POST", body: "this one is sent in part"}.bytes("half")
	for _, part := range [][]byte{whole[:10], whole[:len(whole)-1]} {
		conn := c.open()
		must(t, conn.do(request{}))
		_, err := conn.Write(part)
		must(t, err)
		must(t, conn.Close())
	}
	a.until("incomplete requests", func(acc account) bool { return acc.Requests.Dropped["incomplete"] == 2 })
	must(t, c.open().do(request{}))
	final := a.stop()
	checkCopies(t, v1.messages(), v2.messages(), seedRewrite, nil)
	final.expect(t, outcome{mirrored: 3, dropped: map[string]uint64{"incomplete": 2}})
}
