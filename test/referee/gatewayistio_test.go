package referee

import (
	"fmt"
	"maps"

	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"istio.io/istio/pilot/pkg/config/kube/gateway"
	pilot "istio.io/istio/pilot/pkg/features"
	"istio.io/istio/pilot/pkg/model"
	"istio.io/istio/pilot/pkg/networking/core"
	"istio.io/istio/pilot/pkg/serviceregistry/kube/controller"
	"istio.io/istio/pkg/config"
	"istio.io/istio/pkg/config/schema/gvk"
	"istio.io/istio/pkg/config/schema/gvr"
	"istio.io/istio/pkg/kube"
	"istio.io/istio/pkg/kube/kclient/clienttest"
	"istio.io/istio/pkg/kube/krt"
	"istio.io/istio/pkg/test"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/gateway-api/pkg/consts"
)

// istio implements subject: Istio's controller makes VirtualServices of the
// routes and Gateways of the listeners, and its generator routes of Envoy of
// those, for port 80.
func (w *gatewayWorld) istio() (*route.RouteConfiguration, error) {
	out := &route.RouteConfiguration{}
	err := test.Wrap(func(t test.Failer) {
		services := &world{port: 80}
		var configs []config.Config
		for _, o := range services.objects() {
			configs = append(configs, o.istioConfig())
		}
		known := core.NewConfigGenTest(t, core.TestOptions{Configs: configs})
		derived := w.derived(t, known.PushContext())
		proxy, routeName := &model.Proxy{Type: model.SidecarProxy}, "80"
		if w.gateway != nil {
			if len(derived.gateways) == 0 {
				t.Fatalf("the Gateway has no listener that is valid")
			}
			proxy, routeName = &model.Proxy{Type: model.Router}, "http.80"
		}
		proxy.ConfigNamespace = "default"
		proxy.Metadata = &model.NodeMetadata{Namespace: "default"}
		configs = append(append(configs, derived.gateways...), derived.virtualServices...)
		cg := core.NewConfigGenTest(t, core.TestOptions{Configs: configs})
		proxy = cg.SetupProxy(proxy)
		resources, _ := cg.ConfigGen.BuildHTTPRoutes(proxy, &model.PushRequest{Push: cg.PushContext()}, []string{routeName})
		if len(resources) != 1 {
			t.Fatalf("%d route configurations named %s", len(resources), routeName)
		}
		if err := resources[0].Resource.UnmarshalTo(out); err != nil {
			t.Fatal(err)
		}
	})
	return out, err
}

// conversion is what Istio makes of objects of the Gateway API.
type conversion struct{ gateways, virtualServices []config.Config }

// derived runs Istio's controller for the Gateway API on the world.
func (w *gatewayWorld) derived(t test.Failer, push *model.PushContext) conversion {
	test.SetForTest(t, &pilot.EnableGatewayAPIGatewayClassController, false)
	client := kube.NewFakeClient(w.cluster()...)
	for _, resource := range []schema.GroupVersionResource{
		gvr.KubernetesGateway, gvr.ReferenceGrant, gvr.ListenerSet, gvr.GatewayClass, gvr.HTTPRoute, gvr.GRPCRoute,
		gvr.TCPRoute, gvr.TLSRoute, gvr.ServiceEntry, gvr.XBackendTrafficPolicy, gvr.BackendTLSPolicy, gvr.InferencePool,
	} {
		clienttest.MakeCRDWithAnnotations(t, client, resource, map[string]string{consts.BundleVersionAnnotation: consts.BundleVersion})
	}
	ready := func(schema.GroupVersionResource, <-chan struct{}) bool { return true }
	stop := test.NewStop(t)
	c := gateway.NewController(client, ready, controller.Options{DomainSuffix: "cluster.local", KrtDebugger: &krt.DebugHandler{}}, nil)
	go c.Run(stop)
	client.RunAndWait(stop)
	c.Reconcile(push)
	if !kube.WaitForCacheSync("referee", stop, c.HasSynced) {
		t.Fatal("the controller does not come to an end")
	}
	out := conversion{virtualServices: c.List(gvk.VirtualService, "")}
	for _, g := range c.List(gvk.Gateway, "") {
		// The proxy is the one of this Gateway. By which Service it is
		// reached does not matter here.
		g.Annotations = maps.Clone(g.Annotations)
		delete(g.Annotations, model.InternalGatewayServiceAnnotation)
		out.gateways = append(out.gateways, g)
	}
	if w.gateway != nil && len(out.virtualServices) == 0 && len(w.http)+len(w.grpc) > 0 {
		// Not wrong, but a world about nothing.
		t.Log(fmt.Sprintf("no route of %d is attached", len(w.http)+len(w.grpc)))
	}
	return out
}
