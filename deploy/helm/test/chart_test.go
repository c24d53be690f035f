package main

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"helm.sh/helm/v3/pkg/lint"
	"helm.sh/helm/v3/pkg/lint/support"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	"sigs.k8s.io/yaml"
)

// values are those of a test, in YAML.
func values(t *testing.T, text string) map[string]any {
	t.Helper()
	v := map[string]any{}
	if err := yaml.Unmarshal([]byte(text), &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// profiles are the values that every general test is run with.
var profiles = map[string]string{
	"defaults":    "",
	"restricted":  "securityProfile: restricted",
	"hostPID":     "{securityProfile: restricted, hostPID: true, extraCapabilities: [SYS_RESOURCE]}",
	"hostNetwork": "hostNetwork: true",
	"surge":       "updateStrategy: {rollingUpdate: {maxSurge: 1, maxUnavailable: 0}}",
	"stop first":  "takeover: {enabled: false}",
	"on delete":   "updateStrategy: {type: OnDelete, rollingUpdate: null}",
	"everything": `
image: {digest: "sha256:` + strings.Repeat("0", 64) + `"}
imagePullSecrets: [{name: registry}]
fullnameOverride: mirror
args: [--max-body=1MiB]
gatewayStatus: true
memoryLimit: 256Mi
env: [{name: GODEBUG, value: madvdontneed=1}]
affinity: {nodeAffinity: {}}
serviceAccount: {annotations: {a: b}}
networkPolicy: {from: [{namespaceSelector: {}}]}
podMonitor: {create: true, labels: {release: prometheus}}
podAnnotations: {c: d}
podLabels: {e: f}
extraVolumes: [{name: ca, configMap: {name: ca}}]
extraVolumeMounts: [{name: ca, mountPath: /ca}]
`,
	"nothing": `
rbac: {create: false}
serviceAccount: {create: false}
networkPolicy: {create: false}
priorityClass: {create: false}
nodeSelector: null
tolerations: []
`,
}

func TestLint(t *testing.T) {
	for name, text := range profiles {
		t.Run(name, func(t *testing.T) {
			for _, m := range lint.All(chartDir, values(t, text), namespace, true).Messages {
				if m.Severity > support.InfoSev {
					t.Error(m)
				}
			}
		})
	}
}

// TestManifestsAreValid decodes every object into the type of its kind, which
// finds fields that do not exist.
func TestManifestsAreValid(t *testing.T) {
	for name, text := range profiles {
		t.Run(name, func(t *testing.T) {
			manifests, notes, err := render(values(t, text))
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(notes, "port-forward") {
				t.Errorf("the notes do not say how to look at the account:\n%s", notes)
			}
			for _, m := range manifests {
				decode(t, m)
			}
		})
	}
}

// decode returns the kind of an object and the object.
func decode(t *testing.T, manifest string) (string, any) {
	t.Helper()
	var meta struct{ Kind string }
	if err := yaml.Unmarshal([]byte(manifest), &meta); err != nil {
		t.Fatalf("%v\n%s", err, manifest)
	}
	object := map[string]any{
		"DaemonSet":          &appsv1.DaemonSet{},
		"ServiceAccount":     &corev1.ServiceAccount{},
		"ClusterRole":        &rbacv1.ClusterRole{},
		"ClusterRoleBinding": &rbacv1.ClusterRoleBinding{},
		"NetworkPolicy":      &networkingv1.NetworkPolicy{},
		"PriorityClass":      &schedulingv1.PriorityClass{},
		"PodMonitor":         &monitoringv1.PodMonitor{},
	}[meta.Kind]
	if object == nil {
		t.Fatalf("the chart makes a %s, of which this test does not know", meta.Kind)
	}
	if err := yaml.UnmarshalStrict([]byte(manifest), object); err != nil {
		t.Fatalf("%s: %v\n%s", meta.Kind, err, manifest)
	}
	return meta.Kind, object
}

// object returns the one object of a type that the chart makes with values.
func object[T any](t *testing.T, text string) (found *T) {
	t.Helper()
	manifests, _, err := render(values(t, text))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range manifests {
		if _, o := decode(t, m); found == nil {
			found, _ = o.(*T)
		}
	}
	return found
}

func TestObjects(t *testing.T) {
	all := []string{"ClusterRole", "ClusterRoleBinding", "DaemonSet", "NetworkPolicy", "PriorityClass", "ServiceAccount"}
	for name, want := range map[string][]string{
		"defaults":   all,
		"everything": append([]string{"PodMonitor"}, all...),
		"nothing":    {"DaemonSet"},
	} {
		manifests, _, err := render(values(t, profiles[name]))
		if err != nil {
			t.Fatal(err)
		}
		kinds := map[string]bool{}
		for _, m := range manifests {
			kind, _ := decode(t, m)
			kinds[kind] = true
		}
		slices.Sort(want)
		if got := slices.Sorted(maps.Keys(kinds)); !slices.Equal(got, want) {
			t.Errorf("%s makes %v, want %v", name, got, want)
		}
	}
}

func TestSecurityProfiles(t *testing.T) {
	for _, test := range []struct {
		values     string
		privileged bool
		added      []corev1.Capability
	}{
		{"", true, nil},
		{"securityProfile: restricted", false, []corev1.Capability{"BPF", "NET_ADMIN", "NET_BROADCAST", "PERFMON", "SYS_ADMIN"}},
		{profiles["hostPID"], false, []corev1.Capability{"BPF", "NET_ADMIN", "NET_BROADCAST", "PERFMON", "SYS_ADMIN", "SYS_PTRACE", "SYS_RESOURCE"}},
	} {
		t.Run(test.values, func(t *testing.T) {
			sc := object[appsv1.DaemonSet](t, test.values).Spec.Template.Spec.Containers[0].SecurityContext
			if *sc.Privileged != test.privileged || !*sc.ReadOnlyRootFilesystem {
				t.Errorf("privileged %v, read-only root %v", *sc.Privileged, *sc.ReadOnlyRootFilesystem)
			}
			if test.privileged {
				if sc.Capabilities != nil || sc.SeccompProfile != nil || sc.AppArmorProfile != nil {
					t.Errorf("a privileged container with %v and %v", sc.Capabilities, sc.SeccompProfile)
				}
				return
			}
			if !slices.Equal(sc.Capabilities.Drop, []corev1.Capability{"ALL"}) || !slices.Equal(sc.Capabilities.Add, test.added) {
				t.Errorf("capabilities: %+v", sc.Capabilities)
			}
			if *sc.AllowPrivilegeEscalation || sc.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault || *sc.RunAsUser != 0 {
				t.Errorf("security context: %+v", sc)
			}
			// Only reading what belongs to other processes is beyond AppArmor's
			// default profile.
			if hostPID := slices.Contains(test.added, "SYS_PTRACE"); hostPID != (sc.AppArmorProfile != nil) ||
				hostPID && sc.AppArmorProfile.Type != corev1.AppArmorProfileTypeUnconfined {
				t.Errorf("AppArmor: %+v", sc.AppArmorProfile)
			}
		})
	}
}

// TestAppArmorBefore: where the field is not known, an annotation stands for it.
func TestAppArmorBefore(t *testing.T) {
	for text, want := range map[string]bool{profiles["hostPID"]: true, "securityProfile: restricted": false, "hostPID: true": false} {
		manifests, _, err := renderFor("v1.29.0", values(t, text))
		if err != nil {
			t.Fatal(err)
		}
		all := strings.Join(manifests, "")
		if got := strings.Contains(all, "container.apparmor.security.beta.kubernetes.io/shadowtap: unconfined"); got != want || strings.Contains(all, "appArmorProfile") {
			t.Errorf("with %q:\n%s", text, all)
		}
	}
}

// TestNetworks: in a network of its own, the pod lets the kubelet at metrics
// and probes; in the node's, nobody but the node itself. Nowhere does the admin
// API leave the loopback address.
func TestNetworks(t *testing.T) {
	own := object[appsv1.DaemonSet](t, "{admin: {port: 1}, metrics: {port: 2}}").Spec.Template.Spec
	c := own.Containers[0]
	if own.HostNetwork || own.HostPID || !slices.Contains(c.Args, "--admin=127.0.0.1:1") || !slices.Contains(c.Args, "--metrics=:2") ||
		c.Ports[0].ContainerPort != 2 || c.LivenessProbe.HTTPGet.Host != "" || c.ReadinessProbe.HTTPGet.Port.IntValue() != 2 {
		t.Errorf("in a network of its own: %+v", own)
	}
	host := object[appsv1.DaemonSet](t, "hostNetwork: true").Spec.Template.Spec
	c = host.Containers[0]
	if !host.HostNetwork || host.DNSPolicy != corev1.DNSClusterFirstWithHostNet ||
		!slices.Contains(c.Args, "--admin=127.0.0.1:9901") || !slices.Contains(c.Args, "--metrics=127.0.0.1:9902") ||
		len(c.Ports) != 0 || c.LivenessProbe.HTTPGet.Host != "127.0.0.1" || c.ReadinessProbe.HTTPGet.Host != "127.0.0.1" {
		t.Errorf("in the node's network: %+v", host)
	}
}

// TestNamespaces: the pods' network namespaces are mounted so that those of
// later pods appear, and so that none can be removed.
func TestNamespaces(t *testing.T) {
	spec := object[appsv1.DaemonSet](t, "netnsDir: /run/docker/netns").Spec.Template.Spec
	mount := spec.Containers[0].VolumeMounts[0]
	if mount.MountPath != "/run/netns" || *mount.MountPropagation != corev1.MountPropagationHostToContainer || !mount.ReadOnly {
		t.Errorf("mount: %+v", mount)
	}
	if path := spec.Volumes[0].HostPath.Path; path != "/run/docker/netns" {
		t.Errorf("from %s", path)
	}
}

// TestRole holds the role to what is read and written, and no more.
func TestRole(t *testing.T) {
	const read = "list watch"
	want := map[string]string{
		"events.k8s.io/events":                           "create",
		"apiextensions.k8s.io/customresourcedefinitions": read,
	}
	for _, readable := range []string{
		"/namespaces", "/pods", "/services", "discovery.k8s.io/endpointslices",
		"networking.istio.io/destinationrules", "networking.istio.io/gateways", "networking.istio.io/serviceentries",
		"networking.istio.io/virtualservices", "networking.istio.io/workloadentries",
		"gateway.networking.k8s.io/gateways", "gateway.networking.k8s.io/grpcroutes",
		"gateway.networking.k8s.io/httproutes", "gateway.networking.k8s.io/referencegrants",
	} {
		want[readable] = read
	}
	if got := grants(t, ""); !maps.Equal(got, want) {
		t.Errorf("the role grants\n%v\nwant\n%v", got, want)
	}
	want["gateway.networking.k8s.io/gatewayclasses"] = "get list watch"
	want["gateway.networking.k8s.io/gatewayclasses/status"] = "patch"
	for _, kind := range []string{"gateways", "grpcroutes", "httproutes"} {
		want["gateway.networking.k8s.io/"+kind] = "get list watch"
		want["gateway.networking.k8s.io/"+kind+"/status"] = "patch"
	}
	if got := grants(t, "gatewayStatus: true"); !maps.Equal(got, want) {
		t.Errorf("with statuses the role grants\n%v\nwant\n%v", got, want)
	}
}

// grants are the verbs of a role by group and resource.
func grants(t *testing.T, text string) map[string]string {
	t.Helper()
	verbs := map[string][]string{}
	for _, rule := range object[rbacv1.ClusterRole](t, text).Rules {
		for _, group := range rule.APIGroups {
			for _, resource := range rule.Resources {
				verbs[group+"/"+resource] = append(verbs[group+"/"+resource], rule.Verbs...)
			}
		}
	}
	out := map[string]string{}
	for resource, v := range verbs {
		slices.Sort(v)
		out[resource] = strings.Join(slices.Compact(v), " ")
	}
	return out
}

func TestDefaultsThatMatter(t *testing.T) {
	ds := object[appsv1.DaemonSet](t, "")
	spec := ds.Spec.Template.Spec
	if len(spec.Tolerations) != 1 || spec.Tolerations[0].Operator != corev1.TolerationOpExists || spec.Tolerations[0].Key != "" {
		t.Errorf("some nodes have no agent: %+v", spec.Tolerations)
	}
	if _, limited := spec.Containers[0].Resources.Limits[corev1.ResourceCPU]; limited {
		t.Error("the agent's CPU is limited: it would lose packets")
	}
	if spec.EnableServiceLinks == nil || *spec.EnableServiceLinks {
		t.Error("a Service named shadowtap would set SHADOWTAP_PORT, and no agent would start")
	}
	class := object[schedulingv1.PriorityClass](t, "")
	if spec.PriorityClassName != class.Name || class.Value >= 0 || *class.PreemptionPolicy != corev1.PreemptNever {
		t.Errorf("the agent may push production off a node: %q, %+v", spec.PriorityClassName, class)
	}
	policy := object[networkingv1.NetworkPolicy](t, "")
	if !slices.Equal(policy.Spec.PolicyTypes, []networkingv1.PolicyType{networkingv1.PolicyTypeIngress}) || len(policy.Spec.Ingress) != 0 {
		t.Errorf("the metrics are open: %+v", policy.Spec)
	}
	selected := ds.Spec.Selector.MatchLabels
	for k, v := range selected {
		if ds.Spec.Template.Labels[k] != v || policy.Spec.PodSelector.MatchLabels[k] != v {
			t.Errorf("the selector's %s=%s is not a label of the pods", k, v)
		}
	}
}

// TestUpdates: two agents of a node run at once if, and only if, the one takes
// over from the other.
func TestUpdates(t *testing.T) {
	for _, test := range []struct {
		values string
		surge  int
	}{
		{"", 1}, {"securityProfile: restricted", 1}, {profiles["surge"], 1},
		{profiles["stop first"], 0}, {"hostNetwork: true", 0},
		{"updateStrategy: {rollingUpdate: {maxSurge: 0, maxUnavailable: 2}}", 0},
	} {
		ds := object[appsv1.DaemonSet](t, test.values)
		spec := ds.Spec.Template.Spec
		rolling := ds.Spec.UpdateStrategy.RollingUpdate
		if rolling.MaxSurge.IntValue() != test.surge || (rolling.MaxUnavailable.IntValue() == 0) != (test.surge == 1) {
			t.Errorf("%q: updated with %+v", test.values, rolling)
		}
		if test.surge == 0 {
			continue
		}
		c := spec.Containers[0]
		for _, arg := range []string{"--takeover", "--takeover-dir=/run/shadowtap", "--linger=2m"} {
			if !slices.Contains(c.Args, arg) {
				t.Errorf("%q: no %s in %q", test.values, arg, c.Args)
			}
		}
		if m, v := c.VolumeMounts[1], spec.Volumes[1]; m.Name != v.Name || m.MountPath != "/run/shadowtap" || m.ReadOnly ||
			v.HostPath == nil || v.HostPath.Path != "/run/shadowtap/shadowtap-shadowtap" {
			t.Errorf("%q: they meet in %+v of %+v", test.values, m, v)
		}
	}
}

func TestRefused(t *testing.T) {
	for _, test := range []struct{ values, want string }{
		{"securityProfil: restricted", "securityProfil"},
		{"securityProfile: none", "securityProfile"},
		{"admin: {port: 70000}", "port"},
		{"netnsDir: /", "netnsDir"},
		{"memoryLimit: lots", "memoryLimit"},
		{"memoryLimit: 262144kiB", "memoryLimit"},
		{"extraCapabilities: [CAP-x]", "extraCapabilities"},
		{"image: {digest: latest}", "digest"},
		{"terminationGracePeriodSeconds: 1", "terminationGracePeriodSeconds"},
		{"args: [file]", "args"},
		{"{hostNetwork: true, updateStrategy: {rollingUpdate: {maxSurge: 1}}}", "hostNetwork and updateStrategy.rollingUpdate.maxSurge exclude each other"},
		{"{takeover: {enabled: false}, updateStrategy: {rollingUpdate: {maxSurge: 1}}}", "takes takeover.enabled"},
		{"takeover: {dir: /}", "dir"},
		{"takeover: {linger: \"0\"}", "linger"},
		{"{hostNetwork: true, podMonitor: {create: true}}", "hostNetwork and podMonitor.create exclude each other"},
	} {
		t.Run(test.values, func(t *testing.T) {
			_, _, err := render(values(t, test.values))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want one about %q", err, test.want)
			}
		})
	}
}

// TestPlainManifests fails when the chart was changed without `make manifests`.
func TestPlainManifests(t *testing.T) {
	want, err := plain("")
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile("../../manifests/shadowtap.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("deploy/manifests/shadowtap.yaml is not what the chart renders: run make manifests and commit the result")
	}
	var kustomization struct{ Resources []string }
	text, err := os.ReadFile("../../manifests/kustomization.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, &kustomization); err != nil || fmt.Sprint(kustomization.Resources) != "[shadowtap.yaml]" {
		t.Errorf("the kustomization is of %v, %v", kustomization.Resources, err)
	}
}
