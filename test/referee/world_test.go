package referee

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
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
	port    uint32 // of the listener that they come by
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

// service is a service of the tests. It has an endpoint in each subset and one
// in none.
type service struct {
	host, namespace string
	subsets         []string
	ports           []uint32
}

// services lists the services of all worlds.
func services() []service {
	return []service{
		{"httpbin.default.svc.cluster.local", "default", []string{"v1", "v2", "v3"}, []uint32{80}},
		{"reviews.default.svc.cluster.local", "default", []string{"v1", "v2"}, []uint32{80, 8080}},
		{"ratings.other.svc.cluster.local", "other", []string{"v1", "v2"}, []uint32{80, 8080}},
		{"shop.example.com", "default", nil, []uint32{80}},
		{"eu.shop.example.com", "default", nil, []uint32{80}},
	}
}

// endpoint is the address of the endpoint in the n-th subset of the i-th
// service; n is -1 for the one in none.
func endpoint(i, n int) string {
	if n < 0 {
		return fmt.Sprintf("10.0.%d.100", i)
	}
	return fmt.Sprintf("10.0.%d.%d", i, n+1)
}

// targetPort is where endpoints serve a port.
func targetPort(port uint32) uint32 { return port + 1000 }

// arrival is where a request arrives that Envoy sends to a cluster. ok is false
// if there is no such cluster.
func arrival(cluster string) (_ netip.AddrPort, ok bool) {
	parts := strings.Split(cluster, "|") // "outbound|PORT|SUBSET|HOST"
	if len(parts) != 4 {
		return netip.AddrPort{}, false
	}
	for i, s := range services() {
		n := slices.Index(s.subsets, parts[2])
		port, err := strconv.ParseUint(parts[1], 10, 16)
		if s.host == parts[3] && err == nil && slices.Contains(s.ports, uint32(port)) && (parts[2] == "" || n >= 0) {
			return netip.AddrPortFrom(netip.MustParseAddr(endpoint(i, n)), uint16(targetPort(uint32(port)))), true
		}
	}
	return netip.AddrPort{}, false
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
			Endpoints:  []*networking.WorkloadEntry{{Address: endpoint(i, -1)}},
		}
		for _, port := range s.ports {
			se.Ports = append(se.Ports, &networking.ServicePort{
				Number: port, Name: fmt.Sprintf("http-%d", port), Protocol: "HTTP", TargetPort: targetPort(port),
			})
		}
		dr := &networking.DestinationRule{Host: s.host}
		for j, subset := range s.subsets {
			labels := map[string]string{"version": subset}
			se.Endpoints = append(se.Endpoints, &networking.WorkloadEntry{Address: endpoint(i, j), Labels: labels})
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

// clientHost is the address that all requests come from, clientAddress that
// with the port.
const (
	clientHost    = "10.9.9.9"
	clientAddress = clientHost + ":40000"
)

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
	return &networking.Gateway{
		Selector: w.clientLabels(),
		Servers: []*networking.Server{{
			Port:  &networking.Port{Number: w.port, Name: "http", Protocol: "HTTP"},
			Hosts: []string{"*/*"},
		}},
	}
}

// clientObjects say who has the address that requests come from. Istio's side
// knows it as the proxy that routes are generated for.
func (w *world) clientObjects() []object {
	out := []object{{"WorkloadEntry", "default", "client", epoch, &networking.WorkloadEntry{Address: clientHost, Labels: w.clientLabels()}}}
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
	return out.String()
}

// clone is a copy that shares nothing.
func (w *world) clone() *world {
	out := &world{gateway: w.gateway, port: w.port}
	for _, r := range w.rules {
		r.spec = proto.CloneOf(r.spec)
		out.rules = append(out.rules, r)
	}
	return out
}
