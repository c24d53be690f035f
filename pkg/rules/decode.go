package rules

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"
	networking "istio.io/api/networking/v1alpha3"
)

// What a rules file may hold.
const (
	apiGroup        = "networking.istio.io"
	understoodKinds = "VirtualService, DestinationRule, ServiceEntry, WorkloadEntry and Gateway of networking.istio.io/v1, v1beta1 or v1alpha3, " +
		"HTTPRoute, GRPCRoute, Gateway and ReferenceGrant of gateway.networking.k8s.io/v1 or v1beta1, " +
		"Service, Pod and Namespace of v1, EndpointSlice of discovery.k8s.io/v1"
)

// istioVersions are the versions of networking.istio.io, which share their
// schema.
var istioVersions = [...]string{"v1", "v1beta1", "v1alpha3"}

// Bounds of one document: aliases make it easy to write a small file that
// unfolds to an enormous one.
const (
	maxNodes = 1 << 20
	maxDepth = 64
)

// Decode reads the documents of one YAML or JSON file; name is what problems
// call it. A v1 List is taken apart. The Snapshot holds every object that
// could be identified: Compile reports what else is wrong with one that did
// not decode completely, but refuses to compile it.
func Decode(name string, data []byte) (*Snapshot, Problems) {
	return decodeChunks(name, split(data, minChunk))
}

// decodeChunks decodes the chunks of a file at the same time.
func decodeChunks(name string, chunks []chunk) (*Snapshot, Problems) {
	decoders := make([]decoder, len(chunks))
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i := range chunks {
		decoders[i] = decoder{file: name, out: &Snapshot{}, before: chunks[i].before}
		group.Go(func() error { return decoders[i].documents(chunks[i].text) })
	}
	_ = group.Wait() // looked at one by one
	out, problems := decoders[0].out, decoders[0].problems
	for i := range decoders[1:] {
		if decoders[i].broken {
			break
		}
		out.Add(decoders[i+1].out)
		problems = append(problems, decoders[i+1].problems...)
	}
	problems.sort()
	return out, problems
}

// documents decodes the documents of a text, to its end or to where it is not
// YAML: where the next document begins is not known then.
func (d *decoder) documents(text []byte) error {
	docs := yaml.NewDecoder(bytes.NewReader(text))
	for {
		var doc yaml.Node
		err := docs.Decode(&doc)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			d.broken = true
			d.syntax(err)
			return err
		}
		if len(doc.Content) == 1 {
			d.nodes, d.refused, d.nameless = 0, false, 0
			lower(&doc, d.before)
			d.object(doc.Content[0], 0)
		}
	}
}

// decoder decodes one file.
type decoder struct {
	file     string
	before   int // lines of the file that go before what is decoded
	out      *Snapshot
	problems Problems
	broken   bool  // ended by something that is not YAML
	nodes    int   // looked at in this document
	refused  bool  // the rest of this document, for its size
	wrong    int   // what was reported, listed or not
	nameless int   // problems of this document with no object
	meta     *Meta // of the object being decoded
	labels   map[string]string
}

func (d *decoder) report(n *yaml.Node, f *field, value, format string, args ...any) {
	d.wrong++
	count := d.nameless
	if d.meta != nil {
		count = len(d.meta.bad)
	}
	switch {
	case count > maxProblems:
		return
	case count == maxProblems: // what of the object can be used is not known any more
		f, value, format, args = nil, "", moreProblems, nil
	}
	p := newProblem(f, value, format, args...)
	p.Position = Position{File: d.file, Line: n.Line}
	if d.meta != nil {
		p.Object, p.Group = d.meta.object(), d.meta.Group
		d.meta.bad = append(d.meta.bad, f.String())
	} else {
		d.nameless++
	}
	d.problems = append(d.problems, p)
}

// syntax reports an error of the YAML parser, which has the line in its text.
func (d *decoder) syntax(err error) {
	var line int
	msg := strings.TrimPrefix(err.Error(), "yaml: ")
	if _, scanErr := fmt.Sscanf(msg, "line %d:", &line); scanErr == nil {
		_, msg, _ = strings.Cut(msg, ": ")
		line += d.before
	}
	d.problems = append(d.problems, Problem{
		Position: Position{File: d.file, Line: line},
		Message:  "not valid YAML: " + msg,
	})
}

// object decodes one object, or a list of them. By an alias a list may be one of
// its own items.
func (d *decoder) object(n *yaml.Node, depth int) {
	d.meta = nil
	n, ok := d.enter(n, nil, depth)
	if !ok {
		return
	}
	d.nodes += len(n.Content) // which are gone through several times
	if isNull(n) {
		return // an empty document
	}
	if n.Kind != yaml.MappingNode {
		d.report(n, nil, "", "expected an object with apiVersion, kind, metadata and spec")
		return
	}
	apiVersion, kind := scalar(child(n, "apiVersion")), scalar(child(n, "kind"))
	if items := child(n, "items"); apiVersion == "v1" && kind == "List" && items != nil {
		if items.Kind != yaml.SequenceNode {
			d.report(items, (*field)(nil).dot("items"), "", "expected a list of objects")
			return
		}
		for _, item := range items.Content {
			d.object(item, depth+1)
		}
		return
	}
	d.meta = &Meta{
		Group: groupOf(apiVersion), Kind: kind, Namespace: DefaultNamespace,
		Position: Position{File: d.file, Line: n.Line}, node: n,
	}
	d.metadata(child(n, "metadata"))
	if d.kubernetes(apiVersion, kind, n) || d.gatewayObject(n, apiVersion, kind) {
		return
	}
	spec := newSpec(apiVersion, kind)
	if spec == nil && inert(apiVersion, kind) {
		d.report(n, nil, "", noEffect)
		d.problems[len(d.problems)-1].Warning = true
		return
	}
	if spec == nil {
		d.report(n, nil, "", "kind %q of apiVersion %q is not supported in a rules file: expected %s",
			kind, apiVersion, understoodKinds)
		return
	}
	d.envelope(n)
	d.spec(n, child(n, "spec"), spec)
	switch spec := spec.(type) {
	case *networking.VirtualService:
		d.out.VirtualServices = append(d.out.VirtualServices, VirtualService{Meta: *d.meta, Spec: spec})
	case *networking.DestinationRule:
		d.out.DestinationRules = append(d.out.DestinationRules, DestinationRule{*d.meta, spec})
	case *networking.ServiceEntry:
		d.out.ServiceEntries = append(d.out.ServiceEntries, ServiceEntry{*d.meta, spec})
	case *networking.WorkloadEntry:
		d.out.WorkloadEntries = append(d.out.WorkloadEntries, WorkloadEntry{Meta: *d.meta, Spec: spec, labels: d.labels})
	case *networking.Gateway:
		d.out.IstioGateways = append(d.out.IstioGateways, IstioGateway{*d.meta, spec})
	}
}

// groupOf is the group of an apiVersion, empty for "v1".
func groupOf(apiVersion string) string {
	return strings.Clone(apiVersion[:max(0, strings.LastIndexByte(apiVersion, '/'))])
}

// envelope checks what Kubernetes puts around every spec.
func (d *decoder) envelope(n *yaml.Node) {
	known := []string{"apiVersion", "kind", "metadata", "spec", "status"}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k := n.Content[i]
		at := (*field)(nil).dot(k.Value)
		if seen[k.Value] {
			d.report(k, at, "", "is given twice")
		}
		seen[k.Value] = true
		if !slices.Contains(known, k.Value) {
			d.report(k, at, "", "unknown field%s", suggest(k.Value, known))
		}
	}
	if d.meta.Name == "" {
		d.report(n, (*field)(nil).dot("metadata").dot("name"), "", "is required")
	}
}

// newSpec is an empty spec for an object of this kind, nil if it is none that
// rules are made of.
func newSpec(apiVersion, kind string) proto.Message {
	group, version, _ := strings.Cut(apiVersion, "/")
	if group != apiGroup || !slices.Contains(istioVersions[:], version) {
		return nil
	}
	switch kind {
	case "VirtualService":
		return &networking.VirtualService{}
	case "DestinationRule":
		return &networking.DestinationRule{}
	case "ServiceEntry":
		return &networking.ServiceEntry{}
	case "WorkloadEntry":
		return &networking.WorkloadEntry{}
	case "Gateway":
		return &networking.Gateway{}
	}
	return nil
}

// metadata takes what identifies an object. The rest of ObjectMeta says
// nothing about routing.
func (d *decoder) metadata(n *yaml.Node) {
	d.labels = nil
	if n == nil {
		return
	}
	labels := child(n, "labels")
	d.labels = stringMap(labels)
	d.nodes += len(n.Content)
	if labels != nil {
		d.nodes += len(labels.Content)
	}
	d.meta.Extras = scalar(child(child(n, "annotations"), Annotation))
	d.meta.Name = scalar(child(n, "name"))
	d.meta.Namespace = cmp.Or(scalar(child(n, "namespace")), DefaultNamespace)
	// The API server sets it. In a file it says nothing, whatever it is.
	d.meta.Generation, _ = strconv.ParseInt(scalar(child(n, "generation")), 10, 64)
	created := child(n, "creationTimestamp")
	if created == nil || isNull(created) {
		return
	}
	t, err := time.Parse(time.RFC3339, created.Value)
	if err != nil {
		d.report(created, (*field)(nil).dot("metadata").dot("creationTimestamp"), created.Value,
			"expected a time as 2006-01-02T15:04:05Z")
	}
	d.meta.CreationTimestamp = t
}

// spec decodes n into spec. What does not fit the message is reported with its
// line and left out, so that the rest can be looked at.
func (d *decoder) spec(object, n *yaml.Node, spec proto.Message) {
	at := (*field)(nil).dot("spec")
	if n == nil || isNull(n) {
		d.report(object, at, "", "is required")
		return
	}
	d.message(n, spec.ProtoReflect(), at, 0)
}

// stringMap is the entries of a map of texts, nil if n is none.
func stringMap(n *yaml.Node) map[string]string {
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	out := map[string]string{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		out[n.Content[i].Value] = scalar(resolve(n.Content[i+1]))
	}
	return out
}

// child is the value for a key of a mapping, nil if there is none.
func child(n *yaml.Node, key string) *yaml.Node {
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return resolve(n.Content[i+1])
		}
	}
	return nil
}

// scalar is the text of a single value, empty if n is none.
func scalar(n *yaml.Node) string {
	if n == nil || n.Kind != yaml.ScalarNode || isNull(n) {
		return ""
	}
	return n.Value
}

// resolve follows an alias.
func resolve(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }
