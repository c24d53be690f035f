package rules

import (
	"fmt"
	"strings"
	"testing"
)

func TestPercentage(t *testing.T) {
	for _, tt := range []struct {
		name, fields string
		share        string // "numerator/denominator", empty for no mirror
		percentage   float64
		warnings     int
	}{
		{"absent", "", "100/100", 100, 0},
		{"mirrorPercentage", "mirrorPercentage: {value: 5.5}", "55000/1000000", 5.5, 0},
		{"mirror_percentage", "mirror_percentage: {value: 50}", "500000/1000000", 50, 0},
		{"mirrorPercentage 100", "mirrorPercentage: {value: 100}", "1000000/1000000", 100, 0},
		{"mirrorPercentage is truncated", "mirrorPercentage: {value: 0.57}", "5699/1000000", 0.5699, 0},
		{"mirrorPercentage, the least", "mirrorPercentage: {value: 0.0001}", "1/1000000", 0.0001, 0},
		{"mirrorPercentage, less than the least", "mirrorPercentage: {value: 0.00009}", "", 0, 1},
		{"mirrorPercentage 0", "mirrorPercentage: {value: 0}", "", 0, 0},
		{"mirrorPercentage without value", "mirrorPercentage: {}", "", 0, 0},
		{"mirrorPercent", "mirrorPercent: 7", "7/100", 7, 1},
		{"mirror_percent", "mirror_percent: 7", "7/100", 7, 1},
		{"mirror_percent 0", "mirror_percent: 0", "", 0, 1},
		{"mirrorPercentage before mirror_percent", "mirrorPercentage: {value: 1}\nmirror_percent: 99", "10000/1000000", 1, 1},
		{"mirrorPercentage 0 before mirror_percent", "mirrorPercentage: {value: 0}\nmirror_percent: 99", "", 0, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, warnings := compile(t, vs(toV1+tt.fields), Options{})
			if len(warnings) != tt.warnings {
				t.Errorf("%d warnings, want %d: %v", len(warnings), tt.warnings, warnings)
			}
			d := decide(t, p, request(t, "GET /"), "")
			if tt.share == "" {
				if d.Why != NoMirror || len(p.Mirrors()) != 0 || len(p.Targets()) != 0 {
					t.Errorf("%v, %d mirrors, targets %v", d.Why, len(p.Mirrors()), p.Targets())
				}
				return
			}
			if len(d.Selected) != 1 {
				t.Fatalf("%d mirrors selected", len(d.Selected))
			}
			rm := d.Selected[0]
			if got := fmt.Sprintf("%d/%d", rm.Numerator, rm.Denominator); got != tt.share || rm.Percentage() != tt.percentage {
				t.Errorf("%s, %v %%; want %s, %v %%", got, rm.Percentage(), tt.share, tt.percentage)
			}
		})
	}
}

// TestSampling: one random number decides for all mirrors, so that equal
// shares take the same requests and a smaller share a part of a larger one's.
func TestSampling(t *testing.T) {
	p, _ := compile(t, vs(`
route: [{destination: {host: httpbin, subset: v1}}]
mirrors:
- {destination: {host: httpbin, subset: v2}, percentage: {value: 10}}
- {destination: {host: httpbin, subset: v3}, percentage: {value: 10}}
- {destination: {host: httpbin, subset: v3}, percentage: {value: 20}}
- {destination: {host: httpbin, subset: v3}, percentage: {value: 0}}`), Options{})
	r := request(t, "GET /")
	var d Decision
	for _, tt := range []struct {
		random   uint64
		selected int
		verdict  Verdict
	}{
		{0, 3, Mirrored}, {99_999, 3, Mirrored}, {100_000, 1, Mirrored}, {199_999, 1, Mirrored},
		{200_000, 0, SampledOut}, {999_999, 0, SampledOut}, {1_000_000, 3, Mirrored}, {1<<64 - 1, 0, SampledOut},
	} {
		p.Decide(r, tt.random, &d)
		if d.Verdict != tt.verdict || len(d.Selected) != tt.selected || d.Why != NotFiltered || d.Route == nil {
			t.Errorf("random %d: %v with %d mirrors, want %v with %d", tt.random, d.Verdict, len(d.Selected), tt.verdict, tt.selected)
		}
	}
	if len(p.Mirrors()) != 2 {
		t.Fatalf("%d distinct mirrors, want 2", len(p.Mirrors()))
	}
	for i, m := range p.Mirrors() {
		if m.ID() != i {
			t.Errorf("mirror %d has ID %d", i, m.ID())
		}
	}
	v3 := p.Mirrors()[1]
	if v3.Key() != "httpbin.default.svc.cluster.local|v3|8000" {
		t.Errorf("key %q", v3.Key())
	}
	// Without a port map an endpoint serves at targetPort.
	if got := fmt.Sprint(v3.Endpoints); got != "[{10.0.0.3:80 false  } {10.0.0.4:8080 false  }]" {
		t.Errorf("endpoints %s", got)
	}
}

// TestDestination: only what arrived where the route leads is mirrored.
func TestDestination(t *testing.T) {
	p, _ := compile(t, vs(
		"match: [{uri: {prefix: /one}}]\n"+toV1,
		`
match: [{uri: {prefix: /weighted}}]
route:
- {destination: {host: httpbin, subset: v1}, weight: 0}
- {destination: {host: httpbin, subset: v3}, weight: 100}
mirror: {host: httpbin, subset: v2}`,
		"match: [{uri: {prefix: /nothing}}]\nroute: [{destination: {host: httpbin, subset: v2}}]"), Options{})
	if got := fmt.Sprint(p.Targets()); got != "[10.0.0.1:80 10.0.0.3:80 10.0.0.4:8080]" {
		t.Errorf("targets %s", got)
	}
	for _, tt := range []struct {
		path, dst string
		why       FilterReason
	}{
		{"/one", "10.0.0.1:80", NotFiltered},
		{"/one", "[::ffff:10.0.0.1]:80", NotFiltered},
		{"/one", "", NotFiltered},
		{"/one", "10.0.0.1:81", OtherDestination},
		{"/one", "10.0.0.3:80", OtherDestination},
		{"/weighted", "10.0.0.3:80", NotFiltered},
		{"/weighted", "10.0.0.4:8080", NotFiltered},
		{"/weighted", "10.0.0.4:80", OtherDestination},
		{"/weighted", "10.0.0.1:80", OtherDestination}, // weight 0
		{"/nothing", "10.0.0.1:80", NoMirror},
		{"/other", "10.0.0.1:80", NoRoute},
	} {
		if d := decide(t, p, request(t, "GET "+tt.path), tt.dst); d.Why != tt.why {
			t.Errorf("%s at %s: %v, want %v", tt.path, tt.dst, d.Why, tt.why)
		}
	}
}

// TestRouteAnswers: what is answered before it is sent anywhere has nothing to
// mirror; a single destination takes everything whatever its weight.
func TestRouteAnswers(t *testing.T) {
	const mirror = "\nmirror: {host: httpbin, subset: v2}"
	for _, tt := range []struct {
		name, http string
		want       FilterReason
		warnings   int
	}{
		{"route", toV1, NotFiltered, 0},
		{"route, weight 0", "route: [{destination: {host: httpbin, subset: v1}, weight: 0}]" + mirror, NotFiltered, 0},
		{"route, weight 1", "route: [{destination: {host: httpbin, subset: v1}, weight: 1}]" + mirror, NotFiltered, 0},
		{"redirect", "redirect: {uri: /x}" + mirror, NoMirror, 1},
		{"directResponse", "directResponse: {status: 200}" + mirror, NoMirror, 1},
		{"fault.abort", "fault: {abort: {httpStatus: 500, percentage: {value: 100}}}\n" + toV1, NoMirror, 1},
		{"fault.abort, not all", "fault: {abort: {httpStatus: 500, percentage: {value: 99.9999}}}\n" + toV1, NotFiltered, 1},
	} {
		p, warnings := compile(t, vs(tt.http), Options{})
		d := decide(t, p, request(t, "GET /"), "")
		if d.Why != tt.want || len(warnings) != tt.warnings || (len(p.Targets()) > 0) != (tt.want == NotFiltered) {
			t.Errorf("%s: %v, targets %v, %v", tt.name, d.Why, p.Targets(), warnings)
		}
	}
	for value, wrong := range map[string]bool{"0": false, "0.0001": false, "100": false, "0.00001": true, "100.1": true, "-1": true} {
		ps := problemsOf(t, vs("fault: {abort: {httpStatus: 500, percentage: {value: "+value+"}}}\n"+toV1))
		if (ps.Err() != nil) != wrong {
			t.Errorf("fault.abort %s %%: %v", value, ps)
		}
	}
}

// TestServicePorts: a destination without a port means any port that requests
// can be read on; the mirror must say which.
func TestServicePorts(t *testing.T) {
	text := `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: a}
spec:
  hosts: [a.example]
  resolution: STATIC
  ports:
  - {name: http, number: 80, protocol: HTTP}
  - {name: more, number: 81, targetPort: 8081}
  - {name: tcp, number: 82, protocol: TCP}
  endpoints: [{address: 10.0.0.1}, {address: '2001:DB8::1', ports: {more: 9}}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: b}
spec:
  hosts: [b.example]
  resolution: DNS
  ports: [{name: http, number: 80, protocol: http, targetPort: 8080}, {name: other, number: 81}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: c}
spec:
  hosts: [c.example]
  resolution: DNS
  ports: [{name: http, number: 80, protocol: HTTP}]
  endpoints: [{address: one.c.example}, {address: two.c.example, ports: {http: 7}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: a}
spec:
  hosts: [a.example]
  http:
  - route: [{destination: {host: a.example}}]
    mirrors:
    - {destination: {host: b.example, port: {number: 80}}}
    - {destination: {host: c.example}}
`
	p, _ := compile(t, text, Options{})
	if got := fmt.Sprint(p.Targets()); got != "[10.0.0.1:80 10.0.0.1:8081 [2001:db8::1]:9 [2001:db8::1]:80]" {
		t.Errorf("targets %s", got)
	}
	if got := fmt.Sprint(p.Mirrors()[0].Endpoints, p.Mirrors()[1].Endpoints); got !=
		"[{b.example:8080 false  }] [{one.c.example:80 false  } {two.c.example:7 false  }]" {
		t.Errorf("endpoints %s", got)
	}
}

// TestSubsetLookup: the rule's namespace before the service's before the root
// namespace, exact before wildcard, and no other namespace.
func TestSubsetLookup(t *testing.T) {
	dr := func(namespace, name, host, label string) string {
		return fmt.Sprintf(`
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: %s, namespace: %s}
spec: {host: %q, subsets: [{name: v2, labels: {version: %s}}]}
---
`, name, namespace, host, label)
	}
	rule := `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: a, namespace: rules}
spec:
  hosts: [a]
  http:
  - route: [{destination: {host: httpbin.default.svc.cluster.local}}]
    mirror: {host: httpbin.default.svc.cluster.local, subset: v2}
`
	const full = "httpbin.default.svc.cluster.local"
	base := services[:len(services)-len("---\n")]
	base = base[:strings.Index(base, "---")] + "---\n" // the ServiceEntry alone
	for _, tt := range []struct{ name, rules, want string }{
		{"namespace of the rule", dr("rules", "a", full, "v3") + dr("default", "a", full, "v2"), "10.0.0.3:80"},
		{"namespace of the service", dr("default", "a", full, "v3") + dr("istio-system", "a", full, "v2"), "10.0.0.3:80"},
		{"root namespace", dr("istio-system", "a", full, "v3"), "10.0.0.3:80"},
		{"another namespace", dr("other", "a", full, "v3"), ""},
		{"exact before wildcard", dr("rules", "a", "*.svc.cluster.local", "v2") + dr("rules", "b", full, "v3"), "10.0.0.3:80"},
		{"longest wildcard", dr("rules", "a", "*.local", "v2") + dr("rules", "b", "*.cluster.local", "v3"), "10.0.0.3:80"},
		{"wildcard of everything", dr("rules", "a", "*", "v3"), "10.0.0.3:80"},
		{"the same host twice, the first counts", dr("rules", "a", full, "v3") + dr("rules", "b", full, "v2"), "10.0.0.3:80"},
		{"short name in the rule's namespace", dr("default", "a", "httpbin", "v3"), "10.0.0.3:80"},
		{"short name in another namespace", dr("rules", "a", "httpbin", "v3"), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, ps := decodeAll(t, base+tt.rules+rule)
			if ps != nil {
				t.Fatal(ps)
			}
			p, ps := Compile(s, Options{AllowLoops: true})
			switch {
			case tt.want == "" && p != nil:
				t.Error("subset found")
			case tt.want == "":
				if ps[0].Value != "v2" {
					t.Error(ps)
				}
			case p == nil:
				t.Error(ps)
			case p.Mirrors()[0].Endpoints[0].Address != tt.want:
				t.Errorf("%s, want %s", p.Mirrors()[0].Endpoints[0].Address, tt.want)
			}
		})
	}
}
