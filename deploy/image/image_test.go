package main

import (
	"archive/tar"
	"bytes"
	"crypto/x509"
	"debug/buildinfo"
	"debug/elf"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

const (
	epoch       = 1700000000
	version     = "v0.0.1-test"
	programPath = "shadowtap"
	sbomPath    = "usr/share/sbom/shadowtap.cdx.json"
	// Both architectures together, compressed, as they are pushed.
	sizeLimit = 60 << 20
)

// TestImage makes the image for both architectures and reads it back.
func TestImage(t *testing.T) {
	archive := makeImage(t, "linux/amd64,linux/arm64", "../..")
	if len(archive) > sizeLimit {
		t.Errorf("the archive has %d bytes, more than %d", len(archive), sizeLimit)
	}
	t.Logf("%.1f MB for both architectures", float64(len(archive))/1e6)
	index := readLayout(t, archive)
	manifest, err := index.IndexManifest()
	must(t, err)
	var platforms []string
	for _, m := range manifest.Manifests {
		platforms = append(platforms, m.Platform.String())
		t.Run(m.Platform.Architecture, func(t *testing.T) {
			image, err := index.Image(m.Digest)
			must(t, err)
			checkImage(t, image, *m.Platform)
		})
	}
	if want := []string{"linux/amd64", "linux/arm64"}; !slices.Equal(platforms, want) {
		t.Errorf("the index is for %v, want %v", platforms, want)
	}
}

// TestReproducible makes the image twice, the second time from a copy of the
// sources in another directory.
func TestReproducible(t *testing.T) {
	platform := "linux/" + runtime.GOARCH
	first := makeImage(t, platform, "../..")
	elsewhere := t.TempDir()
	for _, name := range []string{"go.mod", "go.sum"} {
		content, err := os.ReadFile(filepath.Join("../..", name))
		must(t, err)
		must(t, os.WriteFile(filepath.Join(elsewhere, name), content, 0o600))
	}
	for _, dir := range []string{"bpf", "cmd", "pkg"} {
		must(t, os.CopyFS(filepath.Join(elsewhere, dir), os.DirFS(filepath.Join("../..", dir))))
	}
	if !bytes.Equal(first, makeImage(t, platform, elsewhere)) {
		t.Error("the same sources in another directory made another image")
	}
}

func TestRefused(t *testing.T) {
	for _, test := range []struct {
		name, epoch string
		args        []string
		want        string
	}{
		{"no date", "", nil, `SOURCE_DATE_EPOCH "": expected the seconds`},
		{"a date in words", "yesterday", nil, `SOURCE_DATE_EPOCH "yesterday": expected the seconds`},
		{"a bad tag", "1", []string{"-version", "a b"}, "-repository and -version: "},
		{"a bad repository", "1", []string{"-repository", "UPPER/x"}, "-repository and -version: "},
		{"a bad platform", "1", []string{"-platforms", "a/b/c/d"}, "-platforms: "},
		{"a variant", "1", []string{"-platforms", "linux/arm/v6"}, `-platforms: "linux/arm/v6": expected`},
		{"no platform", "1", []string{"-platforms", ""}, `-platforms: "": expected`},
		{"no architecture", "1", []string{"-platforms", "linux/"}, `-platforms: "linux/": expected`},
		{"an unknown platform", "1", []string{"-platforms", "linux/none", "-o", "none.tar"}, "compile for linux/none: "},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Setenv("SOURCE_DATE_EPOCH", test.epoch)
			err := run(test.args)
			if err == nil || !strings.HasPrefix(err.Error(), test.want) {
				t.Errorf("error %v, want one that begins with %q", err, test.want)
			}
		})
	}
}

// makeImage runs the command as make does and returns what it wrote.
func makeImage(t *testing.T, platforms, source string) []byte {
	t.Helper()
	output := filepath.Join(t.TempDir(), "image.tar")
	cmd := exec.Command("go", "run", "-trimpath", ".", "-version", version, "-platforms", platforms, "-source", source, "-o", output)
	// What the environment asks for must not make up for what the command does
	// not say.
	cmd.Env = append(os.Environ(), fmt.Sprint("SOURCE_DATE_EPOCH=", epoch), "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	archive, err := os.ReadFile(output)
	must(t, err)
	return archive
}

// readLayout unpacks an archive and returns the one index it holds.
func readLayout(t *testing.T, archive []byte) v1.ImageIndex {
	t.Helper()
	dir := t.TempDir()
	for name, f := range readTar(t, bytes.NewReader(archive)) {
		path := filepath.Join(dir, filepath.FromSlash(name))
		must(t, os.MkdirAll(filepath.Dir(path), 0o700))
		must(t, os.WriteFile(path, f.content, 0o600))
	}
	all, err := layout.ImageIndexFromPath(dir)
	must(t, err)
	must(t, validate.Index(all))
	manifest, err := all.IndexManifest()
	must(t, err)
	if len(manifest.Manifests) != 1 {
		t.Fatalf("index.json names %d things, want one index", len(manifest.Manifests))
	}
	named := manifest.Manifests[0]
	if got, want := named.Annotations["io.containerd.image.name"], "ghcr.io/shadowtap/shadowtap:"+version; got != want {
		t.Errorf("the image is named %q, want %q", got, want)
	}
	if got := named.Annotations["org.opencontainers.image.ref.name"]; got != version {
		t.Errorf("the image is tagged %q, want %q", got, version)
	}
	if named.MediaType != types.OCIImageIndex {
		t.Errorf("index.json names a %s, want an OCI index", named.MediaType)
	}
	index, err := all.ImageIndex(named.Digest)
	must(t, err)
	return index
}

// checkImage checks what an image holds and says of itself.
func checkImage(t *testing.T, image v1.Image, platform v1.Platform) {
	config, err := image.ConfigFile()
	must(t, err)
	if config.OS != platform.OS || config.Architecture != platform.Architecture {
		t.Errorf("it says it is for %s/%s", config.OS, config.Architecture)
	}
	if !config.Created.Equal(time.Unix(epoch, 0)) {
		t.Errorf("created %v, want SOURCE_DATE_EPOCH", config.Created)
	}
	if got := fmt.Sprintf("%v %v %s", config.Config.Entrypoint, config.Config.Cmd, config.Config.User); got != "[/shadowtap] [] 0:0" {
		t.Errorf("it runs %s", got)
	}

	fs := mutate.Extract(image)
	defer fs.Close()
	files := readTar(t, fs)
	want := []string{"etc/ssl/certs/ca-certificates.crt", "shadowtap", "usr/share/sbom/shadowtap.cdx.json"}
	if got := slices.Sorted(maps.Keys(files)); !slices.Equal(got, want) {
		t.Fatalf("it holds %v, want %v", got, want)
	}
	for name, f := range files {
		mode := int64(0o644)
		if name == programPath {
			mode = 0o755
		}
		if f.header.Mode != mode || f.header.Uid != 0 || f.header.Gid != 0 || !f.header.ModTime.Equal(time.Unix(epoch, 0)) {
			t.Errorf("%s: mode %o, owner %d:%d, time %v", name, f.header.Mode, f.header.Uid, f.header.Gid, f.header.ModTime)
		}
	}
	checkProgram(t, files[programPath].content, platform)
	checkSBOM(t, files[sbomPath].content, files[programPath].content)
	if pool := x509.NewCertPool(); !pool.AppendCertsFromPEM(files[rootsPath].content) {
		t.Error("no certificate in ca-certificates.crt")
	}
	if n := bytes.Count(files[rootsPath].content, []byte("BEGIN CERTIFICATE")); n < 100 {
		t.Errorf("%d root certificates, want about 130", n)
	}
}

// checkProgram checks that the program is static, for the platform, and, where
// it can run, that it knows its version.
func checkProgram(t *testing.T, program []byte, platform v1.Platform) {
	f, err := elf.NewFile(bytes.NewReader(program))
	must(t, err)
	machine := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}[platform.Architecture]
	if f.Machine != machine {
		t.Errorf("the program is for %v, want %v", f.Machine, machine)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
			t.Errorf("the program is not static: it has a %v", p.Type)
		}
	}
	if platform.Architecture != runtime.GOARCH {
		return
	}
	path := filepath.Join(t.TempDir(), "shadowtap")
	must(t, os.WriteFile(path, program, 0o700))
	out, err := exec.Command(path, "version").CombinedOutput()
	if err != nil || string(out) != "shadowtap "+version+"\n" {
		t.Errorf("shadowtap version: %q, %v", out, err)
	}
}

// checkSBOM checks that the list of parts names every module the linker does.
func checkSBOM(t *testing.T, sbom, program []byte) {
	var bom cdx.BOM
	must(t, json.Unmarshal(sbom, &bom))
	if bom.Metadata.Component.Version != version || bom.Metadata.Timestamp != "2023-11-14T22:13:20Z" {
		t.Errorf("the list is of %s, made %s", bom.Metadata.Component.BOMRef, bom.Metadata.Timestamp)
	}
	var got []string
	for _, c := range *bom.Components {
		got = append(got, c.PackageURL)
	}
	info, err := buildinfo.Read(bytes.NewReader(program))
	must(t, err)
	want := []string{"pkg:golang/std@" + strings.TrimPrefix(info.GoVersion, "go")}
	for _, dep := range info.Deps {
		want = append(want, "pkg:golang/"+dep.Path+"@"+dep.Version)
	}
	if len(want) < 10 {
		t.Errorf("the linker names only %d modules", len(want))
	}
	for _, w := range want {
		if !slices.Contains(got, w) {
			t.Errorf("the list lacks %s", w)
		}
	}
	if !slices.ContainsFunc(got, func(p string) bool { return strings.Contains(p, "x509roots") }) {
		t.Error("the list lacks the root certificates")
	}
}

type tarFile struct {
	header  *tar.Header
	content []byte
}

// readTar returns the regular files of a tar archive.
func readTar(t *testing.T, r io.Reader) map[string]tarFile {
	t.Helper()
	files := map[string]tarFile{}
	for archive := tar.NewReader(r); ; {
		header, err := archive.Next()
		if err == io.EOF {
			return files
		}
		must(t, err)
		if header.Typeflag == tar.TypeDir {
			continue
		}
		content, err := io.ReadAll(archive)
		must(t, err)
		files[header.Name] = tarFile{header, content}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
