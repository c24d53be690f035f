package demo

import (
	"bytes"
	"fmt"
	"io"
	"strings"
)

// idHeader carries what tells the requests of the demo apart, on the way to v1
// as on the copy to v2.
const idHeader = "X-Demo-Id"

// request is one request of the client.
type request struct {
	id, method, target, host string
	contentType              string
	body                     []byte
	chunked                  bool   // send the body without announcing its length
	matches                  bool   // the rule takes it
	copied                   string // the request-target of the copy, if it matches
}

// reader is the body for net/http: a reader whose length it cannot know makes
// it use the chunked coding.
func (r request) reader() io.Reader {
	switch {
	case r.chunked:
		return struct{ io.Reader }{bytes.NewReader(r.body)}
	case r.body != nil:
		return bytes.NewReader(r.body)
	}
	return nil
}

// answer is what v1 answered, without the header: its Date differs.
type answer struct {
	status string
	body   []byte
}

func (a answer) equal(b answer) bool { return a.status == b.status && bytes.Equal(a.body, b.body) }

// act is a part of the demo: one request, or many of a kind.
type act struct {
	title    string
	requests []request
}

func (a act) burst() bool { return len(a.requests) > 1 }

// burstSize is the number of requests of the act that is not shown one by one.
const burstSize = 500

// traffic is everything the client sends. All of it fits on one connection,
// which stays open.
func traffic() []act {
	json := []byte(`{"title":"The Comedy of Errors","pages":128,"in_print":true}`)
	upload := bytes.Repeat([]byte("All the world's a stage, and all the men and women merely players.\n"), 4000)
	burst := make([]request, burstSize)
	for i := range burst {
		burst[i] = request{method: "GET", target: fmt.Sprintf("/httpbin/anything/page/%d", i+1)}
	}
	plan := []act{
		{"a GET with a query", []request{{method: "GET", target: "/httpbin/get?author=shakespeare&year=1594"}}},
		{"a POST with a JSON body", []request{{method: "POST", target: "/httpbin/post", contentType: "application/json", body: json}}},
		{"an upload in chunks, its length not announced", []request{{method: "PUT", target: "/httpbin/upload", contentType: "text/plain", body: upload, chunked: true}}},
		{"a HEAD request", []request{{method: "HEAD", target: "/httpbin/head"}}},
		{"a request v1 refuses: v2 is asked all the same", []request{{method: "DELETE", target: "/httpbin/status/409"}}},
		{"a path that no rule takes", []request{{method: "GET", target: "/status/200"}}},
		{"a host that no rule takes", []request{{method: "GET", target: "/httpbin/headers", host: "intranet.bookinfo.com"}}},
		{fmt.Sprintf("%d requests one after the other on the open connection", burstSize), burst},
	}
	n := 0
	for _, a := range plan {
		for i := range a.requests {
			r := &a.requests[i]
			n++
			r.id = fmt.Sprint(n)
			if r.host == "" {
				r.host = "www.bookinfo.com"
			}
			if rest, ok := strings.CutPrefix(r.target, "/httpbin"); ok && r.host == "www.bookinfo.com" {
				r.matches, r.copied = true, "/"+rest
			}
		}
	}
	return plan
}

// tally is what the client knows at the end.
type tally struct {
	requests           []request
	matching, filtered int
	changed            []request // whose answer was not the one expected
}

func (t *tally) add(r request, same bool) {
	t.requests = append(t.requests, r)
	if r.matches {
		t.matching++
	} else {
		t.filtered++
	}
	if !same {
		t.changed = append(t.changed, r)
	}
}

// verify compares what v1 and v2 received with what was sent and returns
// everything that is wrong.
func (t *tally) verify(s *stage) (problems []error) {
	bad := func(r request, format string, args ...any) {
		problems = append(problems, fmt.Errorf("request %s, %s %s: %s", r.id, r.method, r.target, fmt.Sprintf(format, args...)))
	}
	for _, r := range t.changed {
		bad(r, "v1 answered differently than without shadowtap")
	}
	want := 0
	for _, r := range t.requests {
		at1, at2 := s.v1.receipts.get(r.id), s.v2.receipts.get(r.id)
		if len(at1) != 1 {
			bad(r, "v1 received it %d times", len(at1))
			continue
		}
		if !r.matches {
			if len(at2) != 0 {
				bad(r, "v2 received it though no rule takes it")
			}
			continue
		}
		want++
		if len(at2) != 1 {
			bad(r, "v2 received it %d times, want exactly once", len(at2))
			continue
		}
		shadow := at1[0]
		shadow.target = r.copied
		if at2[0] != shadow {
			bad(r, "v2 received %+v, want %+v", at2[0], shadow)
		}
	}
	if got := s.v2.receipts.len(); got != want {
		problems = append(problems, fmt.Errorf("v2 received %d requests, want %d", got, want))
	}
	return problems
}
