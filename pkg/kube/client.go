package kube

import (
	"errors"
	"fmt"
	"os"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// InPod reports whether this process runs in a Pod that may talk to the API
// server.
func InPod() bool {
	if os.Getenv("KUBERNETES_SERVICE_HOST") == "" {
		return false
	}
	_, err := os.Stat("/var/run/secrets/kubernetes.io/serviceaccount/token")
	return err == nil
}

// restConfig says how to reach the API server: by a kubeconfig file if one is
// given, else by the service account of the Pod, else as kubectl would.
func restConfig(kubeconfig string) (*rest.Config, error) {
	if kubeconfig == "" {
		cfg, err := rest.InClusterConfig()
		if !errors.Is(err, rest.ErrNotInCluster) {
			return cfg, err
		}
	}
	loading := clientcmd.NewDefaultClientConfigLoadingRules()
	loading.ExplicitPath = kubeconfig
	return clientcmd.NewNonInteractiveDeferredLoadingClientConfig(loading, nil).ClientConfig()
}

// Credentials are what client-go takes from elsewhere while a Source runs: an
// administrator, or the kubelet, replaces certificates and tokens.
type Credentials struct {
	// Files are read again and again.
	Files []string
	// Program, if not empty, is run for credentials (users[].user.exec of a
	// kubeconfig): a path, or a name that is looked for as a shell would.
	Program string
}

func credentialsOf(cfg *rest.Config) Credentials {
	c := Credentials{Files: slices.DeleteFunc(
		[]string{cfg.BearerTokenFile, cfg.CAFile, cfg.CertFile, cfg.KeyFile},
		func(name string) bool { return name == "" })}
	if cfg.ExecProvider != nil {
		c.Program = cfg.ExecProvider.Command
	}
	return c
}

// clients are the clients for one API server. They share its connections.
type clients struct {
	dynamic  dynamic.Interface
	metadata metadata.Interface
	core     *rest.RESTClient // v1
	slices   *rest.RESTClient // discovery.k8s.io/v1
	events   *rest.RESTClient // events.k8s.io/v1
}

// protobuf is several times cheaper to decode than JSON, on either side. Only
// built-in kinds have it.
const protobuf = "application/vnd.kubernetes.protobuf"

func newClients(cfg *rest.Config) (*clients, error) {
	cfg = rest.CopyConfig(cfg)
	if cfg.QPS == 0 {
		cfg.QPS, cfg.Burst = 20, 40
	}
	client, err := rest.HTTPClientFor(cfg)
	if err != nil {
		return nil, fmt.Errorf("API server: %w", err)
	}
	c := &clients{}
	if c.dynamic, err = dynamic.NewForConfigAndClient(cfg, client); err != nil {
		return nil, fmt.Errorf("API server: %w", err)
	}
	if c.metadata, err = metadata.NewForConfigAndClient(cfg, client); err != nil {
		return nil, fmt.Errorf("API server: %w", err)
	}
	scheme := runtime.NewScheme()
	if err := errors.Join(corev1.AddToScheme(scheme), discoveryv1.AddToScheme(scheme), eventsv1.AddToScheme(scheme)); err != nil {
		return nil, err
	}
	codecs := serializer.NewCodecFactory(scheme)
	typed := func(path string, gv schema.GroupVersion, contentType string) (*rest.RESTClient, error) {
		cfg := rest.CopyConfig(cfg)
		cfg.APIPath, cfg.GroupVersion = path, &gv
		cfg.NegotiatedSerializer = codecs.WithoutConversion()
		cfg.ContentType, cfg.AcceptContentTypes = contentType, contentType+","+runtime.ContentTypeJSON
		return rest.RESTClientForConfigAndClient(cfg, client)
	}
	if c.core, err = typed("/api", corev1.SchemeGroupVersion, protobuf); err != nil {
		return nil, fmt.Errorf("API server: %w", err)
	}
	if c.slices, err = typed("/apis", discoveryv1.SchemeGroupVersion, protobuf); err != nil {
		return nil, fmt.Errorf("API server: %w", err)
	}
	if c.events, err = typed("/apis", eventsv1.SchemeGroupVersion, runtime.ContentTypeJSON); err != nil {
		return nil, fmt.Errorf("API server: %w", err)
	}
	return c, nil
}

// crds is the resource of CustomResourceDefinitions.
var crds = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}

// userAgent tells the agents from others in the log of the API server.
func userAgent(version string) string { return "shadowtap/" + version }
