package httpstream

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// FuzzNginx and FuzzGoServer hold the parser against servers as they run in
// production, over TCP: whatever a client sends, what we hand over is what the
// server hands on to its application, each request once and in order. We may
// hand over less if the account says so. A server may refuse what we hand over
// for reasons other than its framing, and what it would have made of the rest
// cannot be known then.
//
//	go test -fuzz FuzzNginx -fuzztime 10m ./pkg/httpstream
func FuzzNginx(f *testing.F) { fuzzServer(f, startNginx) }

func FuzzGoServer(f *testing.F) { fuzzServer(f, startGo) }

func fuzzServer(f *testing.F, start func(testing.TB) *referee) {
	for seed := range uint64(1000) {
		f.Add(seed)
	}
	server := start(f)
	f.Fuzz(func(t *testing.T, seed uint64) {
		s := &streams{Rand: rand.New(rand.NewPCG(seed, 0))}
		stream := s.next()
		took, answer, err := server.ask(stream)
		if err != nil {
			t.Fatalf("%v\n%q", err, stream)
		}
		rec := feed(t, Config{}, string(stream), len(stream), Incomplete)
		differ := func(what string, of any) {
			t.Helper()
			t.Fatalf("%s: %q\nstream   %q\nwe       %q\nserver   %q\nanswered %q", what, of, stream, rec.events, took, answer)
		}
		rest, reqs := took, rec.reqs
		for _, event := range rec.events {
			if event[0] != 'r' { // dropped, perhaps not by the server
				if len(rest) == 0 {
					return
				}
				rest = rest[1:]
				continue
			}
			q := reqs[0]
			reqs = reqs[1:]
			mine, handedOn := server.takes(q)
			switch {
			case !handedOn:
			case len(rest) == 0:
				if server.refuses(q, rec.skipped) == "" {
					differ("handed over what is no request to the server", mine)
				}
				return
			case mine != rest[0]:
				differ("handed over", mine)
			default:
				rest = rest[1:]
			}
		}
		if len(rest) > 0 && len(rec.events) == len(rec.reqs) {
			differ("not in the account", rest)
		}
	})
}

// takenByNginx is what nginx hands on to the server behind it.
func takenByNginx(q *Request) (taken, bool) {
	t := takenAsSent(q)
	if _, _, rest, ok := SplitAbsolute(q.Target()); ok {
		if t.target = string(rest); len(rest) == 0 || rest[0] != '/' {
			t.target = "/" + t.target
		}
	}
	return t, true
}

func refusedByNginx(q *Request, _ int64) string {
	for _, c := range q.Method() {
		if (c < 'A' || c > 'Z') && c != '_' && c != '-' {
			return "method"
		}
	}
	if bytes.Contains(q.HeaderBlock(), []byte("Host:\t")) {
		return "host"
	}
	if string(q.Method()) == "TRACE" {
		return "TRACE"
	}
	return refusedByAll(q)
}

// takenByGo is what net/http hands on to its handler.
func takenByGo(q *Request) (taken, bool) {
	// It answers OPTIONS * itself.
	return takenAsSent(q), string(q.Method()) != "OPTIONS" || string(q.Target()) != "*"
}

func refusedByGo(q *Request, skipped int64) string {
	if skipped > 0 {
		return "empty lines before the request line"
	}
	if expect, ok := q.Get("Expect"); ok && string(expect) != "100-continue" {
		return "expectation"
	}
	return refusedByAll(q)
}

func takenAsSent(q *Request) taken {
	return taken{string(q.Method()), string(q.Target()), string(q.AppendContent(nil))}
}

func refusedByAll(q *Request) string {
	host, ok := q.Get("Host")
	switch {
	case !ok && q.HTTP11(), ok && len(host) == 0, bytes.ContainsAny(host, "/ "):
		return "host"
	case bytes.ContainsAny(q.Target(), "@%"), string(q.Target()) == "*":
		return "target"
	}
	return ""
}
