package rules

import (
	"fmt"
	"testing"
)

// TestReadiness: what is not ready gets no copies, but requests still arrive
// there.
func TestReadiness(t *testing.T) {
	p, _ := compile(t, `
apiVersion: v1
kind: Service
metadata: {name: a}
spec: {ports: [{name: http, port: 80, targetPort: web}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: a-1, labels: {kubernetes.io/service-name: a}}
ports: [{name: http, port: 8080}]
endpoints:
- {addresses: [10.0.0.1], conditions: {ready: true}, zone: z1}
- {addresses: [10.0.0.2], conditions: {ready: false, serving: true, terminating: true}}
- {addresses: [10.0.0.3], conditions: {ready: false}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: a-2, labels: {kubernetes.io/service-name: a}}
ports: [{name: http, port: 8080}]
endpoints: [{addresses: [10.0.0.3], conditions: {ready: true}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: x}
spec: {hosts: [a], http: [{route: [{destination: {host: a}}], mirror: {host: a}}]}
`, Options{AllowLoops: true})
	if got, want := fmt.Sprint(p.Targets()), "[10.0.0.1:8080 10.0.0.2:8080 10.0.0.3:8080]"; got != want {
		t.Errorf("captured %s, want %s", got, want)
	}
	if got, want := fmt.Sprint(p.Mirrors()[0].Endpoints), "[{10.0.0.1:8080 false  z1} {10.0.0.3:8080 false  }]"; got != want {
		t.Errorf("mirrored to %s, want %s", got, want)
	}
}
