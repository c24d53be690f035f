package rules

import (
	"net/netip"
	"strings"
	"testing"
)

// TestHeaders has Envoy's order: every remove, every set, every add; the
// destination's lists behind the route's if there is one destination.
func TestHeaders(t *testing.T) {
	const one = "route: [{destination: {host: httpbin, subset: v1}%s}]\nmirror: {host: httpbin, subset: v2}\n"
	for _, tt := range []struct {
		name, route, destination string
		want                     string // header lines of the copy of "X-A: 1, x-B: 2, X-A: 3"
	}{
		{"none", "", "", "Host: h|X-A: 1|x-B: 2|X-A: 3"},
		{"remove", "headers: {request: {remove: [x-a]}}", "", "Host: h|x-B: 2"},
		{"set is once and last", "headers: {request: {set: {X-a: '9'}}}", "", "Host: h|x-B: 2|X-a: 9"},
		{"set what is not there", "headers: {request: {set: {x-c: '9'}}}", "", "Host: h|X-A: 1|x-B: 2|X-A: 3|x-c: 9"},
		{"add", "headers: {request: {add: {x-b: '9'}}}", "", "Host: h|X-A: 1|x-B: 2|X-A: 3|x-b: 9"},
		{"remove and set", "headers: {request: {set: {x-a: '9'}, remove: [x-a]}}", "", "Host: h|x-B: 2|x-a: 9"},
		{"remove and add", "headers: {request: {add: {x-a: '9'}, remove: [x-a]}}", "", "Host: h|x-B: 2|x-a: 9"},
		{"set and add", "headers: {request: {add: {x-a: '8'}, set: {x-a: '9'}}}", "", "Host: h|x-B: 2|x-a: 9|x-a: 8"},
		{"in the order of names", "headers: {request: {set: {x-d: '1', x-c: '2'}}}", "", "Host: h|X-A: 1|x-B: 2|X-A: 3|x-c: 2|x-d: 1"},
		{"an empty set", "headers: {request: {set: {x-a: ''}}}", "", "Host: h|X-A: 1|x-B: 2|X-A: 3"},
		{"an empty add", "headers: {request: {add: {x-a: ''}}}", "", "Host: h|X-A: 1|x-B: 2|X-A: 3"},
		{"route add, destination set", "headers: {request: {add: {x-c: add}}}", "{request: {set: {x-c: set}}}", "Host: h|X-A: 1|x-B: 2|X-A: 3|x-c: set|x-c: add"},
		{"both set", "headers: {request: {set: {x-c: route}}}", "{request: {set: {x-c: destination}}}", "Host: h|X-A: 1|x-B: 2|X-A: 3|x-c: destination"},
		{"destination remove cannot undo a route set", "headers: {request: {set: {x-c: route}}}", "{request: {remove: [x-c]}}", "Host: h|X-A: 1|x-B: 2|X-A: 3|x-c: route"},

		{"escaped percent", "headers: {request: {set: {x-c: '100%%'}}}", "", "Host: h|X-A: 1|x-B: 2|X-A: 3|x-c: 100%"},
		{"REQ", "headers: {request: {set: {x-c: 'b=%REQ(X-B)%'}}}", "", "Host: h|X-A: 1|x-B: 2|X-A: 3|x-c: b=2"},
		{"REQ with another", "headers: {request: {set: {x-c: '%REQ(no?:METHOD)%'}}}", "", "Host: h|X-A: 1|x-B: 2|X-A: 3|x-c: GET"},
		{"REQ with a length", "headers: {request: {set: {x-c: '%REQ(:path):3%'}}}", "", "Host: h|X-A: 1|x-B: 2|X-A: 3|x-c: /pa"},
		{"REQ of the path with a length of all", "headers: {request: {set: {x-c: '%REQ(no?:path):99%'}}}", "", "Host: h|X-A: 1|x-B: 2|X-A: 3|x-c: /path"},
		{"REQ of the authority", "headers: {request: {set: {x-c: '%REQ(:AUTHORITY)%'}}}", "", "Host: h|X-A: 1|x-B: 2|X-A: 3|x-c: h"},
		{"REQ of what is missing is empty", "headers: {request: {set: {x-a: '%REQ(no)%'}}}", "", "Host: h|X-A: 1|x-B: 2|X-A: 3"},
		{"REQ of what is removed", "headers: {request: {set: {x-c: '%REQ(x-b)%'}, remove: [X-B]}}", "", "Host: h|X-A: 1|X-A: 3"},
		{"REQ of what is set", "headers: {request: {set: {x-b: '%REQ(x-b)%!'}}}", "", "Host: h|X-A: 1|X-A: 3|x-b: 2!"},
		{"PROTOCOL", "headers: {request: {set: {x-c: '%PROTOCOL%'}}}", "", "Host: h|X-A: 1|x-B: 2|X-A: 3|x-c: HTTP/1.1"},
		{"address", "headers: {request: {set: {x-c: '%DOWNSTREAM_REMOTE_ADDRESS%'}}}", "", "Host: h|X-A: 1|x-B: 2|X-A: 3|x-c: 192.0.2.1:7"},
		{"address without port", "headers: {request: {set: {x-c: '%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%'}}}", "", "Host: h|X-A: 1|x-B: 2|X-A: 3|x-c: 192.0.2.1"},

		{"authority", "rewrite: {authority: 'new:8'}", "", "Host: new:8|X-A: 1|x-B: 2|X-A: 3"},
		{"Host in set", "headers: {request: {set: {Host: new}}}", "", "Host: new|X-A: 1|x-B: 2|X-A: 3"},
		{":authority in add", "headers: {request: {add: {':authority': new}}}", "", "Host: new|X-A: 1|x-B: 2|X-A: 3"},
		{"Host of the destination", "", "{request: {set: {host: new}}}", "Host: new|X-A: 1|x-B: 2|X-A: 3"},
		{"Host of the destination yields", "headers: {request: {set: {host: new}}}", "{request: {set: {host: other}}}", "Host: new|X-A: 1|x-B: 2|X-A: 3"},
		{"authority before the destination's", "rewrite: {authority: new}", "{request: {set: {host: other}}}", "Host: new|X-A: 1|x-B: 2|X-A: 3"},
		{"of the connection", "headers: {request: {set: {connection: close}, remove: [content-length]}}", "", "Host: h|X-A: 1|x-B: 2|X-A: 3"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			destination := ""
			if tt.destination != "" {
				destination = ", headers: " + tt.destination
			}
			p, _ := compile(t, vs(tt.route+"\n"+strings.Replace(one, "%s", destination, 1)), Options{})
			r := request(t, "GET /path\nHost: h\nX-A: 1\nx-B: 2\nX-A: 3")
			r.Source = netip.MustParseAddrPort("192.0.2.1:7")
			d := decide(t, p, r, "")
			got := string(d.Selected[0].AppendHead(nil, r))
			want := "GET /path HTTP/1.1\r\n" + strings.ReplaceAll(tt.want, "|", "\r\n") + "\r\n"
			if got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
			buf := make([]byte, 0, 1024)
			if n := testing.AllocsPerRun(20, func() { buf = d.Selected[0].AppendHead(buf[:0], r) }); n != 0 {
				t.Errorf("%v allocations", n)
			}
		})
	}
}

// TestHostRewrite: where a copy without Host, or in absolute form, is addressed.
func TestHostRewrite(t *testing.T) {
	for _, tt := range []struct {
		rewrite, head, want string
		o                   Options
	}{
		{"new", "GET / HTTP/1.0\nA: b", "GET / HTTP/1.0|Host: new|A: b", Options{}},
		{"new", "GET http://u@old:8/p?q HTTP/1.1\nHost: other", "GET http://u@new/p?q HTTP/1.1|Host: new", Options{}},
		{"", "GET / HTTP/1.1\nHost: cluster1", "GET / HTTP/1.1|Host: cluster1-shadow", Options{HostSuffix: true}},
		{"", "GET / HTTP/1.1\nHost: cluster1:8000", "GET / HTTP/1.1|Host: cluster1-shadow:8000", Options{HostSuffix: true}},
		{"", "GET / HTTP/1.1\nHost: 127.0.0.1:80", "GET / HTTP/1.1|Host: 127.0.0.1-shadow:80", Options{HostSuffix: true}},
		{"", "GET / HTTP/1.1\nHost: [::1]:80", "GET / HTTP/1.1|Host: [::1]-shadow:80", Options{HostSuffix: true}},
		{"", "GET http://h:8/ HTTP/1.1\nHost: h", "GET http://h-shadow:8/ HTTP/1.1|Host: h-shadow", Options{HostSuffix: true}},
		{"new:8", "GET / HTTP/1.1\nhost: h", "GET / HTTP/1.1|host: new-shadow:8", Options{HostSuffix: true}},
	} {
		http := toV1
		if tt.rewrite != "" {
			http = "rewrite: {authority: '" + tt.rewrite + "'}\n" + http
		}
		p, _ := compile(t, vs(http), tt.o)
		r := request(t, tt.head)
		got := string(decide(t, p, r, "").Selected[0].AppendHead(nil, r))
		if want := strings.ReplaceAll(tt.want, "|", "\r\n") + "\r\n"; got != want {
			t.Errorf("%s, %q: got %q, want %q", tt.rewrite, tt.head, got, want)
		}
	}
}

// TestEnvoyHeaders adds what Envoy adds.
func TestEnvoyHeaders(t *testing.T) {
	p, _ := compile(t, vs("match: [{uri: {prefix: /a}}]\nrewrite: {uri: /b}\ntimeout: 1.5s\n"+toV1, toV1), Options{EnvoyHeaders: true})
	for head, want := range map[string]string{
		"GET /a/x/../y?q\nHost: h\nX-Forwarded-For: 1.1.1.1\nx-forwarded-for: 2.2.2.2": "GET /b/y?q HTTP/1.1|Host: h|x-envoy-internal: true|" +
			"x-forwarded-for: 1.1.1.1,2.2.2.2,192.0.2.1|x-envoy-original-path: /a/y?q|x-envoy-expected-rq-timeout-ms: 1500",
		"GET /c\nHost: h": "GET /c HTTP/1.1|Host: h|x-envoy-internal: true|x-forwarded-for: 192.0.2.1",
	} {
		r := request(t, head)
		r.Source = netip.MustParseAddrPort("192.0.2.1:7")
		got := string(decide(t, p, r, "").Selected[0].AppendHead(nil, r))
		if want := strings.ReplaceAll(want, "|", "\r\n") + "\r\n"; got != want {
			t.Errorf("got  %q\nwant %q", got, want)
		}
	}
}

// TestRequestPath: a value reads the path in its normal form, as it is before a
// rewrite.
func TestRequestPath(t *testing.T) {
	p, _ := compile(t, vs("rewrite: {uri: /new}\nheaders: {request: {set: {x-c: '%REQ(:path?x-a)%', x-d: '%REQ(no?:path):2%'}}}\n"+toV1), Options{})
	for target, want := range map[string]string{
		"/a/../b?q#f": "x-c: /b?q|x-d: /b", "http://h": "x-c: /|x-d: /", "http://h?q": "x-c: /?q|x-d: /?", "/%41": "x-c: /A|x-d: /A",
	} {
		r := request(t, "GET "+target+"\nHost: h")
		_, got, _ := strings.Cut(string(decide(t, p, r, "").Selected[0].AppendHead(nil, r)), "Host: h\r\n")
		if want := strings.ReplaceAll(want, "|", "\r\n") + "\r\n"; got != want {
			t.Errorf("%s: %q, want %q", target, got, want)
		}
	}
}

// TestHeadersProblems: what Istio's admission refuses is refused.
func TestHeadersProblems(t *testing.T) {
	for _, tt := range []struct{ http, field string }{
		{"headers: {request: {set: {':path': a}}}", "spec.http[0].headers.request.set[:path]"},
		{"headers: {request: {remove: [Host]}}", "spec.http[0].headers.request.remove[0]"},
		{"headers: {request: {add: {'a b': a}}}", "spec.http[0].headers.request.add[a b]"},
		{"headers: {request: {add: {a: '%'}}}", "spec.http[0].headers.request.add[a]"},
		{"headers: {request: {add: {a: '%START_TIME%'}}}", "spec.http[0].headers.request.add[a]"},
		{"headers: {request: {add: {a: \"b\\r\\nc: d\"}}}", "spec.http[0].headers.request.add[a]"},
		{"headers: {request: {set: {host: a}}}\nrewrite: {authority: b}", "spec.http[0].rewrite.authority"},
		{"rewrite: {authority: 'a b'}", "spec.http[0].rewrite.authority"},
	} {
		ps := problemsOf(t, vs(tt.http+"\n"+toV1))
		if len(ps) != 1 || ps.Err() == nil || ps[0].Field != tt.field {
			t.Errorf("%s: %v, want an error at %s", tt.http, ps, tt.field)
		}
	}
}
