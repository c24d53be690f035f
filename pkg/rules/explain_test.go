package rules

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/shadowtap/shadowtap/pkg/httpstream"
)

func standalone(t testing.TB) *Program {
	t.Helper()
	data, err := os.ReadFile("testdata/standalone.yaml")
	if err != nil {
		t.Fatal(err)
	}
	p, _ := compile(t, string(data), Options{})
	return p
}

// indented is v in JSON for people.
func indented(t *testing.T, v any) []byte {
	t.Helper()
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestExplain has the forms that scripts depend on.
func TestExplain(t *testing.T) {
	p, _ := compile(t, strings.ReplaceAll(vs(
		"name: first\nmatch: [{uri: {regex: '/x.*'}}, {name: put, method: {exact: PUT}}, {authority: {exact: other}}]\n"+toV1,
		"match: [{headers: {x-user: {prefix: adm}, x-other: {}}}, {headers: {accept: {exact: a}}}]\n"+toV1,
		"match: [{withoutHeaders: {accept: {}}}, {queryParams: {k: {exact: v}}}, {queryParams: {q: {exact: v}}}]\n"+toV1,
		"name: last\nmatch: [{uri: {prefix: /httpbin}}]\nrewrite: {uri: /}\nmirrorPercentage: {value: 0.57}\n"+toV1,
		"name: none\nmatch: [{uri: {prefix: /none}}]\nredirect: {uri: /}\n",
	), "hosts: ['*']", "hosts: [www.bookinfo.com, '*.example']"), Options{})
	for name, head := range map[string]string{
		"match":    "POST /httpbin/headers?k=w HTTP/1.1\nHost: www.bookinfo.com\nX-User:  bob\naccept: */*\nTransfer-Encoding: chunked\n\n3;x=y\nabc\n0\nX-Trailer: t\n\n",
		"no-route": "GET / HTTP/1.1\nHost: www.bookinfo.com\nAccept: */*\n\n",
		"no-host":  "GET / HTTP/1.1\nHost: other:80\n\n",
		"no-path":  "OPTIONS * HTTP/1.1\nHost: www.bookinfo.com\n\n",
		"redirect": "GET /none HTTP/1.1\nHost: a.example\nAccept: */*\n\n",
	} {
		t.Run(name, func(t *testing.T) {
			r, err := httpstream.ParseRequest([]byte(strings.ReplaceAll(head, "\n", "\r\n")))
			if err != nil {
				t.Fatal(err)
			}
			defer r.Release()
			e := p.Explain(r)
			golden(t, "testdata/explain/"+name+".json", indented(t, e))
			var b bytes.Buffer
			if err := e.WriteText(&b); err != nil {
				t.Fatal(err)
			}
			golden(t, "testdata/explain/"+name+".txt", b.Bytes())
		})
	}
}

func TestRecord(t *testing.T) {
	p := standalone(t)
	r := request(t, "GET /httpbin/headers\nHost: www.bookinfo.com\nAccept: */*")
	r.Source = netip.MustParseAddrPort("10.99.0.1:51234")
	r.Destination = netip.MustParseAddrPort("10.99.0.2:80")
	r.Start = 1795402800123456789
	var d Decision
	p.Decide(r, 7, &d)
	rec := NewRecord(r, &d)
	golden(t, "testdata/record.json", indented(t, rec))
	var b bytes.Buffer
	if err := rec.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/record.txt", b.Bytes())

	r = request(t, "GET /\nHost: other")
	p.Decide(r, 7, &d)
	if rec := NewRecord(r, &d); rec.Matched || rec.Rule != nil || rec.Mirrors == nil {
		t.Errorf("%+v", rec)
	}
}
