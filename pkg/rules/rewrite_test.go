package rules

import (
	"strings"
	"testing"
)

func TestRewrite(t *testing.T) {
	for _, tt := range []struct{ name, match, rewrite, target, want string }{
		// The worked table of plain VirtualServices.
		{"prefix", "prefix: /foo", "/", "/foo", "/"},
		{"prefix", "prefix: /foo", "/", "/foo/bar", "//bar"},
		{"prefix", "prefix: /foo", "/", "/foobar", "/bar"},
		{"prefix", "prefix: /foo/", "/", "/foo/bar", "/bar"},
		{"prefix", "prefix: /foo/", "/", "/foo", ""},
		{"prefix", "prefix: /foo", "/bar", "/foo/", "/bar/"},
		{"prefix", "prefix: /foo", "/bar/", "/foo/x", "/bar//x"},
		{"prefix", "prefix: /foo/", "/bar", "/foo/x", "/barx"},
		{"prefix", "prefix: /", "/v2", "/x", "/v2x"},
		{"prefix", "prefix: /", "/v2/", "/x", "/v2/x"},
		{"prefix", "prefix: /foo", "/", "/foo?x=1", "/?x=1"},
		{"prefix", "prefix: /foo", "/bar", "/foo?next=/foo/a", "/bar?next=/foo/a"},
		{"prefix, ignoreUriCase", "prefix: /foo}, ignoreUriCase: true, method: {exact: GET", "/v2", "/FOO/bar", "/v2/bar"},
		{"prefix, empty", "prefix: ''", "/v2", "/x", "/v2/x"},
		{"exact", "exact: /foo", "/bar", "/foo?x=1", "/bar?x=1"},
		{"exact, query in the rewrite", "exact: /foo", "/bar?y=2", "/foo?x=1", "/bar?y=2?x=1"},
		{"regex", "regex: '/f.*'", "/bar", "/foo/deep?x=1", "/bar?x=1"},
		{"regex, literal", "regex: '/(f.*)'", `/\1$1`, "/foo", `/\1$1`},
		{"no uri", "", "/v2", "/x?q", "/v2x?q"},
		{"no uri, value missing", "}, method: {exact: GET", "/v2/", "/x", "/v2/x"},

		{"double slash", "prefix: /foo", "/bar", "/foo//x", "/bar//x"},
		{"escaped slash", "prefix: /foo", "/bar", "/foo/a%2Fb", "/bar/a%2Fb"},
		{"normalised before", "prefix: /foo", "/bar", "/x/../foo/./y?q=/../", "/bar/y?q=/../"},
		{"normalised, escape in the prefix", "prefix: /foo", "/bar", "/f%6Fo/y", "/bar/y"},
		{"normalised, exact", "exact: /foo", "/bar", "/x/../foo?q", "/bar?q"},
		{"absolute form", "prefix: /foo", "/bar", "http://H:80/foo/x?q", "http://H:80/bar/x?q"},
		{"absolute form without path", "prefix: /", "/v2/", "http://h", "http://h/v2/"},
		{"absolute form with only a query", "prefix: ''", "/v2", "http://h?q", "http://h/v2/?q"},
		{"without a slash", "prefix: /foo", "v2", "/foo/x?q", "v2/x?q"},
		{"without a slash, absolute form", "prefix: /foo", "v2", "http://h/foo?q", "http://h/v2?q"},
		{"without a slash, absolute form without path", "", "v2", "http://h?q", "http://h/v2?q"},
		{"userinfo, absolute form", "exact: /foo", "@evil.example", "http://h/foo", "http://h/@evil.example"},
		{"port, absolute form", "exact: /foo", ":81/x", "http://h:80/foo", "http://h:80/:81/x"},
		{"fragment", "prefix: /foo", "/bar", "/foo/x?q#f", "/bar/x?q"},

		{"none", "prefix: /foo", "", "/foo/x?q", "/foo/x?q"},
		{"none, not normal", "prefix: /foo", "", "/a/..\\foo/%2e/x?q=/../", "/foo/x?q=/../"},
		{"none, absolute form", "prefix: /", "", "http://u@H?q", "http://u@H?q"},
		{"none, absolute form, not normal", "prefix: /b", "", "http://u@H/a/../b?q", "http://u@H/b?q"},
		{"none, fragment", "prefix: /", "", "/x#f", "/x"},
	} {
		t.Run(tt.name+" "+tt.match+" "+tt.target, func(t *testing.T) {
			http := toV1
			if tt.match != "" {
				http = "match: [{uri: {" + tt.match + "}}]\n" + http
			}
			if tt.rewrite != "" {
				http = "rewrite: {uri: '" + tt.rewrite + "'}\n" + http
			}
			p, _ := compile(t, vs(http), Options{})
			r := request(t, "GET "+tt.target+"\nX-A:  b \nhost: h")
			d := decide(t, p, r, "")
			if tt.want == "" {
				if d.Why != NoRoute {
					t.Fatalf("matched")
				}
				return
			}
			if d.Verdict != Mirrored {
				t.Fatalf("not mirrored: %v", d.Why)
			}
			want := "GET " + tt.want + " HTTP/1.1\r\nX-A:  b \r\nhost: h\r\n"
			if got := string(d.Route.AppendHead([]byte("kept"), r)); got != "kept"+want {
				t.Errorf("got %q, want %q", got, want)
			}
			if got := p.Explain(r).Mirrors[0].Request.Target; got != tt.want {
				t.Errorf("Explain: %q, want %q", got, tt.want)
			}
		})
	}
}

// TestWithoutNormalization looks at the path as sent and leaves it so.
func TestWithoutNormalization(t *testing.T) {
	p, _ := compile(t, vs(
		"match: [{uri: {prefix: /a/../b}}]\n"+toV1,
		"match: [{uri: {prefix: /w}}]\nrewrite: {uri: /v}\n"+toV1,
	), Options{Normalize: NormalizeNone})
	for target, want := range map[string]string{
		"/a/../b/%00#f": "/a/../b/%00#f",
		"/b":            "",
		"/w/../x":       "/v/../x",
	} {
		r := request(t, "GET "+target)
		d := decide(t, p, r, "")
		if (d.Verdict == Mirrored) != (want != "") {
			t.Errorf("%s: %v", target, d.Verdict)
			continue
		}
		if want == "" {
			continue
		}
		if got := string(d.Route.AppendHead(nil, r)); !strings.HasPrefix(got, "GET "+want+" HTTP/1.1\r\n") {
			t.Errorf("%s: %q, want %s", target, got, want)
		}
	}
}
