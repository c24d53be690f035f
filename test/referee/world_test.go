package referee

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	networking "istio.io/api/networking/v1alpha3"
)

// world is the rules of one trial. The services they lead to are the same in
// every world.
type world struct {
	// gateway is the name of the gateway by which requests come, empty if
	// they come by a sidecar in namespace default.
	gateway string
	servers [][]string // the hosts of the servers of the gateway; none: one for all
	rules   []rule
}

// rule is one VirtualService. The place in the list is its age, the oldest
// first.
type rule struct {
	namespace, name string
	spec            *networking.VirtualService
	host            string // that requests to the rule are for, where it has none itself
}

// object is any rule object with what identifies it.
type object struct {
	kind, namespace, name string
	created               time.Time
	spec                  proto.Message
}

// epoch is when the oldest object was created.
var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// service is a service of the tests: port 80, an endpoint in each subset.
// Endpoints do not matter here; there must be some.
type service struct {
	host, namespace string
	subsets         []string
}

// services lists the services of all worlds. All have port 80 alone: a sidecar
// looks at the services of a listener only, and so would send copies for a
// mirror without a port to the listener's port, where the service has none.
// Istio documents that a service's only port is meant, and that holds here.
func services() []service {
	return []service{
		{"httpbin.default.svc.cluster.local", "default", []string{"v1", "v2", "v3"}},
		{"reviews.default.svc.cluster.local", "default", []string{"v1", "v2"}},
		{"ratings.other.svc.cluster.local", "other", []string{"v1", "v2"}},
		{"shop.example.com", "default", nil},
		{"eu.shop.example.com", "default", nil},
	}
}

// objects are the services as ServiceEntries and DestinationRules, and the
// rules.
func (w *world) objects() []object {
	var out []object
	for i, s := range services() {
		name, _, _ := strings.Cut(s.host, ".")
		se := &networking.ServiceEntry{
			Hosts:      []string{s.host},
			Location:   networking.ServiceEntry_MESH_INTERNAL,
			Resolution: networking.ServiceEntry_STATIC,
			Ports:      []*networking.ServicePort{{Number: 80, Name: "http", Protocol: "HTTP"}},
			Endpoints:  []*networking.WorkloadEntry{{Address: fmt.Sprintf("10.0.%d.100", i)}},
		}
		dr := &networking.DestinationRule{Host: s.host}
		for j, subset := range s.subsets {
			labels := map[string]string{"version": subset}
			se.Endpoints = append(se.Endpoints, &networking.WorkloadEntry{Address: fmt.Sprintf("10.0.%d.%d", i, j+1), Labels: labels})
			dr.Subsets = append(dr.Subsets, &networking.Subset{Name: subset, Labels: labels})
		}
		out = append(out, object{"ServiceEntry", s.namespace, name, epoch, se})
		if s.subsets != nil {
			out = append(out, object{"DestinationRule", s.namespace, name, epoch, dr})
		}
	}
	for i, r := range w.rules {
		out = append(out, object{"VirtualService", r.namespace, r.name, epoch.Add(time.Duration(i) * time.Hour), r.spec})
	}
	return out
}

// clientAddress is the address that all requests come from.
const clientAddress = "10.9.9.9"

// clientLabels are the labels of the workload that requests come from: a
// client in the mesh or the gateway. Its namespace is default.
func (w *world) clientLabels() map[string]string {
	if w.gateway != "" {
		return map[string]string{"istio": "ingressgateway"}
	}
	return map[string]string{"app": "client"}
}

// gatewaySpec is the gateway of the world.
func (w *world) gatewaySpec() *networking.Gateway {
	out := &networking.Gateway{Selector: w.clientLabels()}
	servers := w.servers
	if servers == nil {
		servers = [][]string{{"*/*"}}
	}
	for _, hosts := range servers {
		out.Servers = append(out.Servers, &networking.Server{
			Port: &networking.Port{Number: 80, Name: "http", Protocol: "HTTP"}, Hosts: hosts,
		})
	}
	return out
}

// clientObjects say who has the address that requests come from. Istio's side
// knows it as the proxy that routes are generated for.
func (w *world) clientObjects() []object {
	out := []object{{"WorkloadEntry", "default", "client", epoch, &networking.WorkloadEntry{Address: clientAddress, Labels: w.clientLabels()}}}
	if w.gateway != "" {
		out = append(out, object{"Gateway", "default", w.gateway, epoch, w.gatewaySpec()})
	}
	return out
}

// text is the object as it stands in a rules file, in JSON, which is YAML.
func (o *object) text(t testing.TB) []byte {
	t.Helper()
	spec, err := protojson.Marshal(o.spec)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(map[string]any{
		"apiVersion": "networking.istio.io/v1", "kind": o.kind,
		"metadata": map[string]any{"namespace": o.namespace, "name": o.name, "creationTimestamp": o.created.Format(time.RFC3339)},
		"spec":     json.RawMessage(spec),
	})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// file is the world as a rules file.
func (w *world) file(t testing.TB) []byte {
	t.Helper()
	var out []byte
	objects := w.objects()
	if supports(sourceMatch) || supports(gatewayMatch) {
		objects = append(objects, w.clientObjects()...)
	}
	for _, o := range objects {
		out = append(append(out, o.text(t)...), "\n---\n"...)
	}
	return out
}

// text is the rules of the world, for people.
func (w *world) text(t testing.TB) string {
	t.Helper()
	var out strings.Builder
	for _, o := range w.objects() {
		if o.kind == "VirtualService" {
			fmt.Fprintf(&out, "%s\n", o.text(t))
		}
	}
	if w.servers != nil {
		fmt.Fprintf(&out, "servers of the gateway for %q\n", w.servers)
	}
	return out.String()
}

// clone is a copy that shares nothing.
func (w *world) clone() *world {
	out := &world{gateway: w.gateway, servers: w.servers}
	for _, r := range w.rules {
		r.spec = proto.CloneOf(r.spec)
		out.rules = append(out.rules, r)
	}
	return out
}
