package agent

import (
	"context"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/shadowtap/shadowtap/pkg/capture"
)

// scripted is a source that does what a test says.
type scripted struct {
	source
	run func(ctx context.Context, sinks []capture.Sink) error
}

func (s *scripted) Run(ctx context.Context, sinks []capture.Sink) error { return s.run(ctx, sinks) }

func (s *scripted) Ready() <-chan struct{} {
	ready := make(chan struct{})
	close(ready)
	return ready
}

// feed hands a request to the shard of an agent.
func feed(sink capture.Sink, payload string) {
	flow := capture.Flow{SrcIP: [16]byte{10: 0xff, 11: 0xff, 12: 10, 15: 1}, DstIP: [16]byte{10: 0xff, 11: 0xff, 12: 10, 13: 99, 15: 2}, SrcPort: 1, DstPort: 80}
	sink.Begin(1)
	sink.Segment(&capture.Segment{Flow: flow, Flags: capture.FlagSYN})
	sink.Segment(&capture.Segment{Flow: flow, Seq: 1, Ack: 1, Flags: capture.FlagACK, Payload: []byte(payload)})
	sink.End()
}

// faultyCluster panics instead of following the API server.
type faultyCluster struct{ *fakeCluster }

func (faultyCluster) Run(context.Context, func()) { panic("follow") }

// TestPanicEndsInOrder: where nothing can go on, the agent ends as it does
// otherwise, with an error that says so and a closed account.
func TestPanicEndsInOrder(t *testing.T) {
	const get = "GET /httpbin HTTP/1.1\r\n" + host + "\r\n"
	untilTold := func(ctx context.Context, sinks []capture.Sink) error {
		feed(sinks[0], get+get[:10])
		<-ctx.Done()
		return nil
	}
	for name, tt := range map[string]struct {
		prepare func(t *testing.T, a *Agent)
		run     func(ctx context.Context, sinks []capture.Sink) error
		in      place
		want    string // why the request under way is dropped
	}{
		"reading a file": {
			func(*testing.T, *Agent) {},
			func(_ context.Context, sinks []capture.Sink) error {
				feed(sinks[0], get+get[:10])
				panic("read")
			}, inAgent, "shutdown",
		},
		"following the rules": {
			func(_ *testing.T, a *Agent) {
				a.cluster = newCluster()
				a.cluster.source = faultyCluster{}
			}, untilTold, inAgent, "shutdown",
		},
	} {
		t.Run(name, func(t *testing.T) {
			a, err := New(testConfig(t, shadowRules("127.0.0.1:9"), writePCAP(t)))
			if err != nil {
				t.Fatal(err)
			}
			tt.prepare(t, a)
			a.source = &scripted{a.source, tt.run}
			err = a.Run(t.Context())
			if err == nil || !strings.Contains(err.Error(), tt.in.String()+": panic") || a.panics.counts[tt.in].Load() != 1 {
				t.Errorf("%v", err)
			}
			account, err := a.Account()
			if err != nil {
				t.Fatal(err)
			}
			r := account.Requests
			if !r.Balanced() || r.Pending != 0 || account.Shadow.Pending != 0 {
				t.Errorf("%+v, %+v", r, account.Shadow)
			}
			if r.Mirrored != 1 || r.Dropped[tt.want] != 1 {
				t.Errorf("%+v", r)
			}
		})
	}
}

// TestPanicInTakeover: flows that may be another agent's already, or still, are
// not this one's.
func TestPanicInTakeover(t *testing.T) {
	a := idleAgent(t, shadowRules("127.0.0.1:9"))
	at := &net.UnixAddr{Net: "unix", Name: filepath.Join(t.TempDir(), "peer")}
	l, err := net.ListenUnix("unix", at)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	conn, err := net.DialUnix("unix", nil, at)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	// There is no tap to take over with.
	err = a.panics.try(inTakeover, func() error { return a.takeOver(t.Context(), &peer{conn: conn}, false) })
	if err == nil || !strings.Contains(err.Error(), "takeover: panic") || !a.given.Load() {
		t.Errorf("%v; given: %t", err, a.given.Load())
	}
	if !a.handing.TryLock() {
		t.Error("nobody else can hand over any more")
	}
}
