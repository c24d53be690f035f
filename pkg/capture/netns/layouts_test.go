package netns

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestLayouts: the places where container runtimes mount the namespaces of
// pods, made by hand. Each has a pod with an address, found once, and other
// files beside it that are no pod's.
func TestLayouts(t *testing.T) {
	const id = "2e6a3fc4-4d5b-4c6f-9c5e-0e5b8d2f7a11"
	for _, tt := range []struct {
		name     string
		patterns []string
		pod      string            // the file of the pod
		others   map[string]string // files on which other namespaces are mounted, by the name of their kind
		links    map[string]string // symbolic links that there are before
	}{
		{
			name: "containerd", patterns: []string{"run/netns/*"}, pod: "run/netns/cni-" + id,
		},
		{
			// pinns mounts the other kinds beside it; /var/run is a link to /run.
			name: "CRI-O", patterns: []string{"var/run/netns/*"}, pod: "run/netns/" + id,
			others: map[string]string{"run/utsns/" + id: "uts", "run/ipcns/" + id: "ipc"},
			links:  map[string]string{"var/run": "../run"},
		},
		{
			name: "CRI-O by both names", patterns: []string{"run/netns/*", "var/run/netns/*"}, pod: "run/netns/" + id,
			links: map[string]string{"var/run": "../run"},
		},
		{
			// Its namespaces_dir as it was before 1.18: a directory for each pod.
			name: "CRI-O with a directory for each pod", patterns: []string{"run/crio/ns/*/net"}, pod: "run/crio/ns/" + id + "/net",
			others: map[string]string{"run/crio/ns/" + id + "/uts": "uts", "run/crio/ns/" + id + "/ipc": "ipc"},
		},
		{
			name: "every kind in one directory", patterns: []string{"run/ns/*"}, pod: "run/ns/net",
			others: map[string]string{"run/ns/uts": "uts", "run/ns/ipc": "ipc"},
		},
		{
			// Docker has a file for the host's own, in which the agent is.
			name: "cri-dockerd", patterns: []string{"run/docker/netns/*"}, pod: "run/docker/netns/4f1d2c3b5a69",
			others: map[string]string{"run/docker/netns/default": "net"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			needRoot(t)
			root := t.TempDir()
			var patterns []string
			for _, p := range tt.patterns {
				patterns = append(patterns, filepath.Join(root, p))
			}
			place := func(file string) string {
				path := filepath.Join(root, file)
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = unix.Unmount(path, unix.MNT_DETACH) })
				return path
			}
			for link, to := range tt.links {
				path := place(link)
				if err := os.MkdirAll(filepath.Join(filepath.Dir(path), to), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.Symlink(to, path); err != nil {
					t.Fatal(err)
				}
			}
			for _, p := range patterns {
				if dir := filepath.Dir(p); !strings.Contains(dir, "*") { // others come with their pods
					if err := os.MkdirAll(dir, 0o755); err != nil {
						t.Fatal(err)
					}
				}
			}
			w := watch(t, Options{Files: patterns})
			host, pod := newNamespace(t), newNamespace(t)
			for file, kind := range tt.others {
				path := place(file)
				if err := os.WriteFile(path, nil, 0o444); err != nil {
					t.Fatal(err)
				}
				if err := unix.Mount("/proc/self/ns/"+kind, path, "", unix.MS_BIND, ""); err != nil {
					t.Fatal(err)
				}
			}
			connect(t, host, pod, "pod0", "eth0", "10.1.2.3/24")
			file := place(tt.pod)
			mount(t, pod, file)
			var n *Namespace
			found := 0
			w.until("the pod", func() bool {
				n, found = w.at("10.1.2.3"), len(w.present)
				return n != nil
			})
			if found != 1 {
				t.Errorf("found %d namespaces, want that of the pod", found)
			}
			if err := n.Enter(func() error { return nil }); err != nil {
				t.Error(err)
			}
			unmount(t, file)
			w.until("its end", func() bool { return len(w.present) == 0 })
		})
	}
}
