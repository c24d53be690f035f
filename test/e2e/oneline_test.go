package e2e

import (
	"context"
	"net"
	"testing"
)

// oneLine starts the agent on v1's host in its form without rules.
func oneLine(t *testing.T, l *lab, args ...string) *agent {
	return startAgent(t, l.v1, append([]string{"--port", "8000", "--to", "http://" + v4.v2At()}, args...)...)
}

func TestOneLineForm(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	v1 := serve(t, l.v1, ":8000", nil) // IPv4 and IPv6
	elsewhere := serve(t, l.v1, ":8001", nil)
	v2 := serve(t, l.v2, v4.v2At(), nil)
	a := oneLine(t, l)
	// Any path and any host, over every address that v1's host has.
	c4, c6 := l.clients(at(v4.v1, 8000)), l.clients(at(v6.v1, 8000))
	local, other := l.clients("127.0.0.1:8000"), l.clients(at(v4.v1, 8001))
	local.from, c6.n, local.n, other.n = l.v1, 1000, 2000, 3000
	for _, c := range []*clients{c4, c6, local, other} {
		for _, r := range variety() {
			must(t, c.open().do(r))
		}
	}
	final := a.stop()
	if len(elsewhere.messages()) != len(variety()) {
		t.Errorf("%d requests at the port that is not captured", len(elsewhere.messages()))
	}
	checkCopies(t, v1.messages(), v2.messages(), same, nil)
	final.expect(t, outcome{mirrored: 3 * len(variety())})
}

func TestPercent(t *testing.T) {
	t.Parallel()
	for percent, bounds := range map[string][2]int{
		// Five standard deviations on either side: sqrt(2000*0.25*0.75) = 19.
		"25":  {400, 600},
		"0":   {0, 0},
		"100": {2000, 2000},
	} {
		t.Run(percent, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			v1, v2 := serve(t, l.v1, ":8000", nil), serve(t, l.v2, v4.v2At(), nil)
			a := oneLine(t, l, "--percent", percent)
			c := l.clients(at(v4.v1, 8000))
			c.load(4, 500, nil, plain)()
			final := a.stop()
			copies := byID(v2.messages())
			checkCopies(t, v1.messages(), v2.messages(), same, func(m message) bool { return len(copies[m.id()]) > 0 })
			got := len(v2.messages())
			if got < bounds[0] || got > bounds[1] {
				t.Errorf("%d of 2000 requests mirrored, want %d to %d", got, bounds[0], bounds[1])
			}
			r := final.Requests
			if r.Seen != 2000 && percent != "0" {
				t.Errorf("%d requests seen", r.Seen)
			}
			if r.Mirrored != uint64(got) || r.Mirrored+r.SampledOut+r.Filtered != r.Seen {
				t.Errorf("requests %+v, want %d mirrored and the rest sampled out", r, got)
			}
		})
	}
}

// TestLoopGuard: a shadow that sends its copies back to v1 is not mirrored
// again, or one request would go round for ever.
func TestLoopGuard(t *testing.T) {
	t.Parallel()
	const n = 50
	l := newLab(t)
	v1 := serve(t, l.v1, ":8000", nil)
	v2 := serve(t, l.v2, v4.v2At(), func(c net.Conn, m message) error {
		back, err := l.v2.Dial(context.Background(), "tcp", at(v4.v1, 8000))
		if err != nil {
			return err
		}
		defer back.Close()
		if _, err := back.Write(m.raw); err != nil {
			return err
		}
		answer := make([]byte, 1<<10)
		got, err := back.Read(answer)
		if err != nil {
			return err
		}
		_, err = c.Write(answer[:got])
		return err
	})
	a := oneLine(t, l)
	c := l.clients(at(v4.v1, 8000))
	c.load(2, n/2, nil, plain)()
	v1.wait(t, 2*n)
	final := a.stop()
	checkCopies(t, c.messages(), v2.messages(), same, nil)
	final.expect(t, outcome{mirrored: n, looped: n})
	if got := len(v1.messages()); got != 2*n {
		t.Errorf("v1 received %d requests, want %d and their %d returned copies", got, n, n)
	}
}
