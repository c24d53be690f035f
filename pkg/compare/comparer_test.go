package compare

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"hash/maphash"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var start = time.Date(2026, 11, 23, 11, 0, 0, 0, time.UTC)

func newComparer(t testing.TB, o Options) *Comparer {
	t.Helper()
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// answer is a 200 with a body, of type JSON unless header lines say otherwise.
func answer(body string, header ...string) *Answer {
	a := &Answer{Status: 200, Body: []byte(body), Length: int64(len(body)), Latency: time.Millisecond}
	if !slices.ContainsFunc(header, func(h string) bool { return strings.HasPrefix(strings.ToLower(h), "content-type:") }) {
		header = append([]string{"Content-Type: application/json"}, header...)
	}
	a.Header = fields(header...)
	return a
}

func fields(lines ...string) (all []Field) {
	for _, l := range lines {
		name, value, _ := strings.Cut(l, ":")
		all = append(all, Field{name, strings.TrimSpace(value)})
	}
	return all
}

func withStatus(status int, a *Answer) *Answer {
	a.Status = status
	return a
}

// cut keeps n bytes of the body.
func cut(n int, a *Answer) *Answer {
	a.Digest = maphash.Bytes(testSeed, a.Body)
	a.Body = a.Body[:n]
	return a
}

var testSeed = maphash.MakeSeed()

func pair(v1, v2 *Answer) *Pair {
	return &Pair{Time: start, Method: "GET", Target: "/x", Host: "h", Rule: "r", Mirror: "m", Production: v1, Shadow: v2}
}

// places are those of the only route, sorted.
func places(t *testing.T, c *Comparer) []string {
	t.Helper()
	all := []string{}
	for _, r := range c.Report().Routes {
		for key := range r.Places {
			all = append(all, key)
		}
	}
	slices.Sort(all)
	return all
}

func packed(t *testing.T, how string, s string) string {
	t.Helper()
	var b bytes.Buffer
	var w io.WriteCloser
	switch how {
	case "gzip":
		w = gzip.NewWriter(&b)
	case "zlib":
		w = zlib.NewWriter(&b)
	case "flate":
		w, _ = flate.NewWriter(&b, 9)
	}
	if _, err := io.WriteString(w, s); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestDifferences(t *testing.T) {
	const html = "Content-Type: text/html"
	zipped := packed(t, "gzip", `{"a":1,"b":2}`)
	long := strings.Repeat("word ", 1000)
	for _, tt := range []struct {
		name   string
		v1, v2 *Answer
		o      Options
		want   []string
	}{
		{name: "the same", v1: answer(`{"a":1}`), v2: answer(`{"a":1}`)},
		{name: "status", v1: answer(`{"a":1}`), v2: withStatus(503, answer(`sorry`, html)), want: []string{"status 200 -> 503"}},

		{name: "order of members, white space, spelling of numbers", v1: answer(`{"a":1,"b":[1.0,{"c":2,"d":3}]}`), v2: answer(` { "b" : [1, {"d":3e0,"c":2}], "a":10e-1 }`)},
		{name: "escapes", v1: answer(`{"\u0061":"\u00e9\/\ud83d\ude00\n"}`), v2: answer("{\"a\":\"é/\U0001f600\\n\"}")},
		{name: "value", v1: answer(`{"a":1}`), v2: answer(`{"a":2}`), want: []string{"body $.a: value"}},
		{name: "form", v1: answer(`{"a":"Jane"}`), v2: answer(`{"a":"John"}`), want: []string{"body $.a: form"}},
		{name: "type", v1: answer(`{"a":1}`), v2: answer(`{"a":"1"}`), want: []string{"body $.a: type"}},
		{name: "null", v1: answer(`{"a":1}`), v2: answer(`{"a":null}`), want: []string{"body $.a: type"}},
		{name: "missing", v1: answer(`{"a":1,"b":2}`), v2: answer(`{"b":2}`), want: []string{"body $.a: missing"}},
		{name: "added", v1: answer(`{"a":1}`), v2: answer(`{"a":1,"b":{"c":1}}`), want: []string{"body $.b: added"}},
		{name: "renamed, in another order", v1: answer(`{"z":1,"old":2,"y":3}`), v2: answer(`{"y":3,"new":2,"z":4}`),
			want: []string{"body $.new: added", "body $.old: missing", "body $.z: value"}},
		{name: "elements are one place", v1: answer(`[{"id":1},{"id":2},{"id":3}]`), v2: answer(`[{"id":4},{"id":5},{"id":3}]`), want: []string{"body $[].id: value"}},
		{name: "number of elements", v1: answer(`{"a":[1,2,3]}`), v2: answer(`{"a":[1,2]}`), want: []string{"body $.a: length"}},
		{name: "members that are ids are one place", v1: answer(`{"u":{"17":{"n":1},"18":{"n":2}}}`), v2: answer(`{"u":{"17":{"n":3},"18":{"n":4}}}`), want: []string{"body $.u.*.n: value"}},
		{name: "a name twice", v1: answer(`{"a":1,"a":2}`), v2: answer(`{"a":2}`), want: []string{"body $.a: missing", "body $.a: value"}},
		{name: "a name twice on both sides", v1: answer(`{"b":0,"a":1,"a":2}`), v2: answer(`{"a":1,"a":2,"b":0}`)},
		{name: "nested too deep", v1: answer(strings.Repeat("[", 300) + "1" + strings.Repeat("]", 300)), v2: answer(strings.Repeat("[", 300) + "2" + strings.Repeat("]", 300)),
			want: []string{"body $" + strings.Repeat("[]", (maxPath-1)/2) + "~: form"}},
		{name: "not JSON", v1: answer(`{"a":1}`), v2: answer(`<html>`), want: []string{"body text: form"}},
		{name: "JSON of another type", v1: answer(`{"a":1}`, "Content-Type: application/problem+json"), v2: answer(`{"a":2}`, "Content-Type: application/problem+json"), want: []string{"body $.a: value"}},
		{name: "no type", v1: &Answer{Status: 200, Body: []byte(`{"a":1}`), Length: 7}, v2: &Answer{Status: 200, Body: []byte(`{"a":2}`), Length: 7}, want: []string{"body $.a: value"}},
		{name: "an empty body", v1: answer(`{}`), v2: answer(``), want: []string{"body text: form"}},
		{name: "more places than are told apart",
			v1: answer(`{"a1":1,"a2":1,"a3":1,"a4":1,"a5":1,"a6":1,"a7":1,"a8":1,"a9":1,"b1":1,"b2":1,"b3":1,"b4":1,"b5":1,"b6":1,"b7":1,"b8":1,"b9":1,"c1":1,"c2":1,"c3":1,"c4":1,"c5":1,"c6":1,"c7":1,"c8":1,"c9":1}`),
			v2: answer(`{}`), want: func() (all []string) {
				for _, s := range strings.Fields("a1 a2 a3 a4 a5 a6 a7 a8 a9 b1 b2 b3 b4 b5 b6 b7 b8 b9 c1 c2 c3 c4 c5 c6") {
					all = append(all, "body $."+s+": missing")
				}
				return append(all, "body more places: many")
			}()},

		{name: "a path is ignored", v1: answer(`{"a":{"t":1},"b":1}`), v2: answer(`{"a":{"t":2},"b":2}`), o: Options{IgnorePaths: []string{"$.a"}}, want: []string{"body $.b: value"}},
		{name: "a path is ignored anywhere", v1: answer(`{"a":[{"t":1}],"t":1}`), v2: answer(`{"a":[{}],"t":2}`), o: Options{IgnorePaths: []string{"$..t"}}},
		{name: "values are ignored", v1: answer(`{"a":"id-1","b":"id-1"}`), v2: answer(`{"a":"id-22","b":"no-id"}`), o: Options{IgnoreValues: []string{`id-\d+`}}, want: []string{"body $.b: form"}},
		{name: "values of fields are ignored", v1: answer(``, "X-Node: n1"), v2: answer(``, "X-Node: n2"), o: Options{IgnoreValues: []string{`n\d`}}},

		{name: "text", v1: answer("a b\nc", html), v2: answer("a b\nd", html), want: []string{"body text: form"}},
		{name: "text but for a token", v1: answer(`<i nonce="a1">`, html), v2: answer(`<i nonce="b22">`, html), want: []string{"body text: value"}},
		{name: "bytes", v1: answer("\x00\x01", "Content-Type: image/png"), v2: answer("\x00\x02", "Content-Type: image/png"), want: []string{"body bytes: bytes"}},

		{name: "gzip and not", v1: answer(zipped, "Content-Encoding: gzip"), v2: answer(`{"b":2,"a":1}`), want: []string{"header content-encoding: missing"}},
		{name: "gzip and deflate", v1: answer(zipped, "Content-Encoding: gzip"), v2: answer(packed(t, "zlib", `{"a":1,"b":3}`), "Content-Encoding: deflate"),
			want: []string{"body $.b: value", "header content-encoding: form"}},
		{name: "two deflates", v1: answer(packed(t, "zlib", "a"), "Content-Encoding: deflate", html), v2: answer(packed(t, "flate", "a"), "Content-Encoding: deflate", html)},
		{name: "broken gzip", v1: answer(zipped, "Content-Encoding: gzip"), v2: answer("junk", "Content-Encoding: gzip"), want: []string{"body bytes: bytes"}},
		{name: "unknown coding", v1: answer("abc", "Content-Encoding: br"), v2: answer("abd", "Content-Encoding: br"), want: []string{"body bytes: bytes"}},
		{name: "inflates without end", v1: answer(packed(t, "gzip", long+"a"), "Content-Encoding: gzip"), v2: answer(packed(t, "gzip", "y"+long), "Content-Encoding: gzip"),
			o: Options{MaxInflated: 1000}, want: []string{"body content kept in part: prefix"}},

		{name: "kept in part, the same", v1: cut(10, answer(long)), v2: cut(10, answer(long))},
		{name: "kept in part, one side more", v1: cut(10, answer(long)), v2: cut(20, answer(long))},
		{name: "kept in part, another rest", v1: cut(10, answer(long)), v2: cut(10, answer(long+"y")), want: []string{"body content kept in part: rest"}},
		{name: "kept in part, another beginning", v1: cut(10, answer(long)), v2: cut(10, answer("y"+long)), want: []string{"body content kept in part: prefix"}},
		{name: "kept in part, JSON of another form", v1: cut(100, answer(`{"id":"a1","state":"good","x":"`+long+`"}`)), v2: cut(100, answer(`{"id":"a1","state":"evil","x":"`+long+`"}`)),
			want: []string{"body content kept in part: prefix"}},
		{name: "kept in part, and shorter than that", v1: cut(10, answer(long)), v2: answer("xxx"), want: []string{"body content kept in part: prefix"}},

		{name: "order and case of names, list over lines", v1: answer("", "Vary: a", "X-A: 1", "Vary: b"), v2: answer("", "x-a: 1", "VARY: a,b")},
		{name: "order of lines of one name", v1: answer("", "X: a", "X: b"), v2: answer("", "X: b", "X: a"), want: []string{"header x: form"}},
		{name: "field missing, added and changed", v1: answer("", "A: 1", "B: 1"), v2: answer("", "B: 2", "C: 1"), want: []string{"header a: missing", "header b: value", "header c: added"}},
		{name: "ignored fields", v1: answer("", "Date: now", "X-Request-Id: 1", "Connection: close, X-Hop", "X-Hop: 1", "X-B3-TraceId: 1"), v2: answer("", "Date: then", "Age: 1", "Via: p", "Content-Length: 0")},
		{name: "ignored by option", v1: answer("", "X-Build: 1", "X-Build-Time: 1", "Y: 1"), v2: answer("", "Y: 1"), o: Options{IgnoreHeaders: []string{"x-BUILD*"}}},
		{name: "compared by option", v1: answer("", "Via: a"), v2: answer("", "Via: b"), o: Options{CompareHeaders: []string{"Via"}}, want: []string{"header via: form"}},
		{name: "one of a pattern compared by option", v1: answer("", "X-B3-Sampled: 1", "X-B3-TraceId: 1"), v2: answer(""), o: Options{CompareHeaders: []string{"X-B3-Sampled"}}, want: []string{"header x-b3-sampled: missing"}},
		{name: "a pattern compared by option, but for one", v1: answer("", "X-B3-Sampled: 1", "X-B3-TraceId: 1", "X-Envoy-A: 1"), v2: answer(""),
			o: Options{CompareHeaders: []string{"x-b*", "X-Envoy-*"}, IgnoreHeaders: []string{"x-b3-traceid"}}, want: []string{"header x-b3-sampled: missing", "header x-envoy-a: missing"}},
		{name: "length compared by option", v1: answer("", "Content-Length: 0"), v2: answer(""), o: Options{CompareHeaders: []string{"Content-Length"}}, want: []string{"header content-length: missing"}},
		{name: "media types", v1: answer("", "Content-Type: text/html; charset=utf-8"), v2: answer("", "Content-Type: Text/HTML;charset=UTF-8")},
		{name: "other media types", v1: answer("", "Content-Type: text/html; charset=utf-8"), v2: answer("", "Content-Type: text/html"), want: []string{"header content-type: form"}},
		{name: "own location", v1: answer("", "Location: http://h/a?b"), v2: answer("", "Location: http://h-shadow/a?b")},
		{name: "own location, relative", v1: answer("", "Location: https://h/a"), v2: answer("", "Location: /a")},
		{name: "another location", v1: answer("", "Location: http://h/a"), v2: answer("", "Location: http://evil/a"), want: []string{"header location: form"}},
		{name: "expiry", v1: answer("", "Expires: Mon, 23 Nov 2026 11:00:00 GMT"), v2: answer("", "Expires: Mon, 23 Nov 2026 11:00:03 GMT")},
		{name: "another expiry", v1: answer("", "Expires: Mon, 23 Nov 2026 11:00:00 GMT"), v2: answer("", "Expires: Mon, 23 Nov 2026 12:00:00 GMT"), want: []string{"header expires: value"}},
		{name: "etag", v1: answer("", `ETag: "abc"`), v2: answer("", `ETag: W/"abc"`), want: []string{"header etag: form"}},
		{name: "trailer", v1: &Answer{Status: 200, Trailers: fields("Grpc-Status: 0")}, v2: &Answer{Status: 200, Trailers: fields("Grpc-Status: 13")}, want: []string{"trailer grpc-status: value"}},

		{name: "cookies in another order", v1: answer("", "Set-Cookie: a=1; Path=/; Secure", "Set-Cookie: b=2"), v2: answer("", "Set-Cookie: b=2", "Set-Cookie: a=1; secure; path=/")},
		{name: "cookies", v1: answer("", "Set-Cookie: a=1", "Set-Cookie: b=2", "Set-Cookie: s=0123456789abcdef; HttpOnly; SameSite=Lax; Max-Age=10"),
			v2: answer("", "Set-Cookie: c=2", "Set-Cookie: a=x", "Set-Cookie: s=fedcba9876543210; Samesite=Strict; Max-Age=10"), want: []string{
				"header set-cookie a: form", "header set-cookie b: missing", "header set-cookie c: added",
				"header set-cookie s: value", "header set-cookie s; httponly: missing", "header set-cookie s; samesite: form",
			}},
		{name: "cookie's expiry", v1: answer("", "Set-Cookie: a=1; Expires=Mon, 23 Nov 2026 11:00:00 GMT"), v2: answer("", "Set-Cookie: a=1; Expires=Mon, 23-Nov-2026 11:00:30 GMT")},
		{name: "cookie deleted", v1: answer("", "Set-Cookie: a=1; Expires=Mon, 23 Nov 2026 11:00:00 GMT"), v2: answer("", "Set-Cookie: a=1; Expires=Thu, 01 Jan 1970 00:00:00 GMT"), want: []string{"header set-cookie a; expires: form"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newComparer(t, tt.o)
			p := pair(tt.v1, tt.v2)
			p.Request = 1
			c.Add(p)
			if tt.want == nil {
				tt.want = []string{}
			}
			if diff := cmp.Diff(tt.want, places(t, c)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			m := c.Report().Mirrors["m"]
			same := uint64(0)
			if len(tt.want) == 0 {
				same = 1
			}
			if m.Same != same || m.Different != 1-same || !m.Balanced() {
				t.Errorf("%+v", m)
			}
		})
	}
}

func TestAccount(t *testing.T) {
	c := newComparer(t, Options{})
	ok, other := answer(`1`), answer(`2`)
	for reason := NoProductionAnswer; reason < NumReasons; reason++ {
		p := pair(ok, ok)
		p.Missed = reason
		c.Add(p)
	}
	for _, failure := range []string{"timeout", "reset", "reset", "", "circuit_open", "no_endpoints", "queue_full", "panic", "memory", "shutdown"} {
		p := pair(ok, nil)
		p.Failure = failure
		c.Add(p)
	}
	c.Add(pair(nil, ok))
	c.Add(pair(nil, nil))
	c.Add(pair(ok, ok))
	c.Add(pair(ok, other))
	c.Add(pair(ok, withStatus(500, other)))
	// What was kept is the same, and the same content may be compressed in
	// different ways.
	zipped := func(rest string) *Answer {
		return cut(60, answer(packed(t, "gzip", strings.Repeat("0123456789", 2000)+rest), "Content-Encoding: gzip"))
	}
	c.Add(pair(zipped("a"), zipped("bcdefgh")))

	// What differs in what was kept may be noise, and the rest is not known.
	c.Add(pair(cut(100, answer(`{"id":"a1","x":"`+strings.Repeat("x", 200)+`"}`)), cut(100, answer(`{"id":"b2","x":"`+strings.Repeat("x", 200)+`"}`))))

	m := c.Report().Mirrors["m"]
	if diff := cmp.Diff(m, c.Mirrors()["m"]); diff != "" {
		t.Errorf("the totals are not those of the report (-report +totals):\n%s", diff)
	}
	want := &Mirror{
		Pairs: 27, Same: 1, Different: 2,
		Failed: map[string]uint64{"timeout": 1, "reset": 2, "unknown": 1},
		Missed: map[string]uint64{
			"no_production_answer": 3, "gap": 1, "incomplete": 1, "too_large": 3, "memory": 2,
			"not_tried": 4, "busy": 1, "handed_over": 1, "shutdown": 2, "panic": 2,
		},
		Status:     map[string]uint64{"200 -> 200": 2, "200 -> 500": 1},
		Production: m.Production, Shadow: m.Shadow,
	}
	if diff := cmp.Diff(want, m); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if !m.Balanced() {
		t.Error("the account does not add up")
	}
	if n := m.Production.total(); n != 3 || m.Shadow.total() != 3 {
		t.Errorf("%d and %d latencies", n, m.Shadow.total())
	}
}

func TestOptions(t *testing.T) {
	for _, tt := range []struct {
		o    Options
		want string
	}{
		{Options{IgnorePaths: []string{"a.b"}}, `path "a.b": expected "$"`},
		{Options{IgnoreValues: []string{"("}}, `ignored value "(": expected an RE2 expression`},
		{Options{IgnoreValues: []string{"a)|(b"}}, `ignored value "a)|(b": expected an RE2 expression`},
		{Options{IgnoreHeaders: []string{"a b"}}, `header "a b": expected a name`},
		{Options{IgnoreHeaders: []string{"*-id"}}, `header "*-id": expected a name`},
		{Options{CompareHeaders: []string{"X-Mine"}}, `header "X-Mine": is compared anyway`},
		{Options{CompareHeaders: []string{"x-mine*"}}, `header "x-mine*": is compared anyway`},
		{Options{CompareHeaders: []string{"*-id"}}, `header "*-id": expected a name`},
	} {
		if _, err := New(tt.o); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: %v, want %s", tt.o, err, tt.want)
		}
	}
}

func TestExamplesKeepSecrets(t *testing.T) {
	p := func() *Pair {
		p := pair(
			answer(`{"name":"Jane Doe","pin":1234,"list":[1,2]}`, "Set-Cookie: sid=s3cr3t", "X-Auth: s3cr3t", "Cache-Control: no-store"),
			answer(`{"name":"John Smith","pin":4321,"list":{}}`, "Set-Cookie: sid=t0k3n", "X-Auth: t0k3n", "Cache-Control: public"))
		p.Target = "/users?token=s3cr3t&flag&q="
		return p
	}
	texts := func(o Options) string {
		c := newComparer(t, o)
		c.Add(p())
		var all []string
		for _, r := range c.Report().Routes {
			for key, pl := range r.Places {
				for _, e := range pl.Examples {
					all = append(all, key+" "+e.Target+" "+e.Production+" "+e.Shadow)
				}
			}
		}
		slices.Sort(all)
		return strings.Join(all, "\n")
	}
	got := texts(Options{})
	for _, secret := range []string{"Jane", "Smith", "1234", "4321", "s3cr3t", "t0k3n"} {
		if strings.Contains(got, secret) {
			t.Errorf("%s is in\n%s", secret, got)
		}
	}
	for _, want := range []string{"/users?token=*&*&q=*", "string of 8 #", "string of 10 #", "number #", "array of 2 object of 0", `"no-store" "public"`} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s in\n%s", want, got)
		}
	}
	got = texts(Options{ShowValues: true})
	for _, want := range []string{`"Jane Doe" "John Smith"`, "1234 4321", `"s3cr3t" "t0k3n"`, "token=s3cr3t"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s in\n%s", want, got)
		}
	}
}
