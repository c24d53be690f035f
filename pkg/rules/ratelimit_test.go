package rules

import (
	"net/netip"
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

// TestTinyLimit: one whose interval is too long to be counted does not become
// none.
func TestTinyLimit(t *testing.T) {
	l := newRateLimit(1e-15)
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).UnixNano()
	if !l.take(now) || l.take(now) || l.take(now+int64(time.Hour)) {
		t.Error("the first request, and no other, is within the limit")
	}
}
