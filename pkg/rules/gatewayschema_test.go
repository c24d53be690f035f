package rules

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestSchemaGenerated: what is embedded is what the module in go.mod says.
func TestSchemaGenerated(t *testing.T) {
	name := filepath.Join(t.TempDir(), "schema.json")
	if out, err := exec.Command("go", "run", "./gatewaygen", name).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	got, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, gatewaySchemaJSON) {
		t.Error("gatewayschema.json is not up to date: run go generate")
	}
}

// TestSchemaRules: every rule over several values is implemented, and none
// that does not exist.
func TestSchemaRules(t *testing.T) {
	used := map[string]bool{}
	var walk func(s *schema)
	walk = func(s *schema) {
		if s == nil {
			return
		}
		for _, message := range s.Rules {
			used[message] = true
			if celRules[message] == nil {
				t.Errorf("not implemented: %s", message)
			}
		}
		for _, sub := range s.Properties {
			walk(sub)
		}
		walk(s.Items)
		walk(s.Values)
		if s.re != nil {
			s.re() // compiles
		}
	}
	for _, s := range gatewaySchemas() {
		walk(s)
	}
	for message := range celRules {
		if !used[message] {
			t.Errorf("no longer in the API: %s", message)
		}
	}
	if len(used) < 50 {
		t.Errorf("%d rules", len(used))
	}
}

// TestSchemaDefaults: what a file leaves out is as an API server fills it in.
func TestSchemaDefaults(t *testing.T) {
	s, ps := decodeAll(t, gatewayDoc("HTTPRoute", "r", "parentRefs: [{name: gw}]\nrules: [{backendRefs: [{name: a, port: 80}]}, "+
		"{matches: [{method: GET}, {path: {}}], filters: [{type: RequestMirror, requestMirror: {backendRef: {name: a, port: 80}, fraction: {numerator: 1}}}]}]"))
	if ps != nil {
		t.Fatal(ps)
	}
	spec := s.HTTPRoutes[0].Spec
	if ref := spec.ParentRefs[0]; *ref.Group != gatewayGroup || *ref.Kind != "Gateway" {
		t.Errorf("%v", ref)
	}
	if b := spec.Rules[0].BackendRefs[0]; *b.Weight != 1 || *b.Kind != "Service" || *b.Group != "" {
		t.Errorf("%v", b)
	}
	if *spec.Rules[1].Filters[0].RequestMirror.Fraction.Denominator != 100 {
		t.Error("denominator")
	}
	for _, rule := range spec.Rules {
		if len(rule.Matches) == 0 {
			t.Error("no match")
		}
		for _, m := range rule.Matches {
			if m.Path == nil || *m.Path.Type != "PathPrefix" || *m.Path.Value != "/" {
				t.Errorf("%v", m.Path)
			}
		}
	}
	s, ps = decodeAll(t, gatewayDoc("HTTPRoute", "r", "parentRefs: [{name: gw}]"))
	if ps != nil || len(s.HTTPRoutes[0].Spec.Rules) != 1 {
		t.Errorf("%v, %d rules", ps, len(s.HTTPRoutes[0].Spec.Rules))
	}
}
