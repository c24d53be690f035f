package main

import (
	"bytes"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/yaml"
)

// rootDir is the main module, whose program the chart runs.
const rootDir = "../../.."

// help is what a command of the agent prints with --help.
func help(t *testing.T, command string) string {
	t.Helper()
	cmd := exec.Command("go", "run", "-buildvcs=false", "./cmd/shadowtap", command, "--help")
	cmd.Dir = rootDir
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("shadowtap %s --help: %v", command, err)
	}
	return string(out)
}

var flagName = regexp.MustCompile(`--[a-z-]+`)

// TestFlags: the agent beside the chart has every flag that the chart passes,
// whether as an argument or in the environment.
func TestFlags(t *testing.T) {
	run := help(t, "run")
	for name, text := range profiles {
		c := object[appsv1.DaemonSet](t, text).Spec.Template.Spec.Containers[0]
		if c.Args[0] != "run" {
			t.Fatalf("%s: the agent is told to %s", name, c.Args[0])
		}
		passed := flagName.FindAllString(strings.Join(c.Args[1:], " "), -1)
		if len(passed) != len(c.Args)-1 {
			t.Errorf("%s: arguments that are not one flag each: %q", name, c.Args)
		}
		for _, e := range c.Env {
			if twin, ok := strings.CutPrefix(e.Name, "SHADOWTAP_"); ok {
				passed = append(passed, "--"+strings.ToLower(strings.ReplaceAll(twin, "_", "-")))
			}
		}
		for _, flag := range passed {
			if !strings.Contains(run, flag+" ") {
				t.Errorf("%s: shadowtap run has no flag %s", name, flag)
			}
		}
	}
}

// TestNotes: the command that the notes print finds the agents as they were
// installed, and the definitions they name are those the agent is built with.
func TestNotes(t *testing.T) {
	status := help(t, "status")
	for text, want := range map[string]string{
		"":                   "shadowtap status --kube --namespace shadowtap\n",
		"admin: {port: 99}":  "shadowtap status --kube --namespace shadowtap --admin-port 99\n",
		"nameOverride: taps": "shadowtap status --kube --namespace shadowtap --selector app.kubernetes.io/name=taps\n",
	} {
		_, notes, err := render(values(t, text))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(notes, want) {
			t.Errorf("with %q the notes lack %q:\n%s", text, want, notes)
		}
		for _, flag := range flagName.FindAllString(want, -1) {
			if !strings.Contains(status, flag+" ") {
				t.Errorf("shadowtap status has no flag %s", flag)
			}
		}
	}
	_, notes, err := render(nil)
	if err != nil {
		t.Fatal(err)
	}
	mod, err := os.ReadFile(rootDir + "/go.mod")
	if err != nil {
		t.Fatal(err)
	}
	for module, url := range map[string]string{
		"istio.io/api":            "istio/api/",
		"sigs.k8s.io/gateway-api": "gateway-api/releases/download/",
	} {
		version := regexp.MustCompile(`\s` + regexp.QuoteMeta(module) + ` (v\S+)`).FindSubmatch(mod)
		if version == nil {
			t.Fatalf("go.mod does not name %s", module)
		}
		if !strings.Contains(notes, url+string(version[1])+"/") {
			t.Errorf("the notes do not name %s of %s:\n%s", version[1], module, notes)
		}
	}
}

// TestDefinitions: scripts/crds.sh prints definitions and nothing else, among
// them those of all that the agent reads.
func TestDefinitions(t *testing.T) {
	out, err := exec.Command(rootDir + "/scripts/crds.sh").Output()
	if err != nil {
		t.Fatal(err)
	}
	defined := map[string]bool{}
	for _, document := range bytes.Split(out, []byte("\n---\n")) {
		var o struct {
			Kind     string
			Metadata struct{ Name string }
		}
		if err := yaml.Unmarshal(document, &o); err != nil {
			t.Fatal(err)
		}
		if o.Kind != "" && o.Kind != "CustomResourceDefinition" {
			t.Errorf("it prints the %s %s", o.Kind, o.Metadata.Name)
		}
		defined[o.Metadata.Name] = true
	}
	for _, rule := range object[rbacv1.ClusterRole](t, "").Rules {
		for _, resource := range rule.Resources {
			group := rule.APIGroups[0]
			if (group == "networking.istio.io" || group == "gateway.networking.k8s.io") && !defined[resource+"."+group] {
				t.Errorf("it does not define %s.%s", resource, group)
			}
		}
	}
}
