package envoy

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
)

// config is a route configuration with one virtual host for every host, with
// the given routes in JSON.
func config(t *testing.T, routes ...string) *route.RouteConfiguration {
	t.Helper()
	return parseConfig(t, fmt.Sprintf(`{"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [%s]}]}`, strings.Join(routes, ",")))
}

func parseConfig(t *testing.T, text string) *route.RouteConfiguration {
	t.Helper()
	c := &route.RouteConfiguration{}
	if err := protojson.Unmarshal([]byte(text), c); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return c
}

// request is "METHOD TARGET" and header field lines.
func request(line string, fields ...string) *Request {
	method, target, _ := strings.Cut(line, " ")
	r := &Request{Method: method, Target: target, Fields: [][2]string{{"Host", "h"}}}
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		r.Fields = append(r.Fields, [2]string{name, value})
	}
	return r
}

func evaluate(t *testing.T, c *route.RouteConfiguration, r *Request) *Outcome {
	t.Helper()
	o, err := Evaluate(c, r)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// TestNormalize has the examples of RFC 3986 section 5.2.4 and of Envoy's
// documentation of normalize_path.
func TestNormalize(t *testing.T) {
	for in, want := range map[string]string{
		"/a/b/c/./../../g": "/a/g",
		"/a/../b":          "/b",
		"/..":              "/",
		"/../a":            "/a",
		"/a/.":             "/a/",
		"/a/..":            "/",
		"/a/b/..":          "/a/",
		"/a//../b":         "/a/b",
		"/a/...":           "/a/...",
		"/a/.b":            "/a/.b",
		"/%2e%2E/a":        "/a",
		"/a/%2e%2fb":       "/a/.%2fb",
		`/a\..\b`:          "/b",
		"/%41%7e%2d":       "/A~-",
		"/%20%2F":          "/%20%2F",
		"/%":               "/%",
		"/%4":              "/%4",
		"//a":              "//a",
	} {
		if got, ok := normalize(in); got != want || !ok {
			t.Errorf("%q: %q, expected %q", in, got, want)
		}
	}
	if _, ok := normalize("/a%00"); ok {
		t.Error("an escaped NUL was accepted")
	}
}

func TestMatch(t *testing.T) {
	for _, tt := range []struct {
		match string
		r     *Request
		want  bool
	}{
		{`"prefix": "/a"`, request("GET /ab?x"), true},
		{`"prefix": "/a"`, request("GET /A"), false},
		{`"prefix": "/a", "case_sensitive": false`, request("GET /A"), true},
		{`"prefix": ""`, request("GET /"), true},
		{`"prefix": "/"`, request("OPTIONS *"), false},
		{`"path": "/a"`, request("GET /a?x"), true},
		{`"path": "/a"`, request("GET /a#x"), true},
		{`"path": "/a"`, request("GET /a/"), false},
		{`"path": "/a"`, request("GET http://h/a"), true},
		{`"path": "/"`, request("GET http://h?q"), true},
		{`"safe_regex": {"regex": "/a|/b"}`, request("GET /b?x"), true},
		{`"safe_regex": {"regex": "/a|/b"}`, request("GET /bb"), false},
		{`"safe_regex": {"regex": "/a"}, "case_sensitive": false`, request("GET /A"), false},

		{`"prefix": "/", "headers": [{"name": ":method", "string_match": {"exact": "GET"}}]`, request("GET /"), true},
		{`"prefix": "/", "headers": [{"name": ":method", "string_match": {"exact": "get"}}]`, request("GET /"), false},
		{`"prefix": "/", "headers": [{"name": ":authority", "string_match": {"exact": "x"}}]`, request("GET http://x/"), true},
		{`"prefix": "/", "headers": [{"name": "Host", "string_match": {"exact": "h"}}]`, request("GET /"), true},
		{`"prefix": "/", "headers": [{"name": "x-a", "string_match": {"exact": "v,w"}}]`, request("GET /", "X-A: v", "x-a: w"), true},
		{`"prefix": "/", "headers": [{"name": "x-a", "string_match": {"exact": ""}}]`, request("GET /", "X-A: "), true},
		{`"prefix": "/", "headers": [{"name": "x-a", "string_match": {"exact": ""}}]`, request("GET /"), false},
		{`"prefix": "/", "headers": [{"name": "x-a", "string_match": {"safe_regex": {"regex": ".*"}}}]`, request("GET /"), false},
		{`"prefix": "/", "headers": [{"name": "x-a", "present_match": true}]`, request("GET /", "X-A: "), true},
		{`"prefix": "/", "headers": [{"name": "x-a", "present_match": true, "invert_match": true}]`, request("GET /"), true},
		{`"prefix": "/", "headers": [{"name": "x-a", "string_match": {"exact": "v"}, "invert_match": true}]`, request("GET /"), false},
		{`"prefix": "/", "headers": [{"name": "x-a", "string_match": {"exact": "v"}, "invert_match": true, "treat_missing_header_as_empty": true}]`,
			request("GET /"), true},
		{`"prefix": "/", "headers": [{"name": "x-a", "string_match": {"safe_regex": {"regex": ".*"}}, "invert_match": true, "treat_missing_header_as_empty": true}]`,
			request("GET /"), false},

		{`"prefix": "/", "query_parameters": [{"name": "a", "present_match": true}]`, request("GET /?b&a"), true},
		{`"prefix": "/", "query_parameters": [{"name": "a", "present_match": true}]`, request("GET /?A"), false},
		{`"prefix": "/", "query_parameters": [{"name": "a", "string_match": {"exact": "v"}}]`, request("GET /?a=v&a=w"), true},
		{`"prefix": "/", "query_parameters": [{"name": "a", "string_match": {"exact": "w"}}]`, request("GET /?a=v&a=w"), false},
		{`"prefix": "/", "query_parameters": [{"name": "a", "string_match": {"exact": ""}}]`, request("GET /?a"), true},
		{`"prefix": "/", "query_parameters": [{"name": "a", "string_match": {"exact": "v=w"}}]`, request("GET /?a=v=w"), true},
		{`"prefix": "/", "query_parameters": [{"name": "a", "string_match": {"exact": "v"}}]`, request("GET /?a=%76"), false},
	} {
		c := config(t, `{"name": "r", "match": {`+tt.match+`}, "route": {"cluster": "c"}}`)
		if got := evaluate(t, c, tt.r).Route != nil; got != tt.want {
			t.Errorf("%s of %v: %v", tt.match, tt.r, got)
		}
	}
}

func TestFirstMatchWins(t *testing.T) {
	c := config(t, `{"name": "1", "match": {"path": "/a"}, "route": {"cluster": "c"}}`,
		`{"name": "2", "match": {"prefix": "/"}, "redirect": {"path_redirect": "/x"}}`,
		`{"name": "3", "match": {"path": "/b"}, "route": {"cluster": "c"}}`)
	for target, want := range map[string]string{"/a": "1", "/b": "2"} {
		if got := evaluate(t, c, request("GET "+target)).Route.Name; got != want {
			t.Errorf("%s: route %s, expected %s", target, got, want)
		}
	}
}

func TestVirtualHost(t *testing.T) {
	c := parseConfig(t, `{"ignore_port_in_host_matching": true, "virtual_hosts": [
		{"name": "exact", "domains": ["a.foo.com", "[::1]"]},
		{"name": "long", "domains": ["*.b.foo.com"]},
		{"name": "short", "domains": ["*.foo.com", "*-eu.foo.com"]},
		{"name": "front", "domains": ["bar.*"]},
		{"name": "any", "domains": ["*"]}]}`)
	for host, want := range map[string]string{
		"a.foo.com": "exact", "A.FOO.COM:80": "exact", "[::1]:80": "exact", "[::1]": "exact",
		"x.b.foo.com": "long", "x.y.b.foo.com": "long", "b.foo.com": "short", "x-eu.foo.com": "short",
		"foo.com": "any", ".foo.com": "any", "bar.com": "front", "bar.": "any", "": "any", "a.foo.com.": "any",
	} {
		if got := findVirtualHost(c, host).GetName(); got != want {
			t.Errorf("%s: %s, expected %s", host, got, want)
		}
	}
}

// TestRewrite has the rows of Istio's and Envoy's documentation of
// prefix_rewrite and regex_rewrite.
func TestRewrite(t *testing.T) {
	for _, tt := range []struct{ match, rewrite, target, want string }{
		{`"prefix": "/foo"`, `"prefix_rewrite": "/"`, "/foo/bar", "//bar"},
		{`"prefix": "/foo"`, `"prefix_rewrite": "/"`, "/foobar?x=1", "/bar?x=1"},
		{`"prefix": "/foo/"`, `"prefix_rewrite": "/"`, "/foo/bar", "/bar"},
		{`"prefix": "/foo", "case_sensitive": false`, `"prefix_rewrite": "/v2"`, "/FOO/bar", "/v2/bar"},
		{`"prefix": ""`, `"prefix_rewrite": "/v2"`, "/x", "/v2/x"},
		{`"path": "/foo"`, `"prefix_rewrite": "/v2"`, "/foo?x", "/v2?x"},
		{`"safe_regex": {"regex": "/f.*"}`, `"prefix_rewrite": "/v2"`, "/foo/bar?x", "/v2?x"},
		{`"prefix": "/b"`, `"prefix_rewrite": "/v2"`, "/a/../b/c", "/v2/c"},
		{`"prefix": "/"`, `"regex_rewrite": {"pattern": {"regex": "^/service/([^/]+)(/.*)$"}, "substitution": "\\2/instance/\\1"}`,
			"/service/foo/v1/api?q", "/v1/api/instance/foo?q"},
		{`"prefix": "/"`, `"regex_rewrite": {"pattern": {"regex": "one"}, "substitution": "two"}`, "/xxx/one/yyy/one/zzz", "/xxx/two/yyy/two/zzz"},
		{`"prefix": "/"`, `"regex_rewrite": {"pattern": {"regex": "^(.*?)one(.*)$"}, "substitution": "\\1two\\2"}`, "/xxx/one/yyy/one/zzz", "/xxx/two/yyy/one/zzz"},
		{`"prefix": "/"`, `"regex_rewrite": {"pattern": {"regex": "(?i)/xxx/"}, "substitution": "/yyy/"}`, "/aaa/XxX/bbb", "/aaa/yyy/bbb"},
		{`"prefix": "/"`, `"regex_rewrite": {"pattern": {"regex": ".*"}, "substitution": ""}`, "/a?q", "/a?q"},
		{`"prefix": "/"`, `"regex_rewrite": {"pattern": {"regex": "a"}, "substitution": "$1\\\\\\0"}`, "/a", `/$1\a`},
	} {
		c := config(t, `{"match": {`+tt.match+`}, "route": {"cluster": "c", `+tt.rewrite+`}}`)
		if got := evaluate(t, c, request("GET "+tt.target)).Path; got != tt.want {
			t.Errorf("%s %s of %s: %s, expected %s", tt.match, tt.rewrite, tt.target, got, tt.want)
		}
	}
}

// TestHeaderOperations: removals, then overwrites, then additions, whatever
// the order they are written in.
func TestHeaderOperations(t *testing.T) {
	c := config(t, `{"match": {"prefix": "/"}, "route": {"cluster": "c", "host_rewrite_literal": "other"},
		"request_headers_to_add": [
			{"header": {"key": "X-A", "value": "added"}, "append_action": "APPEND_IF_EXISTS_OR_ADD"},
			{"header": {"key": "x-a", "value": "set"}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"},
			{"header": {"key": "x-b", "value": ""}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"},
			{"header": {"key": "x-c", "value": "50%%"}, "append_action": "APPEND_IF_EXISTS_OR_ADD"}],
		"request_headers_to_remove": ["X-A", "x-d"]}`)
	o := evaluate(t, c, request("GET /", "x-a: sent", "X-B: sent", "x-d: sent"))
	want := [][2]string{{"x-b", "sent"}, {"x-a", "set"}, {"x-a", "added"}, {"x-c", "50%"}}
	if fmt.Sprint(o.Fields) != fmt.Sprint(want) || o.Authority != "other" {
		t.Errorf("%v to %s", o.Fields, o.Authority)
	}
}

// TestFormat has the commands of format strings.
func TestFormat(t *testing.T) {
	h, _ := receive(&Request{Method: "GET", Target: "/a/../b?q", Source: "10.0.0.1:5",
		Fields: [][2]string{{"Host", "h"}, {"X-A", "v"}, {"x-a", "w"}}})
	for s, want := range map[string]string{
		"50%%": "50%", "%REQ(X-a)%!": "v!", "%REQ(x-b?x-a)%": "v", "%REQ(x-b)%": "", "%REQ(:path):2%": "/b", "%REQ(:AUTHORITY)%": "h",
		"%PROTOCOL%": "HTTP/1.1", "%DOWNSTREAM_REMOTE_ADDRESS%": "10.0.0.1:5", "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%": "10.0.0.1",
	} {
		if got, err := format(s, h); got != want || err != nil {
			t.Errorf("%s: %q, %v, expected %q", s, got, err, want)
		}
	}
}

// TestWeightedClusters: what is said of the cluster comes before what is said
// of the route.
func TestWeightedClusters(t *testing.T) {
	c := config(t, `{"match": {"prefix": "/"}, "route": {"weighted_clusters": {"clusters": [
			{"name": "a", "weight": 1, "host_rewrite_literal": "a", "request_headers_to_add": [{"header": {"key": "x-a", "value": "a"}}]},
			{"name": "b", "weight": 2}]}, "timeout": "2s"},
		"request_headers_to_add": [{"header": {"key": "x-b", "value": "%REQ(x-a)%,%REQ(:authority)%"}}]}`)
	for choice, want := range []string{"a: [[x-a a] [x-b a,a]] to a", "b: [[x-b ,h]] to h", "a: [[x-a a] [x-b a,a]] to a"} {
		r := request("GET /")
		r.Choice = choice
		o := evaluate(t, c, r)
		if got := fmt.Sprintf("%s: %v to %s", o.Cluster, o.Fields, o.Authority); got != want || o.Clusters != 2 || o.Timeout != 2*time.Second {
			t.Errorf("%s of %d, expected %s", got, o.Clusters, want)
		}
	}
}

// TestFault: a request that is answered before it is routed goes nowhere.
func TestFault(t *testing.T) {
	for abort, want := range map[string]string{
		`{"http_status": 500}`: "c",
		`{"http_status": 500, "percentage": {"numerator": 100}}`:                               "",
		`{"http_status": 500, "percentage": {"numerator": 999999, "denominator": "MILLION"}}`:  "c",
		`{"http_status": 500, "percentage": {"numerator": 1000000, "denominator": "MILLION"}}`: "",
	} {
		c := config(t, `{"match": {"prefix": "/"}, "route": {"cluster": "c"}, "typed_per_filter_config": {"envoy.filters.http.fault": {
			"@type": "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault", "abort": `+abort+`}}}`)
		if got := evaluate(t, c, request("GET /")).Cluster; got != want {
			t.Errorf("%s: %q, expected %q", abort, got, want)
		}
	}
}

func TestMirrors(t *testing.T) {
	c := config(t, `{"match": {"prefix": "/"}, "route": {"cluster": "c", "request_mirror_policies": [
		{"cluster": "all", "disable_shadow_host_suffix_append": true},
		{"cluster": "none", "disable_shadow_host_suffix_append": true, "runtime_fraction": {"default_value": {}}},
		{"cluster": "some", "disable_shadow_host_suffix_append": true,
		 "runtime_fraction": {"default_value": {"numerator": 5699, "denominator": "MILLION"}}}]}}`)
	want := []Mirror{{"all", 100, 100}, {"some", 5699, 1_000_000}}
	if got := evaluate(t, c, request("GET /")).Mirrors; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%v, expected %v", got, want)
	}
}

// TestUnknown: what the checker does not know is an error.
func TestUnknown(t *testing.T) {
	for _, text := range []string{
		`{"match": {"connect_matcher": {}}, "route": {"cluster": "c"}}`,
		`{"match": {"prefix": "/", "grpc": {}}, "route": {"cluster": "c"}}`,
		`{"match": {"prefix": "/", "headers": [{"name": "a", "range_match": {"end": 1}}]}, "route": {"cluster": "c"}}`,
		`{"match": {"prefix": "/", "headers": [{"name": "a", "string_match": {"suffix": "x"}}]}, "route": {"cluster": "c"}}`,
		`{"match": {"prefix": "/", "query_parameters": [{"name": "a"}]}, "route": {"cluster": "c"}}`,
		`{"match": {"prefix": "/"}, "route": {"cluster": "c", "host_rewrite_header": "x"}}`,
		`{"match": {"prefix": "/"}, "route": {"cluster": "c"}, "request_headers_to_add": [{"header": {"key": "a", "value": "%START_TIME%"}}]}`,
		`{"match": {"prefix": "/"}, "route": {"cluster": "c"}, "request_headers_to_add": [{"header": {"key": "a", "value": "5 %"}}]}`,
		`{"match": {"prefix": "/"}, "route": {"cluster": "c", "request_mirror_policies": [{"cluster": "m"}]}}`,
		`{"match": {"prefix": "/"}, "route": {"weighted_clusters": {"clusters": [{"name": "c", "cluster_header": "a"}]}}}`,
		`{"match": {"prefix": "/"}, "route": {"cluster": "c"}, "typed_per_filter_config": {"x": {"@type": "type.googleapis.com/google.protobuf.Empty"}}}`,
	} {
		if _, err := Evaluate(config(t, text), request("GET /", "a: 1")); err == nil {
			t.Errorf("no error for %s", text)
		}
	}
}
