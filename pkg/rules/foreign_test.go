package rules

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

// victim is a Pod of namespace shop with a Service, and a rule for one path of
// it. spy is what somebody who may write in namespace other alone has.
const victim = `
apiVersion: v1
kind: Pod
metadata: {name: app-1, namespace: shop, labels: {app: app}}
status: {podIP: 10.0.0.1}
---
apiVersion: v1
kind: Service
metadata: {name: app, namespace: shop}
spec: {selector: {app: app}, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: v2, namespace: shop}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: v2, namespace: shop, labels: {kubernetes.io/service-name: v2}}
ports: [{name: http, port: 80}]
endpoints: [{addresses: [10.0.0.8]}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: own, namespace: shop}
spec: {hosts: [app], http: [{match: [{uri: {prefix: /own}}], route: [{destination: {host: app}}], mirror: {host: v2}}]}
---
apiVersion: v1
kind: Service
metadata: {name: spy, namespace: other}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: spy, namespace: other, labels: {kubernetes.io/service-name: spy}}
ports: [{name: http, port: 80}]
endpoints: [{addresses: [10.0.0.9]}]
---
`

const (
	claimService = `
apiVersion: v1
kind: Service
metadata: {name: claim, namespace: other}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: claim, namespace: other, labels: {kubernetes.io/service-name: claim}}
ports: [{name: http, port: 80}]
endpoints: [{addresses: [10.0.0.1], targetRef: {kind: Pod, name: app-1, namespace: shop}}]
---
`
	claimEntry = `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: claim, namespace: other}
spec: {hosts: [claim.other.svc.cluster.local, app.example], resolution: STATIC, ports: [{name: http, number: 80, protocol: HTTP}], endpoints: [{address: 10.0.0.1}]}
---
`
	claimWorkload = `
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: claim, namespace: other, labels: {app: claim}}
spec: {address: 10.0.0.1}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: claim, namespace: other}
spec: {hosts: [claim.other.svc.cluster.local], resolution: STATIC, ports: [{name: http, number: 80, protocol: HTTP}], workloadSelector: {labels: {app: claim}}}
---
`
	spyByGateway = `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: spy, namespace: other}
spec: {hosts: ['*'], gateways: [none], http: [{route: [{destination: {host: claim}}], mirror: {host: spy}}]}
`
	spyByRoute = `
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: spy, namespace: other}
spec:
  parentRefs: [%s]
  rules:
  - filters: [{type: RequestMirror, requestMirror: {backendRef: {name: spy, port: 80}}}]
    backendRefs: [{name: claim, port: 80}]
`
)

// TestForeignPod: who may write rules, Services and endpoints in one namespace
// gets nothing of what arrives at the Pods of another by naming their addresses,
// and takes nothing from the rules there.
func TestForeignPod(t *testing.T) {
	claims := map[string]string{"Service": claimService, "ServiceEntry": claimEntry, "WorkloadEntry": claimWorkload}
	spies := map[string]string{
		"VirtualService": spyByGateway,
		"HTTPRoute":      fmt.Sprintf(spyByRoute, "{name: none}"),
		"GAMMA":          fmt.Sprintf(spyByRoute, "{group: '', kind: Service, name: claim}"),
	}
	for claimed, claim := range claims {
		for by, spy := range spies {
			if by == "GAMMA" && claimed != "Service" {
				continue // its parent is one
			}
			for where, local := range map[string]bool{"in the snapshot": false, "of the node": true} {
				t.Run(claimed+" by "+by+", the Pod "+where, func(t *testing.T) {
					text, o := victim+claim+strings.ReplaceAll(spy, "backendRefs: [{name: claim,", backendOf(claimed)), Options{AllowLoops: true}
					if local { // nothing else says what has the address
						_, text, _ = strings.Cut(text, "---\n")
						o.PodsAt = func(addr netip.Addr) []string {
							return map[netip.Addr][]string{netip.MustParseAddr("10.0.0.1"): {"shop"}}[addr]
						}
					}
					p, problems := compile(t, text, o)
					if !strings.Contains(problems.Error(), "is the address of a Pod of another namespace") {
						t.Errorf("nothing is said of it: %v", problems)
					}
					if local {
						if got := p.Targets(); len(got) != 0 {
							t.Errorf("captured: %v", got)
						}
						return
					}
					for path, want := range map[string]string{"/own": "v2.shop.svc.cluster.local", "/": ""} {
						for _, host := range []string{"app.shop", "claim.other", "app.example", "any.example"} {
							d := decide(t, p, request(t, "GET "+path+"\nHost: "+host), "10.0.0.1:80")
							got := ""
							for _, m := range d.Selected {
								got += m.Mirror.Host
							}
							if host == "app.shop" && got != want || strings.Contains(got, "spy") {
								t.Errorf("%s of %s is mirrored to %q", path, host, got)
							}
						}
					}
				})
			}
		}
	}
}

func backendOf(claimed string) string {
	if claimed == "Service" {
		return "backendRefs: [{name: claim,"
	}
	return "backendRefs: [{group: networking.istio.io, kind: Hostname, name: claim.other.svc.cluster.local,"
}

// TestMayCapture: a Pod that is newer than the rules is captured for its own
// namespace alone, and so is the network of a node.
func TestMayCapture(t *testing.T) {
	p, _ := compile(t, strings.Replace(victim, "10.0.0.1", "10.0.0.2", 1)+claimService+spyByGateway, Options{AllowLoops: true})
	at := netip.MustParseAddr("10.0.0.1")
	for namespaces, want := range map[string]bool{"": true, "other": true, "shop": false, "shop other": true} {
		if got := p.MayCapture(at, strings.Fields(namespaces)); got != want {
			t.Errorf("a Pod of %q: %v", namespaces, got)
		}
	}
	if !p.MayCapture(netip.MustParseAddr("10.0.0.2"), []string{"shop"}) {
		t.Error("the Pod of the Service is not captured")
	}
}

// TestForeignClient: what a Pod is as a client only its own namespace says.
func TestForeignClient(t *testing.T) {
	workload := "---\napiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {name: fake, namespace: other}\nspec: {address: 10.0.0.1, labels: {app: fake}}\n"
	for _, o := range []Options{{}, {PodsAt: func(netip.Addr) []string { return []string{"shop"} }}} {
		p, _ := compile(t, services+namedRule("x", "x.com", "match: [{sourceLabels: {app: fake}}]\n"+toV1)+workload, o)
		_, known := p.clients[netip.MustParseAddr("10.0.0.1")]
		if known != (o.PodsAt == nil) {
			t.Errorf("known %v", known)
		}
	}
}

// TestOwnNamespace: with the option a rule mirrors only requests to services of
// its own namespace, also where another object delegates to it; what mirrors
// nothing, and where copies go, does not matter.
func TestOwnNamespace(t *testing.T) {
	const (
		object   = "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: %s, namespace: %s}\nspec: {%s}\n"
		mirrored = "route: [{destination: {host: app.shop.svc.cluster.local}}], mirror: {host: spy.other.svc.cluster.local}"
	)
	vs := func(name, namespace, spec string) string { return fmt.Sprintf(object, name, namespace, spec) }
	route := func(namespace string) string {
		return "---\n" + strings.NewReplacer("namespace: other", "namespace: "+namespace, "{name: spy, port", "{name: spy, namespace: other, port", "{name: claim,", "{name: app, namespace: shop,").
			Replace(fmt.Sprintf(spyByRoute, "{name: none}")) +
			"---\napiVersion: gateway.networking.k8s.io/v1\nkind: ReferenceGrant\nmetadata: {name: all, namespace: shop}\n" +
			"spec: {from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: other}], to: [{group: '', kind: Service}]}\n" +
			"---\napiVersion: gateway.networking.k8s.io/v1\nkind: ReferenceGrant\nmetadata: {name: all, namespace: other}\n" +
			"spec: {from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: shop}], to: [{group: '', kind: Service}]}\n"
	}
	for name, tt := range map[string]struct {
		rule    string
		refused bool
	}{
		"own":                      {vs("x", "shop", "hosts: [x.com], http: [{"+mirrored+"}]"), false},
		"another's":                {vs("x", "other", "hosts: [x.com], http: [{"+mirrored+"}]"), true},
		"another's, no mirror":     {vs("x", "other", "hosts: [x.com], http: [{route: [{destination: {host: app.shop.svc.cluster.local}}]}]"), false},
		"by an own delegate":       {vs("x", "shop", "hosts: [x.com], http: [{delegate: {name: y}}]") + vs("y", "shop", "http: [{"+mirrored+"}]"), false},
		"by another's delegate":    {vs("x", "shop", "hosts: [x.com], http: [{delegate: {name: y, namespace: other}}]") + vs("y", "other", "http: [{"+mirrored+"}]"), true},
		"by a delegate of another": {vs("x", "other", "hosts: [x.com], http: [{delegate: {name: y, namespace: shop}}]") + vs("y", "shop", "http: [{"+mirrored+"}]"), true},
		"own HTTPRoute":            {route("shop"), false},
		"another's HTTPRoute":      {route("other"), true},
	} {
		t.Run(name, func(t *testing.T) {
			for _, own := range []bool{false, true} {
				s, _ := decodeAll(t, victim+tt.rule)
				_, ps := Compile(s, Options{AllowLoops: true, OwnNamespace: own})
				want := own && tt.refused
				if got := ps.Err() != nil; got != want || want != strings.Contains(ps.Error(), "is a service of namespace shop: with --own-namespace") {
					t.Errorf("own namespace %v: %v", own, ps)
				}
			}
		})
	}
}
