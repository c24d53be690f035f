package rules

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// siblingWorld is Services a (with a selector and a named port), b (v2 of it)
// and byHand (without a selector), with the Pods that are endpoints of each.
const siblingWorld = `
apiVersion: v1
kind: Service
metadata: {name: a}
spec: {selector: {app: a}, ports: [{name: http, port: 80, targetPort: web}, {name: http-admin, port: 81, targetPort: 9000}]}
---
apiVersion: v1
kind: Service
metadata: {name: by-hand}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Pod
metadata: {name: a-v1-1, labels: {app: a, version: v1, pod-template-hash: "1"}}
spec: {containers: [{ports: [{name: web, containerPort: 8080}]}]}
status: {podIPs: [{ip: 10.0.0.1}, {ip: "fd00::1"}]}
---
apiVersion: v1
kind: Pod
metadata: {name: a-v2-1, labels: {app: a, version: v2}}
spec: {containers: [{ports: [{name: web, containerPort: 8080}]}]}
status: {podIPs: [{ip: 10.0.0.2}]}
---
apiVersion: v1
kind: Pod
metadata: {name: by-hand-1, labels: {version: v1}}
status: {podIPs: [{ip: 10.0.0.3}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: a-1, labels: {kubernetes.io/service-name: a}}
ports: [{name: http, port: 8080}, {name: http-admin, port: 9000}]
endpoints: [{addresses: [10.0.0.1], targetRef: {kind: Pod, name: a-v1-1}}, {addresses: [10.0.0.2], targetRef: {kind: Pod, name: a-v2-1}}%s]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: by-hand-1, labels: {kubernetes.io/service-name: by-hand}}
ports: [{name: http, port: 80}]
endpoints: [{addresses: [10.0.0.3]}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: a}
spec: {host: a, subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]}
---
`

// newPod is one more Pod of the world, at 10.0.0.9.
func newPod(labels string) string {
	return fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata: {name: new, labels: {%s}}
spec: {containers: [{ports: [{name: web, containerPort: 8080}]}]}
status: {podIPs: [{ip: 10.0.0.9}, {ip: "fd00::9"}], conditions: [{type: Ready, status: "False"}]}
---
`, labels)
}

// TestNewPod: what arrives at a Pod that has just got its address is decided
// alike by the rules that know it as an endpoint, by those that know the Pod,
// and, if it has a sibling, by those that know neither.
func TestNewPod(t *testing.T) {
	mirror := "mirror: {host: a, subset: v2}"
	virtualService := func(routes string) string {
		return "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: x}\nspec: {hosts: ['*'], http: [" + routes + "]}\n"
	}
	tests := map[string]struct{ rules, labels, sibling string }{
		"subset": {
			virtualService("{route: [{destination: {host: a, subset: v1, port: {number: 80}}}], " + mirror + "}"),
			`app: a, version: v1, pod-template-hash: "2"`, "10.0.0.1",
		},
		"header by destination": {
			virtualService("{route: [{destination: {host: a, subset: v1}, weight: 50, headers: {request: {set: {x: y}}}}, {destination: {host: by-hand}, weight: 50}], " + mirror + "}"),
			"app: a, version: v1", "10.0.0.1",
		},
		"port of the request": {
			virtualService("{match: [{port: 81}], route: [{destination: {host: a, subset: v1}}], " + mirror + "}"),
			"app: a, version: v1", "10.0.0.1",
		},
		"Gateway API": {
			"apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: x}\nspec: {parentRefs: [{name: g}], rules: [{backendRefs: [{name: a, port: 80}], " +
				"filters: [{type: RequestMirror, requestMirror: {backendRef: {name: by-hand, port: 80}}}]}]}\n",
			"app: a, version: v1", "10.0.0.1",
		},
		"another subset": {
			virtualService("{route: [{destination: {host: a, subset: v1}}], " + mirror + "}"), "app: a, version: v2", "",
		},
		"a version of its own": {
			virtualService("{route: [{destination: {host: a}}], mirror: {host: by-hand}}"), "app: a, version: v3", "",
		},
		"of no service": {
			virtualService("{route: [{destination: {host: by-hand}}], " + mirror + "}"), "version: v1", "",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			o := Options{AllowLoops: true}
			before, _ := compile(t, fmt.Sprintf(siblingWorld, "")+tt.rules, o)
			seen, _ := compile(t, fmt.Sprintf(siblingWorld, "")+newPod(tt.labels)+tt.rules, o)
			after := seen
			if strings.Contains(tt.labels, "app") {
				listed := ", {addresses: [10.0.0.9], conditions: {ready: false}, targetRef: {kind: Pod, name: new}}"
				after, _ = compile(t, fmt.Sprintf(siblingWorld, listed)+newPod(tt.labels)+tt.rules, o)
			}
			if got, want := fmt.Sprint(seen.Targets()), fmt.Sprint(after.Targets()); got != want {
				t.Errorf("captured before it is an endpoint: %s, then %s", got, want)
			}
			for i, m := range seen.Mirrors() {
				if got, want := fmt.Sprint(m.Endpoints), fmt.Sprint(before.Mirrors()[i].Endpoints); got != want {
					t.Errorf("copies go to %s, want %s", got, want)
				}
			}
			s, _ := decodeAll(t, newPod(tt.labels))
			siblings := before.Siblings(s.Pods)
			want := map[netip.Addr]netip.Addr{}
			if tt.sibling != "" {
				want[netip.MustParseAddr("10.0.0.9")] = netip.MustParseAddr(tt.sibling)
				want[netip.MustParseAddr("fd00::9")] = netip.MustParseAddr("fd00::1")
			}
			if fmt.Sprint(siblings) != fmt.Sprint(want) {
				t.Fatalf("siblings %v, want %v", siblings, want)
			}
			if seen.Siblings(s.Pods)[netip.MustParseAddr("10.0.0.9")].IsValid() && slices.Contains(seen.Targets(), netip.MustParseAddrPort("10.0.0.9:8080")) {
				t.Error("rules that know the Pod have a sibling for it")
			}
			for _, port := range []uint16{8080, 9000, 80} {
				r := request(t, "GET /\nHost: a")
				at := netip.AddrPortFrom(netip.MustParseAddr("10.0.0.9"), port)
				verdict := func(p *Program) string {
					d := decide(t, p, r, at.String())
					out := fmt.Sprint(d.Verdict, d.Why)
					if d.Verdict == Mirrored {
						out += string(d.Selected[0].AppendHead(nil, r))
					}
					return out
				}
				want := verdict(after)
				if got := verdict(seen); got != want {
					t.Errorf("port %d: %q with the Pod, %q with the endpoint", port, got, want)
				}
				if tt.sibling != "" {
					r.Endpoint = netip.AddrPortFrom(netip.MustParseAddr(tt.sibling), port)
					if got := verdict(before); got != want {
						t.Errorf("port %d: %q with a sibling, %q with the endpoint", port, got, want)
					}
				}
				r.Endpoint = netip.AddrPort{}
			}
		})
	}
}

// TestSiblingsOfTheNode: a Pod that uses its node's network has none, since the
// address is that of others, too.
func TestSiblingsOfTheNode(t *testing.T) {
	p, _ := compile(t, fmt.Sprintf(siblingWorld, "")+
		"apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: x}\nspec: {hosts: ['*'], http: [{route: [{destination: {host: a, subset: v1}}], mirror: {host: a, subset: v2}}]}\n", Options{})
	s, _ := decodeAll(t, newPod("app: a, version: v1"))
	if len(p.Siblings(s.Pods)) != 2 {
		t.Fatalf("a Pod like one that is captured has the siblings %v", p.Siblings(s.Pods))
	}
	s.Pods[0].HostNetwork = true
	if got := p.Siblings(s.Pods); len(got) != 0 {
		t.Errorf("a Pod with the address of its node has the siblings %v", got)
	}
}

// TestEndedPod: the address of a Pod that has ended may be another's, of which
// nothing is to be captured.
func TestEndedPod(t *testing.T) {
	world := fmt.Sprintf(siblingWorld, "") +
		"apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: x}\nspec: {hosts: ['*'], http: [{route: [{destination: {host: a, subset: v1}}], mirror: {host: a, subset: v2}}]}\n---\n"
	for phase, want := range map[string]bool{"Pending": true, "Running": true, "Succeeded": false, "Failed": false} {
		pod := strings.Replace(newPod("app: a, version: v1"), "status: {", "status: {phase: "+phase+", ", 1)
		p, _ := compile(t, world+pod, Options{})
		if got := slices.Contains(p.Targets(), netip.MustParseAddrPort("10.0.0.9:8080")); got != want {
			t.Errorf("%s: captured %v", phase, got)
		}
	}
}
