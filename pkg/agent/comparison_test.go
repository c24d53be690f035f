package agent

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/shadowtap/shadowtap/pkg/compare"
)

// TestEarlyAnswerIsCompared: a shadow that answers before it has read all of the
// request has answered, and what it says counts.
func TestEarlyAnswerIsCompared(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	over, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		_ = conn.(*net.TCPConn).SetReadBuffer(4 << 10)
		for r := bufio.NewReaderSize(conn, 16); ; {
			if line, err := r.ReadString('\n'); err != nil || line == "\r\n" {
				break
			}
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n")
		<-over
	}()
	t.Cleanup(func() {
		close(over)
		_ = listener.Close()
		<-done
	})

	a := comparingAgentOf(t, listener.Addr().String(), 32<<20)
	c := newTalk(a.shards[0], 40000)
	c.open()
	const size = 24 << 20 // more than the sockets take
	c.ask(fmt.Sprintf("POST /httpbin/a HTTP/1.1\r\nHost: www.bookinfo.com\r\nContent-Length: %d\r\n\r\n", size))
	for range size / (1 << 20) {
		c.ask(strings.Repeat("x", 1<<20))
	}
	c.answer(okFor("a"))
	c.finish()
	if diff := cmp.Diff(compared{Different: 1, Missed: map[string]int{}}, result(t, a)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// TestReportTakesOfTheBudget: what was found is part of what there is for
// comparing, and when that is all taken traffic is mirrored as ever.
func TestReportTakesOfTheBudget(t *testing.T) {
	a := comparingAgent(t)
	a.memory.limit = 8 << 20
	c := newTalk(a.shards[0], 40000)
	c.open()
	for rule := range 40 {
		for place := range 32 {
			field := func(value string) *compare.Answer {
				return &compare.Answer{Status: 200, Header: []compare.Field{{Name: fmt.Sprint("X-", place), Value: value}}}
			}
			a.comparing.comparer.Add(&compare.Pair{
				Method: "GET", Rule: fmt.Sprint(rule), Mirror: "other", Production: field("1"), Shadow: field("2"),
			})
		}
	}
	c.ask(getFor("a"))
	c.answer(okFor("a"))
	size := a.comparing.comparer.Size()
	if size < a.memory.limit/4 {
		t.Fatalf("the report takes %d bytes only", size)
	}
	eventually(t, "the budget being charged for the report", func() bool { return a.memory.used.Load() >= size })
	c.ask(getFor("b"))
	c.answer(okFor("b"))
	c.finish()
	a.closeAccount(t.Context())
	account, err := a.Account()
	if err != nil {
		t.Fatal(err)
	}
	if account.Requests.Mirrored != 2 || account.Shadow.Answered["2xx"] != 2 {
		t.Errorf("requests %+v, copies %+v", account.Requests, account.Shadow)
	}
	for name, m := range a.comparing.comparer.Mirrors() {
		if name != "other" && (m.Same != 1 || m.Missed["memory"] != 1) {
			t.Errorf("%s: %+v, want one that is the same and one missed for want of memory", name, m)
		}
	}
	if n := a.memory.used.Load(); n != 0 {
		t.Errorf("%d bytes are still in use", n)
	}
}

// TestReadReport: one copy of the report is made at a time, and charged for.
func TestReadReport(t *testing.T) {
	a := comparingAgent(t)
	a.comparing.comparer.Add(&compare.Pair{Mirror: "m", Missed: compare.Busy})
	size := a.comparing.comparer.Size()
	reading, over := make(chan struct{}), make(chan struct{})
	go a.comparing.readReport(context.Background(), func(r *compare.Report) {
		if r.Mirrors["m"].Pairs != 1 {
			t.Errorf("%+v", r.Mirrors["m"])
		}
		close(reading)
		<-over
	})
	<-reading
	if n := a.memory.used.Load(); n != size || n == 0 {
		t.Errorf("%d bytes of the budget are in use, want %d", n, size)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	a.comparing.readReport(ctx, func(*compare.Report) { t.Error("two at a time") })
	close(over)
	a.comparing.readReport(t.Context(), func(*compare.Report) {})
	if n := a.memory.used.Load(); n != 0 {
		t.Errorf("%d bytes are still in use", n)
	}
}
