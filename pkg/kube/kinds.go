package kube

import (
	"context"
	"fmt"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// kind is a kind of rule that is defined by a CustomResourceDefinition.
type kind struct {
	group, kind, resource string
	versions              []string // that rules can decode, the preferred first
}

const (
	istioGroup   = "networking.istio.io"
	gatewayGroup = "gateway.networking.k8s.io"
)

// kinds are those that rules are made of.
func kinds() []kind {
	istio, gateway := []string{"v1", "v1beta1", "v1alpha3"}, []string{"v1", "v1beta1"}
	return []kind{
		{istioGroup, "VirtualService", "virtualservices", istio},
		{istioGroup, "DestinationRule", "destinationrules", istio},
		{istioGroup, "ServiceEntry", "serviceentries", istio},
		{istioGroup, "WorkloadEntry", "workloadentries", istio},
		{istioGroup, "Gateway", "gateways", istio},
		{gatewayGroup, "HTTPRoute", "httproutes", gateway},
		{gatewayGroup, "GRPCRoute", "grpcroutes", gateway[:1]},
		{gatewayGroup, "Gateway", "gateways", gateway},
		{gatewayGroup, "ReferenceGrant", "referencegrants", gateway},
	}
}

// gatewayClass is no rule, but says whose a Gateway is.
func gatewayClass() kind {
	return kind{gatewayGroup, "GatewayClass", "gatewayclasses", []string{"v1", "v1beta1"}}
}

// followed are the kinds that this package knows what to do with.
func followed() []kind { return append(kinds(), gatewayClass()) }

// definition is the name of the CustomResourceDefinition of k.
func (k kind) definition() string { return k.resource + "." + k.group }

// describe names a version of k for people.
func (k kind) describe(version string) string { return k.kind + " of " + k.group + "/" + version }

func (k kind) gvk(version string) schema.GroupVersionKind {
	return schema.GroupVersionKind{Group: k.group, Version: version, Kind: k.kind}
}

func (k kind) gvr(version string) schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: k.group, Version: version, Resource: k.resource}
}

// discover asks which of the kinds the API server serves, and in which version
// they are best read. A group takes one small request and one for each of its
// versions; the discovery of everything would be megabytes.
func (c *clients) discover(ctx context.Context) (map[string]string, error) {
	served := map[string]string{} // version by definition
	for _, group := range []string{istioGroup, gatewayGroup} {
		resources, err := c.resources(ctx, group)
		if err != nil {
			return nil, err
		}
		for _, k := range followed() {
			if k.group != group {
				continue
			}
			for _, v := range k.versions {
				if slices.Contains(resources[v], k.resource) {
					served[k.definition()] = v
					break
				}
			}
		}
	}
	return served, nil
}

// resources lists the resources of a group by version.
func (c *clients) resources(ctx context.Context, group string) (map[string][]string, error) {
	versions := &metav1.APIGroup{}
	err := c.core.Get().AbsPath("/apis", group).SetHeader("Accept", "application/json").Do(ctx).Into(versions)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("discovery of %s: %w", group, err)
	}
	out := map[string][]string{}
	for _, v := range versions.Versions {
		list := &metav1.APIResourceList{}
		err := c.core.Get().AbsPath("/apis", group, v.Version).SetHeader("Accept", "application/json").Do(ctx).Into(list)
		if apierrors.IsNotFound(err) {
			continue // removed meanwhile
		}
		if err != nil {
			return nil, fmt.Errorf("discovery of %s/%s: %w", group, v.Version, err)
		}
		for _, r := range list.APIResources {
			out[v.Version] = append(out[v.Version], r.Name)
		}
	}
	return out, nil
}
