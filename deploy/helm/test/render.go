// Command test renders the plain manifests of deploy/manifests from the chart,
// for those who do not use Helm. The tests beside it check the chart itself,
// and that the committed manifests are what it renders.
//
//	go run . > ../../manifests/shadowtap.yaml
//	go run . 'securityProfile: restricted'
package main

import (
	"bytes"
	"fmt"
	"os"
	"strings"

	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"helm.sh/helm/v3/pkg/releaseutil"
	"sigs.k8s.io/yaml"
)

// chartDir is the chart, from here.
const chartDir = "../shadowtap"

// namespace is where the plain manifests install to.
const namespace = "shadowtap"

// preamble begins the plain manifests. A chart does not create the namespace
// that it is installed to; there is nobody else to create it here.
const preamble = `# Made from the chart in deploy/helm/shadowtap by ` + "`make manifests`" + `; do not edit.
apiVersion: v1
kind: Namespace
metadata:
  name: ` + namespace + `
  labels:
    # The agent loads programs into the kernel.
    pod-security.kubernetes.io/enforce: privileged
`

func main() {
	out, err := plain(strings.Join(os.Args[1:], "\n"))
	if err == nil {
		_, err = os.Stdout.Write(out)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// kubeVersion is that of the cluster of the plain manifests.
const kubeVersion = "v1.34.0"

// render returns the manifests of the chart, one per object in the order in
// which Helm installs them, and the notes it prints.
func render(values map[string]any) (manifests []string, notes string, err error) {
	return renderFor(kubeVersion, values)
}

// renderFor is render for a cluster of another version.
func renderFor(version string, values map[string]any) (manifests []string, notes string, err error) {
	capabilities := chartutil.DefaultCapabilities.Copy()
	kube, err := chartutil.ParseKubeVersion(version)
	if err != nil {
		return nil, "", err
	}
	capabilities.KubeVersion = *kube
	chart, err := loader.Load(chartDir)
	if err != nil {
		return nil, "", err
	}
	release := chartutil.ReleaseOptions{Name: "shadowtap", Namespace: namespace, IsInstall: true}
	all, err := chartutil.ToRenderValues(chart, values, release, capabilities)
	if err != nil {
		return nil, "", err
	}
	files, err := engine.Render(chart, all)
	if err != nil {
		return nil, "", err
	}
	for name, content := range files {
		if strings.HasSuffix(name, "NOTES.txt") {
			notes = content
			delete(files, name)
		}
	}
	_, sorted, err := releaseutil.SortManifests(files, nil, releaseutil.InstallOrder)
	if err != nil {
		return nil, "", err
	}
	for _, m := range sorted {
		manifests = append(manifests, strings.TrimSpace(m.Content)+"\n")
	}
	return manifests, notes, nil
}

// plain returns the manifests for those who do not use Helm, with values in
// YAML.
func plain(text string) ([]byte, error) {
	values := map[string]any{}
	if err := yaml.Unmarshal([]byte(text), &values); err != nil {
		return nil, fmt.Errorf("values: %w", err)
	}
	manifests, _, err := render(values)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	b.WriteString(preamble)
	for _, m := range manifests {
		b.WriteString("---\n")
		for line := range strings.Lines(m) {
			// These say that Helm may manage the object, and it does not.
			if !strings.Contains(line, "app.kubernetes.io/managed-by: ") && !strings.Contains(line, "helm.sh/chart: ") {
				b.WriteString(line)
			}
		}
	}
	return b.Bytes(), nil
}
