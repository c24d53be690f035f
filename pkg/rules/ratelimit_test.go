package rules

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

// TestShareOfLimit: agents that capture at some of a route's endpoints take
// that part of its limit each, and all of it together.
func TestShareOfLimit(t *testing.T) {
	const text = `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: v1}
spec:
  hosts: [v1.example]
  resolution: STATIC
  ports: [{name: http, number: 80, protocol: HTTP}]
  endpoints: [{address: 10.0.0.1}, {address: 10.0.0.2}, {address: 10.0.0.3}, {address: 10.0.0.4}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: v2}
spec: {hosts: [v2.example], resolution: STATIC, ports: [{name: http, number: 80, protocol: HTTP}], endpoints: [{address: 10.0.1.1}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: a
  annotations: {shadowtap.dev/mirrors: '[{maxRequestsPerSecond: 100}]'}
spec:
  hosts: ['*']
  http:
  - route: [{destination: {host: v1.example}}]
    mirror: {host: v2.example}
`
	// taken is how many of 1000 requests a millisecond apart are mirrored.
	taken := func(p *Program) (n int) {
		for i := range 1000 {
			r := request(t, "GET /\nHost: any.example")
			r.End = int64(i) * int64(time.Millisecond)
			if decide(t, p, r, "10.0.0.1:80").Verdict == Mirrored {
				n++
			}
		}
		return n
	}
	for name, tt := range map[string]struct {
		here []string
		want int
	}{
		"not shared":      {nil, 109},
		"one of four":     {[]string{"10.0.0.1"}, 27},
		"three of four":   {[]string{"10.0.0.1", "10.0.0.3", "10.0.0.4"}, 82},
		"all":             {[]string{"10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"}, 109},
		"none, no change": {[]string{"10.9.9.9"}, 109},
	} {
		t.Run(name, func(t *testing.T) {
			p, _ := compile(t, text, Options{})
			if tt.here != nil {
				here := map[netip.Addr]bool{}
				for _, a := range tt.here {
					here[netip.MustParseAddr(a)] = true
				}
				p.Share(func(a netip.Addr) bool { return here[a] })
			}
			if got := taken(p); got != tt.want {
				t.Errorf("%d of 1000 requests in a second, want %d", got, tt.want)
			}
		})
	}
}

// TestLimitIsInherited: rules that are compiled anew allow no more than those
// before did, and a limit that is not the same is another one.
func TestLimitIsInherited(t *testing.T) {
	const entry = "- {maxRequestsPerSecond: 5}"
	takes := func(p *Program, at time.Duration) bool {
		r := request(t, "GET /")
		r.End = int64(at)
		return decide(t, p, r, "10.0.0.1:80").Verdict == Mirrored
	}
	for name, tt := range map[string]struct {
		text  string
		fresh bool
	}{
		"the same":           {annotated(entry, toV1), false},
		"of other changes":   {annotated("- {maxRequestsPerSecond: 5, headers: {set: {x-a: b}}}", toV1), false},
		"to another place":   {annotated(entry, strings.Replace(toV1, "subset: v2", "subset: v3", 1)), false},
		"of another rate":    {annotated("- {maxRequestsPerSecond: 6}", toV1), true},
		"for some host":      {annotated("- {host: httpbin, maxRequestsPerSecond: 5}", toV1), true},
		"for some subset":    {annotated("- {subset: v2, maxRequestsPerSecond: 5}", toV1), true},
		"of another object":  {strings.Replace(annotated(entry, toV1), "name: test", "name: other", 1), true},
		"there was none yet": {annotated(entry, toV1), true},
	} {
		t.Run(name, func(t *testing.T) {
			before := annotated(entry, toV1)
			if name == "there was none yet" {
				before = vs(toV1)
			}
			old, _ := compile(t, before, Options{})
			p, _ := compile(t, tt.text, Options{})
			p.Inherit(old)
			if !takes(old, 0) {
				t.Fatal("the first request is not within the limit")
			}
			if takes(p, 1) != tt.fresh {
				t.Errorf("a request behind it within the limit: %t", !tt.fresh)
			}
			// A shard may still be using the one before.
			const later = time.Second
			if !takes(p, later) {
				t.Error("a request a second later is not within the limit")
			}
			if takes(old, later+1) != tt.fresh {
				t.Errorf("one behind it, by the rules before, within the limit: %t", !tt.fresh)
			}
		})
	}
}

// TestTinyLimit: one whose interval is too long to be counted does not become
// none.
func TestTinyLimit(t *testing.T) {
	l := newRateLimit(limitKey{rate: 1e-15})
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).UnixNano()
	if !l.take(now) || l.take(now) || l.take(now+int64(time.Hour)) {
		t.Error("the first request, and no other, is within the limit")
	}
}
