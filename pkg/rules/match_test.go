package rules

import "testing"

// TestMatch has the rows of Istio's HTTPMatchRequest that are supported.
func TestMatch(t *testing.T) {
	for _, tt := range []struct {
		name, match, request string
		want                 bool
	}{
		{"no match entry", "", "GET /", true},
		{"empty entry", "[{}]", "GET /x", true},

		{"uri exact", "[{uri: {exact: /a}}]", "GET /a", true},
		{"uri exact, longer", "[{uri: {exact: /a}}]", "GET /a/", false},
		{"uri exact, query is no part", "[{uri: {exact: /a}}]", "GET /a?b", true},
		{"uri exact, fragment is no part", "[{uri: {exact: /a}}]", "GET /a#b", true},
		{"uri exact, case", "[{uri: {exact: /a}}]", "GET /A", false},
		{"uri exact, ignoreUriCase", "[{uri: {exact: /aB}, ignoreUriCase: true}]", "GET /Ab", true},
		{"uri exact, ignoreUriCase, other letter", "[{uri: {exact: '/a[b'}, ignoreUriCase: true}]", "GET /a{b", false},
		{"uri prefix", "[{uri: {prefix: /foo}}]", "GET /foo/bar", true},
		{"uri prefix is plain text", "[{uri: {prefix: /foo}}]", "GET /foobar", true},
		{"uri prefix, shorter", "[{uri: {prefix: /foo/}}]", "GET /foo", false},
		{"uri prefix, not in the query", "[{uri: {prefix: '/foo?'}}]", "GET /foo?x", false},
		{"uri prefix, empty", "[{uri: {prefix: ''}}]", "GET /x", true},
		{"uri prefix, ignoreUriCase", "[{uri: {prefix: /foo}, ignoreUriCase: true}]", "GET /FOO/bar", true},
		{"uri regex, whole path", "[{uri: {regex: '/a+'}}]", "GET /aaa?q", true},
		{"uri regex, not a part", "[{uri: {regex: 'a+'}}]", "GET /aaa", false},
		{"uri regex, alternatives are anchored", "[{uri: {regex: '/a|/b'}}]", "GET /bb", false},
		{"uri regex, ignoreUriCase has no effect", "[{uri: {regex: '/a'}, ignoreUriCase: true}]", "GET /A", false},
		{"uri regex, (?i)", "[{uri: {regex: '(?i)/a'}}]", "GET /A", true},
		{"uri without value", "[{uri: {}}]", "GET /a", true},
		{"uri of an absolute-form target", "[{uri: {exact: /p}}]", "GET http://h/p", true},
		{"uri of an absolute-form target without path", "[{uri: {exact: /}}]", "GET http://h", true},
		{"uri of an absolute-form target with only a query", "[{uri: {exact: /}}]", "GET http://h?q", true},
		{"uri is normalised before", "[{uri: {prefix: /b}}]", "GET /a/../b", true},
		{"uri with an escaped slash", "[{uri: {prefix: /a/}}]", "GET /a%2Fb", false},
		{"uri with a double slash", "[{uri: {exact: //a}}]", "GET //a", true},
		{"asterisk form", "", "OPTIONS *", false},
		{"path with NUL", "", "GET /a%00", false},

		{"method exact", "[{method: {exact: GET}}]", "GET /", true},
		{"method is case-sensitive", "[{method: {exact: get}}]", "GET /", false},
		{"method HEAD is not GET", "[{method: {exact: GET}}]", "HEAD /", false},
		{"method prefix", "[{method: {prefix: P}}]", "PUT /", true},
		{"method regex", "[{method: {regex: 'GET|PUT'}}]", "PUT /", true},
		{"method without value", "[{method: {}}]", "PUT /", true},

		{"authority exact", "[{authority: {exact: a.example}}]", "GET /\nHost: a.example", true},
		{"authority has the port", "[{authority: {exact: a.example}}]", "GET /\nHost: a.example:80", false},
		{"authority is case-sensitive", "[{authority: {exact: a.example}}]", "GET /\nHost: A.example", false},
		{"authority of an absolute-form target", "[{authority: {exact: b}}]", "GET http://b/\nHost: a", true},

		{"header exact", "[{headers: {x-a: {exact: v}}}]", "GET /\nX-A: v", true},
		{"header exact, other value", "[{headers: {x-a: {exact: v}}}]", "GET /\nX-A: V", false},
		{"header exact, missing", "[{headers: {x-a: {exact: v}}}]", "GET /", false},
		{"header exact, empty and missing", "[{headers: {x-a: {exact: ''}}}]", "GET /", false},
		{"header exact, empty and present", "[{headers: {x-a: {exact: ''}}}]", "GET /\nX-A:", true},
		{"header key in any case", "[{headers: {X-A: {exact: v}}}]", "GET /\nx-a: v", true},
		{"header prefix", "[{headers: {x-a: {prefix: v}}}]", "GET /\nX-A: vw", true},
		{"header regex", "[{headers: {x-a: {regex: 'v+'}}}]", "GET /\nX-A: vv", true},
		{"header regex, whole value", "[{headers: {x-a: {regex: 'v'}}}]", "GET /\nX-A: vv", false},
		{"header regex, missing", "[{headers: {x-a: {regex: '.*'}}}]", "GET /", false},
		{"header presence", "[{headers: {x-a: {}}}]", "GET /\nX-A:", true},
		{"header presence, missing", "[{headers: {x-a: {}}}]", "GET /", false},
		{"header repeated is joined", "[{headers: {x-a: {exact: 'v,w'}}}]", "GET /\nX-A: v\nX-B: u\nX-A: w", true},
		{"header repeated three times", "[{headers: {x-a: {exact: 'v,w,'}}}]", "GET /\nX-A: v\nx-a: w\nX-A:", true},
		{"header repeated, one value", "[{headers: {x-a: {exact: v}}}]", "GET /\nX-A: v\nX-A: w", false},
		{"header host is the authority", "[{headers: {host: {exact: b}}}]", "GET http://b/\nHost: a", true},
		{"headers called as a part of the request", "[{headers: {method: {exact: v}}}]", "GET /\nMethod: v", true},
		{"headers, all of them", "[{headers: {x-a: {exact: v}, x-b: {exact: w}}}]", "GET /\nX-A: v", false},

		{"withoutHeaders, presence, missing", "[{withoutHeaders: {x-a: {}}}]", "GET /", true},
		{"withoutHeaders, presence, present", "[{withoutHeaders: {x-a: {}}}]", "GET /\nX-A:", false},
		{"withoutHeaders, star", "[{withoutHeaders: {x-a: {regex: '*'}}}]", "GET /\nX-A: v", false},
		{"withoutHeaders, exact, missing", "[{withoutHeaders: {x-a: {exact: v}}}]", "GET /", true},
		{"withoutHeaders, exact, other", "[{withoutHeaders: {x-a: {exact: v}}}]", "GET /\nX-A: w", true},
		{"withoutHeaders, exact, same", "[{withoutHeaders: {x-a: {exact: v}}}]", "GET /\nX-A: v", false},
		{"withoutHeaders, missing counts as empty", "[{withoutHeaders: {x-a: {regex: '.*'}}}]", "GET /", false},

		{"queryParams exact", "[{queryParams: {k: {exact: v}}}]", "GET /?a=b&k=v", true},
		{"queryParams, missing", "[{queryParams: {k: {regex: '.*'}}}]", "GET /?a=k", false},
		{"queryParams, only the first", "[{queryParams: {k: {exact: w}}}]", "GET /?k=v&k=w", false},
		{"queryParams, without equals sign", "[{queryParams: {k: {exact: ''}}}]", "GET /?k", true},
		{"queryParams, empty", "[{queryParams: {k: {exact: ''}}}]", "GET /?k=", true},
		{"queryParams, not decoded", "[{queryParams: {k: {exact: 'a b'}}}]", "GET /?k=a%20b", false},
		{"queryParams, encoded", "[{queryParams: {k: {exact: 'a%20b'}}}]", "GET /?k=a%20b", true},
		{"queryParams, name is case-sensitive", "[{queryParams: {k: {}}}]", "GET /?K", false},
		{"queryParams, presence", "[{queryParams: {k: {}}}]", "GET /?k=x", true},
		{"queryParams, value with equals sign", "[{queryParams: {k: {exact: 'a=b'}}}]", "GET /?k=a=b", true},
		{"queryParams, regex", "[{queryParams: {k: {regex: '\\d+'}}}]", "GET /?k=123", true},
		{"queryParams, empty pairs", "[{queryParams: {k: {}}}]", "GET /?&&k", true},
		{"queryParams, without the fragment", "[{queryParams: {k: {exact: v}}}]", "GET /?k=v#f", true},

		{"all conditions of an entry", "[{uri: {prefix: /a}, method: {exact: PUT}}]", "GET /a", false},
		{"any entry", "[{uri: {prefix: /a}}, {method: {exact: GET}}]", "GET /b", true},
		{"name and statPrefix say nothing", "[{name: n, statPrefix: s, uri: {prefix: /a}}]", "GET /b", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			http := toV1
			if tt.match != "" {
				http = "match: " + tt.match + "\n" + http
			}
			p, _ := compile(t, vs(http), Options{})
			d := decide(t, p, request(t, tt.request), "")
			if got := d.Verdict == Mirrored; got != tt.want {
				t.Errorf("mirrored %v, want %v (%v)", got, tt.want, d.Why)
			}
		})
	}
}

func TestRouteOrder(t *testing.T) {
	p, warnings := compile(t, vs(
		"name: a\nmatch: [{uri: {prefix: /a}}, {name: b, uri: {prefix: /b}}]\n"+toV1,
		"name: redirect\nmatch: [{uri: {exact: /r}}]\nredirect: {uri: /x}",
		"name: answer\nmatch: [{uri: {exact: /d}}]\ndirectResponse: {status: 404}",
		"name: plain\nmatch: [{uri: {prefix: /plain}}]\nroute: [{destination: {host: elsewhere}}]",
		"match: [{uri: {prefix: /a/late}}]\n"+toV1,
		"name: rest\n"+toV1,
		"name: never\n"+toV1,
	), Options{})
	if len(warnings) != 2 || warnings[0].Field != "spec.http[4].match[0]" || warnings[1].Field != "spec.http[6]" {
		t.Errorf("warnings: %v", warnings)
	}
	for _, tt := range []struct {
		path, route string
		index       int
		why         FilterReason
	}{
		{"/a", "a", 0, NotFiltered},
		{"/a/late", "a", 0, NotFiltered},
		{"/b", "a.b", 0, NotFiltered},
		{"/r", "redirect", 1, NoMirror},
		{"/d", "answer", 2, NoMirror},
		{"/plain", "plain", 3, NoMirror},
		{"/zzz", "rest", 5, NotFiltered},
	} {
		d := decide(t, p, request(t, "GET "+tt.path), "")
		if d.Route == nil {
			t.Fatalf("%s: no route", tt.path)
		}
		got := d.Route.Rule()
		if got.Route != tt.route || got.Index != tt.index || d.Why != tt.why {
			t.Errorf("%s: %+v %v, want %s %d %v", tt.path, got, d.Why, tt.route, tt.index, tt.why)
		}
	}
}
