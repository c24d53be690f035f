package rules

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
)

// entries are n entries of a list.
func entries(n int, format string) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, format+", ", i)
	}
	return b.String()
}

// Objects for tests of what rules cost.
const (
	costService = `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: %[1]s, namespace: %[2]s}
spec: {hosts: [%[1]s.example], resolution: STATIC, ports: [{name: http, number: 80, protocol: HTTP}], endpoints: [%[3]s]}
---
`
	costRoutes = `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: routes, namespace: bad}
spec: {hosts: [%s], http: [%s]}
---
`
	costPlain = `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: plain, namespace: good}
spec: {hosts: [live.example], http: [{route: [{destination: {host: live.example}}], mirror: {host: shadow.example}}]}
---
`
)

// TestCostOfProducts: a few kilobytes of text cannot take any amount of memory,
// and nothing but the object that would is given up.
func TestCostOfProducts(t *testing.T) {
	const route = "{match: [{uri: {prefix: /%d}}], route: [{destination: {host: live.example}}], mirror: {host: shadow.example}}"
	base := fmt.Sprintf(costService, "live", "good", "{address: 10.0.0.1}") +
		fmt.Sprintf(costService, "shadow", "good", "{address: 10.0.0.2}") + costPlain
	wide := fmt.Sprintf(costService, "wide", "bad", entries(1000, "{address: '10.1.0.0', labels: {n: 'x%d', a: b}}"))
	for i := range 1000 {
		wide = strings.Replace(wide, "'10.1.0.0'", fmt.Sprintf("10.1.%d.%d", i>>8, i&255), 1)
	}
	long, reads := strings.Repeat("x", 15000), strings.Repeat("%%REQ(a)%%,", 1000)
	tests := map[string]struct{ text, object string }{
		"delegates": {fmt.Sprintf(costRoutes, "a", entries(300, "{match: [{headers: {a: {exact: '%d'}}}], delegate: {name: leaf}}")) + `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: leaf, namespace: bad}
spec: {http: [` + entries(300, route) + "]}\n", "VirtualService bad/routes"},
		"matches of delegates": {fmt.Sprintf(costRoutes, "a", "{match: ["+entries(250, "{headers: {a: {exact: '%d'}}}")+"], delegate: {name: leaf}}") + `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: leaf, namespace: bad}
spec: {http: [{match: [` + entries(500, "{uri: {prefix: /%d}}") + "], route: [{destination: {host: live.example}}], mirror: {host: shadow.example}}]}\n", "VirtualService bad/routes"},
		"subsets": {wide + `
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: subsets, namespace: bad}
spec: {host: wide.example, subsets: [` + entries(200, "{name: s%d, labels: {a: b}}") + "]}\n---\n" +
			fmt.Sprintf(costRoutes, "a", entries(200, "{route: [{destination: {host: live.example}}], mirror: {host: wide.example, subset: s%d}}")), "VirtualService bad/routes"},
		"repetitions": {fmt.Sprintf(costRoutes, "a", entries(50, "{match: [{uri: {regex: 'a{1000}b{1000}%d'}}], route: [{destination: {host: live.example}}], mirror: {host: shadow.example}}")), "VirtualService bad/routes"},
		"mirrors and destinations": {fmt.Sprintf(costRoutes, "a", "{match: ["+entries(20, "{uri: {prefix: /%d}}")+"], route: ["+
			entries(40, "{weight: 1, destination: {host: live.example}, headers: {request: {set: {a: '%d'}}}}")+"], mirrors: ["+strings.Repeat("{destination: {host: shadow.example}}, ", 400)+"]}"), "VirtualService bad/routes"},
		"values of destinations": {fmt.Sprintf(costRoutes, "a", "{route: ["+
			entries(2, "{weight: 1, destination: {host: live.example}, headers: {request: {set: {a: '%d"+long+"'}}}}")+"], headers: {request: {set: {"+
			entries(4, "b%d: '"+reads+"'")+"}}}, mirror: {host: shadow.example}}"), "VirtualService bad/routes"},
		"values of the annotation": {strings.Replace(fmt.Sprintf(costRoutes, "a", "{match: ["+entries(4, "{uri: {prefix: /%d}}")+"], route: [{destination: {host: live.example}}], "+
			"headers: {request: {set: {a: '"+long+"'}}}, mirror: {host: shadow.example}}"), "namespace: bad",
			`namespace: bad, annotations: {shadowtap.dev/mirrors: "[{headers: {set: {b: '`+strings.ReplaceAll(reads, "%%", "%")+`'}}}]"}`, 1), "VirtualService bad/routes"},
		"several destinations": {wide + fmt.Sprintf(costRoutes, "a",
			entries(200, "{match: [{uri: {prefix: /%d}}], route: [{weight: 1, destination: {host: wide.example}}, {weight: 1, destination: {host: live.example}}], mirror: {host: shadow.example}}")), "VirtualService bad/routes"},
		"a service again and again": {strings.Replace(wide, "hosts: [wide.example]", "hosts: ["+strings.Repeat("wide.example, ", 200)+"]", 1), "ServiceEntry bad/wide"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s, problems := Decode("", []byte(base+test.text))
			if err := problems.Err(); err != nil {
				t.Fatal(err)
			}
			const limit = 8 << 20
			before := liveHeap()
			p, problems := CompileEach(s, Options{MaxMemory: limit, AllowLoops: true})
			took := liveHeap() - before
			if p == nil {
				t.Fatal(problems)
			}
			t.Logf("%d KiB for a text of %d KiB, %d problems", took>>10, len(test.text)>>10, len(problems))
			if took > limit+int64(20*len(test.text)) {
				t.Errorf("%d KiB for a text of %d KiB", took>>10, len(test.text)>>10)
			}
			found := false
			for _, e := range problems {
				if !e.Warning && e.Object != test.object {
					t.Fatalf("another object has an error: %v", e)
				}
				found = found || strings.HasPrefix(e.Message, "takes too much memory")
			}
			if !found {
				t.Errorf("nothing is said of %d KiB that a text of %d KiB takes: %d problems", took>>10, len(test.text)>>10, len(problems))
			}
			if d := decide(t, p, request(t, "GET /\nHost: live.example"), "10.0.0.1:80"); d.Verdict != Mirrored {
				t.Errorf("the other rule is not in use: %v", d.Verdict)
			}
			runtime.KeepAlive(p)
			runtime.KeepAlive(problems)
			runtime.KeepAlive(s)
		})
	}
}

// TestWhatIsShared: many hosts of many routes, and many routes to many
// endpoints, take no more than their text.
func TestWhatIsShared(t *testing.T) {
	wide := fmt.Sprintf(costService, "wide", "bad", entries(1000, "{address: '10.1.0.0', labels: {n: 'x%d', a: b}}"))
	for i := range 1000 {
		wide = strings.Replace(wide, "'10.1.0.0'", fmt.Sprintf("10.1.%d.%d", i>>8, i&255), 1)
	}
	for name, text := range map[string]string{
		"hosts":     wide + fmt.Sprintf(costRoutes, entries(500, "h%d.example"), entries(500, "{match: [{uri: {prefix: /%d}}], route: [{destination: {host: wide.example}}]}")),
		"endpoints": wide + fmt.Sprintf(costRoutes, "a", entries(500, "{match: [{uri: {prefix: /%d}}], route: [{destination: {host: wide.example}}], mirror: {host: wide.example}}")),
	} {
		s, problems := Decode("", []byte(text))
		before := liveHeap()
		p, more := Compile(s, Options{MaxMemory: 16 << 20, AllowLoops: true})
		took := liveHeap() - before
		if err := append(problems, more...).Err(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if took > int64(30*len(text)) {
			t.Errorf("%s: %d KiB for a text of %d KiB", name, took>>10, len(text)>>10)
		}
		t.Logf("%s: %d KiB for a text of %d KiB", name, took>>10, len(text)>>10)
		runtime.KeepAlive(p)
		runtime.KeepAlive(s)
	}
}

func liveHeap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
