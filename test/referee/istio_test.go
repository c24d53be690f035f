package referee

import (
	"errors"
	"fmt"
	"strings"

	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/proto"
	"istio.io/istio/pilot/pkg/model"
	"istio.io/istio/pilot/pkg/networking/core"
	"istio.io/istio/pkg/config"
	"istio.io/istio/pkg/config/schema/gvk"
	"istio.io/istio/pkg/config/validation"
	"istio.io/istio/pkg/test"

	"github.com/shadowtap/shadowtap/test/referee/envoy"
)

// istioConfig is the object as Istio's stores hold it.
func (o *object) istioConfig() config.Config {
	c := config.Config{
		Meta: config.Meta{Namespace: o.namespace, Name: o.name, Domain: "cluster.local", CreationTimestamp: o.created},
		Spec: proto.Clone(o.spec),
	}
	switch o.kind {
	case "VirtualService":
		c.GroupVersionKind = gvk.VirtualService
	case "DestinationRule":
		c.GroupVersionKind = gvk.DestinationRule
	case "ServiceEntry":
		c.GroupVersionKind = gvk.ServiceEntry
	}
	return c
}

// admit is what Istio's admission says about the rules.
func (w *world) admit() error {
	var errs []error
	for _, o := range w.objects() {
		if o.kind == "VirtualService" {
			_, err := validation.ValidateVirtualService(o.istioConfig())
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// istio is the route configuration that Istio's generator makes of the world
// for its port.
func (w *world) istio() (*route.RouteConfiguration, error) {
	out := &route.RouteConfiguration{}
	err := test.Wrap(func(t test.Failer) {
		var configs []config.Config
		for _, o := range w.objects() {
			configs = append(configs, o.istioConfig())
		}
		labels := w.clientLabels()
		proxy, routeName := &model.Proxy{Type: model.SidecarProxy}, fmt.Sprint(w.port)
		if w.gateway != "" {
			configs = append(configs, config.Config{
				Meta: config.Meta{GroupVersionKind: gvk.Gateway, Namespace: "default", Name: w.gateway},
				Spec: w.gatewaySpec(),
			})
			proxy, routeName = &model.Proxy{Type: model.Router}, "http."+fmt.Sprint(w.port)
		}
		proxy.ConfigNamespace, proxy.Labels = "default", labels
		proxy.Metadata = &model.NodeMetadata{Namespace: "default", Labels: labels}
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

// theirs is what Istio and Envoy make of a request.
func theirs(c *route.RouteConfiguration, r *envoy.Request) (*verdict, error) {
	o, err := envoy.Evaluate(c, r)
	if err != nil {
		return nil, err
	}
	v := &verdict{cluster: o.Cluster}
	if o.Route == nil {
		return v, nil
	}
	source := o.Route.GetMetadata().GetFilterMetadata()["istio"].GetFields()["config"].GetStringValue()
	if source == "" {
		return v, nil // a route that no rule asks for, such as that of a service without one
	}
	parts := strings.Split(source, "/") // "/apis/GROUP/VERSION/namespaces/NAMESPACE/virtual-service/NAME"
	if len(parts) != 8 || parts[6] != "virtual-service" {
		return nil, fmt.Errorf("a route from %s", source)
	}
	v.route = parts[5] + "/" + parts[7] + " " + o.Route.Name
	for _, m := range o.Mirrors {
		cluster := strings.Split(m.Cluster, "|") // "outbound|PORT|SUBSET|HOST"
		if len(cluster) != 4 {
			return nil, fmt.Errorf("a mirror to cluster %s", m.Cluster)
		}
		v.mirrors = append(v.mirrors, mirrorLine(cluster[3], cluster[2], cluster[1], m.Numerator, m.Denominator, o.Timeout))
	}
	v.setCopy(o.Method, o.Authority, o.Path, o.Fields)
	return v, nil
}
