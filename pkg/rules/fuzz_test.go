package rules

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/shadowtap/shadowtap/pkg/httpstream"
)

// FuzzProgram: whatever a file holds, it compiles or is refused; and whatever
// a request looks like, a Program decides about it, Explain agrees, and the
// copy is a request with the same body.
func FuzzProgram(f *testing.F) {
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	problems, err := filepath.Glob("testdata/problems/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	heads := [][]byte{
		[]byte("GET /httpbin/headers?k=v HTTP/1.1\r\nHost: www.bookinfo.com\r\nX-A: 1\r\n\r\n"),
		[]byte("GET http://BOOKINFO.com:80/a/../httpbin%2e/%41 HTTP/1.1\r\nHost: x\r\n\r\n"),
		[]byte("OPTIONS * HTTP/1.0\r\n\r\n"),
	}
	for _, name := range append(files, problems...) {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		for _, head := range heads {
			f.Add(data, head)
		}
	}
	for _, http := range []string{
		"match: [{uri: {prefix: /httpbin}, ignoreUriCase: true}, {queryParams: {k: {}}}]\nrewrite: {uri: /}\n" + toV1,
		"match: [{headers: {x-a: {regex: '[0-9]*'}}, withoutHeaders: {x-b: {exact: ''}}}]\n" + toV1,
		"match: [{port: 8000, scheme: {exact: http}, sourceLabels: {app: a}}, {gateways: [mesh]}]\nheaders: {request: {set: {x-a: '%REQ(host?x-b):4%%%'}, add: {x-a: b}, remove: [accept]}}\n" +
			"rewrite: {authority: b.example, uriRegexRewrite: {match: '(a)|b', rewrite: '\\1$x'}}\ntimeout: 5s\n" + toV1,
	} {
		for _, head := range heads {
			f.Add([]byte(vs(http)), head)
		}
	}
	for _, text := range gatewaySeeds {
		for _, head := range heads {
			f.Add([]byte(text), head)
		}
	}
	f.Fuzz(func(t *testing.T, file, head []byte) {
		if len(file) > 1<<16 {
			return
		}
		s, ps := Decode("fuzz.yaml", file)
		for _, o := range []Options{
			{},
			{Normalize: NormalizeNone, AllowLoops: true},
			{Normalize: NormalizeDecodeAndMergeSlashes, AllowLoops: true, HostSuffix: true, EnvoyHeaders: true},
		} {
			p, more := Compile(s, o)
			if (p == nil) != (more.Err() != nil) {
				t.Fatalf("program %v, error %v", p != nil, more.Err())
			}
			if p == nil {
				continue
			}
			if ps.Err() != nil && incompleteSnapshot(s) {
				t.Fatal("compiled what did not decode")
			}
			checkRequest(t, p, head)
		}
	})
}

func incompleteSnapshot(s *Snapshot) (bad bool) {
	s.metas(func(m *Meta) { bad = bad || m.bad != nil })
	return bad
}

func checkRequest(t *testing.T, p *Program, raw []byte) {
	r, err := httpstream.ParseRequest(raw)
	if err != nil {
		return
	}
	defer r.Release()
	var d Decision
	p.Decide(r, 0, &d)
	checkExplain(t, p, r, &d)
	if d.Route == nil {
		return
	}
	head := d.Route.AppendHead(nil, r)
	if len(d.Selected) > 0 {
		head = d.Selected[0].AppendHead(nil, r)
	}
	line, fields, ok := bytes.Cut(head, []byte("\r\n"))
	if !ok || len(d.Selected) == 0 && d.Route.action.edit == nil && !bytes.Equal(fields, r.HeaderBlock()) ||
		!bytes.HasPrefix(line, append(bytes.Clone(r.Method()), ' ')) || !bytes.HasSuffix(line, r.Version()) {
		t.Fatalf("head %q of %q", head, raw)
	}
	if target := line[len(r.Method())+1 : len(line)-len(r.Version())-1]; bytes.ContainsAny(target, " \r\n") {
		t.Fatalf("target %q of %q", target, raw)
	}
	// Whatever is changed, the copy is a request that frames its body alike.
	parsed, err := httpstream.ParseRequest(append(append(bytes.Clone(head), "\r\n"...), r.Body()...))
	if err != nil {
		t.Fatalf("%v in the copy %q of %q", err, head, raw)
	}
	if parsed.Framing() != r.Framing() || parsed.ContentLen() != r.ContentLen() {
		t.Fatalf("copy %q of %q", head, raw)
	}
	parsed.Release()
	NewRecord(r, &d)
}
