package replay

import (
	"os"
	"testing"

	"github.com/shadowtap/shadowtap/pkg/httpstream"
	"go.uber.org/goleak"
)

// asServer makes the test binary the server of the benchmarks, in a process
// of its own so that its CPU is not counted.
const asServer = "SHADOWTAP_REPLAY_BENCH_SERVER"

func TestMain(m *testing.M) {
	if os.Getenv(asServer) != "" {
		serveBenchmark()
		return
	}
	goleak.VerifyTestMain(m)
}

// verbatim is a Shaper that changes nothing.
type verbatim struct{}

func (verbatim) AppendHead(dst []byte, r *httpstream.Request) []byte {
	dst = append(append(dst, r.Method()...), ' ')
	dst = append(append(dst, r.Target()...), ' ')
	dst = append(append(dst, r.Version()...), "\r\n"...)
	return append(dst, r.HeaderBlock()...)
}

// request frames a request or fails the test.
func request(t testing.TB, raw string) *httpstream.Request {
	t.Helper()
	r, err := httpstream.ParseRequest([]byte(raw))
	if err != nil {
		t.Fatalf("ParseRequest: %v", err)
	}
	return r
}
