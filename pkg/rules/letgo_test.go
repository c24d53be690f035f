package rules

import (
	"runtime"
	"testing"
	"weak"

	networking "istio.io/api/networking/v1alpha3"
)

// TestProgramHoldsNoObjects: what a Program was made from can be freed while
// the Program is in use.
func TestProgramHoldsNoObjects(t *testing.T) {
	s, problems := decodeAll(t, `apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: served}
spec:
  hosts: [served.test]
  resolution: STATIC
  ports: [{name: http, number: 80, protocol: HTTP}]
  endpoints: [{address: 10.0.0.1, labels: {version: v1}}, {address: 10.0.0.2, labels: {version: v2}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: served}
spec:
  host: served.test
  subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: served}
spec:
  hosts: [served.test]
  exportTo: ["*"]
  http:
  - match: [{uri: {regex: "/[a-f]+"}}]
    route: [{destination: {host: served.test, subset: v1}}]
    mirror: {host: served.test, subset: v2}
`)
	if problems.Err() != nil {
		t.Fatal(problems)
	}
	p, problems := Compile(s, Options{})
	if problems.Err() != nil {
		t.Fatal(problems)
	}
	node := weak.Make(s.VirtualServices[0].node)
	var specs []weak.Pointer[networking.HTTPRoute]
	for _, r := range s.VirtualServices[0].Spec.Http {
		specs = append(specs, weak.Make(r))
	}
	s = nil
	runtime.GC()
	runtime.GC()
	if node.Value() != nil {
		t.Error("the document is still held")
	}
	for i, r := range specs {
		if r.Value() != nil {
			t.Errorf("route %d of the object is still held", i)
		}
	}
	if len(p.Mirrors()) != 1 || len(p.Rules()) != 1 {
		t.Errorf("%+v", p.Rules())
	}
}
