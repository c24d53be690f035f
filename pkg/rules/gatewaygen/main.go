// Gatewaygen distils the custom resource definitions of the Gateway API, as
// the module in go.mod ships them, to what package rules checks documents
// with: names, types, bounds and defaults of fields, and the messages of the
// CEL rules, which package rules implements itself.
//
// Usage, from pkg/rules: go run ./gatewaygen gatewayschema.json
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

const module = "sigs.k8s.io/gateway-api"

// resources are the kinds with the files of their definitions. The
// experimental channel is a superset of the standard one.
var resources = map[string]string{
	"HTTPRoute":      "httproutes",
	"GRPCRoute":      "grpcroutes",
	"Gateway":        "gateways",
	"ReferenceGrant": "referencegrants",
}

// kept are the keywords that are taken over as they are.
var kept = []string{"type", "format", "enum", "pattern", "required", "default", "minimum", "maximum",
	"minLength", "maxLength", "minItems", "maxItems", "maxProperties"}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "gatewaygen:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 1 {
		return errors.New("expected one argument, the file to write")
	}
	list := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", module)
	list.Stderr = os.Stderr
	dir, err := list.Output()
	if err != nil {
		return fmt.Errorf("find module %s: %w", module, err)
	}
	crds := filepath.Join(strings.TrimSpace(string(dir)), "config", "crd", "experimental")
	out := map[string]any{}
	for kind, plural := range resources {
		if out[kind], err = resource(filepath.Join(crds, "gateway.networking.k8s.io_"+plural+".yaml")); err != nil {
			return fmt.Errorf("%s: %w", kind, err)
		}
	}
	// One kind a line keeps a change of the API readable as a diff.
	var b bytes.Buffer
	for _, kind := range slices.Sorted(maps.Keys(out)) {
		text, err := json.Marshal(out[kind])
		if err != nil {
			return fmt.Errorf("%s: %w", kind, err)
		}
		fmt.Fprintf(&b, ",\n%q:%s", kind, text)
	}
	return os.WriteFile(args[0], append(append([]byte{'{'}, b.Bytes()[1:]...), "\n}\n"...), 0o644)
}

// resource is the schema of the spec in version v1, with which v1beta1 agrees
// wherever it exists.
func resource(name string) (map[string]any, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	var crd struct {
		Spec struct {
			Versions []struct {
				Name   string
				Schema struct {
					OpenAPIV3Schema struct {
						Properties map[string]map[string]any
					} `yaml:"openAPIV3Schema"`
				}
			}
		}
	}
	if err := yaml.Unmarshal(data, &crd); err != nil {
		return nil, err
	}
	for _, v := range crd.Spec.Versions {
		if v.Name == "v1" {
			return distil(v.Schema.OpenAPIV3Schema.Properties["spec"])
		}
	}
	return nil, errors.New("no version v1")
}

func distil(in map[string]any) (map[string]any, error) {
	out := map[string]any{}
	for key, v := range in {
		switch {
		case key == "properties":
			fields := map[string]any{}
			for name, sub := range v.(map[string]any) {
				s, err := distil(sub.(map[string]any))
				if err != nil {
					return nil, fmt.Errorf("%s: %w", name, err)
				}
				fields[name] = s
			}
			out[key] = fields
		case key == "items" || key == "additionalProperties":
			s, err := distil(v.(map[string]any))
			if err != nil {
				return nil, err
			}
			out[key] = s
		case key == "x-kubernetes-validations":
			var messages []any
			for _, rule := range v.([]any) {
				messages = append(messages, rule.(map[string]any)["message"])
			}
			out["rules"] = messages
		case key == "x-kubernetes-list-map-keys":
			out["keys"] = v
		case key == "x-kubernetes-list-type" && v == "set":
			out["set"] = true
		case slices.Contains(kept, key):
			out[key] = v
		case key == "description" || key == "x-kubernetes-list-type" || key == "x-kubernetes-map-type" || key == "oneOf":
			// oneOf is about addresses of a Gateway, which say nothing about
			// routing.
		default:
			return nil, fmt.Errorf("keyword %q is not understood", key)
		}
	}
	return out, nil
}
