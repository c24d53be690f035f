package torture

import (
	"encoding/gob"
	"math/rand/v2"
	"net"
	"strings"
	"time"
)

// upgraded: an agent that takes over from another one, again and again, while
// clients keep connections open. No request may be mirrored by both or by none,
// not even one that is under way.
func upgraded(s *stage) { succession(s, "tcx") }

func upgradedClsact(s *stage) { succession(s, "clsact") }

func succession(s *stage, attach string) {
	generations := s.times(4, 20)
	since := time.Now()
	a := s.start("--takeover", "--attach", attach)
	for range generations {
		w := startLossWatch(countersOf(s, s.objects().programs[0]), since)
		s.goOn(1)
		since = time.Now()
		next := s.launch("--takeover", "--attach", attach)
		for !s.replaced(a, next) {
			// Nothing has changed, but capture has paused.
			s.bad = append(s.bad, period{since, time.Now()})
			since = time.Now()
			next = s.launch("--takeover", "--attach", attach)
		}
		s.lose(w)
		s.ready(next)
		a = next
	}
	w := startLossWatch(countersOf(s, s.objects().programs[0]), since)
	s.goOn(2)
	s.traffic.end()
	s.lose(w)
	s.stop(a)
}

// lose adds what a watch has seen to what is missed and lost.
func (s *stage) lose(w *watch) {
	s.Helper()
	periods, lost := w.end(s)
	s.bad, s.lost = append(s.bad, periods...), s.lost+lost
}

// replaced waits for an agent to end because the next one has taken over. It
// reports false if the next one has ended instead: a machine that is too busy
// may take longer than a takeover may.
func (s *stage) replaced(a, next *agent) bool {
	s.Helper()
	select {
	case <-a.done:
	case <-next.done:
		if !strings.Contains(next.log.String(), "take over: ") {
			s.Fatalf("the successor ended: %v\n%s", next.exit, next.log.String())
		}
		s.Logf("not taken over: %s", next.log.String())
		return false
	case <-time.After(patience):
		s.Fatal("the predecessor does not end")
	}
	acc, peak, err := a.ended()
	must(s, err)
	s.accounts, s.peakMiB = append(s.accounts, acc), max(s.peakMiB, peak)
	return true
}

// failedSuccession: agents that are killed while they take over, or just
// before or after. The predecessor goes on as long as it has not given
// everything away; if it has, nobody mirrors until the next one starts.
func failedSuccession(s *stage) {
	lives := s.times(6, 40)
	a := s.start()
	for range lives {
		from := s.settled()
		next := s.launch("--takeover")
		select {
		case <-time.After(rand.N(time.Second)):
		case <-a.done:
		}
		s.kill(next)
		at := time.Now()
		waitFor(s, "one of the two mirroring, or none", func() bool {
			select {
			case <-a.done:
				return true
			default:
				return s.traffic.mirroredSince(at)
			}
		})
		select {
		case <-a.done:
			acc, _, err := a.ended()
			must(s, err)
			s.accounts = append(s.accounts, acc)
			a = s.start()
		default:
		}
		s.bad = append(s.bad, period{from, time.Now()})
	}
	s.goOn(2)
	s.traffic.end()
	s.stop(a)
}

// brokenOff: a successor that has got everything and does not take it. The
// agent goes on, and what passed meanwhile is all that is missed.
func brokenOff(s *stage) {
	from := time.Now()
	a := s.start("--attach", "tcx")
	w := startWatch(countersOf(s, tapPrograms(s, s.node, "eth0")[0]), from)
	for range 3 {
		s.goOn(1)
		s.halfTakeover()
		s.goOn(1)
	}
	s.traffic.end()
	s.lose(w)
	if acc := s.stop(a); acc.Requests.Dropped["handed_over"] > 0 {
		s.Errorf("requests handed over to nobody: %+v", acc.Requests)
	}
}

// halfTakeover is a successor up to the last word but one.
func (s *stage) halfTakeover() {
	s.Helper()
	const hello, begin, end = 1, 2, 4
	type message struct {
		Kind    uint8
		Version int
	}
	var c net.Conn
	must(s, s.node.Do(func() (err error) {
		c, err = net.Dial("unix", "@shadowtap:agent:"+agentName+":0")
		return err
	}))
	defer c.Close()
	must(s, c.SetDeadline(time.Now().Add(patience)))
	enc, dec := gob.NewEncoder(c), gob.NewDecoder(c)
	for _, kind := range []uint8{hello, begin} {
		must(s, enc.Encode(message{kind, 2}))
	}
	for kind := uint8(0); kind != end; {
		var m message
		must(s, dec.Decode(&m))
		kind = m.Kind
	}
}
