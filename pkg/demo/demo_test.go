package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// fakeEnv makes the test binary play a shadowtap that is broken in the way it
// names, to see that the demo notices. That the demo succeeds with the real
// program is shown by the end-to-end tests.
const fakeEnv = "SHADOWTAP_DEMO_TEST_FAKE"

func TestMain(m *testing.M) {
	if how := os.Getenv(fakeEnv); how != "" && len(os.Args) > 1 && os.Args[1] == "run" {
		fake(how)
	}
	goleak.VerifyTestMain(m)
}

func fake(how string) {
	switch how {
	case "crashing":
		fmt.Fprintln(os.Stderr, "cannot load the program")
		os.Exit(2)
	case "never ready":
		select {}
	case "mute": // ready, and mirrors nothing
		http.HandleFunc("/readyz", func(http.ResponseWriter, *http.Request) {})
		fmt.Fprintln(os.Stderr, http.ListenAndServe(adminAddress, nil))
	case "talking nonsense":
		fmt.Println("mirroring...")
		http.HandleFunc("/readyz", func(http.ResponseWriter, *http.Request) {})
		fmt.Fprintln(os.Stderr, http.ListenAndServe(adminAddress, nil))
	}
	os.Exit(3)
}

func TestRunNoticesABrokenAgent(t *testing.T) {
	needRoot(t)
	for how, want := range map[string]string{
		"crashing":         "cannot load the program",
		"mute":             "GET /httpbin/get?author=shakespeare&year=1594 in shadowtap's output",
		"talking nonsense": "its output: invalid character",
	} {
		t.Run(how, func(t *testing.T) {
			t.Setenv(fakeEnv, how)
			var out bytes.Buffer
			err := Run(t.Context(), Options{Out: &out, patience: 10 * time.Second})
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("error %v, want one with %q", err, want)
			}
			if lost := how == "mute"; errors.Is(err, ErrLost) != lost {
				t.Errorf("error %v wraps ErrLost: %v, want %v", err, !lost, lost)
			}
			if strings.Contains(out.String(), "It adds up") {
				t.Errorf("the audience was told that it adds up:\n%s", out.String())
			}
		})
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	needRoot(t)
	t.Setenv(fakeEnv, "never ready")
	ctx, cancel := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	// The introduction is the first thing written; the rest of the demo meets
	// the ended context wherever it happens to be.
	err := Run(ctx, Options{Out: writerFunc(func([]byte) { cancel(enough) })})
	if !errors.Is(err, enough) || errors.Is(err, ErrLost) {
		t.Fatalf("error %v, want the cause of the context's end and no loss", err)
	}
}

type writerFunc func([]byte)

func (f writerFunc) Write(p []byte) (int, error) { f(p); return len(p), nil }

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("the demo needs root: it makes network namespaces")
	}
}

func TestVerifyFindsEveryDifference(t *testing.T) {
	r := traffic()[0].requests[0]
	other := traffic()[5].requests[0]
	at1 := receipt{method: r.method, target: r.target, host: r.host}
	copied := at1
	copied.target = r.copied
	wrongBody := copied
	wrongBody.body = 1

	for _, test := range []struct {
		name   string
		v1, v2 map[string][]receipt
		want   []string // a part of each problem
	}{
		{"all well", map[string][]receipt{r.id: {at1}, other.id: {at1}}, map[string][]receipt{r.id: {copied}}, nil},
		{"missing", map[string][]receipt{r.id: {at1}, other.id: {at1}}, nil, []string{"0 times", "v2 received 0"}},
		{"doubled", map[string][]receipt{r.id: {at1}, other.id: {at1}}, map[string][]receipt{r.id: {copied, copied}}, []string{"2 times", "v2 received 2"}},
		{"not rewritten", map[string][]receipt{r.id: {at1}, other.id: {at1}}, map[string][]receipt{r.id: {at1}}, []string{"want {"}},
		{"other body", map[string][]receipt{r.id: {at1}, other.id: {at1}}, map[string][]receipt{r.id: {wrongBody}}, []string{"want {"}},
		{"without a rule", map[string][]receipt{r.id: {at1}, other.id: {at1}}, map[string][]receipt{r.id: {copied}, other.id: {at1}}, []string{"no rule takes it", "v2 received 2"}},
		{"unknown copy", map[string][]receipt{r.id: {at1}, other.id: {at1}}, map[string][]receipt{r.id: {copied}, "": {at1}}, []string{"v2 received 2"}},
		{"not at v1", map[string][]receipt{other.id: {at1}}, nil, []string{"v1 received it 0 times"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := &stage{v1: &server{receipts: filled(test.v1)}, v2: &server{receipts: filled(test.v2)}}
			var sum tally
			sum.add(r, true)
			sum.add(other, true)
			checkProblems(t, sum.verify(s), test.want)
		})
	}

	s := &stage{v1: &server{receipts: filled(map[string][]receipt{r.id: {at1}})}, v2: &server{receipts: filled(map[string][]receipt{r.id: {copied}})}}
	var changed tally
	changed.add(r, false)
	checkProblems(t, changed.verify(s), []string{"v1 answered differently"})
}

func filled(m map[string][]receipt) *mailbox[receipt] {
	box := newMailbox[receipt]()
	for id, list := range m {
		for _, v := range list {
			box.put(id, v)
		}
	}
	return box
}

func TestAccountMustClose(t *testing.T) {
	var sum tally
	sum.add(request{matches: true}, true)
	sum.add(request{}, true)
	good := func() *account {
		a := &account{}
		a.Requests.Seen, a.Requests.Mirrored, a.Requests.Filtered = 2, 1, 1
		a.Shadow.Sent, a.Shadow.Answered = 1, counts{"2xx": 1}
		a.Packets.Seen, a.Packets.Copied, a.Packets.Skipped = 9, 5, counts{"pure_ack": 4}
		return a
	}
	for name, test := range map[string]struct {
		change func(*account)
		want   []string
	}{
		"closed":       {func(*account) {}, nil},
		"a drop":       {func(a *account) { a.Requests.Dropped = counts{"gap": 1} }, []string{"dropped 1", "accounted for 3"}},
		"lost":         {func(a *account) { a.Requests.Mirrored = 0 }, []string{"mirrored 0", "accounted for 1"}},
		"pending":      {func(a *account) { a.Requests.Pending++; a.Requests.Filtered-- }, []string{"filtered 0", "pending 1"}},
		"failed copy":  {func(a *account) { a.Shadow.Answered, a.Shadow.Failed = nil, counts{"reset": 1} }, []string{"failed 1"}},
		"silent copy":  {func(a *account) { a.Shadow.Answered = nil }, []string{"copies accounted for 0"}},
		"lost packets": {func(a *account) { a.Packets.Lost = counts{"ring_full": 1} }, []string{"packets lost 1", "packets accounted for 10"}},
	} {
		t.Run(name, func(t *testing.T) {
			a := good()
			test.change(a)
			checkProblems(t, a.verify(sum), test.want)
		})
	}
}

// checkProblems wants as many problems as parts, each with its part.
func checkProblems(t *testing.T, got []error, want []string) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("problems %v, want %d", got, len(want))
	}
	for i, part := range want {
		if !strings.Contains(got[i].Error(), part) {
			t.Errorf("problem %q, want one with %q", got[i], part)
		}
	}
}

func TestTrafficIsWhatItSays(t *testing.T) {
	seen := make(map[string]bool)
	for _, a := range traffic() {
		for _, r := range a.requests {
			if seen[r.id] {
				t.Errorf("id %s is used twice", r.id)
			}
			seen[r.id] = true
			if r.matches != (strings.HasPrefix(r.target, "/httpbin") && r.host == "www.bookinfo.com") {
				t.Errorf("%s %s: matches = %v", r.host, r.target, r.matches)
			}
			if r.matches && r.copied != strings.Replace(r.target, "/httpbin", "/", 1) {
				t.Errorf("%s is copied as %s", r.target, r.copied)
			}
		}
	}
}
