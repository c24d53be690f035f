package rules

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

// annotated is rules with the annotation.
func annotated(annotation, http string) string {
	text := "    " + strings.ReplaceAll(strings.TrimSpace(annotation), "\n", "\n    ")
	return strings.Replace(vs(http), "metadata: {name: test}", "metadata:\n  name: test\n  annotations:\n   "+Annotation+": |\n"+text, 1)
}

// TestExtraShape: what is changed in the copy for one mirror alone.
func TestExtraShape(t *testing.T) {
	const http = `
name: r
match: [{uri: {prefix: /a}}]
rewrite: {uri: /b}
headers: {request: {set: {x-a: rule, x-b: rule}}}
route: [{destination: {host: httpbin, subset: v1}}]
mirrors:
- destination: {host: httpbin, subset: v2}
- destination: {host: httpbin, subset: v3}`
	const plain = "GET /b/x?q HTTP/1.1|Host: h|Cookie: c|x-a: rule|x-b: rule"
	for _, tt := range []struct{ name, entry, want string }{
		{"set", "headers: {set: {x-a: own}}", "GET /b/x?q HTTP/1.1|Host: h|Cookie: c|x-b: rule|x-a: own"},
		{"add", "headers: {add: {x-a: own}}", "GET /b/x?q HTTP/1.1|Host: h|Cookie: c|x-a: rule|x-b: rule|x-a: own"},
		{"remove", "headers: {remove: [cookie, x-a]}", "GET /b/x?q HTTP/1.1|Host: h|x-b: rule"},
		{"authority", "rewrite: {authority: 'v2.example:8'}", "GET /b/x?q HTTP/1.1|Host: v2.example:8|Cookie: c|x-a: rule|x-b: rule"},
		{"prefix", "rewrite: {prefix: /v2/}", "GET /v2/b/x?q HTTP/1.1|Host: h|Cookie: c|x-a: rule|x-b: rule"},
		{"regex", "rewrite: {uriRegexRewrite: {match: '/(b)/', rewrite: '/\\1\\1/'}}", "GET /bb/x?q HTTP/1.1|Host: h|Cookie: c|x-a: rule|x-b: rule"},
		{"another subset", "subset: v3\n  rewrite: {prefix: /v2}", plain},
		{"the first entry counts", "subset: v2\n- headers: {set: {x-a: own}}", plain},
	} {
		t.Run(tt.name, func(t *testing.T) {
			entry := tt.entry
			if !strings.Contains(entry, "subset") {
				entry = "route: r\n  host: httpbin\n  subset: v2\n  " + entry
			}
			p, _ := compile(t, annotated("- "+entry, http), Options{})
			r := request(t, "GET /a/x?q\nHost: h\nCookie: c")
			var d Decision
			p.Decide(r, 0, &d)
			if len(d.Selected) != 2 {
				t.Fatalf("%d mirrors", len(d.Selected))
			}
			got := strings.ReplaceAll(strings.TrimSuffix(string(d.Selected[0].AppendHead(nil, r)), "\r\n"), "\r\n", "|")
			if got != tt.want {
				t.Errorf("got\n%s, want\n%s", got, tt.want)
			}
			if strings.Contains(tt.entry, "subset") {
				return
			}
			if other := strings.ReplaceAll(strings.TrimSuffix(string(d.Selected[1].AppendHead(nil, r)), "\r\n"), "\r\n", "|"); other != plain {
				t.Errorf("the other mirror got\n%s", other)
			}
		})
	}
}

// TestExtraBehindProxy: the copy alone is changed also where a proxy has done
// what the rule says.
func TestExtraBehindProxy(t *testing.T) {
	p, _ := compile(t, annotated("- rewrite: {prefix: /v2}\n  headers: {set: {x-b: own}}", "rewrite: {uri: /b/}\nheaders: {request: {set: {x-a: rule}}}\n"+toV1), Options{})
	r := request(t, "GET /b/x\nHost: h\nx-envoy-original-path: /x")
	var d Decision
	p.Decide(r, 0, &d)
	if got := string(d.Selected[0].AppendHead(nil, r)); got != "GET /v2/b/x HTTP/1.1\r\nHost: h\r\nx-envoy-original-path: /x\r\nx-b: own\r\n" {
		t.Errorf("%q", got)
	}
}

// TestExtraAdmission: safe methods and the size of the body.
func TestExtraAdmission(t *testing.T) {
	p, _ := compile(t, annotated("- {safeMethods: true, maxBody: 3}", toV1), Options{})
	for head, want := range map[string]bool{
		"GET /": true, "HEAD /": true, "OPTIONS /": true, "TRACE /": true, "POST /": false, "get /": false, "DELETE /": false,
	} {
		r := request(t, head)
		var d Decision
		p.Decide(r, 0, &d)
		if (d.Verdict == Mirrored) != want || !want && d.Why != NoMirror {
			t.Errorf("%s: %v %v", head, d.Verdict, d.Why)
		}
		if e := p.Explain(r); (len(e.Mirrors) == 1) != want {
			t.Errorf("%s: explained with %d mirrors", head, len(e.Mirrors))
		}
	}
}

// TestExtraSampling: which requests make up a percentage.
func TestExtraSampling(t *testing.T) {
	const n = 4000
	http := strings.Replace(toV1, "subset: v2}", "subset: v2}\nmirrorPercentage: {value: 10}", 1)
	count := func(by string, head func(i int) string) (selected int, kept bool) {
		p, _ := compile(t, annotated("- sampling: {by: "+by+"}", http), Options{})
		kept = true
		var d Decision
		for i := range n {
			r := request(t, head(i))
			r.Source = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), uint16(i))
			p.Decide(r, mix(uint64(i)), &d)
			first := d.Verdict
			if first == Mirrored {
				selected++
			}
			p.Decide(r, mix(uint64(i)+n), &d) // the same value, another request
			kept = kept && d.Verdict == first
		}
		return selected, kept
	}
	for _, tt := range []struct {
		by     string
		head   func(i int) string
		sticky bool
	}{
		{"request", func(int) string { return "GET /" }, false},
		{"independent", func(int) string { return "GET /" }, false},
		{"header, name: X-User", func(i int) string { return fmt.Sprintf("GET /\nx-user: u%d", i) }, true},
		{"header, name: x-none", func(i int) string { return fmt.Sprintf("GET /\nx-user: u%d", i) }, false},
		{"cookie, name: id", func(i int) string { return fmt.Sprintf("GET /\nCookie: a=b; id=%d; id=0", i) }, true},
		{"query, name: id", func(i int) string { return fmt.Sprintf("GET /?x=1&id=%d", i) }, true},
		{"client", func(int) string { return "GET /" }, true},
	} {
		selected, kept := count(tt.by, tt.head)
		if selected < n*8/100 || selected > n*12/100 {
			t.Errorf("%s: %d of %d, want a tenth", tt.by, selected, n)
		}
		if kept != tt.sticky {
			t.Errorf("%s: the same value decides alike: %v", tt.by, kept)
		}
	}
}

// TestExtraIndependent: mirrors that draw for themselves do not take the same
// requests.
func TestExtraIndependent(t *testing.T) {
	http := "route: [{destination: {host: httpbin, subset: v1}}]\nmirrors:\n" +
		"- {destination: {host: httpbin, subset: v2}, percentage: {value: 50}}\n- {destination: {host: httpbin, subset: v3}, percentage: {value: 50}}"
	p, _ := compile(t, annotated("- sampling: {by: independent}", http), Options{})
	r := request(t, "GET /")
	both := 0
	var d Decision
	for i := range 10_000 {
		if p.Decide(r, mix(uint64(i)), &d); len(d.Selected) == 2 {
			both++
		}
	}
	if both < 2200 || both > 2800 {
		t.Errorf("both mirrors took %d of 10000, want a quarter", both)
	}
}

// TestExtraRate: the requests' own clock bounds how many a second are taken.
func TestExtraRate(t *testing.T) {
	p, _ := compile(t, annotated("- maxRequestsPerSecond: 50", toV1), Options{})
	r := request(t, "GET /")
	var d Decision
	taken := 0
	for i := range 10_000 { // 1000 a second for ten seconds
		r.End = int64(i) * 1e6
		p.Decide(r, 0, &d)
		switch d.Verdict {
		case Mirrored:
			taken++
		case SampledOut:
		default:
			t.Fatalf("%v %v", d.Verdict, d.Why)
		}
	}
	if taken < 500 || taken > 510 {
		t.Errorf("%d of 10 s, want 50 a second", taken)
	}
}

// TestExtraProblems: what is wrong in the annotation is found.
func TestExtraProblems(t *testing.T) {
	const at = "metadata.annotations[" + Annotation + "]"
	for _, tt := range []struct{ annotation, field string }{
		{"not a list", at},
		{"- {mirror: v2}", at},
		{"- {subset: none}", at + "[0]"},
		{"- {}\n- {}", at + "[1]"},
		{"- {maxBody: -1}", at + "[0].maxBody"},
		{"- {maxRequestsPerSecond: 0}", at + "[0].maxRequestsPerSecond"},
		{"- {sampling: {by: moon}}", at + "[0].sampling.by"},
		{"- {sampling: {by: header}}", at + "[0].sampling.name"},
		{"- {sampling: {by: client, name: a}}", at + "[0].sampling.name"},
		{"- {rewrite: {prefix: v2}}", at + "[0].rewrite.prefix"},
		{"- {rewrite: {authority: 'a b'}}", at + "[0].rewrite.authority"},
		{"- {headers: {set: {host: a}}}", at + "[0].headers"},
		{"- {headers: {remove: ['a b']}}", at + "[0].headers.remove[0]"},
	} {
		ps := problemsOf(t, annotated(tt.annotation, toV1))
		if len(ps) != 1 || ps.Err() == nil || ps[0].Field != tt.field || ps[0].Line == 0 {
			t.Errorf("%s: %v, want an error at %s", tt.annotation, ps, tt.field)
		}
	}
	misplaced := strings.Replace(vs(toV1), "kind: DestinationRule\nmetadata: {name: httpbin}",
		"kind: DestinationRule\nmetadata: {name: httpbin, annotations: {"+Annotation+": '- {}'}}", 1)
	if _, warnings := compile(t, misplaced, Options{}); len(warnings) != 1 || warnings[0].Field != at {
		t.Errorf("on a DestinationRule: %v", warnings)
	}
}
