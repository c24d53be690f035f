package rules

import (
	"net/netip"
	"strings"
	"testing"
)

// TestSelectors has the fields of HTTPMatchRequest that ask for the client.
func TestSelectors(t *testing.T) {
	cart := &Client{Namespace: "shop", Labels: map[string]string{"app": "cart", "version": "v1"}}
	gateway := &Client{Namespace: "infra", Labels: map[string]string{"app": "gw"}, Gateways: []string{"default/gw"}}
	for _, tt := range []struct {
		name, match string
		origin      Origin
		want        bool
	}{
		{"sourceLabels", "sourceLabels: {app: cart}", Origin{Client: cart}, true},
		{"sourceLabels, all", "sourceLabels: {app: cart, version: v2}", Origin{Client: cart}, false},
		{"sourceLabels, nothing known", "sourceLabels: {app: cart}", Origin{Client: &Client{}}, false},
		{"sourceLabels, client not known", "sourceLabels: {app: cart}", Origin{}, false},
		{"sourceLabels of a gateway", "sourceLabels: {app: gw}", Origin{Client: gateway}, true},
		{"sourceNamespace", "sourceNamespace: shop", Origin{Client: cart}, true},
		{"sourceNamespace, another", "sourceNamespace: other", Origin{Client: cart}, false},
		{"sourceNamespace, client not known", "sourceNamespace: shop", Origin{}, false},
		{"gateways mesh", "gateways: [mesh]", Origin{Client: cart}, true},
		{"gateways mesh, by a gateway", "gateways: [mesh]", Origin{Client: gateway}, false},
		{"gateways, short name", "gateways: [gw]", Origin{Client: gateway}, true},
		{"gateways, full name", "gateways: [default/gw]", Origin{Client: gateway}, true},
		{"gateways, in the mesh", "gateways: [gw]", Origin{Client: cart}, false},
		{"gateways, client not known", "gateways: [gw]", Origin{}, true},
		{"gateways before sourceLabels", "gateways: [mesh], sourceLabels: {app: other}", Origin{Client: cart}, true},
		{"port", "port: 8000", Origin{Port: 8000}, true},
		{"port, another", "port: 8000", Origin{Port: 80}, false},
		{"port, not known", "port: 8000", Origin{}, true},
		{"scheme", "scheme: {exact: https}", Origin{Scheme: "https"}, true},
		{"scheme, another", "scheme: {exact: https}", Origin{Scheme: "http"}, false},
		{"scheme, plain unless said otherwise", "scheme: {exact: http}", Origin{}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, _ := compile(t, strings.Replace(vs("match: [{"+tt.match+"}]\n"+toV1), "  hosts: ['*']", "  gateways: [mesh, gw]\n  hosts: ['*']", 1), Options{})
			e := p.ExplainFrom(request(t, "GET /"), tt.origin)
			if e.Matched != tt.want {
				t.Errorf("matched %v, want %v: %v", e.Matched, tt.want, e.Tried)
			}
			if !e.Matched && (len(e.Tried) != 1 || !strings.Contains(e.Tried[0].Reason, "expected")) {
				t.Errorf("tried %v", e.Tried)
			}
		})
	}
}

// TestSelectorsDoNotEnd: a route that takes everything from some clients does
// not keep the others from those behind it.
func TestSelectorsDoNotEnd(t *testing.T) {
	p, _ := compile(t, vs("name: a\nmatch: [{sourceLabels: {app: a}}]\n"+toV1, "name: b\nmatch: [{port: 8000}]\n"+toV1, "name: c\n"+toV1), Options{})
	for want, o := range map[string]Origin{
		"a": {Client: &Client{Labels: map[string]string{"app": "a"}}, Port: 8000},
		"b": {Client: &Client{}, Port: 8000},
		"c": {Client: &Client{}, Port: 80},
	} {
		if e := p.ExplainFrom(request(t, "GET /"), o); e.Rule == nil || e.Rule.Route != want {
			t.Errorf("%+v: %v, want %s", o, e.Rule, want)
		}
	}
}

// TestScheme of the request itself.
func TestScheme(t *testing.T) {
	p, _ := compile(t, vs("match: [{scheme: {exact: https}}]\n"+toV1), Options{})
	for head, want := range map[string]bool{
		"GET /": false, "GET HTTPS://h/": true, "GET /\nX-Forwarded-Proto: https": true,
		"GET http://h/\nX-Forwarded-Proto: https": false, "GET /\nX-Forwarded-Proto: ftp": false,
	} {
		if d := decide(t, p, request(t, head), ""); (d.Verdict == Mirrored) != want {
			t.Errorf("%q: %v", head, d.Verdict)
		}
	}
}

const workloads = `
apiVersion: v1
kind: Pod
metadata: {name: cart-1, namespace: shop, labels: {app: cart}}
status: {podIP: 10.1.0.1}
---
apiVersion: v1
kind: Pod
metadata: {name: gw-1, namespace: infra, labels: {istio: ingressgateway}}
status: {podIPs: [{ip: 10.1.0.2}, {ip: '2001:db8::2'}]}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: vm, namespace: shop, labels: {tier: old}}
spec: {address: 10.1.0.3, labels: {app: vm}}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: gw}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]
---
`

// TestLiveClients: Pods, WorkloadEntries and Gateways say who sends.
func TestLiveClients(t *testing.T) {
	p, _ := compile(t, workloads+strings.Replace(vs(
		"name: cart\nmatch: [{sourceLabels: {app: cart}, sourceNamespace: shop}]\n"+toV1,
		"name: vm\nmatch: [{sourceLabels: {app: vm, tier: old}}]\n"+toV1,
		"name: gateway\nmatch: [{gateways: [gw]}]\n"+toV1,
		"name: mesh\n"+toV1), "  hosts: ['*']", "  gateways: [mesh, gw, elsewhere]\n  hosts: ['*']", 1), Options{})
	for source, want := range map[string]string{
		"10.1.0.1:5": "cart", "10.1.0.2:5": "gateway", "[2001:db8::2]:5": "gateway", "[::ffff:10.1.0.3]:5": "vm",
		"10.1.0.9:5": "gateway", // not known: may have come by any
		"10.0.0.2:5": "mesh",    // an endpoint of a ServiceEntry with labels
	} {
		r := request(t, "GET /")
		r.Source = netip.MustParseAddrPort(source)
		if d := decide(t, p, r, ""); d.Route == nil || d.Route.Rule().Route != want {
			t.Errorf("%s: %v, want %s", source, d.Route, want)
		}
	}
	c, err := p.ParseClient("10.1.0.1")
	if err != nil || c.Namespace != "shop" || c.Labels["app"] != "cart" {
		t.Errorf("%+v, %v", c, err)
	}
	c, err = p.ParseClient("ns,a=b,c=")
	if err != nil || c.Namespace != "ns" || len(c.Labels) != 2 || c.Labels["a"] != "b" {
		t.Errorf("%+v, %v", c, err)
	}
	for _, bad := range []string{"", "10.9.9.9", "A B", "ns,a", "ns,=b"} {
		if c, err := p.ParseClient(bad); err == nil {
			t.Errorf("%q: %+v", bad, c)
		}
	}
}

// TestUndefinedGateway: a client that is known may serve a gateway that no
// object defines.
func TestUndefinedGateway(t *testing.T) {
	p, _ := compile(t, workloads+strings.Replace(vs(toV1), "  hosts: ['*']", "  gateways: [elsewhere]\n  hosts: ['*']", 1), Options{})
	r := request(t, "GET /")
	r.Source = netip.MustParseAddrPort("10.1.0.1:5")
	if d := decide(t, p, r, ""); d.Verdict != Mirrored {
		t.Errorf("%v %v", d.Verdict, d.Why)
	}
	if e := p.ExplainFrom(r, Origin{Client: &Client{}}); e.Matched || !strings.Contains(e.Tried[0].Reason, "default/elsewhere") {
		t.Errorf("%+v", e)
	}
}

// TestExportTo of a VirtualService, of the service it leads to and of bad
// values.
func TestExportTo(t *testing.T) {
	for _, tt := range []struct {
		exportTo, namespace string
		want                bool
	}{
		{"['*']", "other", true}, {"[.]", "default", true}, {"[.]", "other", false}, {"[other]", "other", true},
		{"[other]", "default", false}, {"[.]", "", true},
	} {
		p, _ := compile(t, strings.Replace(vs(toV1), "  hosts: ['*']", "  exportTo: "+tt.exportTo+"\n  hosts: ['*']", 1), Options{})
		if e := p.ExplainFrom(request(t, "GET /"), Origin{Client: &Client{Namespace: tt.namespace}}); e.Matched != tt.want {
			t.Errorf("exported to %s, from %q: %v", tt.exportTo, tt.namespace, e.Matched)
		}
	}
	private := strings.Replace(vs(toV1), "spec:\n  hosts: [httpbin]", "spec:\n  exportTo: [somewhere]\n  hosts: [httpbin]", 1)
	if ps := problemsOf(t, private); ps.Err() == nil || !strings.Contains(ps.Error(), "is not exported to namespace default") {
		t.Errorf("%v", ps)
	}
	for _, bad := range []string{"['*', a]", "['~']", "[a, a]", "[., default]", "[A_B]"} {
		if ps := problemsOf(t, strings.Replace(vs(toV1), "  hosts: ['*']", "  exportTo: "+bad+"\n  hosts: ['*']", 1)); ps.Err() == nil {
			t.Errorf("%s: no error", bad)
		}
	}
}

// TestListenerPort: the endpoint tells the service port; a mirror without a
// port of a service with several goes to that one.
func TestListenerPort(t *testing.T) {
	text := `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: a}
spec:
  hosts: [a.example]
  resolution: STATIC
  ports: [{name: one, number: 8001, protocol: HTTP, targetPort: 81}, {name: two, number: 8002, protocol: HTTP, targetPort: 82},
    {name: three, number: 8003, protocol: HTTP, targetPort: 82}, {name: four, number: 8004, protocol: HTTP}]
  endpoints: [{address: 10.0.0.1}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: b}
spec:
  hosts: [b.example]
  resolution: STATIC
  ports: [{name: one, number: 8001, protocol: HTTP}, {name: two, number: 8002, protocol: HTTP}, {name: three, number: 8003, protocol: HTTP}]
  endpoints: [{address: 10.0.0.2}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: a}
spec:
  hosts: [a.example]
  http:
  - match: [{port: 8003, uri: {prefix: /three}}]
    route: [{destination: {host: a.example}}]
  - route: [{destination: {host: a.example}}]
    mirror: {host: b.example}
`
	p, _ := compile(t, text, Options{})
	for _, tt := range []struct {
		host, path, dst, want string
	}{
		{"a.example", "/", "10.0.0.1:81", "10.0.0.2:8001"},
		{"a.example", "/", "10.0.0.1:82", "10.0.0.2:8002"},
		{"a.example:8003", "/", "10.0.0.1:82", "10.0.0.2:8003"},
		{"a.example:9", "/", "10.0.0.1:82", "10.0.0.2:8002"},
		{"a.example", "/", "10.0.0.1:8004", ""}, // b has no such port
		{"a.example", "/", "", "10.0.0.2:8001"},
		{"a.example:8003", "/three", "10.0.0.1:82", ""},
		{"a.example", "/three", "10.0.0.1:81", "10.0.0.2:8001"},
	} {
		d := decide(t, p, request(t, "GET "+tt.path+"\nHost: "+tt.host), tt.dst)
		got := ""
		if len(d.Selected) > 0 {
			got = d.Selected[0].Mirror.Endpoints[0].Address
		}
		if got != tt.want || len(d.Selected) > 1 || got == "" && d.Why != NoMirror {
			t.Errorf("%s%s at %s: %q (%v), want %q", tt.host, tt.path, tt.dst, got, d.Why, tt.want)
		}
	}
}
