package rules

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestKubernetes: the objects of a cluster say what those of Istio mean.
func TestKubernetes(t *testing.T) {
	data, err := os.ReadFile("testdata/bookinfo.yaml")
	if err != nil {
		t.Fatal(err)
	}
	p, warnings := compile(t, string(data), Options{})
	if len(warnings) != 0 {
		t.Errorf("%v", warnings)
	}
	if got := fmt.Sprint(p.Targets()); got != "[10.244.0.1:80]" {
		t.Errorf("targets %s", got)
	}
	if got := fmt.Sprint(p.Mirrors()[0].Endpoints); got != "[{10.244.0.2:80 false  }]" {
		t.Errorf("mirror %s", got)
	}
	d := decide(t, p, request(t, "GET /httpbin/x\nHost: www.bookinfo.com"), "10.244.0.1:80")
	if d.Verdict != Mirrored {
		t.Errorf("%v %v", d.Verdict, d.Why)
	}
}

// TestServiceEndpoints: where the endpoints of a Service come from.
func TestServiceEndpoints(t *testing.T) {
	const rule = `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: a}
spec:
  hosts: [any.example]
  http:
  - route: [{destination: {host: v1.example}}]
    mirror: {host: web}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: v1}
spec: {hosts: [v1.example], resolution: STATIC, ports: [{name: http, number: 80, protocol: HTTP}], endpoints: [{address: 10.0.0.1}]}
---
`
	service := func(spec string) string {
		return "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {" + spec + "}\n---\n"
	}
	const pods = `
apiVersion: v1
kind: Pod
metadata: {name: web-1, labels: {app: web}}
spec: {containers: [{ports: [{name: main, containerPort: 8080}]}]}
status: {podIP: 10.0.0.2, conditions: [{type: Ready, status: 'True'}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web-2, labels: {app: web}}
status: {podIP: 10.0.0.3, conditions: [{type: Ready, status: 'False'}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web-3, namespace: other, labels: {app: web}}
status: {podIP: 10.0.0.4}
---
`
	const slice = "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: s, labels: {kubernetes.io/service-name: web}}\n"
	for _, tt := range []struct{ name, text, want string }{
		{"Pods by the selector", service("selector: {app: web}, ports: [{port: 80, targetPort: main}]") + pods, "[{10.0.0.2:8080 false  }]"},
		{"Pods, targetPort a number", service("selector: {app: web}, ports: [{port: 80, targetPort: 81}]") + pods, "[{10.0.0.2:81 false  }]"},
		{"Pods, without targetPort", service("selector: {app: web}, ports: [{port: 80}]") + pods, "[{10.0.0.2:80 false  }]"},
		{"EndpointSlice before Pods", service("selector: {app: web}, ports: [{name: http, port: 80}, {name: u, port: 53, protocol: UDP}]") + pods + slice +
			"ports: [{name: http, port: 7}]\nendpoints: [{addresses: [10.0.0.9]}, {addresses: ['2001:db8::1']}]\n---\n", "[{10.0.0.9:7 false  } {[2001:db8::1]:7 false  }]"},
		{"ExternalName", service("type: ExternalName, externalName: web.example, ports: [{port: 80}]"), "[{web.example:80 false  }]"},
		{"none now", service("selector: {app: none}, ports: [{port: 80}]"), "[]"},
		{"not HTTP", service("selector: {app: web}, ports: [{name: tcp-x, port: 80}]") + pods, ""},
		{"appProtocol", service("selector: {app: web}, ports: [{name: tcp-x, port: 80, appProtocol: http}]") + pods, "[{10.0.0.2:80 false  }]"},
		{"in another namespace", "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: other}\nspec: {ports: [{port: 80}]}\n---\n", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, ps := decodeAll(t, tt.text+rule)
			if ps.Err() != nil {
				t.Fatal(ps)
			}
			p, ps := Compile(s, Options{})
			if tt.want == "" {
				if p != nil {
					t.Errorf("compiled: %v", p.Mirrors()[0])
				}
				return
			}
			if p == nil {
				t.Fatal(ps)
			}
			if got := fmt.Sprint(p.Mirrors()[0].Endpoints); got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
		})
	}
}

// TestWorkloadSelector of a ServiceEntry finds WorkloadEntries and Pods.
func TestWorkloadSelector(t *testing.T) {
	text := strings.Replace(workloads, "labels: {app: cart}", "labels: {app: vm}", 1) + `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: vm, namespace: shop}
spec:
  hosts: [vm.example]
  resolution: STATIC
  ports: [{name: http, number: 80, protocol: HTTP, targetPort: 8080}]
  workloadSelector: {labels: {app: vm}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: vm}
spec:
  hosts: [any.example]
  http:
  - route: [{destination: {host: httpbin, subset: v1}}]
    mirror: {host: vm.example}
---
` + services[:len(services)-len("---\n")]
	p, _ := compile(t, text, Options{})
	if got := fmt.Sprint(p.Mirrors()[0].Endpoints); got != "[{10.1.0.3:8080 false  } {10.1.0.1:8080 false  }]" {
		t.Errorf("%s", got)
	}
}

// TestInertObjects: what stands beside rules is accepted, and said to have no
// effect; what could be a rule that is misspelled is not.
func TestInertObjects(t *testing.T) {
	for object, want := range map[string]bool{
		"v1 ConfigMap": true, "apps/v1 Deployment": true, "networking.istio.io/v1 Sidecar": true,
		"security.istio.io/v1 PeerAuthentication": true, "v1 List": false,
		"gateway.networking.k8s.io/v1 GatewayClass": true, "gateway.networking.k8s.io/v1alpha2 TCPRoute": true,
		"gateway.networking.k8s.io/v1 BackendTLSPolicy": false, "gateway.networking.k8s.io/v1alpha2 GRPCRoute": false,
		"networking.istio.io/v1 VirtualServce": false, "example.com/v1 Thing": false, "v1 ": false,
	} {
		apiVersion, kind, _ := strings.Cut(object, " ")
		s, ps := decodeAll(t, fmt.Sprintf("apiVersion: %s\nkind: %s\nmetadata: {name: a}\nspec: {x: 1}\n", apiVersion, kind))
		if len(ps) != 1 || ps[0].Warning != want || s == nil {
			t.Errorf("%s: %v", object, ps)
		}
	}
	for _, bad := range []string{
		"apiVersion: v1\nkind: Service\nmetadata: {}\n",
		"apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: 1}\n",
		"apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: []\n",
	} {
		if _, ps := decodeAll(t, bad); ps.Err() == nil {
			t.Errorf("%s: no error", bad)
		}
	}
}

// TestNotReady: what starts or terminates gets no copies. What arrives at it is
// captured, as connections that are open go on to what terminates.
func TestNotReady(t *testing.T) {
	const rule = `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: a}
spec:
  hosts: [web]
  http:
  - route: [{destination: {host: web}}]
    mirror: {host: next}
---
`
	const services = `
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: next}
spec: {selector: {app: next}, ports: [{port: 80}]}
---
`
	const pods = `
apiVersion: v1
kind: Pod
metadata: {name: web-1, labels: {app: web}}
status: {podIP: 10.0.0.1, conditions: [{type: Ready, status: 'False'}]}
---
apiVersion: v1
kind: Pod
metadata: {name: next-1, labels: {app: next}}
status: {podIP: 10.0.0.2, conditions: [{type: Ready, status: 'False'}]}
---
`
	const slices = `
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web, labels: {kubernetes.io/service-name: web}}
ports: [{port: 80}]
endpoints: [{addresses: [10.0.0.1], conditions: {ready: false, serving: true, terminating: true}}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: next, labels: {kubernetes.io/service-name: next}}
ports: [{port: 80}]
endpoints: [{addresses: [10.0.0.2], conditions: {ready: false}}]
---
`
	for name, text := range map[string]string{"Pods": services + pods, "EndpointSlices": services + slices} {
		t.Run(name, func(t *testing.T) {
			p, ps := compile(t, text+rule, Options{})
			if got := fmt.Sprint(p.Targets()); got != "[10.0.0.1:80]" {
				t.Errorf("targets %s", got)
			}
			if got := p.Mirrors()[0].Endpoints; len(got) != 0 {
				t.Errorf("mirror %v", got)
			}
			if got := ps.Error(); !strings.Contains(got, "next.default.svc.cluster.local has no endpoint now") {
				t.Errorf("problems: %s", got)
			}
		})
	}
}
