package referee

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	gateway "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/gateway-api/apis/v1beta1"

	"github.com/shadowtap/shadowtap/pkg/rules"
	"github.com/shadowtap/shadowtap/test/referee/envoy"
)

// gatewayWorld is routes of the Gateway API with the Gateway they are attached
// to, or without one if clients in the mesh send the requests. The services are
// those of every world.
type gatewayWorld struct {
	gateway *gateway.Gateway
	http    []*gateway.HTTPRoute
	grpc    []*gateway.GRPCRoute
	grants  []*v1beta1.ReferenceGrant
}

// theGateway is the name of the Gateway, in namespace default.
const theGateway = "gw"

// typed is the metadata of an object of the Gateway API.
func typed(version, kind string) metav1.TypeMeta {
	return metav1.TypeMeta{APIVersion: gateway.GroupName + "/" + version, Kind: kind}
}

func meta(namespace, name string, age int) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: namespace, Name: name, CreationTimestamp: metav1.NewTime(epoch.Add(time.Duration(age) * time.Hour))}
}

// rules are the objects of the Gateway API.
func (w *gatewayWorld) rules() []runtime.Object {
	var out []runtime.Object
	if w.gateway != nil {
		out = append(out, w.gateway)
	}
	for _, r := range w.http {
		out = append(out, r)
	}
	for _, r := range w.grpc {
		out = append(out, r)
	}
	for _, g := range w.grants {
		out = append(out, g)
	}
	return out
}

// namespaceLabels are those of each namespace.
func namespaceLabels() map[string]labels.Set {
	const name = corev1.LabelMetadataName // which an API server sets
	return map[string]labels.Set{"default": {name: "default", "team": "a"}, "other": {name: "other", "team": "b", "tier": "web"}}
}

func namespaces() (out []runtime.Object) {
	known := namespaceLabels()
	for _, name := range []string{"default", "other"} {
		out = append(out, &corev1.Namespace{
			TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"}, ObjectMeta: metav1.ObjectMeta{Name: name, Labels: known[name]},
		})
	}
	return out
}

// cluster is the world as a cluster holds it: the services are Services too.
func (w *gatewayWorld) cluster() []runtime.Object {
	out := append(w.rules(), namespaces()...)
	for _, s := range services() {
		if name, ok := strings.CutSuffix(s.host, "."+s.namespace+clusterDomain); ok {
			out = append(out, &corev1.Service{
				ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: name},
				Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "http", Port: 80}}},
			})
		}
	}
	return out
}

// compile implements subject.
func (w *gatewayWorld) compile(t testing.TB) (*rules.Program, error) {
	t.Helper()
	services := &world{gateway: w.proxyGateway(), port: 80}
	return compile(append(services.file(t), documents(t, append(w.rules(), namespaces()...))...))
}

// documents is objects as they stand in a rules file, in JSON.
func documents(t testing.TB, objects []runtime.Object) string {
	t.Helper()
	var out strings.Builder
	for _, o := range objects {
		text, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		out.WriteString(strings.Replace(string(text), `,"status":{"parents":null}`, "", 1) + "\n---\n")
	}
	return out.String()
}

// proxyGateway is the gateway that the client is, empty if it is in the mesh.
func (w *gatewayWorld) proxyGateway() string {
	if w.gateway == nil {
		return ""
	}
	return theGateway
}

// text implements subject.
func (w *gatewayWorld) text(t testing.TB) string {
	t.Helper()
	return documents(t, (&gatewayWorld{gateway: w.gateway, http: w.http, grpc: w.grpc}).rules())
}

// admit implements subject: what the API server checks, the product checks
// with the same definitions.
func (w *gatewayWorld) admit() error { return nil }

// listener implements subject.
func (w *gatewayWorld) listener() uint32 { return 80 }

// routeName implements subject. Of the objects that Istio merges one gives its
// name to all; names of rules are unique in a world.
func (w *gatewayWorld) routeName(_, route string) string { return route }

// deviation implements subject.
func (w *gatewayWorld) deviation(r *envoy.Request, theirs, ours *verdict) string {
	for _, d := range gatewayDeviations() {
		if d.covers(w, r, theirs, ours) {
			return d.name
		}
	}
	return ""
}

// without implements subject. It takes a route away, or something in one.
func (w *gatewayWorld) without(i int) subject {
	smaller := &gatewayWorld{gateway: w.gateway, grants: w.grants}
	cut := func(remove func(*gateway.HTTPRouteSpec, *int) bool) bool {
		for _, r := range w.http {
			r = r.DeepCopy()
			if i >= 0 && remove(&r.Spec, &i) && len(r.Spec.Rules) == 0 {
				continue
			}
			smaller.http = append(smaller.http, r)
		}
		return i < 0
	}
	if len(w.grpc) > i {
		smaller.http, smaller.grpc = w.http, slices.Delete(slices.Clone(w.grpc), i, i+1)
		return smaller
	}
	i -= len(w.grpc)
	smaller.grpc = w.grpc
	if cut(removeFromRoute) {
		return smaller
	}
	return nil
}

// removeFromRoute removes the i-th thing of a route, and counts i down by what
// there is if that is less. A route without rules is none.
func removeFromRoute(spec *gateway.HTTPRouteSpec, i *int) bool {
	take := func() bool { *i--; return *i < 0 }
	if take() {
		spec.Rules = nil
		return true
	}
	if removeOne(&spec.Hostnames, 0, take) || removeOne(&spec.ParentRefs, 1, take) || removeOne(&spec.Rules, 1, take) {
		return true
	}
	for j := range spec.Rules {
		rule := &spec.Rules[j]
		if removeOne(&rule.Matches, 1, take) || removeOne(&rule.Filters, 0, take) || removeOne(&rule.BackendRefs, 0, take) {
			return true
		}
		for k := range rule.Matches {
			m := &rule.Matches[k]
			if removeOne(&m.Headers, 0, take) || removeOne(&m.QueryParams, 0, take) {
				return true
			}
			if m.Method != nil && take() {
				m.Method = nil
				return true
			}
		}
	}
	return false
}

// removeOne removes an item that take takes, if more than least are left.
func removeOne[T any](list *[]T, least int, take func() bool) bool {
	for i := 0; len(*list) > least && i < len(*list); i++ {
		if take() {
			*list = slices.Delete(slices.Clone(*list), i, i+1)
			return true
		}
	}
	return false
}
