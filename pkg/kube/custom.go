package kube

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/shadowtap/shadowtap/pkg/rules"
)

// customPart is an object of a CustomResourceDefinition.
type customPart struct {
	snapshot *rules.Snapshot   // of this object
	problems rules.Problems    // met when it was decoded
	sum      [sha256.Size]byte // of the text that it was decoded from
	leftOut  bool              // for want of room
}

func (p *customPart) addTo(s *rules.Snapshot) { s.Add(p.snapshot) }

// trim leaves of an object what rules are made of. What is left out is most of
// it, and changes most: status, managed fields, other annotations, such as the
// copy of the whole that kubectl keeps. If status is not nil it takes the place of
// the whole status, and the generation, which it is about, stays.
func trim(in *unstructured.Unstructured, status map[string]any) *unstructured.Unstructured {
	meta := map[string]any{}
	old, _ := in.Object["metadata"].(map[string]any)
	for _, name := range []string{"name", "namespace", "uid", "resourceVersion", "creationTimestamp", "labels"} {
		if v, ok := old[name]; ok {
			meta[name] = v
		}
	}
	if v, ok := old["generation"]; ok && status != nil {
		meta["generation"] = v
	}
	if v, ok := in.GetAnnotations()[rules.Annotation]; ok {
		meta["annotations"] = map[string]any{rules.Annotation: v}
	}
	out := map[string]any{"metadata": meta}
	for name, v := range in.Object {
		if name != "metadata" && name != "status" {
			out[name] = v
		}
	}
	if status != nil {
		out["status"] = status
	}
	return &unstructured.Unstructured{Object: out}
}

// convertCustom decodes an object that was trimmed. If it says the same as
// before, before is the result: most changes are of what trim leaves out.
func convertCustom(in *unstructured.Unstructured, before part) (part, error) {
	object := map[string]any{}
	for name, v := range in.Object {
		if name != "status" {
			object[name] = v
		}
	}
	meta := map[string]any{}
	for name, v := range in.Object["metadata"].(map[string]any) {
		if name != "uid" && name != "resourceVersion" {
			meta[name] = v
		}
	}
	object["metadata"] = meta
	text, err := json.Marshal(object)
	if err != nil {
		return nil, fmt.Errorf("%s %s/%s: %w", in.GetKind(), in.GetNamespace(), in.GetName(), err)
	}
	p := &customPart{sum: sha256.Sum256(text)}
	if old, ok := before.(*customPart); ok && old.sum == p.sum {
		return before, nil
	}
	p.snapshot, p.problems = rules.DecodeObject(text)
	return p, nil
}
