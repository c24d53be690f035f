package rules

import (
	"strings"
	"testing"
)

// TestMergeSlashes has MeshConfig's other forms of a path, in what is matched
// and in what the copy carries.
func TestMergeSlashes(t *testing.T) {
	for _, tt := range []struct {
		form Normalization
		path string
		want string
	}{
		{NormalizeMergeSlashes, "/a//b/c/", "/a/b/c/"},
		{NormalizeMergeSlashes, "//a/b///c//", "/a/b/c/"},
		{NormalizeMergeSlashes, "/a//b?x=//y", "/a/b?x=//y"},
		{NormalizeMergeSlashes, "/a%2Fb//c", "/a%2Fb/c"},
		{NormalizeMergeSlashes, "/a//../b", "/a/b"}, // dot segments go first
		{NormalizeMergeSlashes, "//", "//"},
		{NormalizeMergeSlashes, "/", "/"},
		{NormalizeDecodeAndMergeSlashes, "/a%2Fb", "/a/b"},
		{NormalizeDecodeAndMergeSlashes, "/a%2f%2Fb%5cc%5Cd", "/a/b/c/d"},
		{NormalizeDecodeAndMergeSlashes, "/a/..%2fb", "/b"},
		{NormalizeDecodeAndMergeSlashes, "/a%252fb", "/a%252fb"},
		{NormalizeDecodeAndMergeSlashes, "/a%2", "/a%2"},
		{NormalizeBase, "/a//b%2Fc", "/a//b%2Fc"},
		{NormalizeNone, "/a//b%2Fc/../d", "/a//b%2Fc/../d"},
	} {
		want, query, _ := strings.Cut(tt.want, "?")
		p, _ := compile(t, vs("match: [{uri: {exact: '"+want+"'}}]\n"+toV1), Options{Normalize: tt.form})
		r := request(t, "GET "+tt.path)
		d := decide(t, p, r, "")
		if d.Verdict != Mirrored {
			t.Errorf("%v: %s is not matched as %s", tt.form, tt.path, want)
			continue
		}
		if query != "" {
			want += "?" + query
		}
		if got := p.Explain(r).Mirrors[0].Request.Target; got != want {
			t.Errorf("%v: %s is sent as %s, want %s", tt.form, tt.path, got, want)
		}
	}
	for name, want := range map[string]Normalization{
		"BASE": NormalizeBase, "DEFAULT": NormalizeBase, "NONE": NormalizeNone,
		"MERGE_SLASHES": NormalizeMergeSlashes, "DECODE_AND_MERGE_SLASHES": NormalizeDecodeAndMergeSlashes,
	} {
		if got, err := ParseNormalization(name); err != nil || got != want {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	if _, err := ParseNormalization("base"); err == nil {
		t.Error("base: no error")
	}
}

// TestBehindProxy: rules see what the client sent, the shadow gets what v1 got.
func TestBehindProxy(t *testing.T) {
	text := strings.Replace(vs(
		"match: [{uri: {prefix: /shop}, queryParams: {k: {exact: v}}}]\nrewrite: {uri: /, authority: internal}\nheaders: {request: {add: {x-a: '1'}}}\n"+toV1,
		"match: [{uri: {prefix: /}}]\nrewrite: {authority: internal}\n"+toV1), "hosts: ['*']", "hosts: [shop.example]", 1)
	p, _ := compile(t, text, Options{})
	for _, tt := range []struct{ name, head, want string }{
		{"as sent", "GET /shop/x?k=v HTTP/1.1\nHost: shop.example", "GET //x?k=v HTTP/1.1|Host: internal|x-a: 1"},
		{"x-envoy-original-path", "GET /x?k=v HTTP/1.1\nHost: shop.example\nx-a: 1\nX-Envoy-Original-Path: /shop/x?k=v",
			"GET /x?k=v HTTP/1.1|Host: shop.example|x-a: 1|X-Envoy-Original-Path: /shop/x?k=v"},
		{"x-envoy-original-host", "GET /y HTTP/1.1\nHost: internal\nx-envoy-original-host: shop.example:80",
			"GET /y HTTP/1.1|Host: internal|x-envoy-original-host: shop.example:80"},
		{"x-forwarded-host beside Envoy's", "GET /x HTTP/1.1\nHost: internal\nx-envoy-original-path: /shop/x?k=v\nx-forwarded-host: other, shop.example",
			"GET /x HTTP/1.1|Host: internal|x-envoy-original-path: /shop/x?k=v|x-forwarded-host: other, shop.example"},
		{"x-forwarded-host of another proxy", "GET /y HTTP/1.1\nHost: upstream:8080\nX-Forwarded-Host: shop.example",
			"GET /y HTTP/1.1|Host: internal|X-Forwarded-Host: shop.example"},
		{"Host before x-forwarded-host", "GET /y HTTP/1.1\nHost: shop.example\nX-Forwarded-Host: nowhere.example",
			"GET /y HTTP/1.1|Host: internal|X-Forwarded-Host: nowhere.example"},
		{"an original path that is none", "GET /shop HTTP/1.1\nHost: shop.example\nx-envoy-original-path: shop", "GET /shop HTTP/1.1|Host: shop.example|x-envoy-original-path: shop"},
		{"no host of a rule", "GET /y HTTP/1.1\nHost: upstream\nX-Forwarded-Host: nowhere.example", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := request(t, tt.head)
			d := decide(t, p, r, "")
			got := ""
			if len(d.Selected) > 0 {
				got = strings.ReplaceAll(strings.TrimSuffix(string(d.Selected[0].AppendHead(nil, r)), "\r\n"), "\r\n", "|")
			}
			if got != tt.want {
				t.Errorf("got\n%s, want\n%s (%v)", got, tt.want, d.Why)
			}
		})
	}
}
